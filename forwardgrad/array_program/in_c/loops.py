"""Loops in C: nests over axes, entries of arrays in them, and which axes one loop can run over together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import ADDED, MULTIPLIED, NEGATED, Spelled
from forwardgrad.array_program.in_c.expressions import form, product
from forwardgrad.array_program.values import Dimensions

NONE, ONE = affine(0), affine(1)


@dataclass(frozen=True)
class Index:
    """Where an entry is on one axis of an array.

    Args:
        axis: the axis of the loops that it follows, if any.
        backward: whether it falls where that axis rises.
        start: what is added.
        looked_up: instead of all that, the text of an entry of a table.
    """

    axis: int | None = None
    backward: bool = False
    start: Affine = NONE
    looked_up: str = ""

    def shifted(self, start: Affine) -> Index:
        """The index of the same entry in an array of which this one is a part from `start` on."""
        if self.looked_up:
            return replace(self, looked_up=f"{form(start).text} + {self.looked_up}") if start != NONE else self
        return replace(self, start=self.start + start)

    def mirrored(self, last: Affine) -> Index:
        """The index counted from `last` down."""
        if self.looked_up:
            return replace(self, looked_up=f"{form(last).text} - ({self.looked_up})")
        return Index(self.axis, not self.backward, last - self.start)

    @property
    def plain(self) -> bool:
        """Whether it is that of an axis, and nothing else."""
        return self.axis is not None and not self.backward and self.start == NONE


@dataclass(frozen=True)
class Storage:
    """Where a value is kept.

    Args:
        name: of the array in C.
        dims: of the array.
        lead: indices of its first axes, of which the value is one entry.
    """

    name: str
    dims: Dimensions
    lead: tuple[Affine, ...] = ()

    def at(self, index: Affine) -> Storage:
        """One entry of the first axis."""
        return replace(self, lead=(*self.lead, index))

    @property
    def pointer(self) -> str:
        """The address of the first entry."""
        place = address(self.dims, [Index(start=each) for each in self.lead], lambda index: form(index.start))
        return self.name if place == "0" else f"{self.name} + {place}"


def address(dims: Dimensions, indices: Sequence[Index], text: Callable[[Index], Spelled]) -> str:
    """The place of an entry in an array that is kept row by row."""
    terms: list[str] = []
    for place, index in enumerate(indices):
        spelled, stride = text(index), product(dims[place + 1 :])
        if spelled.text != "0" and stride.text != "0":
            terms.append(_times(spelled, stride))
    return " + ".join(terms) or "0"


def _times(index: Spelled, stride: Spelled) -> str:
    """An index times what it steps over; numbers are multiplied here, since they may exceed an `int` of C."""
    if stride.text == "1":
        return index.text
    if index.text.isdigit() and stride.text.isdigit():
        return str(int(index.text) * int(stride.text))
    return stride.text if index.text == "1" else f"{index.within(MULTIPLIED)} * {stride.within(NEGATED)}"


class Nest:
    """Loops over axes. What is done in them is written twice: once to see what it reads, and then for good.

    Args:
        dims: the sizes of the axes.
        levels: the axes in the order of the loops, and in groups, between which something is done besides.
        split: an axis of which only a part is run over, `from` one entry `to` another.
    """

    def __init__(self, dims: Dimensions, levels: Sequence[Sequence[int]], split: int | None = None) -> None:
        self.dims, self.levels = dims, [[axis for axis in level if dims[axis] != ONE] for level in levels]
        self.split = split
        self.joined: list[list[list[int]]] = [[[axis] for axis in level] for level in self.levels]
        self.pinned: set[int] = set()
        self._read: list[tuple[Dimensions, tuple[Index, ...]]] = []
        self._last_of: dict[int, int] = {}

    def entry(self, storage: Storage, indices: Sequence[Index]) -> str:
        """An entry of an array."""
        dims, every = storage.dims, (*(Index(start=each) for each in storage.lead), *indices)
        self._read.append((dims, every))
        return f"{storage.name}[{address(dims, every, self.of)}]"

    def pin(self, index: Index) -> Spelled:
        """An index as a number, which is why its axis has a loop of its own."""
        if index.axis is not None:
            self.pinned.add(index.axis)
        return self.of(index)

    def of(self, index: Index) -> Spelled:
        """An index as a number."""
        if index.looked_up:
            return Spelled(index.looked_up, ADDED)
        axis = index.axis
        if axis is None or self.dims[axis] == ONE:
            return form(index.start)
        if self._last_of.get(axis, axis) != axis:  # another one stands for it
            return form(index.start)
        name = f"i{axis}"
        if index.start == NONE:
            return Spelled(f"-{name}", NEGATED) if index.backward else Spelled(name)
        return Spelled(f"{form(index.start).text} {'-' if index.backward else '+'} {name}", ADDED)

    def settle(self) -> None:
        """Join loops over axes that all arrays have side by side."""
        self.joined = []
        for level in self.levels:
            groups: list[list[int]] = []
            for axis in level:
                if groups and self._join(groups[-1][-1], axis):
                    groups[-1].append(axis)
                else:
                    groups.append([axis])
            self.joined.append(groups)
        whole = [group for level in self.joined for group in level]
        self._last_of = {axis: group[-1] for group in whole for axis in group}

    def _join(self, one: int, other: int) -> bool:
        if one in self.pinned or other in self.pinned or other == self.split:
            return False
        return all(self._side_by_side(dims, indices, one, other) for dims, indices in self._read)

    def _side_by_side(self, dims: Dimensions, indices: Sequence[Index], one: int, other: int) -> bool:
        places = [place for place, dim in enumerate(dims[: len(indices)]) if dim != ONE]
        found = [number for number, place in enumerate(places) if indices[place].axis in (one, other)]
        if not found:
            return all(index.axis not in (one, other) for index in indices)
        if len(found) != 2 or found[1] != found[0] + 1:
            return False
        first, second = (indices[places[number]] for number in found)
        fits = (first.axis, second.axis) == (one, other) and not first.backward and second.plain
        return fits and dims[places[found[1]]] == self.dims[other]

    def loops(self, level: int, inside: list[str], simd: str = "") -> list[str]:
        """The loops of a level around lines.

        Args:
            level: which.
            inside: the lines.
            simd: the pragma of the innermost of these loops.
        """
        groups = self.joined[level]
        for place, group in reversed(list(enumerate(groups))):
            name, (first, end) = f"i{group[-1]}", self._range(group)
            head = f"for (extent {name} = {first}; {name} < {end}; {name}++) {{"
            pragma = [f"#pragma omp {simd}"] if simd and place == len(groups) - 1 else []
            inside = [*pragma, head, *(f"    {line}" for line in inside), "}"]
        declares = not groups and any(line.startswith(("const ", "real ")) for line in inside)
        return ["{", *(f"    {line}" for line in inside), "}"] if declares else inside

    def _range(self, group: Sequence[int]) -> tuple[str, str]:
        """Where the loop over some axes begins and ends."""
        if group[0] != self.split:
            return "0", product(tuple(self.dims[axis] for axis in group)).text
        rest = product(tuple(self.dims[axis] for axis in group[1:])).within(MULTIPLIED)
        return ("from", "to") if rest == "1" else (f"from * {rest}", f"to * {rest}")


def nested(
    dims: Dimensions, levels: Sequence[Sequence[int]], written: Callable[[Nest], list[str]], split: int | None = None
) -> list[str]:
    """What is written in loops over axes, of which those are joined that can be."""
    nest = Nest(dims, levels, split)
    written(nest)
    nest.settle()
    return written(nest)


def every(dims: Dimensions) -> tuple[Index, ...]:
    """The indices of an entry of an array of these dimensions, in loops over all of its axes."""
    return tuple(Index(axis) for axis in range(len(dims)))

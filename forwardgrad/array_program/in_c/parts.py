"""Parts in C: what a function computes that several threads can share, each of them a range of one axis.

No sum is split, so the numbers are the same ones whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.in_c.expressions import form, product
from forwardgrad.array_program.in_c.products import WHOLE, Cut, MatrixProduct
from forwardgrad.array_program.in_c.splits import split_axes
from forwardgrad.array_program.in_c.sums import Sum
from forwardgrad.array_program.regions import Scan
from forwardgrad.array_program.values import Dimensions, Value

SMALL = 2**14
"""Entries up to which a loop is not worth a function of its own, where their number is known."""

ENTRY = 16
"""How many multiplications of a product of matrices take as long as one entry that is computed by itself."""

ROWS, LANES = 8, 16
"""Rows of a product, and entries next to each other, that one thread computes at the least."""


TILE = ("HEIGHT", "WIDTH")
"""The same of a product that is computed by itself, as constants of C: rows, and columns."""


def is_small(dims: Dimensions) -> bool:
    """Whether an array is known to have few entries."""
    size = product(dims).text
    return size.isdigit() and int(size) < SMALL


def split_axis(dims: Dimensions) -> int | None:
    """The axis along which an array is computed in parts: its first, but rather its units than single samples."""
    axes = [axis for axis, dim in enumerate(dims) if dim != affine(1)]
    if len(axes) > 2 and dims[axes[0]] == affine("batch") and dims[axes[1]].constant >= LANES:
        return axes[1]
    return axes[0] if axes else None


@dataclass
class Parts:
    """The parts of a function.

    Args:
        name: of the function in C.
        bodies: the lines of each part.
    """

    name: str
    bodies: list[Sequence[str]] = field(default_factory=list[Sequence[str]])

    def word(self, number: int) -> str:
        """What a part is called in C."""
        return f"{self.name}_part{number}"


@dataclass
class Option:
    """A way of computing something in parts. All texts are C.

    Args:
        split: for each value that is made, the axis that is split.
        length: of the axis.
        unit: entries of the axis that stay together.
        lines: what computes the part of the axis `from` one entry `to` another.
        work: multiplications of all parts, or what takes as long.
        rooms: the bytes that a part needs, of which it takes the largest.
        possible: whether each statement can be computed in parts.
        products: whether there are products of matrices.
    """

    split: Mapping[Value, int]
    length: str
    unit: int | str = 1
    lines: Sequence[str] = ()
    work: list[str] = field(default_factory=list[str])
    rooms: list[str] = field(default_factory=list[str])
    possible: bool = True
    products: bool = False

    def at_least(self, unit: int) -> None:
        """Have that many entries of the axis stay together."""
        self.unit = max(self.unit, unit) if isinstance(self.unit, int) else self.unit


class Sharing:
    """Decides what of a function is computed in parts, while its statements are printed.

    Args:
        parts: where the parts are put; none if there is but one thread.
    """

    def __init__(self, parts: Parts | None) -> None:
        self._parts = parts
        self._option: Option | None = None
        self._closed = parts is None

    @property
    def is_open(self) -> bool:
        """Whether what is printed now can be computed in parts: it is not in a loop over time, or in a part."""
        return not self._closed

    def axis_of(self, *values: Value) -> int | None:
        """The axis of values, made in one loop, of which only a part is computed."""
        if self._option is None or not self._option.split:
            return None
        axes = {self._option.split.get(value) for value in values}
        if len(axes) > 1 or None in axes:
            self._option.possible = False
        return axes.pop()

    # What is printed is told here.

    def add_entries(self, dims: Dimensions, split: int | None, count: int) -> None:
        """Some statements are computed entry by entry."""
        if self._option is not None:
            self._option.work.append(f"{ENTRY * count} * {product(dims).text}")
            if split is not None and product(dims[split + 1 :]).text == "1":
                self._option.at_least(LANES)

    def add_sum(self, each: Sum, split: int | None) -> None:
        """A sum is computed in plain loops."""
        self.add_entries(tuple(each.sizes.values()), None, 1)
        if self._option is not None and split is not None and each.result[split + 1 :] == "":
            self._option.at_least(LANES)

    def add_product(self, matrices: MatrixProduct, split: int | None) -> Cut:
        """A product of matrices is computed; returns the rows of it that the part of an axis is."""
        if self._option is None:
            return WHOLE
        self._option.products = True
        self._option.work.append(matrices.work)
        self._option.rooms.append(f"room({matrices.room}, sizeof(real))")
        cut = matrices.cut(split)
        if cut is None:
            self._option.possible = False
            return WHOLE
        if cut != WHOLE:
            rest = product(tuple(matrices.nest.dims[axis] for axis in matrices.rows[1:])).text
            self._option.at_least(-(-ROWS // int(rest)) if rest.isdigit() else 1)
        return cut

    # How something can be computed in parts.

    def option(
        self, split: Mapping[Value, int], written: Callable[[], list[str]], dim: Affine, unit: int | str = 1
    ) -> Option:
        """What is written, of which a part of an axis is computed."""
        self._closed, self._option = True, Option(split, form(dim).text, unit)
        option = self._option
        option.lines = written()
        self._closed, self._option = False, None
        return option

    def of_scan(self, scan: Scan, results: Sequence[Value], loop: Callable[[], list[str]]) -> list[str]:
        """A loop over time, in parts if there is an axis across which nothing is read."""
        options: list[Option] = []
        if self.is_open and scan.body.results:
            first = scan.body.results[0]
            ways = [(first.dims[split[first]], split) for split in split_axes(scan, results)]
            ways.sort(key=lambda way: not way[0].terms)
            for dim, split in ways:
                option = self.option(split, loop, dim)
                option.work = [f"({form(scan.length).text}) * ({' + '.join(option.work) or '0'})"]
                if option.possible and len(options) < 2 and (option.products or not options):
                    options.append(option)
        if options:
            return self.lines(options)
        closed, self._closed = self._closed, True
        lines = loop()
        self._closed = closed
        return lines

    def of_sum(
        self, each: Sum, value: Value, matrices: MatrixProduct | None, written: Callable[..., list[str]]
    ) -> list[str]:
        """A sum, in parts if it is long."""
        axis = split_axis(value.dims)
        if axis is None or is_small(tuple(each.sizes.values())):
            return written()
        if matrices is None:
            return self.lines([self.option({value: axis}, written, value.dims[axis])])
        options: list[Option] = []
        if matrices.nest.levels[0]:
            place = each.result.index(list(each.sizes)[matrices.nest.levels[0][0]])
            options.append(self.option({value: place}, written, value.dims[place]))
        (m, n, _), part = matrices.sizes(), Cut("from", "to - from")
        by_rows = not m.isdigit() or (n.isdigit() and int(m) >= int(n))
        last = self.option({}, lambda: written(part) if by_rows else written(WHOLE, part), affine(0))
        last.length, last.unit = (m, TILE[0]) if by_rows else (n, TILE[1])
        return self.lines([*(option for option in options if option.possible), last])

    def lines(self, options: Sequence[Option]) -> list[str]:
        """The lines that compute something: by the first of the ways whose axis has two units, else by the last."""
        assert self._parts is not None
        calls: list[str] = []
        for option in options:
            word = self._parts.word(len(self._parts.bodies))
            self._parts.bodies.append(option.lines)
            room = "0"
            for each in dict.fromkeys(option.rooms):
                room = each if room == "0" else f"larger_room({room}, {each})"
            work = " + ".join(option.work) or "0"
            calls.append(f"shared({word}, c, arrays, base, rest, {room}, {option.length}, {option.unit}, {work});")
        found = [calls[-1]]
        for option, call in reversed(list(zip(options[:-1], calls[:-1], strict=True))):
            test = f"if ({option.length} >= 2 * {option.unit}) {{"
            found = [test, f"    {call}", "} else {", *(f"    {line}" for line in found), "}"]
        return found

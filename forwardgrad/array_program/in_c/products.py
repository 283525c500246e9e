"""Contractions in C as products of matrices: which axes are rows, columns and summed, and in which loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import MULTIPLIED
from forwardgrad.array_program.in_c.entries import Entries
from forwardgrad.array_program.in_c.expressions import product
from forwardgrad.array_program.in_c.loops import Index, Nest, Storage, address
from forwardgrad.array_program.in_c.sums import Sum
from forwardgrad.array_program.values import Dimensions, Value

FEW, SMALL = 4, 2**13
"""Rows for which a matrix is not packed, and entries of a matrix up to which they are multiplied in loops."""

LEAST = 16, 32, 32
"""Rows, columns and terms below which a product takes no less time: it waits for memory, or computes more columns."""


@dataclass(frozen=True)
class Placed:
    """An array in a product.

    Args:
        storage: where it is.
        indices: of an entry, in loops over the axes of the product.
    """

    storage: Storage
    indices: tuple[Index, ...]

    def step(self, axis: int | None) -> str:
        """The entries from one to the next along an axis."""
        for place, index in enumerate(self.indices):
            if axis is not None and index.axis == axis:
                return product(self.storage.dims[place + 1 :]).text
        return "0"

    def first(self, nest: Nest, within: set[int]) -> str:
        """The address of the entry that is the first along some axes."""
        indices = [replace(index, axis=None) if index.axis in within else index for index in self.indices]
        place = address(self.storage.dims, indices, nest.of)
        return self.storage.name if place == "0" else f"{self.storage.name} + {place}"


@dataclass(frozen=True)
class Cut:
    """Some rows or columns of a product, next to each other.

    Args:
        start, count: which, as C.
    """

    start: str
    count: str


WHOLE = Cut("0", "")
"""All of them."""


@dataclass(frozen=True)
class MatrixProduct:
    """A contraction as a product of matrices, in loops over what else there is.

    Args:
        nest: the loops: over what operands and result all have and over further rows and columns; over further sums.
        rows, columns, summed: the axes of the matrices, several of them as one; none for a single row.
        left, right, target: the arrays.
        value: the right operand.
        present: the test whether the operands are there; where they are not, they are zeros.
        sparse: whether rows and columns of zeros are passed over.
    """

    nest: Nest
    rows: list[int]
    columns: list[int]
    summed: list[int]
    left: Placed
    right: Placed
    target: Placed
    value: Value
    present: str = ""
    sparse: bool = False

    def sizes(self) -> tuple[str, str, str]:
        """The rows, the columns, and the terms of each sum."""
        return self._size(self.rows), self._size(self.columns), self._size(self.summed)

    def _size(self, axes: Sequence[int]) -> str:
        return product(tuple(self.nest.dims[axis] for axis in axes)).text

    def packing(self, packed: str) -> str:
        """The statement that packs the right operand."""
        (_, n, k), right = self.sizes(), self.right
        steps = f"{right.step(self.summed[-1])}, {right.step(self.columns[-1])}"
        return f"pack({n}, {k}, {right.first(self.nest, self._within)}, {steps}, {packed});"

    @property
    def is_plain(self) -> bool:
        """Whether it is one product, without loops."""
        return not any(self.nest.levels)

    @property
    def is_small(self) -> bool:
        """Whether it is a few rows times a small matrix of known size, for which loops are faster than a call."""
        m, n, k = self.sizes()
        return all(size.isdigit() for size in (m, n, k)) and int(m) < FEW and int(n) * int(k) <= SMALL

    @property
    def _within(self) -> set[int]:
        return {*self.rows, *self.columns, *self.summed}

    @property
    def room(self) -> str:
        """The numbers that it takes for what it packs."""
        return f"{'passing_room' if self.sparse else 'packing_room'}({', '.join(self.sizes())})"

    @property
    def work(self) -> str:
        """The number of multiplications, or, where rows or columns are few, of a product that takes as long."""
        others = self._size([*self.nest.levels[0], *self.nest.levels[1]])
        sizes = map(self._at_least, LEAST, (self.rows, self.columns, self.summed))
        return " * ".join([*([others] if others != "1" else []), *sizes])

    def _at_least(self, least: int, axes: Sequence[int]) -> str:
        size = product(tuple(self.nest.dims[axis] for axis in axes)).within(MULTIPLIED)
        return str(max(least, int(size))) if size.isdigit() else size

    def cut(self, split: int | None) -> Cut | None:
        """The rows that a part of an axis is; all where there is a loop over the axis; none if they are not rows."""
        if split is None or split in self.nest.levels[0]:
            return WHOLE
        if self.rows[:1] != [split]:
            return None
        rest = product(tuple(self.nest.dims[axis] for axis in self.rows[1:])).within(MULTIPLIED)
        return Cut(f"from * {rest}", f"(to - from) * {rest}") if rest != "1" else Cut("from", "to - from")

    def lines(
        self, packed: str = "", test: str = "", added: bool = False, rows: Cut = WHOLE, columns: Cut = WHOLE
    ) -> list[str]:
        """The lines that compute the product. The memory behind all arrays of the function is used for packing.

        Args:
            packed: the packed right operand, if there is one.
            test: when it is there.
            added: whether the product is added to what is in the array.
            rows, columns: which of them are computed.
        """
        (m, n, k), left, right, target = self.sizes(), self.left, self.right, self.target
        m, n, k = rows.count or m, columns.count or n, f"{self.present} ? {k} : 0" if self.present else k
        row, column = self.rows[-1] if self.rows else None, self.columns[-1]
        a = f"{self._first(left, (row, rows))}, {left.step(row)}, {left.step(self.summed[-1])}"
        b = f"{self._first(right, (column, columns))}, {right.step(self.summed[-1])}, {right.step(column)}"
        c = f"{self._first(target, (row, rows), (column, columns))}, {target.step(row)}"
        add = "1" if self.nest.levels[1] or added else "0"
        name = "multiply_passing_over" if self.sparse else "multiply"
        call = [f"{name}({m}, {n}, {k}, {a}, {b}, {c}, {add}, (real *)rest);"]
        if packed:
            fast = f"multiply_packed({m}, {n}, {k}, {a}, {packed}, {c}, {add});"
            call = [f"if ({test}) {{", f"    {fast}", "} else {", f"    {call[0]}", "}"]
        if not self.nest.levels[1] or added:
            return self.nest.loops(0, self.nest.loops(1, call))
        zero = f"multiply({m}, {n}, 0, {left.storage.name}, 0, 0, {right.storage.name}, 0, 0, {c}, 0, (real *)rest);"
        return self.nest.loops(0, [zero, *self.nest.loops(1, call)])

    def _first(self, array: Placed, *cuts: tuple[int | None, Cut]) -> str:
        """The address of the first entry of an array that is read or made."""
        skipped = [f" + ({cut.start}) * {array.step(axis)}" for axis, cut in cuts if cut != WHOLE]
        return array.first(self.nest, self._within) + "".join(skipped)


def matrix_product(each: Sum, target: Storage, entries: Entries, split: int | None = None) -> MatrixProduct | None:
    """A sum as a product of matrices, if it is one.

    Args:
        each: the sum.
        target: where the product goes.
        entries: reads entries of its operands.
        split: an axis of the result that is computed in parts.
    """
    sizes = each.sizes
    letters = list(sizes)
    kept = [letter for letter in each.result if sizes[letter] != affine(1)]
    if len(each.operands) != 2 or not kept:
        return None
    (one, ours), (other, theirs) = each.operands
    if kept[-1] in ours:
        (one, ours), (other, theirs) = (other, theirs), (one, ours)
    shared = [letter for letter in letters if letter not in each.result and sizes[letter] != affine(1)]
    alone = any((letter in ours) != (letter in theirs) for letter in shared)
    if kept[-1] in ours or alone or not shared:
        return None
    placed = [_placed(value, word, letters, entries) for value, word in ((one, ours), (other, theirs))]
    left, right = placed
    if left is None or right is None:
        return None
    lead = tuple(Index(start=start) for start in target.lead)
    into = Placed(target, (*lead, *(Index(letters.index(letter)) for letter in each.result)))
    outside = [letter for letter in kept if letter in ours and letter in theirs]
    rows = [letter for letter in kept if letter in ours and letter not in theirs]
    columns = [letter for letter in kept if letter not in ours]
    axes = [[letters.index(letter) for letter in group] for group in (outside, rows, columns, shared)]
    cut = None if split is None else each.axis(split)
    tests = [test for test in map(entries.present, (one, other)) if test]
    return replace(_joined(tuple(sizes.values()), axes, (left, right, into), other, cut), present=" && ".join(tests))


def _joined(
    dims: Dimensions,
    axes: Sequence[Sequence[int]],
    arrays: tuple[Placed, Placed, Placed],
    value: Value,
    split: int | None,
) -> MatrixProduct:
    """The product, whose matrices have axes that lie side by side in all arrays; the others are loops."""
    seen = Nest(dims, axes, split)
    for each in arrays:
        seen.entry(replace(each.storage, lead=()), each.indices)  # the indices begin with those
    seen.settle()
    outside, rows, columns, shared = seen.joined
    others = [*outside, *rows[:-1], *columns[:-1]]
    nest = Nest(dims, [[axis for group in groups for axis in group] for groups in (others, shared[:-1])], split)
    return MatrixProduct(nest, rows[-1] if rows else [], columns[-1], shared[-1], *arrays, value)


def _placed(value: Value, word: str, letters: Sequence[str], entries: Entries) -> Placed | None:
    """Where the entries of an operand are, if they are evenly apart along each axis."""
    found = entries.placed(value, [Index(letters.index(letter)) for letter in word])
    return None if found is None else Placed(*found)

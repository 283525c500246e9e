"""Jacobians of which only some entries are made: where a pattern reads them.

Up to the first matrix on its way back a Jacobian is diagonal. Behind one it is that matrix, with its axes scaled.
Only a second matrix makes it an array of its own. This is `layouts/jacobians.py` as instructions. Axes before those
of the units are the batch, or steps and batch, and are missing where all samples share a Jacobian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import Argument, Number, apply, total
from forwardgrad.array_program.instructions import Broadcast, Contract, Gather, Slice
from forwardgrad.array_program.lowering.adjoints import Adjoint
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.weights import Weight
from forwardgrad.array_program.values import Value
from forwardgrad.ops import Array
from forwardgrad.structure import Structure


class Maker:
    """Makes instructions for entries of Jacobians.

    Args:
        context: of the lowering.
        builder: of the body in which they are needed.
    """

    def __init__(self, context: Context, builder: Builder) -> None:
        self.context, self.builder = context, builder

    def table(self, indices: Array, word: str) -> Value:
        """A table of indices."""
        every = indices.ndim == 1 and np.array_equal(indices, np.arange(len(indices)))
        return self.context.constant(f"units_{len(indices)}" if every else word, indices, "int")

    def named(self, value: Value, word: str) -> Value:
        """A value under a name, which gets a number if it is taken."""
        return self.builder.named(value, self.context.names.of(word, object())) if value.unnamed else value

    def product(self, *factors: Weight) -> Weight:
        """Factors one after the other, entry by entry."""
        number, arrays = 1.0, list[Value]()
        for factor in factors:
            if isinstance(factor, Number):
                number *= factor.value
            elif factor is not None:
                arrays.append(factor)
        if not arrays:
            return None if number == 1.0 else Number(number)
        found = arrays[0]
        for array in arrays[1:]:
            found = self.builder.elementwise(apply("*", Argument(0), Argument(1)), found, array)
        return found if number == 1.0 else self.builder.elementwise(apply("*", Number(number), Argument(0)), found)

    def sum(self, terms: Sequence[Weight]) -> Weight:
        """A sum, entry by entry."""
        number = sum(term.value for term in terms if isinstance(term, Number)) + sum(term is None for term in terms)
        arrays = [term for term in terms if isinstance(term, Value)]
        if not arrays:
            return Number(number)
        tree = total(len(arrays))
        return self.builder.elementwise(apply("+", tree, Number(number)) if number else tree, *arrays)

    def taken(self, weight: Weight, indices: Array) -> Weight:
        """Entries of the last axis."""
        if not isinstance(weight, Value) or not weight.dims:
            return weight
        if indices.ndim == 1 and np.array_equal(indices, np.arange(len(indices))):
            return self.first(weight, len(indices))
        return self.builder.add(Gather(weight, len(weight.dims) - 1, (self.table(indices, "to_units"),)))

    def first(self, weight: Weight, count: int) -> Weight:
        """The first entries of the last axis, `count` of them."""
        if not isinstance(weight, Value) or not weight.dims or weight.dims[-1] == affine(count):
            return weight
        return self.builder.add(Slice(weight, len(weight.dims) - 1, affine(0), affine(count)))

    def array(self, weight: Weight, *sizes: int | str) -> Value:
        """A factor as an array that has at least axes of these sizes."""
        dims = tuple(map(affine, sizes))
        if isinstance(weight, Value):
            return weight if weight.dims else self.builder.add(Broadcast(weight, dims, ()))
        return self.builder.fill(1.0 if weight is None else weight.value, *dims)


class Sampled(Protocol):
    """A Jacobian of a target's units by a source's."""

    def at(self, make: Maker, rows: Array, columns: Array) -> Value:
        """Its entries at indices of one shape: `[... *shape]`."""
        ...

    def diagonal(self, make: Maker, count: int) -> Weight:
        """Its first entries of one unit by itself, `[... count]`."""
        ...

    def scaled(self, make: Maker, factor: Weight) -> Sampled:
        """This times a diagonal."""
        ...

    def times(self, make: Maker, matrix: Value) -> Sampled:
        """This times a matrix, `[source, further source]`, which a batch may stand before."""
        ...


@dataclass(frozen=True)
class Diagonal:
    """A diagonal; `None` for ones."""

    entries: Weight

    def at(self, make: Maker, rows: Array, columns: Array) -> Value:
        found, same = make.taken(self.entries, rows), rows == columns
        if same.all():
            return make.array(found, *rows.shape)
        return make.array(make.product(found, make.context.constant("same", same)), *rows.shape)

    def diagonal(self, make: Maker, count: int) -> Weight:
        return make.first(self.entries, count)

    def scaled(self, make: Maker, factor: Weight) -> Diagonal:
        return Diagonal(make.product(self.entries, factor))

    def times(self, make: Maker, matrix: Value) -> Scaled | Wide:
        return (
            Scaled(self.entries, matrix, None)
            if len(matrix.dims) == 2
            else Wide(_scaled_axis(make, self.entries, matrix, "t"))
        )


@dataclass(frozen=True)
class Scaled:
    """A matrix with its rows and columns scaled: `left[..., i] * matrix[i, k] * right[..., k]`."""

    left: Weight
    matrix: Value
    right: Weight

    def at(self, make: Maker, rows: Array, columns: Array) -> Value:
        tables = make.table(rows, "to_units"), make.table(columns, "from_units")
        entries = make.builder.add(Gather(self.matrix, 0, tables))
        found = make.product(make.taken(self.left, rows), entries, make.taken(self.right, columns))
        return make.array(found, *rows.shape)

    def diagonal(self, make: Maker, count: int) -> Weight:
        unit = make.table(np.arange(count), "units")
        own = make.builder.add(Gather(self.matrix, 0, (unit, unit)))
        return make.product(make.first(self.left, count), own, make.first(self.right, count))

    def scaled(self, make: Maker, factor: Weight) -> Scaled:
        return Scaled(self.left, self.matrix, make.product(self.right, factor))

    def times(self, make: Maker, matrix: Value) -> Wide:
        return self.wide(make).times(make, matrix)

    def wide(self, make: Maker) -> Wide:
        """It as an array of its own."""
        whole = _scaled_axis(make, self.left, self.matrix, "t")
        return Wide(_scaled_axis(make, self.right, whole, "s"))


@dataclass(frozen=True)
class Wide:
    """An array `[... target source]`."""

    array: Value

    def at(self, make: Maker, rows: Array, columns: Array) -> Value:
        tables = make.table(rows, "to_units"), make.table(columns, "from_units")
        return make.builder.add(Gather(self.array, len(self.array.dims) - 2, tables))

    def diagonal(self, make: Maker, count: int) -> Weight:
        unit = make.table(np.arange(count), "units")
        return make.builder.add(Gather(self.array, len(self.array.dims) - 2, (unit, unit)))

    def scaled(self, make: Maker, factor: Weight) -> Wide:
        return Wide(_scaled_axis(make, factor, self.array, "s"))

    def times(self, make: Maker, matrix: Value) -> Wide:
        ours, theirs = ("b" * (len(each.dims) - 2) for each in (self.array, matrix))
        axes = f"{ours}si,{theirs}ij->{max(ours, theirs)}sj"
        return Wide(make.builder.add(Contract(self.array, matrix, axes)))

    def wide(self, make: Maker) -> Wide:
        return self


@dataclass(frozen=True)
class Total:
    """The sum of several, of which one at most is diagonal."""

    parts: tuple[Diagonal | Scaled | Wide, ...]

    def at(self, make: Maker, rows: Array, columns: Array) -> Value:
        return make.array(make.sum([part.at(make, rows, columns) for part in self.parts]))

    def diagonal(self, make: Maker, count: int) -> Weight:
        return make.sum([part.diagonal(make, count) for part in self.parts])

    def scaled(self, make: Maker, factor: Weight) -> Total:
        return Total(tuple(part.scaled(make, factor) for part in self.parts))

    def times(self, make: Maker, matrix: Value) -> Sampled:
        whole = make.array(make.sum([part.wide(make).array for part in self.parts if not isinstance(part, Diagonal)]))
        diagonals = [part.times(make, matrix) for part in self.parts if isinstance(part, Diagonal)]
        return summed(make, [*diagonals, Wide(whole).times(make, matrix)])


def summed(make: Maker, parts: Sequence[Sampled]) -> Sampled:
    """The sum of one or more."""
    apart = [each for part in parts for each in (part.parts if isinstance(part, Total) else (part,))]
    diagonals = [part.entries for part in apart if isinstance(part, Diagonal)]
    others = [part for part in apart if isinstance(part, Scaled | Wide)]
    one = [Diagonal(make.sum(diagonals) if len(diagonals) > 1 else diagonals[0])] if diagonals else []
    merged = (*one, *others)
    return merged[0] if len(merged) == 1 else Total(merged)


def named(make: Maker, jacobian: Sampled, word: str) -> Sampled:
    """A Jacobian whose diagonal, if it holds one, has a name of its own, so that it can be held on to."""
    if isinstance(jacobian, Total):
        return Total(tuple(_named(make, part, word) for part in jacobian.parts))
    return _named(make, jacobian, word) if isinstance(jacobian, Diagonal | Scaled | Wide) else jacobian


def _named(make: Maker, part: Diagonal | Scaled | Wide, word: str) -> Diagonal | Scaled | Wide:
    if isinstance(part, Diagonal) and isinstance(part.entries, Value):
        return Diagonal(make.named(part.entries, word))
    return part


def sampled(make: Maker, b: Adjoint, size: int) -> Sampled:
    """A Jacobian from a sweep, by its word: `[... target source]`, or a diagonal of that size."""
    if b.word is Structure.FULL:
        return Wide(b.value)
    if b.word is Structure.SCALAR:
        lead = b.value.dims
        return Diagonal(make.builder.add(Broadcast(b.value, (*lead, affine(size)), tuple(range(len(lead))))))
    return Diagonal(b.value)


def _scaled_axis(make: Maker, weight: Weight, matrix: Value, letter: str) -> Value:
    """A matrix `[... t s]`, which a batch may stand before, scaled along one of these axes."""
    if not isinstance(weight, Value) or not weight.dims:
        found = make.product(weight, matrix)
        assert isinstance(found, Value)
        return found
    ours, theirs = "b" * (len(weight.dims) - 1), "b" * (len(matrix.dims) - 2)
    axes = f"{ours}{letter},{theirs}ts->{max(ours, theirs)}ts"
    return make.builder.add(Contract(weight, matrix, axes))

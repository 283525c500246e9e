"""Instructions: the closed set of what an array program does, each with the types of its results.

Nothing is written in place. An instruction knows its operands and what follows from them; every reading of a program
(NumPy, its price, its text) is a function over this set. `regions.py` adds those that hold instructions of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from forwardgrad.array_program.dimensions import Affine
from forwardgrad.array_program.expressions import Tree, is_test, places
from forwardgrad.array_program.values import Dimensions, Misfit, Type, Value


@dataclass(frozen=True)
class Instruction:
    """What makes one or several values of others."""

    @property
    def operands(self) -> tuple[Value, ...]:
        """The values that it reads."""
        raise NotImplementedError

    def types(self) -> tuple[Type, ...]:
        """The types of its results; raises `Misfit` where its operands do not fit."""
        raise NotImplementedError


def expect(holds: bool, problem: str, *parts: object) -> None:
    """Raise `Misfit` unless something holds; its text is only put together then."""
    if not holds:
        raise Misfit(problem.format(*parts))


@dataclass(frozen=True)
class Elementwise(Instruction):
    """An expression, entry by entry. An argument may lack the first axes of the result, never have one of length 1.

    Args:
        tree: the expression; without arguments it fills an array.
        arguments: what it reads.
        dims: of the result.
    """

    tree: Tree
    arguments: tuple[Value, ...]
    dims: Dimensions

    @property
    def operands(self) -> tuple[Value, ...]:
        return self.arguments

    def types(self) -> tuple[Type, ...]:
        expect(set(places(self.tree)) == set(range(len(self.arguments))), "its arguments are not those it reads")
        for value in self.arguments:
            dims = value.dims
            if dims != self.dims[len(self.dims) - len(dims) :]:
                raise Misfit(f"{value} {value.type} is not the end of {Type('float', self.dims)}")
        return (Type("bool" if is_test(self.tree) else "float", self.dims),)


@cache
def letters_of(axes: str) -> tuple[str, str, str]:
    """The letters of the operands of a contraction and of its result; raises `Misfit` where they make no sense."""
    read, result = axes.split("->")
    ours, theirs = read.split(",")
    for letters in (ours, theirs):
        expect(len(set(letters)) == len(letters), "an axis stands twice in {!r}", letters)
    fits = set(result) <= {*ours, *theirs} and len(set(result)) == len(result)
    expect(fits, "no operand has the axes {!r}", result)
    return ours, theirs, result


@dataclass(frozen=True)
class Contract(Instruction):
    """A product of two arrays, summed over the axes that the result lacks.

    Args:
        left, right: the arrays.
        axes: a letter per axis, as in `"tbj,ij->tbi"`. Usual letters are t (time), b (sample), s (seed), i (unit of the
            target), j (unit of the source) and n (entry of a pattern).
        sparse: whether rows or columns of the arrays may be zeros, so that it can pay to look for them. The product is
            the same whether a reading does.
    """

    left: Value
    right: Value
    axes: str
    sparse: bool = False

    @property
    def operands(self) -> tuple[Value, ...]:
        return self.left, self.right

    def types(self) -> tuple[Type, ...]:
        ours, theirs, result = letters_of(self.axes)
        for value, letters in ((self.left, ours), (self.right, theirs)):
            expect(len(letters) == len(value.dims), "{} {} has not the axes {!r}", value, value.type, letters)
        sizes = dict(zip(ours + theirs, self.left.dims + self.right.dims, strict=True))
        for letter, size in zip(ours, self.left.dims, strict=True):
            if sizes[letter] != size:
                raise Misfit(f"axis {letter!r} is {size} and {sizes[letter]}")
        expect(not self.sparse or set(result) != set(sizes), "nothing is summed, so that no zero can be passed over")
        return (Type("float", tuple([sizes[letter] for letter in result])),)


@dataclass(frozen=True)
class Read(Instruction):
    """One entry of the first axis.

    Args:
        series: the array.
        at: the index.
        or_zero: whether there are zeros beyond the ends of the axis. The index must lie within them otherwise.
    """

    series: Value
    at: Affine
    or_zero: bool = False

    @property
    def operands(self) -> tuple[Value, ...]:
        return (self.series,)

    def types(self) -> tuple[Type, ...]:
        expect(bool(self.series.dims), "{} has no axis", self.series)
        return (Type(self.series.type.dtype, self.series.dims[1:]),)


@dataclass(frozen=True)
class Slice(Instruction):
    """A range of one axis.

    Args:
        operand: the array.
        axis: which.
        start, size: of the range.
        backward: whether the last entry comes first.
        or_zero: whether there are zeros beyond the ends of the axis. The range must lie within them otherwise.
    """

    operand: Value
    axis: int
    start: Affine
    size: Affine
    backward: bool = False
    or_zero: bool = False

    @property
    def operands(self) -> tuple[Value, ...]:
        return (self.operand,)

    def types(self) -> tuple[Type, ...]:
        axis_of(self.operand, self.axis)
        return (_with_axis(self.operand, self.axis, (self.size,)),)


@dataclass(frozen=True)
class Concat(Instruction):
    """Arrays one after the other along an axis."""

    parts: tuple[Value, ...]
    axis: int

    @property
    def operands(self) -> tuple[Value, ...]:
        return self.parts

    def types(self) -> tuple[Type, ...]:
        expect(bool(self.parts), "nothing to put together")
        rests = {_with_axis(part, self.axis, ()) for part in self.parts}
        expect(len(rests) == 1, "its parts differ beside axis {}: {}", self.axis, ", ".join(map(str, rests)))
        sizes = [axis_of(part, self.axis) for part in self.parts]
        return (_with_axis(self.parts[0], self.axis, (sum(sizes[1:], sizes[0]),)),)


@dataclass(frozen=True)
class Broadcast(Instruction):
    """An array repeated along new axes.

    Args:
        operand: the array.
        dims: of the result.
        axes: for each axis of the operand, in order, which axis of the result it is.
    """

    operand: Value
    dims: Dimensions
    axes: tuple[int, ...]

    @property
    def operands(self) -> tuple[Value, ...]:
        return (self.operand,)

    def types(self) -> tuple[Type, ...]:
        expect(list(self.axes) == sorted(set(self.axes)), "its axes are not in order")
        expect(all(axis < len(self.dims) for axis in self.axes), "it has fewer axes than it names")
        kept = tuple(self.dims[axis] for axis in self.axes)
        expect(kept == self.operand.dims, "{} {} does not fit axes {}", self.operand, self.operand.type, self.axes)
        return (Type(self.operand.type.dtype, self.dims),)


@dataclass(frozen=True)
class Gather(Instruction):
    """Entries by tables of indices: consecutive axes, one table for each, become the axes of these tables.

    Args:
        operand: the array.
        axis: the first of the axes.
        tables: a table of indices for each axis.
    """

    operand: Value
    axis: int
    tables: tuple[Value, ...]

    @property
    def operands(self) -> tuple[Value, ...]:
        return self.operand, *self.tables

    def types(self) -> tuple[Type, ...]:
        sizes = _tabled(self.tables)
        axis_of(self.operand, self.axis + len(self.tables) - 1)
        return (_with_axis(self.operand, self.axis, sizes, len(self.tables)),)


@dataclass(frozen=True)
class ScatterAdd(Instruction):
    """The transpose of `Gather`: zeros, to which the entries of an axis are added where tables of indices say.

    Args:
        operand: the array.
        axis: the axis that holds the entries.
        tables: a table of indices for each axis of the result that takes its place.
        sizes: of these axes.
        unique: whether no two entries go to the same place.
    """

    operand: Value
    axis: int
    tables: tuple[Value, ...]
    sizes: Dimensions
    unique: bool = False

    @property
    def operands(self) -> tuple[Value, ...]:
        return self.operand, *self.tables

    def types(self) -> tuple[Type, ...]:
        size, (count, *more) = axis_of(self.operand, self.axis), _tabled(self.tables)
        expect(size == count and not more, "{} has {} entries, its tables {}", self.operand, size, count)
        expect(len(self.sizes) == len(self.tables), "a table for each new axis is wanted")
        return (_with_axis(self.operand, self.axis, self.sizes),)


@dataclass(frozen=True)
class Reduce(Instruction):
    """The sum over some axes, or the maximum.

    Args:
        operand: the array.
        axes: over which.
        word: `sum` or `max`.
    """

    operand: Value
    axes: tuple[int, ...]
    word: str = "sum"

    @property
    def operands(self) -> tuple[Value, ...]:
        return (self.operand,)

    def types(self) -> tuple[Type, ...]:
        expect(self.word in ("sum", "max"), "no reduction is called {!r}", self.word)
        for axis in self.axes:
            axis_of(self.operand, axis)
        kept = tuple(dim for axis, dim in enumerate(self.operand.dims) if axis not in self.axes)
        return (Type("float", kept),)


@dataclass(frozen=True)
class Flush(Instruction):
    """The array, in which numbers next to nothing may have become zero.

    Args:
        operand: the array.
        every: in a scan, one step in that many does it, the last of them; 1 for all.
        ones: whether the numbers are products that begin with ones, beside which more is next to nothing.
    """

    operand: Value
    every: int = 1
    ones: bool = False

    @property
    def operands(self) -> tuple[Value, ...]:
        return (self.operand,)

    def types(self) -> tuple[Type, ...]:
        return (self.operand.type,)


@dataclass(frozen=True)
class Signs(Instruction):
    """Signs, -1 or 1, drawn at random and yet repeatable: the same ones for the same numbers.

    Args:
        seed: of the rule.
        stream: whose signs they are.
        draw, block: arrays of a state that hold the number of the draw, and of the block in it, for each sample.
        dims: of the result.
    """

    seed: int
    stream: str
    draw: Value
    block: Value
    dims: Dimensions

    @property
    def operands(self) -> tuple[Value, ...]:
        return self.draw, self.block

    def types(self) -> tuple[Type, ...]:
        expect(self.draw.type == self.block.type, "{} and {} count in other shapes", self.draw, self.block)
        return (Type("float", self.dims),)


@dataclass(frozen=True)
class Call(Instruction):
    """A user's Python function, by its name: an op that is not a formula, or a layout. Other languages refuse it."""

    function: str
    arguments: tuple[Value, ...]
    type: Type

    @property
    def operands(self) -> tuple[Value, ...]:
        return self.arguments

    def types(self) -> tuple[Type, ...]:
        return (self.type,)


def axis_of(value: Value, axis: int) -> Affine:
    """The size of an axis; raises `Misfit` if there is none."""
    expect(0 <= axis < len(value.dims), "{} {} has no axis {}", value, value.type, axis)
    return value.dims[axis]


def _with_axis(value: Value, axis: int, sizes: Dimensions, count: int = 1) -> Type:
    dims = value.dims
    return Type(value.type.dtype, (*dims[:axis], *sizes, *dims[axis + count :]))


def _tabled(tables: tuple[Value, ...]) -> Dimensions:
    """The axes of tables, which must all have the same."""
    expect(bool(tables), "a table is wanted")
    for table in tables:
        expect(
            table.type.dtype == "int" and table.dims == tables[0].dims and bool(table.dims), "{} is not a table", table
        )
    return tables[0].dims

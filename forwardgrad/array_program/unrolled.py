"""Unrolled functions: scans of one step, choices that are made and first axes of length 1 are taken out of them.

What is left is entry by entry for the most part, so that few loops do all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, cast

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import Argument
from forwardgrad.array_program.inlining import bodies, inner
from forwardgrad.array_program.instructions import (
    Broadcast,
    Concat,
    Contract,
    Elementwise,
    Flush,
    Gather,
    Instruction,
    Read,
    Reduce,
    ScatterAdd,
    Slice,
    letters_of,
)
from forwardgrad.array_program.regions import ArrayProgram, Body, Function, Scan, Statement, When, with_values
from forwardgrad.array_program.values import UNNAMED, Dimensions, Type, Value

ONE = affine(1)


def unrolled(program: ArrayProgram) -> ArrayProgram:
    """A program of one function whose sizes are numbers, as `flattened` makes it.

    Inputs and results lose first axes of length 1. Each result is made by the function, and is a value of its own.
    """
    (function,) = program.functions
    return replace(program, functions=(_Unrolling(program).function(function),))


def _ones(dims: Dimensions) -> int:
    """How many first axes are of length 1."""
    count = 0
    while count < len(dims) and dims[count] == ONE:
        count += 1
    return count


class _Unrolling:
    """Makes the statements of a function anew.

    Attributes:
        names: for each value of the function what it is now, without its first axes of length 1.
        parts: for results of scans that are unrolled, the values of which their first axis consists, in order.
        made: the instruction that makes each new value.
    """

    def __init__(self, program: ArrayProgram) -> None:
        self.builder, self.made = Builder(), dict[Value, Instruction]()
        self.names = {value: value for value in program.constants if not _ones(value.dims)}
        self.parts: dict[Value, tuple[Value, ...]] = {}
        self._depth, self._inside = 0, 0
        for value in program.constants:
            if value not in self.names:
                self.names[value] = self._stripped(value)

    def function(self, function: Function) -> Function:
        """The function anew."""
        inputs = tuple(Value(value.name, _without_ones(value.type)) for value in function.inputs)
        self.names.update(zip(function.inputs, inputs, strict=True))
        self._statements(function.body.statements)
        results: list[Value] = []
        for value in function.body.results:
            new = self.of(value)
            if new not in self.made or isinstance(self.made[new], Read | Slice | Broadcast) or new in results:
                new = self._add(Elementwise(Argument(0), (new,), new.dims), f"{value.name} as it is")
            results.append(new)
        body = self.builder.body(*results)
        return Function(function.name, function.doc, inputs, _without_unread(body))

    def of(self, value: Value) -> Value:
        """What a value is now, without its first axes of length 1."""
        if value not in self.names:  # the result of a scan, all of which is read
            first, *others = self.parts[value]
            if not others:
                return self.of(first)
            whole = tuple(self._whole(part, series=part.dims == value.dims[1:]) for part in (first, *others))
            self.names[value] = self._stripped(self._add(Concat(whole, 0)))
        return self.names[value]

    def _add(self, instruction: Instruction, name: str = "") -> Value:
        value = self.builder.add(instruction, name)
        self.made.setdefault(value, instruction)
        return value

    def _stripped(self, value: Value) -> Value:
        """A new value without its first axes of length 1."""
        for _ in range(_ones(value.dims)):
            value = self._add(Read(value, affine(0)))
        return value

    def _whole(self, value: Value, series: bool = False) -> Value:
        """A value with all of its axes, and one more before them if it is one entry of a series."""
        new, dims = self.of(value), (ONE, *value.dims) if series else value.dims
        count = len(dims) - len(new.dims)
        return self._add(Broadcast(new, dims, tuple(range(count, len(dims))))) if count else new

    def _zeros(self, dims: Dimensions) -> Value:
        return self.builder.fill(0.0, *dims[_ones(dims) :])

    # Statements.

    def _statements(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            match statement.instruction:
                case When(form=Affine(constant, ()), then=then, otherwise=otherwise):
                    taken = then if constant >= 0 else otherwise
                    self._statements(taken.statements)
                    self._alias(statement.results, taken.results)
                case Scan(length=length, body=body) as scan if length == ONE:
                    for value, inside, before in zip(statement.results, body.results, scan.before, strict=True):
                        parts = (inside,) if before is None else (inside, before) if scan.backward else (before, inside)
                        self.parts[value] = parts
                    self._depth += 1
                    self._statements(_at_first(body, scan.index).statements)
                    self._depth -= 1
                case Scan() | When():
                    self._region(statement)
                case instruction:
                    (value,) = statement.results
                    self.names[value] = self._new(instruction, value)

    def _alias(self, results: Sequence[Value], insides: Sequence[Value]) -> None:
        for value, inside in zip(results, insides, strict=True):
            if inside in self.parts and inside not in self.names:
                self.parts[value] = self.parts[inside]
            else:
                self.names[value] = self.of(inside)

    def _region(self, statement: Statement) -> None:
        """A scan or a choice that stays, and reads whole arrays."""
        instruction = statement.instruction
        assert isinstance(instruction, Scan | When)
        parts = [part for body in inner(instruction) for part in bodies(body)]
        own = [value for part in parts for each in part.statements for value in each.results]
        read = {value for part in parts for each in part.statements for value in each.instruction.operands}
        read.update(instruction.operands, *(part.results for part in parts))
        others = {value: self._whole(value) for value in read - {*own, *statement.results}}
        for value in own:
            if value.unnamed:
                self._inside += 1
                others[value] = Value(f"{UNNAMED}inside {self._inside}", value.type)
        self.builder.define(statement.results, with_values(instruction, others))
        for value in statement.results:
            self.made[value] = instruction
            self.names[value] = self._stripped(value)

    # Instructions.

    def _new(self, instruction: Instruction, value: Value) -> Value:
        """What an instruction makes, without its first axes of length 1."""
        dims, name = value.dims[_ones(value.dims) :], "" if value.unnamed else value.name
        match instruction:
            case Elementwise(tree=tree, arguments=arguments):
                given = tuple(map(self.of, arguments))
                if isinstance(tree, Argument) and given[0].dims == dims:
                    return given[0]
                return self._add(Elementwise(tree, given, dims), name)
            case Flush(operand=operand, every=every):
                new = self.of(operand)
                return new if every > 1 and self._depth else self._add(replace(instruction, operand=new), name)
            case Read(series=series):
                return self._part(Slice(series, 0, instruction.at, ONE, or_zero=instruction.or_zero), value, series)
            case Slice(operand=operand):
                return self._part(instruction, value, operand)
            case Contract():
                return self._contracted(instruction, value, name)
            case Reduce(operand=operand, axes=axes, word=word):
                ones = _ones(operand.dims)
                left = tuple(axis - ones for axis in axes if axis >= ones)
                new = self.of(operand)
                if not left:
                    return new
                return self._stripped(self._add(Reduce(new, left, word), name if dims == value.dims else ""))
            case Broadcast(operand=operand, axes=axes):
                new, ones = self.of(operand), _ones(value.dims)
                there = tuple(axis - ones for axis in axes[_ones(operand.dims) :])
                return new if new.dims == dims else self._add(Broadcast(new, dims, there), name)
            case _:
                return self._rearranged(instruction)

    def _rearranged(self, instruction: Instruction) -> Value:
        """What moves entries along one axis; or any other instruction, of whole arrays."""
        match instruction:
            case Concat(parts=parts, axis=axis) if len({_ones(part.dims) for part in parts}) == 1:
                ones = _ones(parts[0].dims)
                if ones <= axis:
                    return self._stripped(self._add(Concat(tuple(map(self.of, parts)), axis - ones)))
            case Gather(operand=operand, axis=axis) | ScatterAdd(operand=operand, axis=axis):
                ones = _ones(operand.dims)
                if ones <= axis:
                    return self._stripped(self._add(replace(instruction, operand=self.of(operand), axis=axis - ones)))
            case _:
                pass
        whole: Instruction = with_values(instruction, {each: self._whole(each) for each in instruction.operands})
        return self._stripped(self._add(whole))

    def _contracted(self, contract: Contract, value: Value, name: str) -> Value:
        ours, theirs, result = letters_of(contract.axes)
        one, other = _ones(contract.left.dims), _ones(contract.right.dims)
        result = result[_ones(value.dims) :]
        known = {*ours[one:], *theirs[other:]}
        lost = [letter for letter in result if letter not in known]  # inner axes of length 1
        left, ours = self._with_axes(contract.left, ours, one, lost)
        right, theirs = self._with_axes(contract.right, theirs, other, [each for each in lost if each not in ours])
        sparse = contract.sparse and not {*ours, *theirs} <= {*result}
        return self._add(Contract(left, right, f"{ours},{theirs}->{result}", sparse), name)

    def _with_axes(self, value: Value, letters: str, ones: int, lost: Sequence[str]) -> tuple[Value, str]:
        """A value with those of its first axes of length 1 that a product has further in, and the letters of all."""
        new, more = self.of(value), [letter for letter in letters[:ones] if letter in lost]
        if more:
            dims, count = (*(ONE,) * len(more), *new.dims), len(more)
            new = self._add(Broadcast(new, dims, tuple(range(count, len(dims)))))
        return new, "".join((*more, *letters[ones:]))

    def _part(self, cut: Slice, value: Value, operand: Value) -> Value:
        """A part of an array along an axis. Of axes of length 1, and those put together, there are few."""
        axis, start, size, length = cut.axis, cut.start, cut.size, operand.dims[cut.axis]
        plain = not (start.terms or size.terms or length.terms)
        if plain and start == affine(0) and size == length and not (cut.backward and size != ONE):
            return self.of(operand)
        if axis == 0 and plain and operand in self.parts:
            found = self._among(operand, cut)
            if found is not None:
                return found
        if plain and size == ONE and cut.or_zero and not 0 <= start.constant < length.constant:
            return self._zeros(value.dims)
        ones = _ones(operand.dims)
        if axis < ones:
            return self._stripped(self._add(replace(cut, operand=self._whole(operand))))
        new = self.of(operand)
        if plain and (alone := self._factor(new, axis - ones, start, size)) is not None and not cut.backward:
            return alone
        return self._stripped(self._add(replace(cut, operand=new, axis=axis - ones)))

    def _among(self, series: Value, cut: Slice) -> Value | None:
        """The part of the result of a scan, if it is one of what it was put together from, or lies in it."""
        begin, first, last = 0, cut.start.constant, cut.start.constant + cut.size.constant
        for part in self.parts[series]:
            entry = part.dims == series.dims[1:]
            length = 1 if entry else part.dims[0].constant
            if begin <= first and last <= begin + length:
                if entry:
                    return self.of(part)
                part_of_it = replace(cut, operand=part, start=affine(first - begin))
                return self._part(part_of_it, Value(UNNAMED, *part_of_it.types()), part)
            begin += length
        return None

    def _factor(self, value: Value, axis: int, start: Affine, size: Affine) -> Value | None:
        """The part of a product of which one factor is put together from arrays, if it is that of one of them."""
        product = self.made.get(value)
        if not isinstance(product, Contract):
            return None
        ours, theirs, result = letters_of(product.axes)
        whole = self.made.get(product.right)
        letter = result[axis]
        if letter in ours or not isinstance(whole, Concat) or theirs.index(letter) != whole.axis:
            return None
        begin = 0
        for part in whole.parts:
            if (begin, part.dims[whole.axis]) == (start.constant, size):
                return self._stripped(self._add(replace(product, right=part)))
            begin += part.dims[whole.axis].constant
        return None


def _without_ones(kind: Type) -> Type:
    return Type(kind.dtype, kind.dims[_ones(kind.dims) :])


def _at_first(part: Any, index: str) -> Any:
    """A body, or what one is made of, at the first step of a scan."""
    if isinstance(part, Affine):
        return part.replaced({index: affine(0)})
    if isinstance(part, Statement | Body | Instruction):
        return replace(part, **{each.name: _at_first(getattr(part, each.name), index) for each in fields(part)})
    if type(part) is tuple:  # no symbol, type or tree
        return tuple(_at_first(each, index) for each in cast("tuple[Any, ...]", part))
    return part


def _without_unread(body: Body) -> Body:
    """A body without the statements of which nothing is read."""
    read, kept = set(body.results), list[Statement]()
    for statement in reversed(body.statements):
        if read.intersection(statement.results):
            kept.append(statement)
            read.update(statement.instruction.operands)
            if isinstance(statement.instruction, Scan | When):
                parts = [part for each in inner(statement.instruction) for part in bodies(each)]
                read.update(*(part.results for part in parts))
                read.update(v for part in parts for each in part.statements for v in each.instruction.operands)
    return Body(tuple(reversed(kept)), body.results)

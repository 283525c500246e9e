"""Regions: the instructions that hold others, and the functions of which a program consists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

from forwardgrad.array_program.dimensions import Affine
from forwardgrad.array_program.instructions import Instruction, expect
from forwardgrad.array_program.values import Type, Value
from forwardgrad.ops import Array


@dataclass(frozen=True)
class Statement:
    """The values that an instruction defines."""

    results: tuple[Value, ...]
    instruction: Instruction


@dataclass(frozen=True)
class Body:
    """Statements in order, and which of their values, or of those around them, come out."""

    statements: tuple[Statement, ...]
    results: tuple[Value, ...]


def with_values(part: Any, others: Mapping[Value, Value]) -> Any:
    """A body, or what one is made of, with other values in the place of some, in all bodies inside, too."""
    if isinstance(part, Value):
        return others.get(part, part)
    if isinstance(part, Statement | Body | Instruction):
        found = {each.name: with_values(getattr(part, each.name), others) for each in fields(part)}
        return replace(part, **found)
    if type(part) is tuple:  # no symbol, type or tree
        return tuple(with_values(each, others) for each in cast("tuple[Any, ...]", part))
    return part


@dataclass(frozen=True)
class Scan(Instruction):
    """Statements for each step of a block in turn. What comes out of each step is stacked along a new first axis.

    The body reads what earlier steps gave from the results of the scan themselves, by `Read`. So a result is a carry of
    any lag. A result may begin with what came before the block; in a scan that goes backward it ends with it.

    Args:
        index: the symbol of the step, from 0 on.
        length: the number of steps.
        backward: whether the last step comes first.
        before: for each result, what came before the block along its first axis, or `None`.
        body: the statements, with one value per result.
    """

    index: str
    length: Affine
    backward: bool
    before: tuple[Value | None, ...]
    body: Body

    @property
    def operands(self) -> tuple[Value, ...]:
        return tuple(value for value in self.before if value is not None)

    def types(self) -> tuple[Type, ...]:
        expect(len(self.before) == len(self.body.results), "it has not one value a step for each result")
        found: list[Type] = []
        for value, before in zip(self.body.results, self.before, strict=True):
            length = self.length
            if before is not None:
                fits = before.type.dtype == value.type.dtype and before.dims[1:] == value.dims
                expect(fits, "{} {} follows on {} {}", value, value.type, before, before.type)
                length = length + before.dims[0]
            found.append(Type(value.type.dtype, (length, *value.dims)))
        return tuple(found)


@dataclass(frozen=True)
class When(Instruction):
    """One of two bodies, chosen by a test that is known before the program runs.

    Args:
        form: it is tested whether this is 0 or more.
        then, otherwise: the bodies, whose results have the same types.
    """

    form: Affine
    then: Body
    otherwise: Body

    @property
    def operands(self) -> tuple[Value, ...]:
        return ()

    def types(self) -> tuple[Type, ...]:
        found = tuple(value.type for value in self.then.results)
        expect(
            found == tuple(value.type for value in self.otherwise.results), "its two bodies differ in what comes out"
        )
        return found


@dataclass(frozen=True)
class Invoke(Instruction):
    """A function of the program.

    Args:
        function: its name.
        arguments: one per input of the function.
        symbols: what symbols of the function stand for here, where they differ: a shorter block, say.
        produced: the types of the results.
    """

    function: str
    arguments: tuple[Value, ...]
    produced: tuple[Type, ...]
    symbols: tuple[tuple[str, Affine], ...] = ()

    @property
    def operands(self) -> tuple[Value, ...]:
        return self.arguments

    def types(self) -> tuple[Type, ...]:
        return self.produced


@dataclass(frozen=True)
class Function:
    """A function of a program.

    Args:
        name: by which it is invoked.
        doc: what it does, in the user's words.
        inputs: the values that it is given.
        body: its statements and results.
    """

    name: str
    doc: str
    inputs: tuple[Value, ...]
    body: Body


@dataclass(frozen=True)
class ArrayProgram:
    """A derived rule: functions that are run in turn, and exchange arrays by name.

    Args:
        dtype: what `float` stands for.
        functions: in an order in which each comes after those that it invokes.
        constants: arrays that are part of the program, by the names under which all functions know them.
        bindings: for the name of an array that comes from outside, the dictionary that holds it (`params`, `state`,
            `inputs`, ...) and its key there.
    """

    dtype: str
    functions: tuple[Function, ...]
    constants: Mapping[Value, Array] = field(default_factory=dict[Value, Array])
    bindings: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])

    def function(self, name: str) -> Function:
        """The function of that name."""
        return next(function for function in self.functions if function.name == name)

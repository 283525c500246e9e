"""Flattened functions: what a function invokes is written out in it, so that it is a function on its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from forwardgrad.array_program.expressions import Argument
from forwardgrad.array_program.inlining import bodies, inner
from forwardgrad.array_program.instructions import Elementwise
from forwardgrad.array_program.regions import ArrayProgram, Body, Function, Invoke, Scan, Statement, When, with_values
from forwardgrad.array_program.values import UNNAMED, Value


def flattened(program: ArrayProgram, name: str) -> ArrayProgram:
    """A program with one function, in which those that it invokes are written out.

    Args:
        program: a program that is `specialised`, so that symbols mean the same in all its functions.
        name: of the function.
    """
    function = program.function(name)
    body = _Flattening(program, function).body(function.body)
    return replace(program, functions=(Function(name, function.doc, function.inputs, body),))


class _Flattening:
    """Writes out what is invoked, under names that are unique in the whole function."""

    def __init__(self, program: ArrayProgram, function: Function) -> None:
        self._program, self._numbers = program, count(1)
        parts = bodies(function.body)
        own = {value for part in parts for statement in part.statements for value in statement.results}
        self._taken = {value.name for value in (*program.constants, *function.inputs, *own)}

    def body(self, body: Body) -> Body:
        """A body without calls."""
        return Body(tuple(self._statements(body.statements)), body.results)

    def _statements(self, statements: Iterable[Statement]) -> Iterator[Statement]:
        for statement in statements:
            match statement.instruction:
                case Invoke() as invoke:
                    yield from self._written_out(invoke, statement.results)
                case Scan() as scan:
                    yield Statement(statement.results, replace(scan, body=self.body(scan.body)))
                case When() as when:
                    then, otherwise = map(self.body, inner(when))
                    yield Statement(statement.results, replace(when, then=then, otherwise=otherwise))
                case _:
                    yield statement

    def _written_out(self, invoke: Invoke, results: Sequence[Value]) -> Iterator[Statement]:
        """The statements of a function, its inputs and results under the names that they have outside."""
        function = self._program.function(invoke.function)
        names: dict[Value, Value] = dict(zip(function.inputs, invoke.arguments, strict=True))
        made = {value for each in function.body.statements for value in each.results}
        copies: list[tuple[Value, Value]] = []
        for inside, value in zip(function.body.results, results, strict=True):
            if inside in made and inside not in names:
                names[inside] = value
            else:
                copies.append((value, inside))
        for part in bodies(function.body):
            for each in part.statements:
                for value in each.results:
                    if value not in names:
                        names[value] = Value(self._fresh(value), value.type)
        statements: tuple[Any, ...] = with_values(function.body.statements, names)
        yield from self._statements(statements)
        for value, inside in copies:
            source = names.get(inside, inside)  # a constant has one name in all functions
            yield Statement((value,), Elementwise(Argument(0), (source,), value.dims))

    def _fresh(self, value: Value) -> str:
        """A name that nothing has yet; what had none stays without."""
        name = value.name
        while name in self._taken or value.unnamed:
            name = f"{UNNAMED if value.unnamed else value.name + ' '}{next(self._numbers)}"
            if name not in self._taken:
                break
        self._taken.add(name)
        return name

"""Specialised programs: the symbols of a block are numbers, such as one step and one sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, cast

from forwardgrad.array_program.dimensions import SYMBOLS, Affine, affine
from forwardgrad.array_program.expressions import Argument, Number
from forwardgrad.array_program.instructions import Elementwise, Instruction
from forwardgrad.array_program.regions import ArrayProgram, Body, Function, Invoke, Scan, Statement, When, with_values
from forwardgrad.array_program.values import Type, Value

Numbers = Mapping[str, int]
"""What each symbol of a block stands for."""


def specialised(program: ArrayProgram, roots: Iterable[str], symbols: Numbers) -> ArrayProgram:
    """The functions of a program that some of them need, for blocks of one kind.

    A function that is invoked with other symbols, on a shorter block, say, becomes several, each with its numbers.

    Args:
        program: the program.
        roots: the functions that are run from outside. They keep their names.
        symbols: what `steps`, `batch`, `seeds` and `fresh` stand for.
    """
    variants = _Variants(program)
    for name in roots:
        variants.of(name, symbols)
    return replace(program, functions=tuple(variants.made.values()))


class _Variants:
    """The functions that have been specialised, by their new names, those first that others invoke."""

    def __init__(self, program: ArrayProgram) -> None:
        self.program, self.made = program, dict[str, Function]()
        self._named: dict[tuple[str, tuple[int, ...]], str] = {}
        self._taken = {function.name for function in program.functions}

    def of(self, name: str, symbols: Numbers) -> str:
        """The name of a function for these numbers."""
        key = name, tuple(symbols[symbol] for symbol in SYMBOLS)
        if key not in self._named:
            function = self.program.function(name)
            body = self._numbered(function.body, symbols)
            inputs = self._numbered(function.inputs, symbols)
            new = self._named[key] = self._new(name)
            self.made[new] = Function(new, function.doc, inputs, body)
        return self._named[key]

    def _new(self, name: str) -> str:
        """A name that no other variant has."""
        new, number = name, 1
        while new in self.made or (new != name and new in self._taken):
            number += 1
            new = f"{name}_{number}"
        return new

    def _statements(self, statement: Statement, symbols: Numbers) -> Iterator[Statement]:
        """What a statement becomes. Scans without steps, and sides of a choice that are not taken, are left out."""
        results: tuple[Value, ...] = self._numbered(statement.results, symbols)
        match statement.instruction:
            case Scan(length=length, before=before) if length.at(symbols) == 0:
                for value, earlier in zip(results, self._numbered(before, symbols), strict=True):
                    yield Statement((value,), _copy(earlier, value))
            case When(form=form, then=then, otherwise=otherwise) if not _inner(form, symbols):
                taken, left = (then, otherwise) if form.at(symbols) >= 0 else (otherwise, then)
                if left.statements:
                    yield from _named(self._numbered(taken, symbols), results)
                else:  # the printer adds in place to what the other side leaves as it is
                    yield Statement(results, self._numbered(statement.instruction, symbols))
            case instruction:
                yield Statement(results, self._numbered(instruction, symbols))

    def _numbered(self, part: Any, symbols: Numbers) -> Any:
        """A body, or what one is made of, with numbers in place of symbols. Indices of scans stay."""
        match part:
            case Affine():
                return part.replaced({symbol: affine(number) for symbol, number in symbols.items()})
            case Value(name, kind):
                return Value(name, self._numbered(kind, symbols))
            case Type(dtype, dims):
                return Type(dtype, self._numbered(dims, symbols))
            case Invoke():
                there = {**symbols, **{symbol: number.at(symbols) for symbol, number in part.symbols}}
                function = self.of(part.function, there)
                arguments, produced = (self._numbered(each, symbols) for each in (part.arguments, part.produced))
                return Invoke(function, arguments, produced)
            case Body(statements, results):
                parts = [each for statement in statements for each in self._statements(statement, symbols)]
                return Body(tuple(parts), self._numbered(results, symbols))
            case Instruction():
                found = {each.name: self._numbered(getattr(part, each.name), symbols) for each in fields(part)}
                return replace(part, **found)
            case tuple():
                return tuple(self._numbered(each, symbols) for each in cast("tuple[Any, ...]", part))
            case _:
                return part


def _inner(form: Affine, symbols: Numbers) -> bool:
    """Whether a number depends on the step of a scan."""
    return any(symbol not in symbols for symbol, _ in form.terms)


def _copy(source: Value | None, value: Value) -> Elementwise:
    """What gives a value the entries of another one, or zeros."""
    return (
        Elementwise(Number(0.0), (), value.dims) if source is None else Elementwise(Argument(0), (source,), value.dims)
    )


def _named(body: Body, results: Sequence[Value]) -> Iterator[Statement]:
    """The statements of a body, what comes out of it under other names."""
    made = {value for statement in body.statements for value in statement.results}
    names: dict[Value, Value] = {}
    copies: list[Statement] = []
    for inside, value in zip(body.results, results, strict=True):
        if inside in made and inside not in names:
            names[inside] = value
        else:
            copies.append(Statement((value,), _copy(names.get(inside, inside), value)))
    yield from with_values(body.statements, names)
    yield from copies

"""The checker: whether an array program is well formed. Its errors name the function and the instruction."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from forwardgrad.array_program.dimensions import SYMBOLS, Affine, Bounds, affine
from forwardgrad.array_program.instructions import Instruction, Read, Slice, axis_of, expect
from forwardgrad.array_program.regions import ArrayProgram, Body, Function, Invoke, Scan, Statement, When
from forwardgrad.array_program.text_form import statement_text
from forwardgrad.array_program.values import ArrayProgramError, Misfit, Type, Value


def check(program: ArrayProgram) -> ArrayProgram:
    """The program itself, if it is well formed.

    Raises:
        ArrayProgramError: naming the function and the instruction, with what is wrong there.
    """
    known: dict[str, Function] = {}
    for value, array in program.constants.items():
        shape = tuple(dim.constant for dim in value.dims)
        if any(dim.terms for dim in value.dims) or array.shape != shape:
            raise ArrayProgramError(f"array program: constant {value} {value.type} has shape {array.shape}.")
    for function in program.functions:
        if function.name in known:
            raise ArrayProgramError(f"array program: there are two functions {function.name!r}.")
        scope = _Scope(function.name, known, {}, set(), SYMBOLS, {}, {})
        with _located(scope, lambda: "its inputs"):
            for value in (*program.constants, *function.inputs):
                scope.define(value)
            for value in function.inputs:
                expect(not value.unnamed, "{} is read, and made nowhere", value)
        _body(function.body, scope)
        known[function.name] = function
    return program


@dataclass(frozen=True)
class _Scope:
    """What is known where an instruction stands.

    Args:
        function: the name of the function.
        functions: those before it.
        values: the values that can be read.
        names: all names that the function has defined.
        bounds: of the symbols.
        indices: the length of each scan around it, by its index.
        growing: for each result of these scans, the scan, and what its index at a step is ahead of the step's.
    """

    function: str
    functions: Mapping[str, Function]
    values: dict[str, Value]
    names: set[str]
    bounds: Bounds
    indices: Mapping[str, Affine]
    growing: Mapping[str, tuple[Scan, Affine]]

    def define(self, value: Value) -> None:
        """Take note of a value."""
        expect(value.name not in self.names, "{} is defined twice", value)
        for dim in value.dims:
            unknown = [symbol for symbol, _ in dim.terms if symbol not in SYMBOLS]
            expect(not unknown, "dimension {} of {} has an unknown symbol: {}", dim, value, ", ".join(unknown))
        self.names.add(value.name)
        self.values[value.name] = value

    def expect_defined(self, value: Value) -> None:
        """Raise `Misfit` unless a value can be read here, as what it is read as."""
        known = self.values.get(value.name)
        if known is None:
            raise Misfit(f"{value} is not defined here")
        expect(known.type == value.type, "{} is read as {}, and is {}", value, value.type, known.type)

    def inside(self) -> _Scope:
        """The scope of a body within this one."""
        return replace(self, values=dict(self.values))

    def least(self, form: Affine, last: bool) -> int | None:
        """The smallest value of a form at the first step of all scans, or at their last."""
        ends = {index: length - 1 if last else affine(0) for index, length in self.indices.items()}
        form = form.replaced(ends)
        return None if any(symbol not in self.bounds for symbol, _ in form.terms) else form.least(self.bounds)

    def holds(self, form: Affine) -> bool:
        """Whether a form is 0 or more at all steps: it is linear in each of them."""
        return all((least := self.least(form, last)) is not None and least >= 0 for last in (False, True))


@contextmanager
def _located(scope: _Scope, where: Callable[[], str]) -> Generator[None]:
    """Complete an error with the function and the instruction."""
    try:
        yield
    except Misfit as error:
        raise ArrayProgramError(f"array program, function {scope.function!r}: {error}.", f"In: {where()}") from None


def _body(body: Body, scope: _Scope) -> None:
    for statement in body.statements:
        with _located(scope, partial(statement_text, statement)):
            _statement(statement, scope)
    with _located(scope, lambda: f"results {', '.join(map(str, body.results))}"):
        for value in body.results:
            scope.expect_defined(value)


def _statement(statement: Statement, scope: _Scope) -> None:
    instruction = statement.instruction
    for value in instruction.operands:
        if value.name not in scope.growing:
            scope.expect_defined(value)
        else:
            expect(
                isinstance(instruction, Read), "{} is not complete before the scan ends; its steps can be read", value
            )
    match instruction:
        case Read():
            _read(instruction, scope)
        case Slice(operand=operand, axis=axis, start=start, size=size, or_zero=or_zero):
            room = axis_of(operand, axis) - start - size
            inside = scope.holds(size) and (or_zero or (scope.holds(start) and scope.holds(room)))
            expect(inside, "its range leaves axis {} of {} {}", axis, operand, operand.type)
        case Scan():
            _scan(instruction, statement.results, scope)
        case When():
            for part, then in ((instruction.then, True), (instruction.otherwise, False)):
                _body(part, replace(scope.inside(), bounds=_narrowed(scope.bounds, instruction.form, then)))
        case Invoke():
            _invoke(instruction, scope)
        case Instruction():
            pass
    types = instruction.types()
    expect(len(types) == len(statement.results), "it makes {} values, and names {}", len(types), len(statement.results))
    for value, kind in zip(statement.results, types, strict=True):
        expect(value.type == kind, "{} is declared {}, and is {}", value, value.type, kind)
        scope.define(value)


def _read(read: Read, scope: _Scope) -> None:
    known = scope.growing.get(read.series.name)
    if known is not None:
        scan, ahead = known
        behind = read.at - scan.index - ahead
        early = behind - 1 if scan.backward else affine(-1) - behind
        expect(scope.holds(early), "{} is read at a step that is not there yet", read.series)
    if not read.or_zero:
        room = axis_of(read.series, 0) - 1 - read.at
        expect(scope.holds(read.at) and scope.holds(room), "its index leaves {} {}", read.series, read.series.type)


def _scan(scan: Scan, results: Sequence[Value], scope: _Scope) -> None:
    expect(scan.index not in scope.bounds and scan.index not in scope.indices, "index {!r} is taken", scan.index)
    growing = dict(scope.growing)
    for series, before in zip(results, scan.before, strict=False):
        ahead = affine(0) if before is None or scan.backward else before.dims[0]
        growing[series.name] = scan, ahead
    inside = replace(scope.inside(), indices={**scope.indices, scan.index: scan.length}, growing=growing)
    _body(scan.body, inside)


def _narrowed(bounds: Bounds, form: Affine, holds: bool) -> Bounds:
    """The bounds of symbols where a form is 0 or more, or is not; as far as it has one symbol, of factor 1 or -1."""
    if len(form.terms) != 1 or abs(form.terms[0][1]) != 1:
        return bounds
    symbol, sign = form.terms[0]
    least, most = bounds[symbol]
    if (sign > 0) == holds:  # symbol >= limit
        limit = -form.constant if sign > 0 else form.constant + 1
        return {**bounds, symbol: (max(least, limit), most)}
    limit = form.constant if sign < 0 else -form.constant - 1
    return {**bounds, symbol: (least, limit if most is None else min(most, limit))}


def _invoke(invoke: Invoke, scope: _Scope) -> None:
    function = scope.functions.get(invoke.function)
    if function is None:
        raise Misfit(f"there is no function {invoke.function!r} before this one")
    symbols = dict(invoke.symbols)

    def here(values: Sequence[Value]) -> tuple[Type, ...]:
        return tuple(Type(v.type.dtype, tuple(dim.replaced(symbols) for dim in v.dims)) for v in values)

    expect(len(invoke.arguments) == len(function.inputs), "{} takes {} values", invoke.function, len(function.inputs))
    for form in symbols.values():
        expect(scope.holds(form - 1), "{} may be less than 1", form)
    for argument, wanted in zip(invoke.arguments, here(function.inputs), strict=True):
        expect(argument.type == wanted, "{} takes {}, not {}", invoke.function, wanted, argument.type)
    expect(invoke.produced == here(function.body.results), "{} gives other types", invoke.function)

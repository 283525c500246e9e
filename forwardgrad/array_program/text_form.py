"""The text of an array program: stable and diffable, one line per named value, its type at the right."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import ATOM, Spelled, spelled
from forwardgrad.array_program.inlining import Uses
from forwardgrad.array_program.instructions import (
    Broadcast,
    Call,
    Concat,
    Contract,
    Elementwise,
    Flush,
    Gather,
    Instruction,
    Read,
    Reduce,
    ScatterAdd,
    Signs,
    Slice,
)
from forwardgrad.array_program.regions import ArrayProgram, Body, Function, Invoke, Scan, Statement, When
from forwardgrad.array_program.values import Value

COLUMN, WIDTH = 84, 110
"""Where types stand, and how long a list of names may grow on one line."""


def text(program: ArrayProgram) -> str:
    """The text of a program."""
    lines = [f"program {program.dtype}", ""]
    for value in program.constants:
        lines.append(_typed(f"constant {value}", value))
    for name, (group, key) in program.bindings.items():
        lines.append(f"{name} is {group}[{key!r}]")
    for function in program.functions:
        lines += ["", *function_lines(function)]
    return "\n".join(lines) + "\n"


def function_lines(function: Function) -> list[str]:
    """The lines of a function."""
    results = ", ".join(map(str, function.body.results))
    head = _wrapped(f"{function.name}({', '.join(map(str, function.inputs))}) -> {results}", "")
    doc = [f"  # {line}" for line in function.doc.splitlines()]
    return [*head, *doc, *_Printer(Uses(function.body).inlined()).body(function.body, "  ")]


def statement_text(statement: Statement) -> str:
    """The first line of a statement, as errors quote it."""
    return " ".join(_Printer(frozenset()).statement(statement, "")[0].split())


def _typed(line: str, value: Value) -> str:
    return f"{line:<{COLUMN}}  {value.type}"


def _wrapped(line: str, margin: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, initial_indent=margin, subsequent_indent=f"{margin}    ", break_long_words=False)


class _Printer:
    """Prints bodies.

    Args:
        inlined: the values that are written where they are used.
    """

    def __init__(self, inlined: frozenset[Value]) -> None:
        self.inlined = inlined
        self.texts: dict[Value, Spelled] = {}

    def of(self, value: Value) -> Spelled:
        """How a value is written where it is used."""
        return self.texts.get(value, Spelled(value.name))

    def body(self, body: Body, margin: str) -> list[str]:
        return [line for statement in body.statements for line in self.statement(statement, margin)]

    def statement(self, statement: Statement, margin: str) -> list[str]:
        """The lines of a statement; none for a value that is written where it is used."""
        names = ", ".join(self.of(value).text for value in statement.results)
        match statement.instruction:
            case Scan() as scan:
                head = _wrapped(self._scan_head(scan, statement.results), margin)
                return [*head, *self.body(scan.body, f"{margin}  ")]
            case When(form=form, then=then, otherwise=otherwise):
                test = "not fresh" if form == -affine("fresh") else f"{form} >= 0"
                return [
                    *(f"{margin}when {test}", *self._branch(then, statement.results, f"{margin}  ")),
                    *(f"{margin}otherwise", *self._branch(otherwise, statement.results, f"{margin}  ")),
                ]
            case Invoke() as invoke:
                return _wrapped(f"{names} = {self.expression(invoke).text}", margin)
            case instruction:
                found = self.expression(instruction)
                if statement.results[0] in self.inlined:
                    self.texts[statement.results[0]] = found
                    return []
                return [_typed(f"{margin}{names} = {found.text}", statement.results[0])]

    def _branch(self, body: Body, results: Sequence[Value], margin: str) -> list[str]:
        """The lines of a body, what comes out of it under the names that it has outside."""
        made = {value for statement in body.statements for value in statement.results}
        passed: list[str] = []
        for result, value in zip(results, body.results, strict=True):
            if value in made and value not in self.texts:
                self.texts[value] = self.of(result)
            else:
                passed.append(_typed(f"{margin}{self.of(result).text} = {self.of(value).text}", result))
        return [*self.body(body, margin), *passed]

    def _scan_head(self, scan: Scan, results: Sequence[Value]) -> str:
        parts: list[str] = []
        for series, value, before in zip(results, scan.body.results, scan.before, strict=True):
            start = affine(0) if before is None or scan.backward else before.dims[0]
            self.texts[value] = Spelled(f"{series}[{start + scan.index}]")
            parts.append(f"{series}" if before is None else f"{series} from {self.of(before).text}")
        return f"scan {scan.index}{' backward' if scan.backward else ''} over {scan.length}: {', '.join(parts)}"

    def expression(self, instruction: Instruction) -> Spelled:
        """What an instruction makes, written with its operands."""
        texts = [self.of(value) for value in instruction.operands]
        match instruction:
            case Elementwise(tree=tree):
                return spelled(tree, texts)
            case Read(at=at, or_zero=or_zero):
                return Spelled(f"{texts[0].within(ATOM)}[{at}{' | 0' if or_zero else ''}]")
            case Slice():
                return Spelled(f"{texts[0].within(ATOM)}{_range(instruction)}")
            case _:
                return Spelled(f"{_word(instruction)}({', '.join(part.text for part in texts)})")


def _word(instruction: Instruction) -> str:
    """The word of an instruction that is written like a function, with what it is told besides its operands."""
    match instruction:
        case Contract(axes=axes, sparse=sparse):
            return f"contract[{axes}{' sparse' if sparse else ''}]"
        case Concat(axis=axis):
            return f"concat[{axis}]"
        case Broadcast(axes=axes, dims=dims):
            return f"broadcast[{_listed(axes)} of {len(dims)}]"
        case Gather(axis=axis):
            return f"gather[{axis}]"
        case ScatterAdd(axis=axis, unique=unique):
            return f"scatter_add[{axis}{' unique' if unique else ''}]"
        case Reduce(axes=axes, word=word):
            return f"{word}[{_listed(axes)}]"
        case Flush(every=every):
            return "flush" if every == 1 else f"flush[every {every}]"
        case Signs(seed=seed, stream=stream):
            return f"signs[{seed} {stream!r}]"
        case Call(function=function):
            return f"call {function}"
        case Invoke(function=function, symbols=symbols):
            given = ", ".join(f"{symbol} = {form}" for symbol, form in symbols)
            return f"invoke {function}[{given}]" if given else f"invoke {function}"
        case _:
            raise AssertionError(f"no text for {type(instruction).__name__}")


def _listed(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _range(instruction: Slice) -> str:
    start, size, dims = instruction.start, instruction.size, instruction.operand.dims
    whole = dims[instruction.axis] if instruction.axis < len(dims) else None  # errors quote what is wrong
    first = "" if start == affine(0) else str(start)
    last = "" if start + size == whole else str(start + size)
    zero, order = " | 0" if instruction.or_zero else "", " reversed" if instruction.backward else ""
    return f"[{':, ' * instruction.axis}{first}:{last}{zero}]{order}"

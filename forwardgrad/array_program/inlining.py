"""Inlining: which values a printed program writes where they are used, and which get a line of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from forwardgrad.array_program.expressions import places
from forwardgrad.array_program.instructions import Broadcast, Elementwise, Instruction, Read, Slice
from forwardgrad.array_program.regions import Body, Scan, When
from forwardgrad.array_program.values import Value

VIEWS = (Read, Slice, Broadcast)
"""Instructions that cost nothing: their results are written out as often as they are used."""


def inner(instruction: Instruction) -> tuple[Body, ...]:
    """The bodies that an instruction holds."""
    match instruction:
        case Scan():
            return (instruction.body,)
        case When():
            return instruction.then, instruction.otherwise
        case _:
            return ()


def bodies(body: Body) -> Iterator[Body]:
    """A body, and all those inside it."""
    yield body
    for statement in body.statements:
        for part in inner(statement.instruction):
            yield from bodies(part)


def reads(instruction: Instruction) -> list[Value]:
    """The operands of an instruction, as often as it reads them."""
    if isinstance(instruction, Elementwise):
        return [instruction.arguments[place] for place in places(instruction.tree)]
    return list(instruction.operands)


def inlined(whole: Body) -> frozenset[Value]:
    """The values that have no line of their own: unnamed, read in the body that makes them only, and once or cheap."""
    uses: defaultdict[Value, int] = defaultdict(int)
    elsewhere: set[Value] = set()
    chosen: set[Value] = set()
    parts = list(bodies(whole))
    for body in parts:
        own = {value for statement in body.statements for value in statement.results}
        for statement in body.statements:
            for value in reads(statement.instruction):
                uses[value] += 1
                if value not in own:
                    elsewhere.add(value)
        elsewhere.update(body.results)
    for body in parts:
        for statement in body.statements:
            for value in statement.results:
                cheap = isinstance(statement.instruction, VIEWS) or uses[value] <= 1
                if value.unnamed and cheap and value not in elsewhere and not inner(statement.instruction):
                    chosen.add(value)
    return frozenset(chosen)


def outside(scan: Scan) -> Callable[[Value], bool]:
    """Whether a value is the same at all steps of a scan, and there before it."""
    inside = {value for body in bodies(scan.body) for statement in body.statements for value in statement.results}
    return lambda value: value not in inside

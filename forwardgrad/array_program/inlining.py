"""Inlining: how often values are read, which of them are written where they are used, and which get a line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from forwardgrad.array_program.expressions import places
from forwardgrad.array_program.instructions import Broadcast, Elementwise, Instruction, Read, Slice
from forwardgrad.array_program.regions import Body, Scan, When
from forwardgrad.array_program.values import Value

VIEWS = (Read, Slice, Broadcast)
"""Instructions that cost nothing: their results are written out as often as they are used."""


def inner(instruction: Scan | When) -> tuple[Body, ...]:
    """The bodies that an instruction holds."""
    return (instruction.body,) if isinstance(instruction, Scan) else (instruction.then, instruction.otherwise)


def bodies(body: Body) -> Iterator[Body]:
    """A body, and all those inside it."""
    yield body
    for statement in body.statements:
        if isinstance(statement.instruction, Scan | When):
            for part in inner(statement.instruction):
                yield from bodies(part)


def reads(instruction: Instruction) -> Sequence[Value]:
    """The operands of an instruction, as often as it reads them."""
    if isinstance(instruction, Elementwise):
        return [instruction.arguments[place] for place in places(instruction.tree)]
    return instruction.operands


class Uses:
    """How the values of a body, and of those inside it, are used.

    Attributes:
        made: the instruction that makes each value, in order.
        counts: how often instructions read a value.
        elsewhere: the values that are read in other bodies than those that make them, or come out of a body.
        parts: the body, and all those inside it.
    """

    def __init__(self, whole: Body) -> None:
        self.made: dict[Value, Instruction] = {}
        self.counts: defaultdict[Value, int] = defaultdict(int)
        self.elsewhere: set[Value] = set()
        self.parts = list(bodies(whole))
        for body in self.parts:
            own: dict[Value, Instruction] = {}
            for statement in body.statements:
                for value in reads(statement.instruction):
                    self.counts[value] += 1
                    if value not in own:
                        self.elsewhere.add(value)
                for value in statement.results:
                    own[value] = statement.instruction
            self.made.update(own)
            self.elsewhere.update(body.results)

    def inlined(self) -> frozenset[Value]:
        """The values that have no line of their own: unnamed, read in the body that makes them only, once or cheap."""
        unnamed = [(value, made) for value, made in self.made.items() if value.unnamed and value not in self.elsewhere]
        cheap = [value for value, made in unnamed if self.counts[value] <= 1 or isinstance(made, VIEWS)]
        return frozenset(value for value in cheap if not isinstance(self.made[value], Scan | When))


def outside(scan: Scan) -> Callable[[Value], bool]:
    """Whether a value is the same at all steps of a scan, and there before it."""
    inside = {value for body in bodies(scan.body) for statement in body.statements for value in statement.results}
    return lambda value: value not in inside

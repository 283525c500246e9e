"""Buffers: which values may be kept in one array, because the one ends where the other begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from forwardgrad.array_program.expressions import Apply, Argument, Tree, places
from forwardgrad.array_program.inlining import Uses
from forwardgrad.array_program.instructions import Contract, Elementwise, Instruction, Reduce
from forwardgrad.array_program.regions import ArrayProgram, Body, Function, When
from forwardgrad.array_program.values import Value


@dataclass(frozen=True)
class Analysed:
    """A function, and what is decided of its values before it is printed or priced.

    Args:
        function: the function.
        inlined: the values that are written where they are used.
        added_to: values that are added to in place, each with the result.
    """

    function: Function
    inlined: frozenset[Value]
    added_to: Mapping[Value, Value]


def analysed(program: ArrayProgram) -> dict[str, Analysed]:
    """The functions of a program, by name."""
    found: dict[str, Analysed] = {}
    for function in program.functions:
        uses = Uses(function.body)
        found[function.name] = Analysed(function, uses.inlined(), added_to(uses))
    return found


def leftmost(tree: Tree) -> Tree:
    """The first term of a sum."""
    while isinstance(tree, Apply) and tree.word == "+":
        tree = tree.operands[0]
    return tree


def added_to(uses: Uses) -> dict[Value, Value]:
    """Values to which a choice adds something or nothing, each with the result of the choice.

    The result can be the same array: it is added to in place, and nothing else reads what it was before.
    """
    come_out = Counter(value for body in uses.parts for value in body.results)
    found: dict[Value, Value] = {}
    for body in uses.parts:
        choices = [statement for statement in body.statements if isinstance(statement.instruction, When)]
        made = {value: s.instruction for s in body.statements for value in s.results} if choices else {}
        for statement in choices:
            assert isinstance(statement.instruction, When)
            then = {value: s.instruction for s in statement.instruction.then.statements for value in s.results}
            then |= _passed_on(statement.instruction.then, then)
            pairs = zip(statement.instruction.then.results, statement.instruction.otherwise.results, strict=True)
            for result, (total, value) in zip(statement.results, pairs, strict=True):
                once = uses.counts[value] == come_out[value] == come_out[total] == 1 and not uses.counts[total]
                if once and _is_new(made.get(value)) and _adds(then.get(total), value):
                    found[value] = result
    return found


def _passed_on(body: Body, made: dict[Value, Instruction]) -> dict[Value, Instruction]:
    """Of the results of choices in a body: what makes the value that one side of the choice leaves as it is."""
    found: dict[Value, Instruction] = {}
    for statement in body.statements:
        if isinstance(statement.instruction, When):
            for result, value in zip(statement.results, statement.instruction.otherwise.results, strict=True):
                if value in made:
                    found[result] = made[value]
    return found


def _is_new(instruction: object) -> bool:
    """Whether an instruction makes an array that no other name is for."""
    if isinstance(instruction, Elementwise):
        return not isinstance(instruction.tree, Argument)
    return isinstance(instruction, Contract | Reduce)


def _adds(instruction: object, value: Value) -> bool:
    """Whether an instruction is a sum that begins with a value, and is more."""
    if not isinstance(instruction, Elementwise) or isinstance(instruction.tree, Argument):
        return False
    first = leftmost(instruction.tree)
    if not isinstance(first, Argument) or instruction.arguments[first.place] != value:
        return False
    return places(instruction.tree).count(first.place) == 1 and value.dims == instruction.dims

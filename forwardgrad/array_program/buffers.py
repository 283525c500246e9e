"""Buffers: which values a printed program may keep in one array, because the one ends where the other begins."""

from __future__ import annotations

from collections import Counter

from forwardgrad.array_program.expressions import Apply, Argument, Tree, places
from forwardgrad.array_program.inlining import bodies, reads
from forwardgrad.array_program.instructions import Contract, Elementwise, Instruction, Reduce
from forwardgrad.array_program.regions import Body, When
from forwardgrad.array_program.values import Value


def leftmost(tree: Tree) -> Tree:
    """The first term of a sum."""
    while isinstance(tree, Apply) and tree.word == "+":
        tree = tree.operands[0]
    return tree


def added_to(whole: Body) -> dict[Value, Value]:
    """Values to which a choice adds something or nothing, each with the result of the choice.

    The result can be the same array: it is added to in place, and nothing else reads what it was before.
    """
    parts = list(bodies(whole))
    uses = Counter(value for body in parts for statement in body.statements for value in reads(statement.instruction))
    uses.update(value for body in parts for value in body.results)
    found: dict[Value, Value] = {}
    for body in parts:
        made = {value: s.instruction for s in body.statements for value in s.results}
        for statement in body.statements:
            if not isinstance(statement.instruction, When):
                continue
            then = {value: s.instruction for s in statement.instruction.then.statements for value in s.results}
            then |= _passed_on(statement.instruction.then, then)
            pairs = zip(statement.instruction.then.results, statement.instruction.otherwise.results, strict=True)
            for result, (total, value) in zip(statement.results, pairs, strict=True):
                if uses[value] == 2 and uses[total] == 1 and _is_new(made.get(value)) and _adds(then.get(total), value):
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

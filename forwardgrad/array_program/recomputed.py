"""Recomputed values: what a few operations make of arrays that are there anyway is computed where it is read.

Memory takes longer than these operations: a derivative such as 1 - y y of a value y is not made for all steps and read
again, but made of y by each function that reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from forwardgrad.array_program.expressions import Apply, Tree
from forwardgrad.array_program.inlining import VIEWS, bodies
from forwardgrad.array_program.instructions import Elementwise
from forwardgrad.array_program.regions import (
    ArrayProgram,
    Body,
    Function,
    Invoke,
    Scan,
    Statement,
    When,
    with_values,
)
from forwardgrad.array_program.values import UNNAMED, Value

CHEAP = frozenset({"+", "-", "*", "/", "negate", "abs", "square", "maximum", "minimum", "sign", "where", "indicator"})
"""Words of expressions that take a processor about as long as it takes to read a number. So do comparisons."""

MOST = 10
"""Operations that are done again at the most."""


@dataclass(frozen=True)
class _Recipe:
    """How a value is made.

    Args:
        statements: views, and an expression.
        operands: the inputs of its function that they read.
    """

    statements: tuple[Statement, ...]
    operands: tuple[Value, ...]


def recomputed(program: ArrayProgram, maker: str) -> ArrayProgram:
    """A program in which what a function makes is computed by those that read it, where that is cheap.

    Args:
        program: the program.
        maker: the name of the function; none invokes it.
    """
    source = program.function(maker)
    made = {value: statement for statement in source.body.statements for value in statement.results}
    recipes = {value: found for value in source.body.results if (found := _recipe(made, value)) is not None}
    inputs = {each.name: each.inputs for each in program.functions}
    for invoke in [invoke for function in program.functions for invoke in _invokes(function.body)]:
        for value in _renamed(invoke, inputs[invoke.function], recipes):
            del recipes[value]
    functions = [
        _without(each, recipes) if each is source else _making(each, recipes, inputs) for each in program.functions
    ]
    return replace(program, functions=tuple(functions))


def _recipe(made: Mapping[Value, Statement], value: Value) -> _Recipe | None:
    """How a value is made of inputs of its function, if that is cheap; `made` says what makes the others."""
    statement = made.get(value)
    if statement is None or not isinstance(statement.instruction, Elementwise):
        return None
    if not _is_cheap(statement.instruction.tree):
        return None
    found, waiting, operands = [statement], list(statement.instruction.operands), list[Value]()
    while waiting:
        operand = waiting.pop()
        before = made.get(operand)
        if before is None:
            operands.append(operand)
        elif isinstance(before.instruction, VIEWS):
            found.append(before)
            waiting += before.instruction.operands
        else:
            return None
    return _Recipe(tuple(reversed(found)), tuple(dict.fromkeys(operands)))


def _is_cheap(tree: Tree) -> bool:
    words = list(_words(tree))
    return len(words) <= MOST and all(word in CHEAP or word[0] in "<>=!" for word in words)


def _words(tree: Tree) -> Iterator[str]:
    if isinstance(tree, Apply):
        yield tree.word
        for operand in tree.operands:
            yield from _words(operand)


def _renamed(invoke: Invoke, inputs: Sequence[Value], recipes: Mapping[Value, _Recipe]) -> list[Value]:
    """Values that a function knows by other names, or what they are made of, or for blocks of another length."""
    pairs = zip(inputs, invoke.arguments, strict=True)
    other = {value for pair in pairs if pair[0] != pair[1] for value in pair}
    concerned = {value: {value, *recipes[value].operands} for value in inputs if value in recipes}
    return [value for value, names in concerned.items() if invoke.symbols or not other.isdisjoint(names)]


def _invokes(body: Body) -> Iterator[Invoke]:
    for part in bodies(body):
        yield from (each.instruction for each in part.statements if isinstance(each.instruction, Invoke))


def _without(function: Function, recipes: Collection[Value]) -> Function:
    """A function that does not make some of its results, nor what only these are made of."""
    results = tuple(value for value in function.body.results if value not in recipes)
    wanted, kept = set(results), list[Statement]()
    for statement in reversed(function.body.statements):
        if not wanted.isdisjoint(statement.results):
            wanted.update(_read(statement))
            kept.append(statement)
    return replace(function, body=Body(tuple(reversed(kept)), results))


def _making(function: Function, recipes: Mapping[Value, _Recipe], inputs: Mapping[str, Sequence[Value]]) -> Function:
    """A function that is given what values are made of, instead of these."""
    body = _handing_on(function.body, recipes, inputs)
    read = {value for statement in body.statements for value in _read(statement)}
    start: list[Statement] = []
    for number, value in enumerate(value for value in function.inputs if value in recipes and value in read):
        names = {
            each.results[0]: Value(f"{UNNAMED}made_{number}_{place}", each.results[0].type)
            for place, each in enumerate(recipes[value].statements[:-1])
        }
        start += [with_values(each, names) for each in recipes[value].statements]
    body = replace(body, statements=(*start, *body.statements))
    return replace(function, inputs=_inputs(function.inputs, recipes), body=body)


def _read(statement: Statement) -> Iterator[Value]:
    """What a statement reads, and what comes out of the bodies in it."""
    for part in bodies(Body((statement,), ())):
        yield from part.results
        for each in part.statements:
            yield from each.instruction.operands


def _handing_on(part: Any, recipes: Mapping[Value, _Recipe], inputs: Mapping[str, Sequence[Value]]) -> Any:
    """A body, or what one is made of, that hands on what values are made of, instead of these."""
    match part:
        case Invoke(function=name, arguments=arguments):
            given = dict(zip(inputs[name], arguments, strict=True))
            return replace(part, arguments=tuple(given.get(value, value) for value in _inputs(inputs[name], recipes)))
        case Scan(body=body):
            return replace(part, body=_handing_on(body, recipes, inputs))
        case When(then=then, otherwise=otherwise):
            sides = (_handing_on(each, recipes, inputs) for each in (then, otherwise))
            return When(part.form, *sides)
        case Body(statements=statements, results=results):
            return Body(tuple(_handing_on(each, recipes, inputs) for each in statements), results)
        case Statement(results=results, instruction=instruction):
            return Statement(results, _handing_on(instruction, recipes, inputs))
        case _:
            return part


def _inputs(inputs: Sequence[Value], recipes: Mapping[Value, _Recipe]) -> tuple[Value, ...]:
    """Inputs of a function, in which what is recomputed is replaced by what it is made of."""
    kept = [value for value in inputs if value not in recipes]
    operands = [operand for value in inputs if value in recipes for operand in recipes[value].operands]
    return tuple(dict.fromkeys([*kept, *operands]))

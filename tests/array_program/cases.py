"""What is an array program held against? Blocks of a problem, run by the interpreter, which gives the states too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pytest
from array_program.evaluator import Evaluator
from checks import compiled
from mutations.problems import PROBLEMS
from nets import CORE

import forwardgrad as fg
from forwardgrad import errors
from forwardgrad.array_program.checker import check
from forwardgrad.array_program.lowering.context import LayoutCall, OpCall
from forwardgrad.array_program.lowering.lower import lower
from forwardgrad.backends.interpreted import Interpreted
from forwardgrad.backends.tape import Tape
from forwardgrad.ops import Array
from forwardgrad.structure import Structure
from forwardgrad.testing import Problem

RULES = ("rtrl", "eprop-deep", "eprop", "eprop-random", "immediate", "hops(2) & near", "dsf(0.5)", "window(2)")
BLOCKS = (1, 2, 7)

Run = Callable[[str, Mapping[str, Array], Mapping[str, int]], dict[str, Array]]
"""Runs a function of a program: its name, arrays by name, and what symbols stand for."""


NAMES = (*CORE, *PROBLEMS)
"""Shipped graphs of every kind, and those on which faults are planted."""


@cache
def named(name: str) -> Problem:
    """The problem of that name."""
    if name in PROBLEMS:
        return PROBLEMS[name]()
    return Problem.of(fg.compile(fg.load(name), rule="rtrl"), seed=1, steps=7, batch=2)


@cache
def named_case(name: str, rule: str) -> Case:
    """The problem of that name, lowered under a rule; skips the test where the rule cannot serve it."""
    try:
        return Case(named(name), rule)
    except errors.RuleError as refused:
        pytest.skip(str(refused))


@dataclass(frozen=True)
class Block:
    """A block of a problem, run by the interpreter.

    Args:
        case: the plan and its array program.
        state: what came before.
        arrays: the inputs of the array program that come from outside, by their names.
        tape: what the interpreter left.
        fresh: whether nothing came before.
    """

    case: Case
    state: Mapping[str, Array]
    arrays: Mapping[str, Array]
    tape: Tape
    fresh: bool

    @property
    def symbols(self) -> dict[str, int]:
        """What the symbols of the program stand for."""
        return {"steps": self.tape.steps, "batch": self.tape.batch, "fresh": int(self.fresh)}

    def run(
        self, *functions: str, given: Mapping[str, Array] | None = None, run: Run | None = None
    ) -> dict[str, Array]:
        """What functions of the program leave, one after another, beside other arrays that are given."""
        run = self.case.evaluator.run if run is None else run
        arrays = dict(self.arrays) | dict(given or {})
        for function in functions:
            arrays |= run(function, arrays, self.symbols)
        return arrays


class Case:
    """A problem's plan under a rule, and its array program."""

    def __init__(self, problem: Problem, rule: Any, **options: Any) -> None:
        self.problem, self.source = problem, compiled(problem, rule, **options)
        self.plan = self.source.plan
        self.lowered = lower(self.plan, np.float64)
        self.program, self.context = check(self.lowered.program), self.lowered.context
        self.engine = Interpreted(self.plan, np.float64)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Runs the array program."""
        return Evaluator(self.program, {name: self._call(what) for name, what in self.context.calls.items()})

    def _call(self, called: OpCall | LayoutCall) -> Callable[..., Array]:
        if isinstance(called, LayoutCall):
            return called.run
        node, port = self.plan.network.nodes[called.node], called.port

        def call(*arrays: Array) -> Array:
            rows = [array.reshape(-1, array.shape[-1]) for array in arrays]
            if not port:
                return node.op.evaluate(rows, node.options).reshape(arrays[0].shape)
            found = node.op.jacobian(port, node.ports, rows[:-1], rows[-1], node.options)
            if node.op.port(port, node.ports).structure is Structure.SCALAR:
                found = found[:, 0]
            return found.reshape(*arrays[0].shape[:-1], *found.shape[1:])

        return call

    def blocks(self, length: int) -> Iterator[Block]:
        """The blocks of the problem's sequence."""
        problem, params = self.problem, dict(self.source.init(0)) | dict(self.problem.params)
        state: Mapping[str, Array] = self.engine.start(problem.batch)
        for first in range(0, problem.steps, length):
            inputs = {name: x[first : first + length] for name, x in problem.inputs.items()}
            shape = len(next(iter(inputs.values()))), problem.batch
            groups: dict[str, Mapping[str, Array]] = {"params": params, "state": state, "inputs": inputs}
            arrays = {
                name: groups[group][key] for name, (group, key) in self.program.bindings.items() if group in groups
            }
            tape = self.engine.forward(params, state, inputs, shape)
            yield Block(self, state, arrays, tape, fresh=first == 0)
            state = self.engine.advance(tape, state, fresh=first == 0)


def close(found: Array, wanted: Array, what: str) -> None:
    """Assert that two arrays agree, to 1e-12 of their largest entry."""
    assert found.shape == wanted.shape, f"{what}: {found.shape} and {wanted.shape}"
    scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
    assert float(np.abs(found - wanted).max(initial=0.0)) <= 1e-12 * scale, what

"""Do the sweeps of an array program find the adjoints that the interpreter finds?"""

from __future__ import annotations

import numpy as np
import pytest
from array_program.cases import BLOCKS, NAMES, RULES, Block, Case, close, named_case
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardgrad.array_program.lowering.adjoints import Adjoint
from forwardgrad.array_program.lowering.sweep import Swept
from forwardgrad.backends.interpreter import Interpreter
from forwardgrad.backends.sweep import Adjoints, sweep
from forwardgrad.ops import Array
from forwardgrad.structure import Structure
from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import path_rules, problems


def seeded(b: Adjoint, array: Array, size: int) -> Array:
    """An adjoint of an array program over some steps as the interpreter has it, `(steps, batch, seeds, size)`."""
    if b.word is Structure.FULL:
        return array
    wide = array[..., None] if b.word is Structure.SCALAR else array
    return np.broadcast_to(wide, (*wide.shape[:2], size))[:, :, None]


def assert_swept(block: Block, what: Swept, arrays: dict[str, Array], wanted: Adjoints) -> None:
    """Assert that a sweep leaves the adjoints of the interpreter, and zeros where it has none."""
    plan, steps = block.case.plan, block.tape.steps
    for (place, port), b in what.ports.items():
        found = seeded(b, arrays[b.value.name], plan.size(place))
        expected = np.zeros_like(found)
        for t, array in wanted.ports.get((place, port), {}).items():
            expected[t] = array
        close(found, expected, f"place {place}, port {port}")
    for place, b in what.past.items():
        found = seeded(b, arrays[b.value.name], plan.size(place))
        for lag in range(1, len(found) + 1):
            expected = wanted.boundary.get((place, lag), np.zeros_like(found[0]))
            close(found[len(found) - lag], np.broadcast_to(expected, found[0].shape), f"past {place}, lag {lag}")
    assert steps == block.symbols["steps"]
    missing = {place for place, _ in wanted.boundary} - set(what.past)
    assert all(not wanted.boundary[key].any() for key in wanted.boundary if key[0] in missing)


def assert_sweeps(case: Case) -> None:
    """Assert that all sweeps of a program find the interpreter's adjoints, from signals drawn at random."""
    random = np.random.default_rng(0)
    interpreter = Interpreter(case.plan, np.float64)
    for length in BLOCKS:
        for block in case.blocks(length):
            tape = block.tape
            sizes = {stop.node: stop.size for stop in interpreter.loss_route}
            signals = {node: random.standard_normal((tape.steps, tape.batch, size)) for node, size in sizes.items()}
            given = {
                name: signals[key]
                for name, (group, key) in case.program.bindings.items()
                if group in ("losses", "signals")
            }
            arrays = block.run("forward", "slopes", given=given)
            found = arrays | case.evaluator.run("credit", arrays, block.symbols)
            seeds = interpreter._seeds(tape, signals, signals)
            assert_swept(block, case.lowered.credit, found, sweep(tape, interpreter.loss_route, seeds))
            for target, what in case.lowered.jacobians.items():
                seed = np.ones((tape.batch, 1, case.plan.size(target)))
                wanted = sweep(tape, interpreter.place_routes[target], {(target, tape.steps - 1): seed})
                found = case.evaluator.run(what.function.name, arrays, block.symbols)
                assert_swept(block, what, found, wanted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", RULES)
def test_sweeps_find_the_adjoints_of_the_interpreter(name: str, rule: str) -> None:
    """If this fails, credit is lost or doubled on its way back."""
    assert_sweeps(named_case(name, rule))


@given(data=st.data(), problem=problems())
@settings(max_examples=40, deadline=None)
def test_sweeps_on_random_graphs(data: st.DataObject, problem: Problem) -> None:
    """If this fails, some shape of product graph is swept wrongly."""
    assert_sweeps(Case(problem, data.draw(path_rules(problem.edges))))

"""Do the gradients and the states of an array program equal the interpreter's, block by block?"""

from __future__ import annotations

import numpy as np
import pytest
from array_program.cases import BLOCKS, NAMES, RULES, Case, Run, close, named_case
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import path_rules, problems


def assert_blocks(case: Case, run: Run | None = None) -> float:
    """Assert that gradients and states are the interpreter's at all block lengths.

    Args:
        case: the program.
        run: what runs a function of it, given arrays and symbols; the evaluator by default.

    Returns:
        The largest entry of a gradient.
    """
    random, largest = np.random.default_rng(0), 0.0
    sizes = {place.node: case.plan.size(index) for index, place in enumerate(case.plan.product.places)}
    for length in BLOCKS:
        for block in case.blocks(length):
            tape = block.tape
            signals = {node: random.standard_normal((tape.steps, tape.batch, size)) for node, size in sizes.items()}
            bindings = case.program.bindings
            given = {name: signals[key] for name, (group, key) in bindings.items() if group in ("losses", "signals")}
            arrays = block.run("forward", "slopes", "credit", "gradients", "advance", given=given, run=run)
            grads, _ = case.engine.gradients(tape, block.state, None, signals, signals, block.fresh)
            after = case.engine.advance(tape, block.state, block.fresh)
            for group, wanted in (("grads", grads), ("after", after)):
                found = {key: arrays[name] for name, (where, key) in bindings.items() if where == group}
                assert found.keys() == wanted.keys()
                for key, array in wanted.items():
                    close(found[key], array, key)
            largest = max([largest, *(float(np.abs(g).max(initial=0.0)) for g in grads.values())])
    return largest


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", RULES)
def test_blocks_are_those_of_the_interpreter(name: str, rule: str) -> None:
    """If this fails, a gradient or what is stored for the next block is wrong."""
    assert assert_blocks(named_case(name, rule)) > 0


@given(data=st.data(), problem=problems())
@settings(max_examples=40, deadline=None)
def test_blocks_on_random_graphs(data: st.DataObject, problem: Problem) -> None:
    """If this fails, some layout of influence is injected, carried, widened or contracted wrongly."""
    assert_blocks(Case(problem, data.draw(path_rules(problem.edges))))

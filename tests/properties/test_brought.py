"""On random graphs with ops and losses as users bring them: every way to the gradient finds the same one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from checks import TOLERANCE, assert_like_oracle, compiled, error
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardgrad import ops, oracle
from forwardgrad.graph import Network
from forwardgrad.ops import losses
from forwardgrad.testing import Problem, assert_op
from forwardgrad.testing.strategies import brought_ops, problems
from forwardgrad.testing.strategies.brought import has_text

RULES = ["rtrl", "eprop-deep", "eprop", "immediate"]


def printable(network: Network, given_losses: Any) -> bool:
    """Whether all functions that a printed module calls have a text that it can take along."""
    functions = [function for loss in given_losses for function in (loss.value, loss.gradient)]
    for node in network.nodes.values():
        if node.op.name.startswith("brought_"):
            functions += [node.op.value, *(port.derivative for port in node.op.ports)]
    return all(has_text(function) for function in functions if getattr(function, "__module__", "") != losses.__name__)


@given(op=brought_ops())
@settings(max_examples=15, deadline=None)
def test_what_is_drawn_has_the_derivative_that_it_says(op: ops.Op) -> None:
    """The strategy draws ops whose declared derivative is wrong, and every finding with them is void."""
    units = {name: np.linspace(0.3, 0.9, 3) for name, option in op.options.items() if not option.choices}
    assert_op(op, options=units, allow=["zero-gradient"])


@pytest.mark.parametrize("rule", RULES)
@given(problem=problems(brought=True, most_steps=8))
@settings(max_examples=15, deadline=None)
def test_both_backends_and_the_printed_source_agree_with_the_oracle(rule: str, problem: Problem) -> None:
    """A user's function is called with another node's options, names, arrays or dtype."""
    program = assert_like_oracle(problem, rule)
    names: dict[str, Any] = {}
    exec(program.source(), names)
    wanted = oracle.reverse(**problem.arguments, rule=rule)
    mask = problem.mask
    if isinstance(mask, dict):  # a printed module takes one mask for all
        return
    try:
        loss, grads = names["gradient"](problem.params, problem.inputs, problem.targets, mask, block=3)
    except NotImplementedError:
        assert not printable(problem.network, program.losses.values())
        return
    assert loss == pytest.approx(wanted.loss, rel=1e-10)
    assert error(grads, wanted.grads) <= TOLERANCE


@given(problem=problems(brought=True, smooth=True, most_steps=6, credit=False))
@settings(max_examples=15, deadline=None)
def test_the_exact_rule_agrees_with_finite_differences(problem: Problem) -> None:
    """A derivative reads another array than it names, in engine and oracle alike."""
    wanted = oracle.finite_difference(**problem.arguments)
    for backend in ("numpy", "interpreter"):
        program = compiled(problem, "rtrl", backend=backend)
        found = program.gradient(problem.params, problem.inputs, problem.targets, block=2, mask=problem.mask)
        assert error(found.grads, wanted.grads) <= 1e-6


@given(problem=problems(brought=True, most_steps=6), backend=st.sampled_from(["numpy", "interpreter"]))
@settings(max_examples=15, deadline=None)
def test_single_precision_stays_single(problem: Problem, backend: str) -> None:
    """A user's function that computes in double precision makes a program of single precision double."""
    program = compiled(problem, "rtrl", backend=backend, dtype="float32")
    params, mask = problem.params, problem.mask
    state, step = program.step(params, problem.inputs, problem.targets, mask, state=program.start(problem.batch))
    values = program.run(params, problem.inputs)
    for array in [*state.values(), *step.grads.values(), *step.outputs.values(), *values.values()]:
        assert array.dtype == np.float32
    wanted = compiled(problem, "rtrl", backend=backend).gradient(params, problem.inputs, problem.targets, mask=mask)
    assert step.loss == pytest.approx(wanted.loss, rel=1e-3, abs=1e-3)


def test_what_is_drawn_is_gone_after_the_example() -> None:
    """Ops that a test draws stay registered, and another test trips over them."""

    @given(problem=problems(brought=True))
    @settings(max_examples=20, deadline=None, database=None)
    def draws(problem: Problem) -> None:
        assert {node.op.name for node in problem.network.nodes.values()} <= set(ops.names())

    before = ops.names()
    draws()
    assert ops.names() == before

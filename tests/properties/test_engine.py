"""On random graphs: the compiled algorithm gives the sum over kept paths, whatever the rule and the blocks of time."""

from __future__ import annotations

import numpy as np
import pytest
from checks import TOLERANCE, assert_like_oracle, compiled, error
from hypothesis import event, given, note, settings
from hypothesis import strategies as st

from forwardgrad import oracle
from forwardgrad.rules import table as rules
from forwardgrad.testing import Problem
from forwardgrad.testing.gradients import in_blocks
from forwardgrad.testing.strategies import automata, partitions, path_rules, problems

NAMED = ["all", "eprop-deep", "synaptic", "near", "eprop", "immediate"]


@pytest.mark.parametrize("rule", NAMED)
@given(problem=problems())
@settings(max_examples=15, deadline=None)
def test_named_rules_give_the_oracles_gradient(rule: str, problem: Problem) -> None:
    """A rule's traces lose, double or misplace credit on some graph."""
    program = assert_like_oracle(problem, rule)
    event(f"stored: {'something' if any(d.layouts for d in program.rules.values()) else 'nothing'}")


@given(data=st.data(), problem=problems())
@settings(max_examples=40, deadline=None)
def test_any_automaton_gives_the_oracles_gradient(data: st.DataObject, problem: Problem) -> None:
    """The product with some automaton, cut or product of rules is wrong."""
    rule = data.draw(path_rules(problem.edges))
    assert_like_oracle(problem, rule)


@given(data=st.data(), problem=problems(most_steps=9))
@settings(max_examples=20, deadline=None)
def test_each_parameter_has_the_gradient_of_its_own_rule(data: st.DataObject, problem: Problem) -> None:
    """Rules of different parameters in one network disturb each other."""
    choice = {name: data.draw(path_rules(problem.edges)) for name in problem.network.trainable}
    assert_like_oracle(problem, choice, blocks=(2,))


@given(data=st.data(), problem=problems(), rule=st.sampled_from(NAMED) | automata())
@settings(max_examples=20, deadline=None)
def test_gradient_does_not_depend_on_blocks(data: st.DataObject, problem: Problem, rule: object) -> None:
    """Influence is carried wrongly where blocks have unequal lengths."""
    program = compiled(problem, rule)
    lengths = data.draw(partitions(problem.steps))
    note(f"blocks {lengths}")
    whole = program.gradient(problem.params, problem.inputs, problem.targets, block=problem.steps, mask=problem.mask)
    assert error(in_blocks(program, problem, lengths), whole.grads) <= TOLERANCE


@given(problem=problems(smooth=True, most_steps=8))
@settings(max_examples=15, deadline=None)
def test_exact_rule_agrees_with_finite_differences(problem: Problem) -> None:
    """The exact gradient is not the derivative of the loss."""
    for _, _, attributes in problem.graph.edges(data=True):
        attributes.pop("credit", None)  # finite differences know no cuts
    program = compiled(problem, rules.rule("rtrl"))
    found = program.gradient(problem.params, problem.inputs, problem.targets, block=3, mask=problem.mask)
    wanted = oracle.finite_difference(**problem.arguments)
    assert error(found.grads, wanted.grads) <= 1e-6
    assert np.isfinite(found.loss)

"""Does an array program as an engine give the gradients of the oracle and the states of the interpreter?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from array_program.cases import BLOCKS, NAMES, RULES, named
from checks import compiled
from hypothesis import given, settings
from hypothesis import strategies as st

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.errors import RuleError
from forwardgrad.testing import Problem
from forwardgrad.testing.comparing import Comparison, chosen, differences, fitted, gradient
from forwardgrad.testing.strategies import problems, rule_mappings

ENGINE = "numpy"


def engine(problem: Problem, rule: Any) -> fg.Program:
    """The program that it runs."""
    return compiled(problem, rule, backend=ENGINE)


ADAPTIVE = "eprop; feedback=adaptive"


@pytest.mark.parametrize(
    ("name", "rule"),
    [(name, rule) for name in NAMES for rule in (*RULES, ADAPTIVE) if (name, rule) != ("depth", ADAPTIVE)],
)  # the oracle asks for a matrix there that no path of the program reads
def test_its_gradients_are_those_of_the_paths(name: str, rule: str) -> None:
    """If this fails, functions are called with arrays that are not theirs."""
    problem = named(name)
    try:
        program = engine(problem, rule)
    except RuleError as refused:
        pytest.skip(str(refused))
    assert max(Comparison.with_paths(program, fitted(program, problem)).worst(BLOCKS).values()) <= 1e-10


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_gradients_on_random_graphs(data: st.DataObject) -> None:
    """Ops and losses of users, ties, masks, signals, a rule for each parameter; blocks of any length."""
    problem = data.draw(problems(brought=True))
    rules = data.draw(rule_mappings(problem))
    program, block = engine(problem, rules), data.draw(st.integers(1, problem.steps))
    random, shape = np.random.default_rng(0), (problem.steps, problem.batch)
    signals = {name: random.normal(size=(*shape, node.size)) for name, node in program.network.nodes.items()}
    wanted = oracle.reverse(**problem.arguments, rule=chosen(program), signals=signals, block=block).grads
    ours = replace(problem, signals={name: signals[name] for name in program.signalled} or None)
    apart = differences(gradient(program, ours, block), wanted)
    assert max((each.relative for each in apart), default=0.0) <= 1e-10


@given(st.data())
@settings(max_examples=12, deadline=None)
def test_its_states_are_those_of_the_interpreter(data: st.DataObject) -> None:
    """If this fails, a run that one engine has begun does not go on with the other."""
    problem = data.draw(problems())
    rule = data.draw(rule_mappings(problem, signals=False))
    ours, theirs = engine(problem, rule), compiled(problem, rule, backend="interpreter")
    states = [ours.start(problem.batch), theirs.start(problem.batch)]
    cut = data.draw(st.integers(1, problem.steps))
    for part in (slice(0, cut), slice(cut, None)):
        inputs, targets = ({n: a[part] for n, a in each.items()} for each in (problem.inputs, problem.targets))
        if not len(next(iter(targets.values()))):
            break
        copies = {key: array.copy() for key, array in states[1].items()}
        previous = states[1]
        states = [
            ours.step(problem.params, previous, inputs, targets)[0],
            theirs.step(problem.params, previous, inputs, targets)[0],
        ]
        assert all(np.array_equal(previous[key], array) for key, array in copies.items())
        assert states[0].keys() == states[1].keys()
        for key, array in states[1].items():
            scale = max(1.0, float(np.abs(array).max(initial=0.0)))
            assert float(np.abs(states[0][key] - array).max(initial=0.0)) <= 1e-12 * scale, key


LOSSY = (
    *("snap(1)", "snap(2)", "uoro", "kf-rtrl"),
    *("eprop-deep; layout=snap(1), feedback=adaptive", "eprop-deep; layout=uoro, feedback=adaptive"),
    "eprop-deep; layout=snap(2), feedback=random",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", LOSSY)
@pytest.mark.parametrize("mixed", [False, True])
def test_its_gradients_of_lossy_layouts_are_those_of_the_interpreter(name: str, rule: str, mixed: bool) -> None:
    """If this fails, what a lossy layout loses depends on who runs it."""
    problem = named(name)
    try:
        first, *others = compiled(problem, rule, backend="interpreter").rules
        rules = {first: rule, "*": "rtrl"} if mixed and others else rule
        programs = [compiled(problem, rules, backend=backend) for backend in (ENGINE, "interpreter")]
    except RuleError as refused:
        pytest.skip(str(refused))
    for block in BLOCKS:
        ours, theirs = (
            program.gradient(
                dict(program.init(0)) | dict(problem.params),
                problem.inputs,
                problem.targets,
                block,
                problem.mask,
                problem.signals,
                draw=3,
            ).grads
            for program in programs
        )
        for parameter, wanted in theirs.items():
            apart = float(np.abs(ours[parameter] - wanted).max(initial=0.0))
            assert apart <= 1e-10 * float(np.abs(wanted).max(initial=0.0)), f"{parameter} in blocks of {block}"

"""Does an array program as an engine give the gradients of the oracle and the states of the interpreter?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
from array_program.cases import BLOCKS, NAMES, RULES, named
from checks import compiled
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations.faults_of_lossy_layouts import LAYOUT, apart

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.errors import RuleError
from forwardgrad.layouts import table
from forwardgrad.testing import Problem
from forwardgrad.testing.comparing import Comparison, chosen, differences, fitted, gradient
from forwardgrad.testing.strategies import problems, rule_mappings

ENGINE = "numpy"


def engine(problem: Problem, rule: Any) -> fg.Program:
    """The program that it runs."""
    return compiled(problem, rule, backend=ENGINE)


ADAPTIVE = "eprop; feedback=adaptive"


UNREAD = ("depth", "parallel_reservoirs")
"""Graphs of which the oracle asks for a matrix of adaptive feedback that no path of the program reads."""


@pytest.mark.parametrize(
    ("name", "rule"),
    [(name, rule) for name in NAMES for rule in (*RULES, ADAPTIVE) if rule != ADAPTIVE or name not in UNREAD],
)
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
            ours.step(problem.params, inputs, targets, state=previous)[0],
            theirs.step(problem.params, inputs, targets, state=previous)[0],
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


@pytest.mark.parametrize(
    ("name", "rule", "mixed"),
    [(name, rule, (i + j) % 2 == 0) for i, name in enumerate(NAMES) for j, rule in enumerate(LOSSY)],
)
def test_its_gradients_of_lossy_layouts_are_those_of_the_interpreter(name: str, rule: str, mixed: bool) -> None:
    """If this fails, what a lossy layout loses depends on who runs it."""
    assert_like_the_interpreter(named(name), rule, mixed, BLOCKS)


@pytest.mark.parametrize("rule", LOSSY)
def test_edges_side_by_side_under_lossy_layouts(rule: str) -> None:
    """If this fails, what two parameters share is made for one alone, or a step that stays outside draws no sign."""
    graph = nx.MultiDiGraph()
    for name, op, size in (("x", "input", 1), ("h", "tanh", 2), ("y", "linear", 2)):
        graph.add_node(name, op=op, size=size)
    graph.add_edges_from([("x", "h", {"weight": "dense"})] * 2)
    graph.add_edge("h", "y", weight="dense", delay=2)
    problem = Problem.of(fg.compile(graph, {"y": "mse"}, "rtrl"), seed=1, steps=9, batch=2)
    assert_like_the_interpreter(problem, rule, False, (1, 2, 3, 4))


@given(data=st.data(), problem=problems(), mixed=st.booleans(), rule=st.sampled_from(LOSSY))
@settings(max_examples=40, deadline=None)
def test_lossy_layouts_on_random_graphs(data: st.DataObject, problem: Problem, mixed: bool, rule: str) -> None:
    """If this fails, some shape of graph is compressed, or credited past what is stored, in another way."""
    # A norm that is zero but for rounding has a root of 1e-8, by which uoro and kf-rtrl scale.
    within = 1e-10 if "snap" in rule else 1e-6
    assert_like_the_interpreter(problem, rule, mixed, {1, data.draw(st.integers(1, problem.steps))}, within)


def test_lossy_layouts_where_credit_goes_past_all_that_is_stored() -> None:
    """If this fails, what the last step sends to earlier ones over a delay is lost, or other faults are not seen."""
    assert not list(apart(ENGINE))


@pytest.mark.usefixtures("tables_as_before")
@given(problem=problems(), block=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_layouts_of_users_on_random_graphs(problem: Problem, block: int) -> None:
    """If this fails, some influence is compressed in another shape, or with other numbers."""
    with table.registered(LAYOUT):
        assert_like_the_interpreter(problem, "all; layout=some_", False, {block})


def assert_like_the_interpreter(
    problem: Problem, rule: str, mixed: bool, blocks: Collection[int], within: float = 1e-10
) -> None:
    """Assert that gradients under a rule, or under it and `rtrl`, are the interpreter's, where it can serve."""
    try:
        trained = list(compiled(problem, rule, backend="interpreter").rules)
        rules = {trained[0]: rule, "*": "rtrl"} if mixed and len(trained) > 1 else rule
        programs = [compiled(problem, rules, backend=backend) for backend in (ENGINE, "interpreter")]
    except RuleError:
        return
    for block in blocks:
        ours, theirs = (
            program.gradient(
                dict(program.init(0)) | dict(problem.params),
                problem.inputs,
                problem.targets,
                problem.mask,
                problem.signals,
                block=block,
                draw=3,
            ).grads
            for program in programs
        )
        largest = max((float(np.abs(array).max(initial=0.0)) for array in theirs.values()), default=0.0)
        for parameter, wanted in theirs.items():
            apart = float(np.abs(ours[parameter] - wanted).max(initial=0.0))
            # Of a gradient far below the others' size, what is left of larger terms is rounding.
            scale = max(float(np.abs(wanted).max(initial=0.0)), 1e-4 * largest) if within == 1e-10 else largest
            assert apart <= within * scale, f"{parameter} in blocks of {block}"

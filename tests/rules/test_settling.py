"""Does `settle(n)` give what n rounds of relaxation in each step give? By relaxing, in NumPy alone, node by node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import comb
from typing import Any

import networkx as nx
import numpy as np
import pytest
from c_backend import skip_without
from checks import TOLERANCE, assert_like_oracle, compiled, error
from nets import declare, problem, stack

import forwardgrad as fg
from forwardgrad import cells, oracle, testing
from forwardgrad.ops import Array
from forwardgrad.render.fates import fates
from forwardgrad.testing import Problem

SLOPES: Mapping[str, Callable[[Array], Array]] = {
    "linear": np.ones_like,
    "tanh": lambda y: 1 - y**2,
    "sigmoid": lambda y: y * (1 - y),
}
"""Derivatives by the value, of ops with one port."""

Round = Callable[[dict[str, Array], dict[str, Array], dict[str, Array]], dict[str, Array]]
"""What a round makes of the signals, the clamped sources, and what the neighbours send."""


def jacobian(given: Problem, values: Mapping[str, Array], edge: Any, t: int) -> Array:
    """What an edge multiplies by at step t, `(batch, target, source)`, from the declared graph and values alone."""
    network = given.network
    target, size = network.nodes[edge.target], network.nodes[edge.source].size
    if edge.param is None:
        weight = np.eye(size) if edge.value is None else np.asarray(edge.value)
    else:
        weight = given.params[edge.param]
    matrix = weight if weight.ndim == 2 else np.eye(size) * weight
    if target.op.name == "mul":  # of one edge a port, as in the graphs below
        others = [other for other in network.into[edge.target] if other.port != edge.port]
        slope = np.ones_like(values[edge.target][t])
        for other in others:
            slope = slope * (values[other.source][t - other.delay] if t >= other.delay else 0.0)
    else:
        slope = SLOPES[target.op.name](values[edge.target][t])
    return slope[:, :, None] * matrix


def relaxed(given: Problem, rounds: int, rate: float = 1.0) -> dict[str, Array]:
    """The gradient of weights; signals relax in each step, from 0: a <- (1 - rate) a + rate (c + J'a)."""
    network, values = given.network, oracle.forward(given.graph, given.params, given.inputs)
    edges = list(network.edges.values())
    signals = {v: np.zeros_like(values[v]) for v in network.nodes}
    for t in reversed(range(given.steps)):
        source = {v: np.zeros_like(values[v][t]) for v in network.nodes}
        for v in given.loss:
            source[v] += 2 * (values[v][t] - given.targets[v][t]) / values[v][t].size
        for edge in edges:
            if edge.delay and t + edge.delay < given.steps:
                late = jacobian(given, values, edge, t + edge.delay)
                source[edge.source] += np.einsum("bij,bi->bj", late, signals[edge.target][t + edge.delay])
        links = [(edge, jacobian(given, values, edge, t)) for edge in edges if not edge.delay]
        a = {v: np.zeros_like(each) for v, each in source.items()}
        for _ in range(rounds):
            sent = {v: each.copy() for v, each in source.items()}
            for edge, link in links:
                sent[edge.source] += np.einsum("bij,bi->bj", link, a[edge.target])
            a = {v: (1 - rate) * a[v] + rate * sent[v] for v in a}
        for v, each in a.items():
            signals[v][t] = each
    grads: dict[str, Array] = {}
    for edge in edges:
        if edge.param is not None:
            slope = SLOPES[network.nodes[edge.target].op.name](values[edge.target])
            read = np.zeros_like(values[edge.source])
            read[edge.delay :] = values[edge.source][: given.steps - edge.delay]
            grads[edge.param] = np.einsum("tbi,tbj->ij", slope * signals[edge.target], read)
    return grads


def predictive_coding(given: Problem, rounds: int) -> dict[str, Array]:
    """Prediction errors e = v - prediction where predictions stay fixed: v <- v - e + J'e, the outputs' errors held.

    Errors are zero before the first round, which sets those of the outputs. For graphs without delays.
    """
    network, values = given.network, oracle.forward(given.graph, given.params, given.inputs)
    y = next(iter(given.loss))
    v = {name: each.copy() for name, each in values.items()}
    for _ in range(rounds):
        errors = {name: v[name] - values[name] for name in v}
        moved = {name: v[name] - errors[name] for name in v}
        for edge in network.edges.values():
            for t in range(given.steps):
                link = jacobian(given, values, edge, t)
                moved[edge.source][t] += np.einsum("bij,bi->bj", link, errors[edge.target][t])
        moved[y] = values[y] + 2 * (values[y] - given.targets[y]) / values[y][0].size
        v = moved
    errors = {name: v[name] - values[name] for name in v}
    slopes = {name: SLOPES[network.nodes[name].op.name] for name in network.nodes if name not in network.inputs}
    return {
        edge.param: np.einsum("tbi,tbj->ij", slopes[edge.target](values[edge.target]) * errors[edge.target],
                              values[edge.source])
        for edge in network.edges.values() if edge.param is not None
    }  # fmt: skip


def deep(depth: int = 4) -> nx.MultiDiGraph[str]:
    """Layers of tanh without time, with skips past one of them."""
    graph = declare({"x": {"op": "input", "size": 3}, "y": {"op": "linear", "size": 2}})
    names = ["x", *(f"h{n}" for n in range(depth)), "y"]
    for name in names[1:-1]:
        graph.add_node(name, op="tanh", size=3)
    for below, above in pairwise(names):
        graph.add_edge(below, above, weight="dense", init="orthogonal(1.2)" if above != "y" else "glorot")
    if depth > 2:
        graph.add_edge("h0", "h2", weight="dense")
    return graph


def branching() -> nx.MultiDiGraph[str]:
    """A layer of LSTM without biases, one of tanh on it and beside it a skip; and feedback with a delay of two."""
    graph = declare({"x": {"op": "input", "size": 2}, "h": {"op": "tanh", "size": 2}, "y": {"op": "linear", "size": 2}})
    cells.lstm(graph, "l", input="x", size=2)
    for source, target in (("l.h", "h"), ("h", "y"), ("l.h", "y")):
        graph.add_edge(source, target, weight="dense")
    for node in graph.nodes:
        graph.nodes[node].pop("bias", None)
    graph.add_edge("h", "l.i", weight="dense", delay=2, role="topdown")
    return graph


GRAPHS: dict[str, Callable[[], nx.MultiDiGraph[str]]] = {"deep": deep, "stack": stack, "branching": branching}
ENOUGH = {"deep": 5, "stack": 5, "branching": 7}
"""Rounds from which on no more comes back: one more than the longest path without a delay has edges."""


def given_on(name: str) -> Problem:
    return problem(GRAPHS[name](), "y", steps=6, gain=1.5)


def settled(given: Problem, rule: str, block: int = 2, **options: Any) -> dict[str, Array]:
    return compiled(given, rule, **options).gradient(given.params, given.inputs, given.targets, block=block).grads


@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("name", GRAPHS)
def test_settling_is_relaxation_in_rounds(name: str, rounds: int) -> None:
    """If this fails, `settle(n)` keeps other paths than n rounds bring back."""
    given = given_on(name)
    wanted = relaxed(given, rounds)
    program = assert_like_oracle(given, f"settle({rounds})", blocks=(1, 4))
    found = program.gradient(given.params, given.inputs, given.targets, block=1).grads
    assert all(np.abs(found.get(p, 0.0)).max() > 0 or not wanted[p].any() for p in wanted)
    assert error({p: found.get(p, np.zeros_like(g)) for p, g in wanted.items()}, wanted) <= TOLERANCE
    if rounds < ENOUGH[name] and (name, rounds) != ("branching", 1):  # no weight enters the product `h`
        assert error(wanted, relaxed(given, rounds + 1)) > 1e-6, "one round more must matter here"


@pytest.mark.parametrize("name", GRAPHS)
def test_enough_rounds_are_the_exact_gradient_and_fewer_are_not(name: str) -> None:
    """If this fails, a path is lost however long signals settle, or too few rounds are called exact."""
    given = given_on(name)
    exact = oracle.reverse(**given.arguments).grads
    enough, fewer = (compiled(given, f"settle({n})") for n in (ENOUGH[name], ENOUGH[name] - 1))
    assert all(derived.exact for derived in enough.rules.values())
    assert not all(derived.exact for derived in fewer.rules.values())
    assert enough.rules.keys() == exact.keys()
    for block in (1, 4):
        assert error(settled(given, f"settle({ENOUGH[name]})", block), exact) <= TOLERANCE
        assert error(settled(given, f"settle({ENOUGH[name] - 1})", block), exact) > 1e-6
    plain = compiled(given, "rtrl")
    assert {p: d.bytes for p, d in enough.rules.items()} == {p: d.bytes for p, d in plain.rules.items()}


@pytest.mark.parametrize("rounds", [2, 3, 4, 5])
def test_predictive_coding_with_fixed_predictions_is_the_same(rounds: int) -> None:
    """If this fails, the docs name a method whose signals are others."""
    given = given_on("deep")
    wanted = predictive_coding(given, rounds)
    found = settled(given, f"settle({rounds})")
    assert error({p: found.get(p, np.zeros_like(g)) for p, g in wanted.items()}, wanted) <= TOLERANCE


def test_slower_relaxation_is_a_mean_over_numbers_of_rounds() -> None:
    """If this fails, what the docs say of step sizes below 1 is wrong."""
    given, trials, rate = given_on("deep"), 6, 0.6
    wanted = relaxed(given, trials, rate)
    mean = {name: np.zeros_like(g) for name, g in wanted.items()}
    for rounds in range(1, trials + 1):
        share = comb(trials, rounds) * rate**rounds * (1 - rate) ** (trials - rounds)
        for name, g in settled(given, f"settle({rounds})").items():
            mean[name] += share * g
    assert error(mean, wanted) <= TOLERANCE
    assert error(mean, settled(given, f"settle({trials})")) > 1e-3


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "jax", "c"])
def test_every_backend_settles(backend: str) -> None:
    """If this fails, a backend makes modes of its own."""
    skip_without(backend)
    graph = deep(2)
    graph.add_edge("h1", "h1", weight="dense", delay=1)
    given = problem(graph, "y", steps=5, gain=1.5)
    found, wanted = settled(given, "settle(2)", backend=backend), relaxed(given, 2)
    assert error({name: found.get(name, np.zeros_like(g)) for name, g in wanted.items()}, wanted) <= TOLERANCE
    assert np.abs(found["h1->h1"]).max() > 1e-3


@pytest.mark.parametrize("rule", ["eprop & settle(4)", "settle(3) & window(2)", "rtrl & settle(4); feedback=random"])
def test_settling_composes(rule: str) -> None:
    """If this fails, rounds and another rule's paths disturb each other."""
    given = given_on("stack")
    assert_like_oracle(given, rule, blocks=(1, 4))
    without = " & ".join(part for part in rule.partition(";")[0].split(" & ") if not part.startswith("settle"))
    found, other = settled(given, rule), settled(given, without + rule[rule.find(";") :] if ";" in rule else without)
    assert error(found, {name: other[name] for name in found}) > 1e-4


def test_what_does_not_come_back_in_time_is_drawn_as_cut() -> None:
    """If this fails, a picture shows credit where there is none."""
    program = fg.compile(stack(), loss={"y": "mse"}, rule="settle(3)")
    found = fates(program, "x->a1")
    assert {arc.edge for arc in found.arcs if arc.target is None} == {"a2->h2", "h2->y"}
    assert not any(arc.target is None for arc in fates(program, "h1->a2").arcs)
    assert set(program.rules["x->a1"].dropped) == {"a2->h2", "h2->y"}


def test_a_relay_takes_a_round_and_checks_say_so() -> None:
    """If this fails, the rule that counts edges as declared is held to what it does not promise, or misses some."""
    program = fg.compile(stack(), loss={"y": "mse"}, rule="settle(4) & near")
    with pytest.raises(fg.RuleError, match="as they are spelled"):
        testing.assert_refactoring_invariant(program)
    testing.assert_contained("settle(2)", "settle(3)", stack(), {"y": "mse"})
    with pytest.raises(fg.RuleError, match="settle"):
        fg.compile(stack(), loss={"y": "mse"}, rule="settle(0)")

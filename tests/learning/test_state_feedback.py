"""Does state feedback give the recursion g(t) = e(t) + A g(t+1)? By hand, on a vanilla layer, a GRU and two layers."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from c_backend import skip_without
from checks import TOLERANCE, assert_like_oracle, error
from nets import declare, problem

import forwardgrad as fg
from forwardgrad import cells, oracle
from forwardgrad.learning.state_feedback import state_feedback
from forwardgrad.ops import Array
from forwardgrad.rules.paths import All
from forwardgrad.structure import Structure
from forwardgrad.testing import Problem


def late(values: Array) -> Array:
    return np.concatenate([np.zeros_like(values[:1]), values[:-1]])


def fed_back(immediate: Array, constants: Any) -> Array:
    """g(t) = e(t) + A g(t+1), backward in time."""
    found = np.array(immediate)
    for t in reversed(range(len(found) - 1)):
        found[t] += constants * found[t + 1]
    return found


def outer(adjoint: Array, read: Array) -> Array:
    return np.einsum("tbi,tbj->ij", adjoint, read)


def layers(count: int, size: int = 4) -> nx.MultiDiGraph[str]:
    """Layers of tanh, each with a dense recurrence and a leak, and a readout of the last one."""
    graph = declare({"x": {"op": "input", "size": 2}, "y": {"op": "linear", "size": 2}})
    below = "x"
    for name in [f"h{n}" for n in range(count)]:
        graph.add_node(name, op="tanh", size=size)
        graph.add_edge(below, name, weight="dense")
        graph.add_edge(name, name, weight="dense", delay=1, init="orthogonal(0.9)")
        below = name
    graph.add_edge(below, "y", weight="dense")
    return graph


def by_hand(given: Problem, count: int, constants: Any) -> dict[str, Array]:
    """The gradients of `layers`, layer by layer from above."""
    values = oracle.forward(given.graph, given.params, given.inputs)
    y = values["y"]
    signal = 2 * (y - given.targets["y"]) / y[0].size
    top = f"h{count - 1}"
    grads, e = {f"{top}->y": outer(signal, values[top])}, signal @ given.params[f"{top}->y"]
    for n in reversed(range(count)):
        name, below = f"h{n}", f"h{n - 1}" if n else "x"
        before_op = fed_back(e, constants) * (1 - values[name] ** 2)
        grads[f"{below}->{name}"] = outer(before_op, given.inputs["x"] if below == "x" else values[below])
        grads[f"{name}->{name}"] = outer(before_op, late(values[name]))
        e = before_op @ given.params[f"{below}->{name}"]
    return grads


def gradient(given: Problem, graph: Any, rule: Any, block: int, **options: Any) -> dict[str, Array]:
    program = fg.compile(graph, given.loss, rule, **options)
    return program.gradient(given.params, given.inputs, given.targets, block=block).grads


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("block", [1, 3, 9])
def test_layers_of_tanh_follow_the_recursion(count: int, block: int) -> None:
    """If this fails, A is not what the source says, or credit takes another way in time."""
    given = problem(layers(count), "y", steps=9, gain=1.5)
    names = [f"h{n}" for n in range(count)]
    graph, rule = state_feedback(given.graph, dict.fromkeys(names, "linspace"))
    wanted = by_hand(given, count, np.linspace(0, 1, 4))
    assert error(gradient(given, graph, rule, block), wanted) <= TOLERANCE
    replaced = fg.Rule(All(), operator={f"{n}->{n}": [0, 1 / 3, 2 / 3, 1] for n in names})
    assert error(gradient(given, given.graph, replaced, block), wanted) <= TOLERANCE
    exact = oracle.reverse(**given.arguments).grads
    assert error(exact, wanted) > 1e-2
    assert error(by_hand(given, count, np.linspace(0, 1, 4)[::-1]), wanted) > 1e-2
    assert error(by_hand(given, count, 0.0), oracle.reverse(**given.arguments, rule="immediate").grads) <= TOLERANCE


def gru() -> Problem:
    graph = declare({"x": {"op": "input", "size": 2}})
    cells.gru(graph, "l", input="x", size=3)
    cells.readout(graph, "y", input="l.h", size=2)
    return problem(graph, "y", steps=8, gain=1.5)


def gru_by_hand(given: Problem, constants: Any) -> dict[str, Array]:
    """h = z h' + (1 - z) n, n = tanh(W x + U (r h') + b), h' of the step before and without credit."""
    values, p = oracle.forward(given.graph, given.params, given.inputs), given.params
    y, x = values["y"], given.inputs["x"]
    z, r, n, before = values["l.z"], values["l.r"], values["l.n"], late(values["l.h"])
    signal = 2 * (y - given.targets["y"]) / y[0].size
    g = fed_back(signal @ p["l.h->y"], constants)
    at = {"l.z": g * (before - n) * z * (1 - z), "l.n": g * (1 - z) * (1 - n**2)}
    at["l.r"] = (at["l.n"] @ p["l.reset->l.n"]) * before * r * (1 - r)
    grads = {"l.h->y": outer(signal, values["l.h"]), "y.bias": signal.sum((0, 1))}
    for unit, adjoint in at.items():
        grads |= {f"x->{unit}": outer(adjoint, x), f"{unit}.bias": adjoint.sum((0, 1))}
    grads |= {f"l.h->{unit}": outer(at[unit], before) for unit in ("l.z", "l.r")}
    return grads | {"l.reset->l.n": outer(at["l.n"], r * before)}


@pytest.mark.parametrize("constants", ["linspace", 0.5, [0.9, 0.1, -0.4]])
@pytest.mark.parametrize("block", [1, 3])
def test_a_gru_detaches_its_state_and_feeds_back(constants: Any, block: int) -> None:
    """If this fails, gates still carry credit in time, or A is in another place."""
    given = gru()
    graph, rule = state_feedback(given.graph, {"l.h": constants})
    numbers = np.linspace(0, 1, 3) if isinstance(constants, str) else np.asarray(constants)
    wanted = gru_by_hand(given, numbers)
    found = gradient(given, graph, rule, block)
    assert found.keys() == wanted.keys()
    assert error(found, wanted) <= TOLERANCE
    assert error(gru_by_hand(given, 0.0), wanted) > 1e-3


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "jax", "c"])
def test_every_backend_feeds_back(backend: str) -> None:
    """If this fails, a backend does not take numbers in place of Jacobians, or the edge of weight 0 changes values."""
    skip_without(backend)
    given = problem(layers(1), "y", steps=5, gain=1.5)
    graph, rule = state_feedback(given.graph, "h0")
    found = gradient(given, graph, rule, 2, backend=backend)
    assert error(found, by_hand(given, 1, np.linspace(0, 1, 4))) <= TOLERANCE
    one, two = (oracle.forward(g, given.params, given.inputs)["y"] for g in (graph, given.graph))
    assert np.array_equal(one, two)


def test_products_and_other_rules_feed_back_too() -> None:
    """If this fails, a state that is a product has no feedback, or the given rule's coordinates are lost."""
    graph = declare({"x": {"op": "input", "size": 2}})
    cells.lstm(graph, "l", input="x", size=3)
    cells.readout(graph, "y", input="l.h", size=2)
    fed, rule = state_feedback(graph, "l.h", "rtrl; feedback=random, seed=3")
    given = problem(fed, "y", steps=7, gain=1.5)
    program = assert_like_oracle(given, rule)
    assert rule.text == fg.compile(fed, rule=rule.text, loss={"y": "mse"}).rules["x->l.i"].rule.text
    assert not program.rules["x->l.i"].exact
    unchanged = fg.compile(graph, {"y": "mse"})
    words = [{word for derived in p.rules.values() for word in derived.layouts.values()} for p in (program, unchanged)]
    assert [Structure.FULL in each for each in words] == [False, True]


def test_what_does_not_fit_is_refused_by_name() -> None:
    """If this fails, a slip ends in an error of NumPy, or in another method."""
    graph = layers(1)
    for states, words in (({"h": 0.5}, "h0"), ({"x": 0.5}, "input"), ({"h0": [1, 2]}, "4 of them"),
                          ({"h0": "gaussian"}, "linspace"), ({"h0": [None] * 4}, "finite")):  # fmt: skip
        with pytest.raises(fg.ForwardgradError, match=words):
            state_feedback(graph, states)
    with pytest.raises(fg.RuleError, match="operator of its own"):
        state_feedback(graph, "h0", "dsf(0.5)")
    with pytest.raises(fg.GraphError, match="already"):
        state_feedback(state_feedback(graph, "h0")[0], "h0")

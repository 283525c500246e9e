"""Published rules of spiking units, each written out by hand in NumPy, beside what is derived."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from checks import error
from nets import declare, problem

from forwardgrad import oracle
from forwardgrad.ops import Array
from forwardgrad.rules.feedback import random_feedback
from forwardgrad.testing import Problem
from tests.rules.by_hand import Grads, agree, before, differ, outer, readout_error, spiking, values_of

# Spiking units.


def bellec(given: Problem, alpha: float, beta: float, rho: float, kappa: float) -> Grads:
    """e-prop as printed: eligibility vectors, the trace, the filter of the readout, the learning signal."""
    values, p = values_of(given), given.params
    gap = readout_error(given, values)
    drive = values["v"] - beta * values["a"] if "a" in values else values["v"]
    psi = 0.5 * np.maximum(0, 1 - np.abs((drive - 0.6) / 2.0))
    found = {name: np.zeros_like(p[name]) for name in ("x->v", "z->v", "z->y")}
    for name, read in {"x->v": values["x"], "z->v": before(values["z"])}.items():
        eps_v, eps_a, filtered = (np.zeros((given.batch, *p[name].shape)) for _ in range(3))
        for t in range(given.steps):
            if t:  # eps_a(t) reads psi(t-1), eps_v(t-1)
                last = psi[t - 1][:, :, None]
                eps_a = last * eps_v + (rho - last * beta) * eps_a
            eps_v = alpha * eps_v + read[t][:, None, :]
            filtered = kappa * filtered + psi[t][:, :, None] * (eps_v - beta * eps_a)
            found[name] += ((gap[t] @ p["z->y"])[:, :, None] * filtered).sum(axis=0)
    filtered = np.zeros((given.batch, 4))
    for t in range(given.steps):
        filtered = kappa * filtered + values["z"][t]
        found["z->y"] += gap[t].T @ filtered
    return found


def firing(given: Problem) -> Problem:
    """The problem, after a look whether its units spike, and are silent, often enough to say something."""
    assert 0.1 < values_of(given)["z"].mean() < 0.85
    return given


def test_eprop_of_lif_units_is_the_published_recursion_with_the_filter_of_the_readout() -> None:
    """If this fails, traces do not leak like the potential, or the kappa filter does not come out of the paths."""
    given = firing(problem(spiking(adaptive=False), "y", steps=14, gain=2.0))
    expected = bellec(given, alpha=0.9, beta=0.0, rho=0.0, kappa=0.8)
    program = agree(given, "eprop", expected, blocks=(1, 3, 5))
    assert {str(word) for entry, word in program.rules["z->v"].layouts.items() if entry.startswith("v ")} == {"scalar"}
    assert program.rules["z->v"].dropped == ("z->v", "z->v#reset")
    hidden = {name: expected[name] for name in ("x->v", "z->v")}
    assert differ(given, "rtrl", hidden)
    assert differ(given, "immediate", expected)
    unfiltered = bellec(given, alpha=0.9, beta=0.0, rho=0.0, kappa=0.0)
    assert error(unfiltered, expected) > 1e-2


def test_eprop_of_adaptive_lif_units_is_the_published_recursion() -> None:
    """If this fails, adaptation is lost, or read one step early or late, which still trains."""
    given = firing(problem(spiking(adaptive=True), "y", steps=14, gain=2.0))
    expected = bellec(given, alpha=0.9, beta=0.3, rho=0.95, kappa=0.8)
    program = agree(given, "eprop", expected, blocks=(1, 3, 5))
    words = {entry.split(" ")[0]: str(word) for entry, word in program.rules["x->v"].layouts.items()}
    assert (words["v"], words["a"]) == ("scalar", "diagonal")
    # The same paths, as an edge set: the own spike reaches the adaptation, never the potential.
    by_edges = oracle.reverse(**given.arguments, rule="cut(['z->v', 'z->v#reset'])").grads
    assert error(by_edges, expected) < 1e-10
    without = oracle.reverse(**given.arguments, rule="eprop & cut(['z->a'])").grads
    assert error(without, expected) > 1e-3


@pytest.mark.parametrize("leaks", ["shared", "per unit"])
def test_a_cuba_lif_layer_keeps_its_double_exponential_trace(leaks: str) -> None:
    """If this fails, a synaptic current in a component of its own loses its trace at the membrane's border."""
    a, b = (0.7, 0.9) if leaks == "shared" else (np.array([0.7, 0.6, 0.8]), np.array([0.9, 0.85, 0.8]))
    graph = declare(
        {"x": {"op": "input", "size": 3}, "i": {"op": "linear", "size": 3}, "v": {"op": "linear"}}
        | {"z": {"op": "spike", "threshold": 0.5, "dampening": 0.6, "width": 3.0}, "y": {"op": "linear", "size": 2}},
        ("x", "i", {"weight": "dense"}),
        ("i", "i", {"value": a, "delay": 1}),
        ("i", "v"),
        ("v", "v", {"value": b, "delay": 1}),
        ("v", "z"),
        ("z", "y", {"weight": "dense"}),
    )
    given = firing(problem(graph, "y", steps=10, gain=1.5))
    values = values_of(given)
    psi = 0.6 * np.maximum(0, 1 - np.abs((values["v"] - 0.5) / 3.0))
    signal = psi * (readout_error(given, values) @ given.params["z->y"])
    current, potential = np.zeros((2, 3, 3)), np.zeros((2, 3, 3))
    expected = {"x->i": np.zeros((3, 3))}
    for t in range(given.steps):
        current = np.reshape(a, (-1, 1)) * current + values["x"][t][:, None, :]
        potential = np.reshape(b, (-1, 1)) * potential + current
        expected["x->i"] += (signal[t][:, :, None] * potential).sum(axis=0)
    program = agree(given, "eprop", expected)
    assert {entry.split(" ")[0]: str(word) for entry, word in program.rules["x->i"].layouts.items()} == dict.fromkeys(
        "iv", "scalar" if leaks == "shared" else "diagonal"
    )
    assert program.rules["x->i"].exact  # with respect to the declared surrogate
    assert error(oracle.reverse(**given.arguments).grads, oracle.reverse(**given.arguments, rule="eprop").grads) < 1e-12
    assert differ(given, "immediate", expected)
    assert differ(given, "cut(['v->v'])", expected)


def spiking_stack(leak: float = 0.85) -> Any:
    """Two feed-forward layers of integrate-and-fire units with one leak, their resets apart, and a linear readout."""
    graph = declare({"x": {"op": "input", "size": 3}, "y": {"op": "linear", "size": 2}})
    below = "x"
    for layer in "12":
        v, z = f"v{layer}", f"z{layer}"
        graph.add_node(v, op="linear", size=4)
        graph.add_node(z, op="spike", threshold=0.15, dampening=0.6, width=2.0)
        graph.add_edge(below, v, weight="dense")
        graph.add_edge(v, v, value=leak, delay=1)
        graph.add_edge(z, v, value=-0.15, delay=1, role="reset")
        graph.add_edge(v, z)
        below = z
    graph.add_edge("z2", "y", weight="dense")
    return graph


def slopes(values: dict[str, Array]) -> tuple[Array, Array]:
    """The surrogate derivatives of both layers; their units are live."""
    assert all(0.1 < values[z].mean() < 0.9 for z in ("z1", "z2"))
    first, second = (0.6 * np.maximum(0, 1 - np.abs((values[v] - 0.15) / 2.0)) for v in ("v1", "v2"))
    return first, second


def test_ottt_of_a_spiking_stack_keeps_a_filtered_input_per_layer() -> None:
    """If this fails, OTTT is not (adjoint of the potential in this step) times ahat(t) = leak ahat(t-1) + s(t)."""
    given, leak = problem(spiking_stack(), "y", steps=12, gain=2.0), 0.85
    values, p = values_of(given), given.params
    first, second = slopes(values)
    above = second * (readout_error(given, values) @ p["z2->y"])
    below = first * (above @ p["z1->v2"])
    expected: Grads = {}
    for name, adjoint, read in (("x->v1", below, values["x"]), ("z1->v2", above, values["z1"])):
        trace, expected[name] = np.zeros(read.shape[1:]), np.zeros_like(p[name])
        for t in range(given.steps):
            trace = leak * trace + read[t]
            expected[name] += adjoint[t].T @ trace
    program = agree(given, "ottt", expected, blocks=(1, 3, 5))
    for name, size in (("x->v1", 3), ("z1->v2", 4)):
        assert [str(word) for word in program.rules[name].layouts.values()] == ["scalar"]
        assert program.rules[name].bytes == 8 * size
    for other in ("eprop-deep", "immediate", "rtrl"):
        assert differ(given, other, {"x->v1": expected["x->v1"]})


@pytest.mark.parametrize("output", ["v2", "z2"])
def test_otpe_of_one_hidden_layer_filters_the_derivative_of_its_spikes(output: str) -> None:
    """If this fails, OTPE is not R(t) = leak R(t-1) + dz(t)/dW, weighed by the adjoint at the next layer's input."""
    graph = spiking_stack()
    graph.remove_node("y")
    given, leak = problem(graph, output, steps=12, gain=2.0), 0.85
    values, p = values_of(given), given.params
    first, second = slopes(values)
    y = values[output]
    gap = 2 * (y - given.targets[output]) / (y.shape[1] * y.shape[2])
    adjoint = (gap if output == "v2" else second * gap) @ p["z1->v2"]
    trace, spikes, expected = np.zeros((2, 3)), np.zeros((2, 4, 3)), np.zeros((4, 3))
    for t in range(given.steps):
        trace = leak * trace + values["x"][t]
        spikes = leak * spikes + outer(first[t], trace)
        expected += (adjoint[t][:, :, None] * spikes).sum(axis=0)
    program = agree(given, "eprop-deep", {"x->v1": expected}, blocks=(1, 3, 5))
    # One number a synapse, as in the paper, though it is influence on the layer above.
    assert program.rules["x->v1"].bytes == 8 * (3 + 4 * 3)
    assert differ(given, "immediate", {"x->v1": expected})
    assert differ(given, "rtrl", {"x->v1": expected})  # credit through the reset


def test_rflo_of_leaky_units_is_the_published_recursion_with_random_feedback() -> None:
    """If this fails, RFLO is not p(t) = leak p(t-1) + (1 - leak) phi'(u) r(t-1), weighed by B times the error."""
    leak = 0.7
    graph = declare(
        {"x": {"op": "input", "size": 2}, "a": {"op": "tanh", "size": 3}, "h": {"op": "linear"}}
        | {"y": {"op": "linear", "size": 2}},
        ("x", "a", {"weight": "dense"}),
        ("h", "a", {"weight": "dense", "delay": 1}),
        ("h", "h", {"value": leak, "delay": 1}),
        ("a", "h", {"value": 1 - leak}),
        ("h", "y", {"weight": "dense"}),
    )
    given = problem(graph, "y", steps=9, gain=1.5)
    values = values_of(given)
    gap = readout_error(given, values)

    def by_hand(matrix: Array) -> Grads:
        found: Grads = {"h->y": sum(gap[t].T @ values["h"][t] for t in range(given.steps))}
        for name, read in {"x->a": values["x"], "h->a": before(values["h"])}.items():
            trace, found[name] = np.zeros((2, 3, read.shape[2])), np.zeros_like(given.params[name])
            for t in range(given.steps):
                trace = leak * trace + outer((1 - leak) * (1 - values["a"][t] ** 2), read[t])
                found[name] += ((gap[t] @ matrix)[:, :, None] * trace).sum(axis=0)
        return found

    for rule, seed in (("rflo", 0), ("rflo; seed=4", 4)):
        expected = by_hand(random_feedback("h->y", (2, 3), seed))
        program = agree(given, rule, expected)
        assert not program.rules["x->a"].exact
        assert error(by_hand(given.params["h->y"]), expected) > 1e-2
    assert error(by_hand(random_feedback("h->y", (2, 3), 0)), expected) > 1e-2
    agree(given, "eprop", by_hand(given.params["h->y"]))

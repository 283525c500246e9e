"""Are the published rules what comes out? Each recursion written out by hand in NumPy, beside what is derived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from checks import assert_like_oracle, error
from nets import declare, gru, problem, stack, vanilla

import forwardgrad as fg
from forwardgrad import cells, oracle
from forwardgrad.ops import Array
from forwardgrad.rules.feedback import random_feedback
from forwardgrad.testing import Problem

Grads = dict[str, Array]


def values_of(given: Problem) -> dict[str, Array]:
    return oracle.forward(given.graph, given.params, given.inputs)


def before(value: Array, initial: float = 0.0) -> Array:
    """A value one step before, `(time, batch, size)`."""
    return np.concatenate([np.full_like(value[:1], initial), value[:-1]])


def readout_error(given: Problem, values: dict[str, Array]) -> Array:
    """The derivative of the mean squared error by the output `y`, `(time, batch, size)`."""
    y = values["y"]
    return 2 * (y - given.targets["y"]) / (y.shape[1] * y.shape[2])


def outer(a: Array, b: Array) -> Array:
    """`(batch, n)` and `(batch, m)` to `(batch, n, m)`."""
    return a[:, :, None] * b[:, None, :]


def agree(given: Problem, rule: str, expected: Grads, blocks: tuple[int, ...] = (1, 3)) -> fg.Program:
    """Assert that these gradients, all of them live, come out of the program and of the oracle."""
    assert all(np.abs(gradient).max() > 1e-6 for gradient in expected.values())
    program = assert_like_oracle(given, rule, blocks)
    for block in (*blocks, given.steps):
        found = program.gradient(given.params, given.inputs, given.targets, block=block).grads
        assert error({name: found[name] for name in expected}, expected) < 1e-10
    return program


def differ(given: Problem, rule: str, expected: Grads) -> bool:
    """Whether another rule gives other gradients."""
    other = oracle.reverse(**given.arguments, rule=rule).grads
    return error({name: other[name] for name in expected}, expected) > 1e-3


# RTRL.


def test_rtrl_of_a_vanilla_rnn_is_the_textbook_recursion() -> None:
    """If this fails, the exact rule is not Williams & Zipser 1989: S(t) = D(t) S(t-1) + I(t)."""
    given = problem(vanilla(), "y", steps=8)
    values, n = values_of(given), 3
    signal = readout_error(given, values) @ given.params["h->y"]
    expected = {name: np.zeros_like(given.params[name]) for name in ("x->h", "h->h", "h.bias")}
    reads = {"x->h": values["x"], "h->h": before(values["h"]), "h.bias": np.ones((8, 2, 1))}
    for name, read in reads.items():
        s = np.zeros((2, n, n, read.shape[2]))
        for t in range(8):
            slope = 1 - values["h"][t] ** 2
            d = slope[:, :, None] * given.params["h->h"]
            s = np.einsum("bij,bjkl->bikl", d, s) + np.einsum("bi,ik,bl->bikl", slope, np.eye(n), read[t])
            expected[name] += np.einsum("bi,bikl->kl", signal[t], s).reshape(expected[name].shape)
    program = agree(given, "rtrl", expected)
    assert all(derived.exact for derived in program.rules.values())
    assert differ(given, "eprop", expected)


def test_autapses_are_no_part_of_the_carry_of_eprop() -> None:
    """If this fails, the diagonal of a recurrent matrix counts as a unit's own memory, which makes another rule."""
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

    def by_hand(given: Problem, autapses: bool) -> Grads:
        values = values_of(given)
        signal = readout_error(given, values) @ given.params["h->y"]
        own = np.diag(given.params["h->a"]) * autapses
        found: Grads = {}
        for name, read in {"x->a": values["x"], "h->a": before(values["h"])}.items():
            trace, found[name] = np.zeros((2, 3, read.shape[2])), np.zeros_like(given.params[name])
            for t in range(given.steps):
                slope = (1 - leak) * (1 - values["a"][t] ** 2)
                trace = (leak + slope * own)[:, :, None] * trace + outer(slope, read[t])
                found[name] += (signal[t][:, :, None] * trace).sum(axis=0)
        return found

    given = problem(graph, "y", steps=8)
    expected = by_hand(given, autapses=False)
    agree(given, "eprop", expected)
    assert error(by_hand(given, autapses=True), expected) > 1e-2
    np.fill_diagonal(given.params["h->a"], 0.0)
    expected = by_hand(given, autapses=False)
    agree(given, "eprop", expected)
    assert error(by_hand(given, autapses=True), expected) < 1e-14


def test_deep_eprop_of_a_stack_is_the_published_recursion() -> None:
    """If this fails, eprop-deep is not eps_l(t) = leak eps_l(t-1) + (dh_l/dh_(l-1)) eps_(l-1)(t), in full above."""
    given = problem(stack(), "y", steps=8)
    values, p = values_of(given), given.params
    signal = readout_error(given, values) @ p["h2->y"]
    expected = {name: np.zeros_like(p[name]) for name in ("x->a1", "h1->a1", "h1->a2", "h2->a2")}
    h1, h2 = before(values["h1"]), before(values["h2"])
    slopes = {layer: gain * (1 - values[f"a{layer}"] ** 2) for layer, gain in (("1", 0.3), ("2", 0.2))}
    for name, read in {"x->a1": values["x"], "h1->a1": h1}.items():
        own, above = np.zeros((2, 3, 3, read.shape[2])), np.zeros((2, 3, 3, read.shape[2]))
        for t in range(8):
            own = 0.7 * own + np.einsum("bi,ik,bl->bikl", slopes["1"][t], np.eye(3), read[t])
            through = slopes["2"][t][:, :, None] * p["h1->a2"]
            above = 0.8 * above + np.einsum("bij,bjkl->bikl", through, own)
            expected[name] += np.einsum("bi,bikl->kl", signal[t], above)
    for name, read in {"h1->a2": values["h1"], "h2->a2": h2}.items():
        trace = np.zeros((2, 3, 3))
        for t in range(8):
            trace = 0.8 * trace + outer(slopes["2"][t], read[t])
            expected[name] += (signal[t][:, :, None] * trace).sum(axis=0)
    agree(given, "eprop-deep", expected)
    for other in ("eprop", "rtrl", "immediate"):
        assert differ(given, other, expected)


# Spiking units.


def spiking(adaptive: bool) -> Any:
    """Recurrent integrate-and-fire units with a leaky readout; adaptive ones raise their threshold when they spike."""
    graph = declare(
        {"x": {"op": "input", "size": 3}, "v": {"op": "linear", "size": 4}}
        | {"z": {"op": "spike", "threshold": 0.6, "dampening": 0.5, "width": 2.0}, "y": {"op": "linear", "size": 2}},
        ("x", "v", {"weight": "dense"}),
        ("v", "v", {"value": 0.9, "delay": 1}),
        ("z", "v", {"weight": "dense", "delay": 1}),
        ("z", "v", {"key": "reset", "value": -0.6, "delay": 1, "role": "reset"}),
        ("z", "y", {"weight": "dense"}),
        ("y", "y", {"value": 0.8, "delay": 1}),
    )
    if adaptive:
        graph.add_node("a", op="linear", size=4)
        graph.add_node("d", op="linear", size=4)
        graph.add_edge("z", "a", delay=1)
        graph.add_edge("a", "a", value=0.95, delay=1)
        graph.add_edge("v", "d")
        graph.add_edge("a", "d", value=-0.3)
        graph.add_edge("d", "z")
    else:
        graph.add_edge("v", "z")
    return graph


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


# Gated units.


def lstm_problem() -> Problem:
    graph = declare({"x": {"op": "input", "size": 2}})
    cells.lstm(graph, "l", input="x", size=3)
    cells.readout(graph, "y", input="l.h", size=2)
    return problem(graph, "y", steps=9, gain=1.5)


def test_eprop_of_lstm_units_counts_each_path_once() -> None:
    """If this fails, one of two state nodes in a layer, cell and output, is counted twice or not at all."""
    given = lstm_problem()
    values, p = values_of(given), given.params
    i, f, o, g, c = (values[f"l.{unit}"] for unit in "ifogc")
    signal = readout_error(given, values) @ p["l.h->y"]
    to_cell = {"i": g * i * (1 - i), "f": before(c) * f * (1 - f), "g": i * (1 - g * g)}
    reads = {"x->l.{}": values["x"], "l.h->l.{}": before(values["l.h"]), "l.{}.bias": np.ones((9, 2, 1))}
    expected: Grads = {}
    for pattern, read in reads.items():
        for gate in "ifgo":
            name = pattern.format(gate)
            trace, total = np.zeros((2, 3, read.shape[2])), np.zeros((3, read.shape[2]))
            for t in range(given.steps):
                if gate == "o":  # no memory: the output gate is behind the cell
                    e = outer(np.tanh(c[t]) * o[t] * (1 - o[t]), read[t])
                else:
                    trace = f[t][:, :, None] * trace + outer(to_cell[gate][t], read[t])
                    e = (o[t] * (1 - np.tanh(c[t]) ** 2))[:, :, None] * trace
                total += (signal[t][:, :, None] * e).sum(axis=0)
            expected[name] = total.reshape(p[name].shape)
    agree(given, "eprop", expected, blocks=(1, 2, 4))
    assert differ(given, "rtrl", expected)
    assert differ(given, "immediate", {name: g for name, g in expected.items() if not name.startswith("l.o")})


def test_every_parameter_of_a_gru_receives_a_gradient_under_eprop() -> None:
    """If this fails, the reset gate, which acts before the matrix product, or the readout is left untrained."""
    given = problem(gru(), "y", steps=8)
    program = assert_like_oracle(given, "eprop")
    found = program.gradient(given.params, given.inputs, given.targets, block=3).grads
    for name in ("x->l.r", "l.h->l.r", "l.r.bias", "l.h->y", "y.bias"):
        assert np.abs(found[name]).min() > 1e-9, name
    # The reset gate has its credit of the same step under eprop, and its memory under eprop-deep.
    now = oracle.reverse(**given.arguments, rule="immediate").grads
    deep = oracle.reverse(**given.arguments, rule="eprop-deep").grads
    for name in ("x->l.r", "l.h->l.r", "l.r.bias"):
        assert error({name: found[name]}, {name: now[name]}) < 1e-12
        assert error({name: found[name]}, {name: deep[name]}) > 1e-3
    assert error({"x->l.z": found["x->l.z"]}, {"x->l.z": now["x->l.z"]}) > 1e-3


NETS: dict[str, Callable[[], Any]] = {
    "vanilla": vanilla,
    "stack": stack,
    "gru": gru,
    "alif": lambda: spiking(adaptive=True),
    "lstm": lambda: lstm_problem().graph,
}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("rule", ["eprop", "eprop-deep", "near", "synaptic", "immediate", "all"])
def test_readouts_are_trained_exactly_by_every_rule_that_keeps_the_leak(net: str, rule: str) -> None:
    """If this fails, a readout, in front of which nothing is dropped, is trained wrongly or not at all."""
    given = problem(NETS[net](), "y", steps=9, gain=2.0)
    program = assert_like_oracle(given, rule)
    found = program.gradient(given.params, given.inputs, given.targets, block=2).grads
    exact = oracle.reverse(**given.arguments).grads
    readout = [name for name in found if name.endswith("->y") or name == "y.bias"]
    leaky = given.graph.has_edge("y", "y")
    assert readout
    for name in readout:
        assert np.abs(found[name]).max() > 1e-3
        assert program.rules[name].exact is not (leaky and rule == "immediate")
        assert (error({name: found[name]}, {name: exact[name]}) < 1e-10) is program.rules[name].exact

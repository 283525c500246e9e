"""Are the published rules what comes out? Each recursion written out by hand in NumPy, beside what is derived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from checks import assert_like_oracle, error
from nets import declare, gru, problem, stack, vanilla

from forwardgrad import cells, oracle
from forwardgrad.testing import Problem
from tests.rules.by_hand import Grads, agree, before, differ, outer, readout_error, spiking, values_of

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

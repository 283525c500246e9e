"""Does each cell compute the equations of its paper, written here step by step, and learn exactly?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checks import assert_like_oracle
from nets import problem

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.cells.stack import LAYERS
from forwardgrad.errors import GraphError
from forwardgrad.graph import validate
from forwardgrad.oracle import forward
from forwardgrad.structure import Structure

Array = np.ndarray[Any, Any]
Params = dict[str, Array]

INPUTS, UNITS, STEPS, BATCH = 3, 4, 12, 2


def graph_of(kind: str, **options: Any) -> nx.MultiDiGraph[str]:
    """A cell 'l' that reads an input 'x', and a readout 'out'."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=INPUTS)
    cells.readout(graph, "out", cells.TABLE[kind](graph, "l", "x", UNITS, **options), 2)
    return graph


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


class Named:
    """Parameters of the cell by short names: `p.x("z", x)` is W_z x, `p.b("z")` a bias."""

    def __init__(self, params: Params) -> None:
        self.params = params

    def x(self, unit: str, x: Array, key: str = "") -> Array:
        return x @ self.params[f"x->l.{unit}{key}"].T

    def w(self, source: str, unit: str, h: Array) -> Array:
        return h @ self.params[f"l.{source}->l.{unit}"].T

    def d(self, source: str, unit: str) -> Array:
        return self.params[f"l.{source}->l.{unit}"]

    def b(self, unit: str) -> Array:
        return self.params[f"l.{unit}.bias"]


def indrnn(p: Named, x: Array) -> list[Array]:
    h, found = np.zeros((BATCH, UNITS)), []
    for now in x:
        h = np.maximum(p.x("h", now) + p.d("h", "h") * h + p.b("h"), 0)
        found.append(h)
    return found


def gru_after(p: Named, x: Array) -> list[Array]:
    """torch.nn.GRU, the two biases of z and r as one."""
    h, found = np.zeros((BATCH, UNITS)), []
    for now in x:
        r = sigmoid(p.x("r", now) + p.w("h", "r", h) + p.b("r"))
        z = sigmoid(p.x("z", now) + p.w("h", "z", h) + p.b("z"))
        n = np.tanh(p.x("n", now) + p.b("n") + r * (p.w("h", "recalled", h) + p.b("recalled")))
        h = (1 - z) * n + z * h
        found.append(h)
    return found


def lstm_peepholes(p: Named, x: Array) -> list[Array]:
    h, c, found = np.zeros((BATCH, UNITS)), np.zeros((BATCH, UNITS)), []
    for now in x:
        i = sigmoid(p.x("i", now) + p.w("h", "i", h) + p.d("c", "i") * c + p.b("i"))
        f = sigmoid(p.x("f", now) + p.w("h", "f", h) + p.d("c", "f") * c + p.b("f"))
        c = f * c + i * np.tanh(p.x("g", now) + p.w("h", "g", h) + p.b("g"))
        o = sigmoid(p.x("o", now) + p.w("h", "o", h) + p.d("c", "o") * c + p.b("o"))
        h = o * np.tanh(c)
        found.append(h)
    return found


def mgu(p: Named, x: Array) -> list[Array]:
    h, found = np.zeros((BATCH, UNITS)), []
    for now in x:
        f = sigmoid(p.x("f", now) + p.w("h", "f", h) + p.b("f"))
        n = np.tanh(p.x("n", now) + p.w("reset", "n", f * h) + p.b("n"))
        h = (1 - f) * h + f * n
        found.append(h)
    return found


def elstm(p: Named, x: Array) -> list[Array]:
    c, found = np.zeros((BATCH, UNITS)), []
    for now in x:
        f = sigmoid(p.x("f", now) + p.d("c", "f") * c + p.b("f"))
        z = np.tanh(p.x("z", now) + p.d("c", "z") * c + p.b("z"))
        c = f * c + (1 - f) * z
        o = sigmoid(p.x("o", now) + p.w("c", "o", c) + p.b("o"))
        found.append(o * c)
    return found


def columnar_lstm(p: Named, x: Array) -> list[Array]:
    """Column by column, each a network of one unit."""
    found = np.zeros((STEPS, BATCH, UNITS))
    for column in range(UNITS):
        h = c = np.zeros(BATCH)
        for t, now in enumerate(x):
            i, f, o, g = (
                now @ p.params[f"x->l.{u}"][column] + p.d("h", u)[column] * h + p.b(u)[column] for u in "ifog"
            )
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = found[t, :, column] = sigmoid(o) * np.tanh(c)
    return list(found)


def min_gru(p: Named, x: Array) -> list[Array]:
    h, found = np.zeros((BATCH, UNITS)), []
    for now in x:
        z = sigmoid(p.x("z", now) + p.b("z"))
        h = (1 - z) * h + z * (p.x("n", now) + p.b("n"))
        found.append(h)
    return found


def min_lstm(p: Named, x: Array) -> list[Array]:
    h, found = np.zeros((BATCH, UNITS)), []
    for now in x:
        f, i = sigmoid(p.x("a_f", now) + p.b("a_f")), sigmoid(p.x("a_i", now) + p.b("a_i"))
        h = f / (f + i) * h + i / (f + i) * (p.x("n", now) + p.b("n"))
        found.append(h)
    return found


def lru(p: Named, x: Array) -> list[Array]:
    """In complex numbers."""
    turn = np.exp(-np.exp(p.b("nu")) + 1j * np.exp(p.b("theta")))
    b = p.params["x->l.b1"] + 1j * p.params["x->l.b2"]
    c = p.d("h1", "y") - 1j * p.d("h2", "y")
    h, found = np.zeros((BATCH, UNITS), complex), []
    for now in x:
        h = turn * h + np.exp(p.b("gamma")) * (now @ b.T)
        found.append((h @ c.T).real + p.x("y", now))
    return found


def rtu(linear: bool) -> Callable[[Named, Array], list[Array]]:
    def steps(p: Named, x: Array) -> list[Array]:
        r, phi = np.exp(-np.exp(p.b("nu"))), np.exp(p.b("theta"))
        h, found = np.zeros((2, BATCH, UNITS)), []
        for now in x:
            drive = np.sqrt(1 - r**2) * np.stack([p.x("b1", now), p.x("b2", now)])
            turned = np.stack([np.cos(phi) * h[0] - np.sin(phi) * h[1], np.sin(phi) * h[0] + np.cos(phi) * h[1]])
            h = r * turned + drive
            h = h if linear else np.tanh(h)
            f = np.tanh(h) if linear else h
            source = "f" if linear else "h"
            found.append(p.w(f"{source}1", "y", f[0]) + p.w(f"{source}2", "y", f[1]) + p.b("y"))
        return found

    return steps


def resting(countdown: Array, z: Array, refractory: int) -> Array:
    """The counter of the code published with Bellec et al. 2020: steps for which a unit may still not spike."""
    return np.where(z > 0, refractory, np.maximum(countdown - 1, 0))


def lif(refractory: int, adaptation: float) -> Callable[[Named, Array], list[Array]]:
    def steps(p: Named, x: Array) -> list[Array]:
        v, z, a, rest, found = *np.zeros((4, BATCH, UNITS)), []
        for now in x:
            v = 0.9 * v + p.x("v", now) + p.w("z", "v", z) - 0.5 * z
            a = 0.97 * a + z
            z = np.where((v > 0.5 + adaptation * a) & (rest == 0), 1.0, 0.0)
            rest = resting(rest, z, refractory)
            found.append(z)
        return found

    return steps


def cuba_lif(p: Named, x: Array) -> list[Array]:
    i, v, z, rest, found = *np.zeros((4, BATCH, UNITS)), []
    for now in x:
        i = 0.7 * i + p.x("i", now) + p.w("z", "i", z)
        v = 0.85 * v + i - 0.5 * z
        z = np.where((v > 0.5) & (rest == 0), 1.0, 0.0)
        rest = resting(rest, z, 1)
        found.append(z)
    return found


def delay_line(p: Named, x: Array) -> list[Array]:
    padded = np.concatenate([np.zeros((4, BATCH, INPUTS)), x])
    taps = [(padded[4:], ""), (padded[2:-2], "#1"), (padded[:-4], "#2")]
    return list(np.tanh(sum(p.x("h", past, key) for past, key in taps) + p.b("h")))


def reservoirs(
    random: int, leaks: tuple[float, ...], radii: tuple[float, ...]
) -> Callable[[Named, Array], list[Array]]:
    """Side by side; the names of a single one have no number."""

    def steps(p: Named, x: Array) -> list[Array]:
        rng, found = np.random.default_rng(random), []
        for number, (leak, radius) in enumerate(zip(leaks, radii, strict=True), start=1):
            u = rng.normal(size=(UNITS, UNITS))
            rng.uniform(size=(UNITS, UNITS))
            u *= radius / np.abs(np.linalg.eigvals(u)).max()
            h, states = np.zeros((BATCH, UNITS)), []
            for now in x:
                h = leak * h + (1 - leak) * np.tanh(p.x(f"{number}.a" if len(leaks) > 1 else "a", now) + h @ u.T)
                states.append(h)
            found.append(states)
        return list(np.concatenate(found, axis=-1))

    return steps


def egru(before: bool) -> Callable[[Named, Array], list[Array]]:
    """As in the code of its authors: the state is lowered by the threshold after an event."""

    def steps(p: Named, x: Array) -> list[Array]:
        state, y, found = np.zeros((BATCH, UNITS)), np.zeros((BATCH, UNITS)), []
        for now in x:
            z = sigmoid(p.x("z", now) + p.w("h", "z", y) + p.b("z"))
            r = sigmoid(p.x("r", now) + p.w("h", "r", y) + p.b("r"))
            seen = p.w("reset", "n", r * y) if before else r * (p.w("h", "recalled", y) + p.b("recalled"))
            state = z * state + (1 - z) * np.tanh(p.x("n", now) + p.b("n") + seen)
            y = np.where(state > 0.2, state, 0.0)
            state = state - 0.2 * (state > 0.2)
            found.append(y)
        return found

    return steps


def low_rank(p: Named, x: Array) -> list[Array]:
    h, found = np.zeros((BATCH, UNITS)), []
    u = p.d("k", "h") @ p.d("h", "k")
    assert np.linalg.matrix_rank(u) == 2
    for now in x:
        h = np.tanh(p.x("h", now) + h @ u.T + p.b("h"))
        found.append(h)
    return found


def ei_pair(p: Named, x: Array) -> list[Array]:
    """The two populations as one, with the sign of each unit."""
    sign = np.r_[np.ones(UNITS), -np.ones(3)]
    u = np.block([[p.d(source, f"to_{target}") for source in ("e", "minus")] for target in "ei"]) * sign
    w = np.vstack([p.params["x->l.to_e"], p.params["x->l.to_i"]])
    b = np.r_[p.b("to_e"), p.b("to_i")]
    h, found = np.zeros((BATCH, UNITS + 3)), []
    for now in x:
        h = 0.6 * h + 0.4 * np.maximum(now @ w.T + h @ u.T + b, 0)
        found.append(h[:, :UNITS])
    return found


def stack(skips: str, feedback: int = 0) -> Callable[[Named, Array], list[Array]]:
    """Three Elman layers, all their states at each step."""

    def steps(p: Named, x: Array) -> list[Array]:
        params, depth = p.params, 3
        states = np.zeros((STEPS + feedback + 1, depth, BATCH, UNITS))  # after the zeros before the first step
        found: list[Array] = []
        for t, now in enumerate(x, start=feedback + 1):
            carried, together = now, [now]
            for k in range(depth):
                source = {"residual": ["x", "l.1.h", "l.s2"], "dense": ["x", "l.s1", "l.s2"]}
                name, layer = source.get(skips, ["x", "l.1.h", "l.2.h"])[k], f"l.{k + 1}.h"
                reads = np.concatenate(together, axis=-1) if skips == "dense" else carried
                drive = reads @ params[f"{name}->{layer}"].T + states[t - 1, k] @ params[f"{layer}->{layer}"].T
                if feedback and k < depth - 1:
                    drive = drive + states[t - feedback, k + 1] @ params[f"l.{k + 2}.h->{layer}#feedback"].T
                states[t, k] = np.tanh(drive + params[f"{layer}.bias"])
                together.append(states[t, k])
                carried = carried + states[t, k] if skips == "residual" and k else states[t, k]
            found.append(states[t].sum(axis=0) if skips == "auto_compressing" else carried)
        return found

    return steps


CASES: dict[str, tuple[str, dict[str, Any], Callable[[Named, Array], list[Array]], str]] = {
    "indrnn": ("indrnn", {}, indrnn, "h"),
    "gru after": ("gru", {"reset": "after"}, gru_after, "h"),
    "lstm peepholes": ("lstm", {"peepholes": True}, lstm_peepholes, "h"),
    "mgu": ("mgu", {}, mgu, "h"),
    "min_gru": ("min_gru", {}, min_gru, "h"),
    "min_lstm": ("min_lstm", {}, min_lstm, "h"),
    "elstm": ("elstm", {}, elstm, "h"),
    "columnar_lstm": ("columnar_lstm", {}, columnar_lstm, "h"),
    "lru": ("lru", {}, lru, "y"),
    "rtu linear": ("rtu", {}, rtu(True), "y"),
    "rtu": ("rtu", {"linear": False}, rtu(False), "y"),
    "lif resting": ("lif", {"threshold": 0.5, "refractory": 2}, lif(2, 0.0), "z"),
    "alif resting": ("alif", {"threshold": 0.5, "refractory": 3, "adaptation": 0.3}, lif(3, 0.3), "z"),
    "cuba_lif": (
        "cuba_lif",
        {"threshold": 0.5, "refractory": 1, "leak": 0.85, "synaptic_leak": 0.7},
        cuba_lif,
        "z",
    ),
    "delay_line": ("delay_line", {"taps": 3, "dilation": 2}, delay_line, "h"),
    "reservoir": ("reservoir", {"leak": 0.3, "spectral_radius": 0.7, "seed": 5}, reservoirs(5, (0.3,), (0.7,)), "h"),
    "parallel_reservoirs": (
        "parallel_reservoirs",
        {"leak": [0.1, 0.8], "spectral_radius": [0.5, 1.2], "seed": 5},
        reservoirs(5, (0.1, 0.8), (0.5, 1.2)),
        "h",
    ),
    "egru": ("egru", {"threshold": 0.2}, egru(False), "h"),
    "egru before": ("egru", {"threshold": 0.2, "reset": "before"}, egru(True), "h"),
    "low_rank": ("low_rank", {}, low_rank, "h"),
    "ei_pair": ("ei_pair", {"inhibitory": 3, "leak": 0.6}, ei_pair, "e"),
    "stack": ("stack", {"depth": 3}, stack("none"), "3.h"),
    "residual": ("stack", {"depth": 3, "skips": "residual"}, stack("residual"), "s3"),
    "dense": ("stack", {"depth": 3, "skips": "dense"}, stack("dense"), "3.h"),
    "auto_compressing": ("stack", {"depth": 3, "skips": "auto_compressing"}, stack("auto_compressing"), "y"),
    "feedback": ("stack", {"depth": 3, "feedback": 2}, stack("none", 2), "3.h"),
}


@pytest.mark.parametrize("case", CASES)
def test_equations(case: str) -> None:
    """If this fails, the cell is another network than its paper's."""
    kind, options, equations, output = CASES[case]
    given = problem(graph_of(kind, **options), "out", steps=STEPS, batch=BATCH, gain=1.5)
    values = forward(given.graph, given.params, given.inputs)
    wanted = equations(Named(given.params), given.inputs["x"])
    np.testing.assert_allclose(values[f"l.{output}"], wanted, rtol=0, atol=1e-12)
    assert np.std(wanted[3:]) > 1e-2
    program = fg.compile(given.graph, loss={"out": "mse"})
    np.testing.assert_allclose(program.run(given.params, given.inputs)["out"], values["out"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", ["rtrl", "eprop"])
@pytest.mark.parametrize("case", CASES)
def test_gradients(case: str, rule: str) -> None:
    """If this fails, credit takes other paths through the cell than the rule says."""
    kind, options, *_ = CASES[case]
    given = problem(graph_of(kind, **options), "out", steps=STEPS, batch=BATCH, gain=1.5)
    program = assert_like_oracle(given, rule, blocks=(1, 5))
    found = program.gradient(given.params, given.inputs, given.targets, block=5)
    # e-prop drops what one population tells the other, so one that the readout does not read hears of no error.
    silent = (
        {"x->l.to_i", "l.e->l.to_i", "l.minus->l.to_i", "l.to_i.bias"}
        if (case, rule) == ("ei_pair", "eprop")
        else set()
    )
    assert {name for name, gradient in found.grads.items() if np.abs(gradient).max() <= 1e-6} == silent


DIAGONAL = ("indrnn", "min_gru", "min_lstm", "elstm", "columnar_lstm", "lru", "rtu linear", "rtu")


@pytest.mark.parametrize("rule", ["rtrl", "eprop"])
@pytest.mark.parametrize("case", DIAGONAL)
def test_exact_rtrl_costs_a_number_per_synapse_and_state(case: str, rule: str) -> None:
    """If this fails, the compiler does not find what the papers claim: exact RTRL at the cost of e-prop."""
    kind, options, *_ = CASES[case]
    program = fg.compile(graph_of(kind, **options), loss={"out": "mse"}, rule=rule)
    states = 2 if kind in ("lru", "rtu", "columnar_lstm") else 1
    stored = 0
    for name, derived in program.rules.items():
        assert derived.exact, name
        assert all(word is Structure.DIAGONAL for word in derived.layouts.values()), name
        assert len(derived.layouts) in (0, states), name
        parameter = program.network.parameters[name]
        assert derived.bytes == 8 * len(derived.layouts) * int(np.prod(parameter.shape)), name
        stored += bool(derived.layouts)
    assert stored >= 3


@pytest.mark.parametrize("case", ["mgu", "gru after", "lstm peepholes"])
def test_gates_that_see_the_state_cost_a_matrix(case: str) -> None:
    """If this fails, the test above passes for any cell."""
    kind, options, *_ = CASES[case]
    program = fg.compile(graph_of(kind, **options), loss={"out": "mse"}, rule="rtrl")
    words = {word for derived in program.rules.values() for word in derived.layouts.values()}
    assert words == {Structure.FULL}


def test_a_resting_unit_neither_spikes_nor_learns() -> None:
    """If this fails, the derivative of a spike is not 0 in the refractory period, as it is in Bellec et al. 2020."""
    given = problem(graph_of("lif", threshold=0.5, refractory=3, width=50.0), "out", steps=40, gain=3.0)
    values = forward(given.graph, given.params, given.inputs)
    z, above = values["l.z"], values["l.s"]
    for ago in (1, 2, 3):
        assert not (z[ago:] * z[:-ago]).any()
    assert (z[4:] * z[:-4]).any()
    assert (above > z).any()
    program = fg.compile(given.graph, loss={"out": "mse"}, rule="rtrl")
    psi = 0.3 / 0.5 * np.maximum(0, 1 - np.abs((values["l.v"] - 0.5) / 50.0))
    assert (psi > 0).all()
    eligibility, signal = (
        np.zeros((2, UNITS, INPUTS)),
        (values["out"] - given.targets["out"]) / 2 @ given.params["l.z->out"],
    )
    wanted = np.zeros((UNITS, INPUTS))
    for t, x in enumerate(given.inputs["x"]):
        eligibility = 0.9 * eligibility + x[:, None, :]
        wanted += ((signal[t] * psi[t] * values["l.ready"][t])[:, :, None] * eligibility).sum(axis=0)
    program = fg.compile(given.graph, loss={"out": "mse"}, rule="eprop")
    found = program.gradient(given.params, given.inputs, given.targets, block=7)
    np.testing.assert_allclose(found.grads["x->l.v"], wanted, rtol=1e-10)


def test_the_first_lambda_is_on_the_ring() -> None:
    """If this fails, an LRU starts unstable, or forgets at once, whatever it is asked for."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    cells.lru(graph, "l", "x", 400, r_min=0.6, r_max=0.9, max_phase=1.0, seed=3)
    parameters = validate(graph).parameters
    nu, theta, gamma = (np.asarray(parameters[f"l.{name}.bias"].init) for name in ("nu", "theta", "gamma"))
    r = np.exp(-np.exp(nu))
    assert 0.6 < r.min() < 0.62
    assert 0.88 < r.max() < 0.9
    assert abs(np.mean(r**2) - (0.6**2 + 0.9**2) / 2) < 0.02, "uniform on the ring, not in its radius"
    assert 0 < np.exp(theta).min() < 0.02
    assert 0.98 < np.exp(theta).max() < 1
    np.testing.assert_allclose(np.exp(gamma), np.sqrt(1 - r**2), rtol=1e-12)
    again = graph.copy()
    cells.lru(again, "m", "x", 400, r_min=0.6, r_max=0.9, max_phase=1.0, seed=3)
    assert np.array_equal(again.nodes["m.nu"]["bias"], graph.nodes["l.nu"]["bias"])


def test_a_reservoir_trains_nothing() -> None:
    """If this fails, a reservoir is an expensive recurrent layer, or starts with other eigenvalues than asked for."""
    graph = graph_of("reservoir", spectral_radius=1.2, density=0.8)
    network = validate(graph)
    assert set(network.trainable) == {"l.h->out", "out.bias"}
    matrix = network.edges["l.h->l.a"].value
    assert matrix is not None
    assert np.abs(np.linalg.eigvals(matrix)).max() == pytest.approx(1.2)
    assert (np.asarray(matrix) == 0).any()
    assert np.isfinite(validate(graph_of("reservoir", density=0.0)).edges["l.h->l.a"].value).all()


def test_biases_that_begin_with_long_memory() -> None:
    """If this fails, the initialisation of Tallec & Ollivier 2018 cannot be said."""
    forget = np.log([2.0, 5.0, 10.0, 20.0])
    parameters = validate(graph_of("lstm", forget_bias=forget, input_bias=-forget)).parameters
    np.testing.assert_array_equal(parameters["l.f.bias"].init, forget)
    np.testing.assert_array_equal(parameters["l.i.bias"].init, -forget)


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "reset": ("gru", {"reset": "never"}, "cell gru('l'): 'reset' must be 'before' or 'after', got 'never'."),
    "reset not a word": ("gru", {"reset": ["after"]}, "'reset' must be 'before' or 'after'"),
    "peepholes": ("lstm", {"peepholes": 1}, "cell lstm('l'): 'peepholes' must be True or False, got 1."),
    "input_bias": (
        "lstm",
        {"input_bias": [1.0, 2.0]},
        "'input_bias' must be a finite number, or 4 of them, one for each",
    ),
    "r_min": ("lru", {"r_min": -0.1}, "cell lru('l'): 'r_min' must be a number from 0 to 1, got -0.1."),
    "r_max": ("rtu", {"r_max": 1.1}, "cell rtu('l'): 'r_max' must be a number from 0 to 1, got 1.1."),
    "no ring": ("lru", {"r_min": 0.9, "r_max": 0.5}, "'r_min' must be less than 'r_max', got 0.9 and 0.5."),
    "max_phase": ("rtu", {"max_phase": 0}, "'max_phase' must be a number greater than 0, got 0."),
    "seed": ("lru", {"seed": -1}, "cell lru('l'): 'seed' must be a whole number >= 0, got -1."),
    "linear": ("rtu", {"linear": "yes"}, "'linear' must be True or False, got 'yes'."),
    "nonlinearity": ("indrnn", {"nonlinearity": "rleu"}, "cell indrnn('l'): node 'l.h': unknown op 'rleu'"),
    "nonlinearity with two ports": ("rtu", {"nonlinearity": "maximum"}, "'nonlinearity' must be an op of one port"),
    "refractory": (
        "lif",
        {"refractory": 1.5},
        "cell lif('l'): 'refractory' must be a whole number from 0 to 1000, got 1.5.",
    ),
    "refractory for ever": ("alif", {"refractory": 10**9}, "'refractory' must be a whole number from 0 to 1000"),
    "synaptic_leak": ("cuba_lif", {"synaptic_leak": 2}, "'synaptic_leak' must be a number from 0 to 1, got 2."),
    "taps": ("delay_line", {"taps": 0}, "cell delay_line('l'): 'taps' must be a whole number from 1 to 1000, got 0."),
    "size of a matrix": (
        "reservoir",
        {"size": 10**5},
        "draws 10,000,000,000 numbers; at most 268,435,456 can be drawn.",
    ),
    "size of a ring": ("lru", {"size": 10**12}, "cell lru('l'): draws 1,000,000,000,000 numbers; at most"),
    "dilation": ("delay_line", {"dilation": 0}, "'dilation' must be a whole number >= 1, got 0."),
    "spectral_radius": ("reservoir", {"spectral_radius": -1}, "'spectral_radius' must be a number >= 0, got -1."),
    "density": ("reservoir", {"density": 1.5}, "'density' must be a number from 0 to 1, got 1.5."),
    "leaks": ("parallel_reservoirs", {"leak": [0.1, 0.2, 0.3]}, "'leak' has 3 numbers for 2 reservoirs."),
    "one leak": ("parallel_reservoirs", {"leak": [0.1, 2.0]}, "'leak' must be a number from 0 to 1, got 2.0."),
    "rank": ("low_rank", {"rank": 0}, "cell low_rank('l'): 'rank' must be a whole number >= 1, got 0."),
    "inhibitory": ("ei_pair", {"inhibitory": 0}, "cell ei_pair('l'): 'inhibitory' must be a whole number >= 1, got 0."),
    "threshold": ("egru", {"threshold": 0.0}, "cell egru('l'): 'threshold' must be a number greater than 0, got 0.0."),
    "skips": ("stack", {"skips": "resnet"}, "cell stack('l'): 'skips' must be 'none' or 'residual' or 'dense' or"),
    "what is stacked": (
        "stack",
        {"layer": "lstn"},
        "cell stack('l'): 'layer' names no cell: 'lstn'.\n  Did you mean 'lstm",
    ),
    "option": ("stack", {"layer": "lstm", "peephole": True}, "cell 'lstm' has no argument 'peephole'."),
    "value of an option": (
        "stack",
        {"layer": "lif", "leak": 2},
        "cell stack('l'): cell lif('l.1'): 'leak' must be a number from 0 to 1, got 2.",
    ),
    "depth": ("stack", {"depth": 0}, "cell stack('l'): 'depth' must be a whole number from 1 to 1000, got 0."),
    "pool": ("max_pool", {"shape": 4, "kernel": 5}, "cell max_pool('l'): a kernel of (5,) does not fit into (4,)"),
    "shape": ("max_pool", {"shape": [4]}, "cell max_pool('l'): 'shape' has channels and no axis."),
    "shape not whole": (
        "max_pool",
        {"shape": [1, 2.5]},
        "cell max_pool('l'): 'shape' must be a whole number >= 1, or a",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_argument_adds_nothing(name: str) -> None:
    """If this fails, an error leaves half a cell in the user's graph, or does not say what was wrong."""
    kind, options, words = BAD[name]
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=INPUTS)
    with pytest.raises(GraphError) as error:
        cells.TABLE[kind](graph, "l", "x", **{"size" if kind != "max_pool" else "shape": UNITS} | options)
    assert words in str(error.value)
    assert list(graph) == ["x"]
    assert not graph.edges


@pytest.mark.parametrize("kind", LAYERS)
def test_every_layer_can_be_stacked(kind: str) -> None:
    """If this fails, a stack is one of some kinds of layers only, or feedback does not reach all that reads below."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=UNITS)
    cells.readout(graph, "out", cells.stack(graph, "l", "x", UNITS, layer=kind, skips="dense", feedback=1), 2)
    network = validate(graph)
    backward = {edge.target for edge in network.edges.values() if edge.key == "feedback"}
    assert backward == {edge.target for edge in network.edges.values() if edge.source == "x"} - {"l.s1"}
    assert {network.nodes[name].layer for name in backward} == {"l.1"}
    given = problem(graph, "out", steps=5, batch=BATCH)
    program = fg.compile(given.graph, loss={"out": "mse"}, rule="rtrl")
    assert np.isfinite(program.gradient(given.params, given.inputs, given.targets).loss)


@pytest.mark.parametrize(("shape", "kernel", "stride"), [((2, 7), 3, 2), ((3, 4, 6), (2, 3), None), ((1, 5), 1, 2)])
def test_equations_of_max_pool(shape: tuple[int, ...], kernel: int | tuple[int, ...], stride: int | None) -> None:
    """If this fails, a window is not where it should be, or its largest value is not found, or has not the credit."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    graph.add_node("h", op="linear", size=int(np.prod(shape)), shape=list(shape))
    graph.add_edge("x", "h", weight="dense")
    cells.readout(graph, "out", cells.max_pool(graph, "p", "h", shape, kernel=kernel, stride=stride), 2)
    given = problem(graph, "out", steps=STEPS, batch=BATCH, gain=1.5)
    values = forward(given.graph, given.params, given.inputs)
    axes = len(shape) - 1
    kernels = np.broadcast_to(kernel, (axes,))
    strides = kernels if stride is None else np.broadcast_to(stride, (axes,))
    seen = values["h"].reshape(STEPS, BATCH, *shape)
    windows = np.lib.stride_tricks.sliding_window_view(seen, tuple(kernels), axis=tuple(range(3, 3 + axes)))
    picked = windows[(..., *(slice(None, None, int(by)) for by in strides), *[slice(None)] * axes)]
    wanted = picked.max(axis=tuple(range(-axes, 0)))
    assert tuple(validate(graph).nodes["p.h"].shape) == wanted.shape[2:]
    np.testing.assert_allclose(values["p.h"], wanted.reshape(STEPS, BATCH, -1), rtol=0, atol=1e-12)
    assert_like_oracle(given, "rtrl", blocks=(1, 5))

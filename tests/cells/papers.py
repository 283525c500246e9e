"""The equations of each cell as its paper has them, step by step, and the cell on a small graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad import cells

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

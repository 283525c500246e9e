"""Graphs of NIR, and a simulation of them by forward Euler in plain NumPy, for the tests of the bridge."""

from __future__ import annotations

import warnings
from typing import Any

import networkx as nx
import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad.bridges.nir import to_nir

nir: Any = pytest.importorskip("nir")


DT, STEPS, BATCH = 1e-3, 40, 2


SPIKING = ("IF", "LIF", "CubaLIF")


RESETS = ("zero", "zero_next", "subtract_next")


EDGES = list[tuple[str, str]]


class Euler:
    """A NIR graph without inner graphs, simulated step by step in plain NumPy: `v' = v + dt/tau ((v_leak - v) + r I)`.

    What a neuron gives on a cycle without a `Delay` is read one step later.
    """

    def __init__(self, graph: Any, reset: str = "zero", dt: float = DT) -> None:
        self.graph, self.reset, self.dt = graph, reset, dt
        self.into = {name: sorted(a for a, b in graph.edges if b == name) for name in graph.nodes}
        self.state: dict[str, Any] = {name: {"v": 0.0, "i": 0.0, "z": 0.0} for name in graph.nodes}
        self.past: list[dict[str, Any]] = []
        self.values: dict[str, Any] = {}

    def late(self, source: str, target: str) -> bool:
        """Whether an edge leaves a neuron, and a way without a `Delay` leads back."""
        neurons = ("IF", "LIF", "CubaLIF", "I", "LI", "CubaLI", "Threshold")
        if type(self.graph.nodes[source]).__name__ not in neurons:
            return False
        seen, waiting = set[str](), [target]
        while waiting:
            name = waiting.pop()
            node = self.graph.nodes[name]
            if name not in seen and not (isinstance(node, nir.Delay) and node.delay.any()):
                seen.add(name)
                waiting += [b for a, b in self.graph.edges if a == name]
        return source in seen

    def run(self, inputs: dict[str, Any], output: str = "output") -> Any:
        steps = len(next(iter(inputs.values())))
        outputs: list[Any] = []
        for t in range(steps):
            self.values = {name: x[t] for name, x in inputs.items()}
            outputs.append(self.value(output))
            for name in self.graph.nodes:
                self.value(name)
            self.past.append(self.values)
        return np.stack(outputs)

    def value(self, name: str) -> Any:
        if name not in self.values:
            node = self.graph.nodes[name]
            if isinstance(node, nir.Delay):
                ago = round(float(np.max(node.delay)) / self.dt)
                self.values[name] = sum((self.before(a, ago + self.late(a, name)) for a in self.into[name]), 0.0)
            else:
                entering = [self.before(a, 1) if self.late(a, name) else self.value(a) for a in self.into[name]]
                self.values[name] = self.node(name, node, sum(entering, 0.0))
        return self.values[name]

    def before(self, name: str, ago: int) -> Any:
        if ago == 0:
            return self.value(name)
        size = int(np.prod(self.graph.nodes[name].output_type["output"]))
        return self.past[-ago][name] if ago <= len(self.past) else np.zeros((BATCH, size))

    def node(self, name: str, node: Any, x: Any) -> Any:
        kind = type(node).__name__
        if kind in ("Linear", "Affine"):
            product = x @ node.weight.T if np.ndim(x) else np.zeros(node.weight.shape[0])
            return product + (node.bias if kind == "Affine" else 0.0)
        if kind == "Scale":
            return x * node.scale
        if kind == "Threshold":
            return (x > node.threshold) * 1.0
        if kind == "Output":
            return x
        s, k = self.state[name], self.dt
        if kind.startswith("Cuba"):
            s["i"] = s["i"] + k / node.tau_syn * (-s["i"] + node.w_in * x)
            x = s["i"]
        v: Any = s["v"]
        spiked = s["z"]
        if kind in ("I", "IF"):
            v = v + k * node.r * x
        else:
            v = v + k / (node.tau_mem if kind.startswith("Cuba") else node.tau) * ((node.v_leak - v) + node.r * x)
        if kind not in SPIKING:
            s["v"] = v
            return v
        if self.reset == "zero_next":
            v = v + spiked * (node.v_reset - v)
        if self.reset == "subtract_next":
            v = v - node.v_threshold * spiked
        s["z"] = (v > node.v_threshold) * 1.0
        s["v"] = v + s["z"] * (node.v_reset - v) if self.reset == "zero" else v
        return s["z"]


def neuron(kind: str, size: int | tuple[int, ...] = 3, seed: int = 0, v_reset: bool = True, **given: Any) -> Any:
    """A neuron with a random number for each unit."""
    random = np.random.default_rng(seed)
    ranges = {
        "tau": (5 * DT, 20 * DT),
        "tau_mem": (5 * DT, 20 * DT),
        "tau_syn": (2 * DT, 6 * DT),
        "r": (4, 12) if "LI" in kind else (0.1 / DT, 0.3 / DT),
        "v_leak": (-0.2, 0.2),
        "w_in": (0.5, 3),
        "v_threshold": (0.3, 0.6),
        "threshold": (0.3, 0.6),
        "v_reset": (-0.3, 0.2) if v_reset else (0, 0),
    }
    fields = [name for name in getattr(nir, kind).__dataclass_fields__ if name in ranges]
    return getattr(nir, kind)(**({name: random.uniform(*ranges[name], size=size) for name in fields} | given))


def affine(out: int, into: int, seed: int = 1, bias: bool = True, scale: float = 1.0) -> Any:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(out, into)) * scale
    return nir.Affine(weight, random.normal(size=out) * scale) if bias else nir.Linear(weight)


def net(nodes: dict[str, Any], edges: EDGES, inputs: int = 4, outputs: int = 3) -> Any:
    ends = {"input": nir.Input(np.array([inputs])), "output": nir.Output(np.array([outputs]))}
    return nir.NIRGraph(ends | nodes, edges, type_check=False)


def x_of(size: int = 4, seed: int = 2, steps: int = STEPS) -> Any:
    return np.random.default_rng(seed).normal(size=(steps, BATCH, size)) * 1.5


def runs(graph: nx.MultiDiGraph[str], params: dict[str, Any], inputs: dict[str, Any], output: str = "output") -> Any:
    """What the imported network computes, for which `params` must have all of its parameters and no other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.DeadParameterWarning)
        program = fg.compile(graph, {output: "mse"}, "rtrl", dead="warn")
    start = program.init()
    assert {name: array.shape for name, array in start.items()} == {n: a.shape for n, a in params.items()}
    return program.run(params, inputs)[output]


def quiet(graph: nx.MultiDiGraph[str], params: dict[str, Any], dt: float = DT) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return to_nir(graph, params, dt=dt)


LAYERS: dict[str, tuple[dict[str, Any], EDGES]] = {
    "self-recurrent": (
        {"fc": affine(3, 4), "n": neuron("LIF"), "rec": affine(3, 3, 6)},
        [("input", "fc"), ("fc", "n"), ("n", "rec"), ("rec", "n"), ("n", "output")],
    ),
    "recurrent, one bias": (
        {"fc": affine(3, 4), "n": neuron("CubaLIF"), "rec": affine(3, 3, 6, bias=False)},
        [("input", "fc"), ("fc", "n"), ("n", "rec"), ("rec", "n"), ("n", "output")],
    ),
    "onto itself": (
        {"fc": affine(3, 4, bias=False), "n": neuron("LIF")},
        [("input", "fc"), ("fc", "n"), ("n", "n"), ("n", "output")],
    ),
    "excitation and inhibition": (
        {
            "fc": affine(3, 4),
            "e": neuron("LIF"),
            "i": neuron("LIF", 2, 3),
            "ei": affine(2, 3, 6, bias=False),
            "ie": affine(3, 2, 7, bias=False),
        },
        [("input", "fc"), ("fc", "e"), ("e", "ei"), ("ei", "i"), ("i", "ie"), ("ie", "e"), ("e", "output")],
    ),
    "a cycle with a delay": (
        {"fc": affine(3, 4), "n": neuron("LIF"), "late": nir.Delay(np.full(3, 3 * DT)), "rec": affine(3, 3, 6)},
        [("input", "fc"), ("fc", "n"), ("n", "late"), ("late", "rec"), ("rec", "n"), ("n", "output")],
    ),
    "two cycles, one with a delay": (
        {
            "fc": affine(3, 4),
            "n": neuron("LIF"),
            "m": neuron("LIF", 3, 4),
            "rec": affine(3, 3, 6),
            "back": nir.Delay(np.full(3, 2 * DT)),
        },
        [
            ("input", "fc"),
            ("fc", "n"),
            ("n", "rec"),
            ("rec", "n"),
            ("n", "m"),
            ("m", "back"),
            ("back", "n"),
            ("m", "output"),
        ],
    ),
    "a linear cycle with a delay": (
        {"fc": affine(3, 4), "rec": affine(3, 3, 6, scale=0.3), "late": nir.Delay(np.full(3, DT)), "n": neuron("LI")},
        [("input", "fc"), ("fc", "n"), ("fc", "late"), ("late", "rec"), ("rec", "late"), ("rec", "n"), ("n", "output")],
    ),
    "a link to two neurons": (
        {"fc": affine(3, 4), "n": neuron("LIF"), "m": neuron("LI", 3, 4)},
        [("input", "fc"), ("fc", "n"), ("fc", "m"), ("n", "m"), ("m", "output")],
    ),
    "two sources of a link": (
        {"fc": affine(3, 4), "n": neuron("LIF"), "m": neuron("LI", 3, 4), "w": affine(3, 3, 5)},
        [("input", "fc"), ("fc", "n"), ("fc", "m"), ("n", "w"), ("m", "w"), ("w", "output")],
    ),
    "links in a row": (
        {"a": affine(5, 4), "s": nir.Scale(np.array([1.0, -2, 0.5, 1, 3])), "b": affine(3, 5), "n": neuron("LIF")},
        [("input", "a"), ("a", "s"), ("s", "b"), ("b", "n"), ("n", "output")],
    ),
    "delays before and after a matrix": (
        {
            "d": nir.Delay(np.full(4, 2 * DT)),
            "fc": affine(3, 4, bias=False),
            "e": nir.Delay(np.full(3, DT)),
            "n": neuron("LIF"),
            "f": nir.Delay(np.full(3, 0.0)),
        },
        [("input", "d"), ("d", "fc"), ("fc", "e"), ("e", "n"), ("n", "f"), ("f", "output")],
    ),
    "a delay after a bias": (
        {"fc": affine(3, 4), "e": nir.Delay(np.full(3, 2 * DT)), "n": neuron("LIF")},
        [("input", "fc"), ("fc", "e"), ("e", "n"), ("n", "output")],
    ),
    "a delay of a sum": (
        {
            "a": affine(3, 4),
            "b": affine(3, 4, 9),
            "e": nir.Delay(np.full(3, 2 * DT)),
            "n": neuron("LIF"),
            "m": neuron("LI"),
        },
        [
            ("input", "a"),
            ("input", "b"),
            ("a", "e"),
            ("b", "e"),
            ("e", "n"),
            ("e", "m"),
            ("n", "output"),
            ("m", "output"),
        ],
    ),
    "a skip past a neuron": (
        {"fc": affine(3, 4), "n": neuron("LIF"), "s": affine(3, 4, 9, bias=False)},
        [("input", "fc"), ("fc", "n"), ("input", "s"), ("s", "output"), ("n", "output")],
    ),
    "a potential and its threshold": (
        {"fc": affine(3, 4), "v": neuron("LI"), "z": neuron("Threshold")},
        [("input", "fc"), ("fc", "v"), ("v", "z"), ("z", "output")],
    ),
    "a threshold with a bias": (
        {"fc": affine(3, 4), "z": neuron("Threshold"), "w": affine(3, 3, 8, bias=False)},
        [("input", "fc"), ("fc", "z"), ("z", "w"), ("w", "z"), ("z", "output")],
    ),
    "currents and potentials in a row": (
        {"fc": affine(3, 4), "i": neuron("LI"), "n": neuron("CubaLIF"), "j": neuron("I", 3, 8)},
        [("input", "fc"), ("fc", "i"), ("i", "n"), ("n", "j"), ("j", "output")],
    ),
}


def same(one: Any, other: Any, precision: float = 1e-12) -> None:
    """Two NIR graphs have the same nodes, but for the names of delays, and the same parameters."""

    def listed(graph: Any) -> dict[str, tuple[str, dict[str, Any]]]:
        found: dict[str, tuple[str, dict[str, Any]]] = {}
        for name, node in graph.nodes.items():
            fields = {key: value for key, value in node.to_dict().items() if key not in ("type", "metadata")}
            if not isinstance(node, nir.Delay):
                found[name] = (type(node).__name__, fields)
        return found

    first, second = listed(one), listed(other)
    assert first.keys() == second.keys()
    for name, (kind, fields) in first.items():
        assert kind == second[name][0]
        assert fields.keys() == second[name][1].keys()
        for field, value in fields.items():
            loose = precision if field in ("tau", "tau_mem", "tau_syn", "r", "v_leak", "w_in") else 0
            np.testing.assert_allclose(
                second[name][1][field], value, rtol=loose, atol=loose / 10, err_msg=f"{name}.{field}"
            )
    delays = [
        sorted(float(n.delay[0]) for n in g.nodes.values() if isinstance(n, nir.Delay) and n.delay.any())
        for g in (one, other)
    ]
    np.testing.assert_allclose(delays[1], delays[0], rtol=1e-12)


def conv2d(out: int, into: int, size: tuple[int, int], **given: Any) -> Any:
    random = np.random.default_rng(0)
    defaults = {
        "input_shape": None,
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "bias": random.normal(size=out),
    }
    return nir.Conv2d(weight=random.normal(size=(out, into, *size)), **(defaults | given))


WINDOWS: dict[str, tuple[tuple[int, ...], Any]] = {
    "conv2d": ((2, 5, 6), conv2d(4, 2, (3, 2))),
    "conv2d, strides": ((2, 7, 6), conv2d(2, 2, (3, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2))),
    "conv2d, groups": ((4, 4, 4), conv2d(6, 2, (2, 2), groups=2)),
    "conv2d, no bias": ((1, 4, 4), conv2d(2, 1, (3, 3), bias=np.zeros(2), padding="valid")),
    "conv2d, same": ((1, 4, 5), conv2d(2, 1, (3, 5), padding="same")),
    "conv1d": ((2, 9), nir.Conv1d(None, np.random.default_rng(1).normal(size=(3, 2, 4)), 2, 1, 1, 1, np.arange(3.0))),
    "sum": ((2, 4, 6), nir.SumPool2d(np.array([2, 3]), np.array([2, 3]), np.array([0, 0]))),
    "mean": ((2, 5, 5), nir.AvgPool2d(np.array([3, 3]), np.array([2, 2]), np.array([1, 1]))),
    "scalar pool": ((2, 4, 4), nir.AvgPool2d(np.array(2), np.array(2), np.array(0))),
}


CHAIN: EDGES = [("input", "fc"), ("fc", "n"), ("n", "output")]


def chain(node: Any = None, fc: Any = None, **nodes: Any) -> Any:
    return net({"fc": affine(3, 4) if fc is None else fc, "n": neuron("LIF") if node is None else node, **nodes}, CHAIN)


ones = np.ones(3)

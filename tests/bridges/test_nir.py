"""Does a network of NIR compute here what its equations say, and come back unharmed?"""

from __future__ import annotations

import copy
import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import networkx as nx
import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad import cells, oracle
from forwardgrad.bridges.nir import from_nir, to_nir
from forwardgrad.errors import DataError, FileError, GraphError, MissingExtraError
from forwardgrad.graph.validate import validate

nir: Any = pytest.importorskip("nir")
h5py: Any = pytest.importorskip("h5py")

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


def agree(graph: Any, reset: str = "zero", inputs: int = 4, live: bool = True) -> Any:
    """The imported network computes what the simulation does, and so does what comes back from another export."""
    x = x_of(inputs)
    declared, params = from_nir(graph, dt=DT, reset=reset)
    wanted = Euler(graph, reset).run({"input": x})
    found = runs(declared, params, {"input": x})
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)
    assert not live or np.std(found) > 1e-3
    again, others = from_nir(quiet(declared, params), dt=DT, reset=reset)
    np.testing.assert_allclose(runs(again, others, {"input": x}), wanted, rtol=1e-11, atol=1e-12)
    return declared


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", SPIKING)
def test_spiking_neurons_are_those_of_the_equations(kind: str, reset: str) -> None:
    """If this fails, an imported network spikes at other times than the one that was trained."""
    nodes = {"fc": affine(3, 4), "n": neuron(kind, v_reset=reset != "subtract_next"), "out": affine(3, 3, 5)}
    agree(net(nodes, [("input", "fc"), ("fc", "n"), ("n", "out"), ("out", "output")]), reset)


@pytest.mark.parametrize("kind", ["I", "LI", "CubaLI", "Threshold"])
def test_other_neurons_are_those_of_the_equations(kind: str) -> None:
    """If this fails, a readout is another one; these need no reset."""
    graph = net({"fc": affine(3, 4), "n": neuron(kind)}, [("input", "fc"), ("fc", "n"), ("n", "output")])
    x = x_of()
    declared, params = from_nir(graph, dt=DT)
    np.testing.assert_allclose(runs(declared, params, {"input": x}), Euler(graph).run({"input": x}), atol=1e-12)
    agree(graph)


def test_the_resets_differ() -> None:
    """If this fails, the tests of resets above have compared nothing."""
    graph = net({"fc": affine(3, 4), "n": neuron("LIF")}, [("input", "fc"), ("fc", "n"), ("n", "output")])
    zero, later = (runs(*from_nir(graph, dt=DT, reset=reset), {"input": x_of()}) for reset in RESETS[:2])
    assert 0.05 < zero.mean() < 0.9
    assert (zero != later).any()


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


@pytest.mark.parametrize("reset", ["zero", "zero_next"])
@pytest.mark.parametrize("name", LAYERS)
def test_wiring_is_that_of_the_simulation(name: str, reset: str) -> None:
    """If this fails, spikes arrive at another step, or somewhere else."""
    nodes, edges = LAYERS[name]
    agree(net(nodes, edges), reset)


def drawn(seed: int) -> Any:
    """A random graph of neurons, links and delays of three units, with cycles and skips."""
    random = np.random.default_rng(seed)
    nodes: dict[str, Any] = {}
    for number in range(random.integers(1, 5)):
        kind = str(random.choice(["IF", "LIF", "CubaLIF", "I", "LI", "CubaLI", "Threshold"]))
        nodes[f"n{number}"] = neuron(kind, seed=int(random.integers(1000)))
    for number in range(random.integers(1, 7)):
        kind = int(random.integers(5))
        seed = int(random.integers(1000))
        nodes[f"w{number}"] = (
            affine(3, 3, seed, bias=kind == 0, scale=0.4)
            if kind < 2
            else nir.Scale(random.normal(size=3) * 0.5)
            if kind == 2
            else nir.Delay(np.full(3, int(random.integers(4)) * DT))
        )
    names = list(nodes)
    edges = {(str(random.choice(names)), str(random.choice(names))) for _ in range(len(names))}
    for name in names:
        if not any(target == name and source != name for source, target in edges):
            edges.add((str(random.choice(["input", *names])), name))
    edges |= {("input", str(random.choice(names))), (str(random.choice(names)), "output")}
    return net(nodes, sorted(edges), inputs=3)


def test_random_graphs_are_those_of_the_simulation() -> None:
    """If this fails, some combination of cycles, skips, sums and delays is read or written wrongly."""
    compared = 0
    for seed in range(100):
        graph = drawn(seed)
        neurons = {name for name in graph.nodes if name.startswith("n")}
        loops = nx.DiGraph(edge for edge in graph.edges if edge[0] not in neurons)
        loops.remove_nodes_from(
            [name for name, node in graph.nodes.items() if isinstance(node, nir.Delay) and node.delay.any()]
        )
        if nx.is_directed_acyclic_graph(loops) and not endless(graph):
            agree(graph, RESETS[seed % 2], inputs=3, live=False)
            compared += 1
        else:
            with pytest.raises(
                GraphError, match=r"cycle of NIR nodes (without a neuron or a Delay|that nothing enters): "
            ):
                from_nir(graph, dt=DT, reset="zero")
    assert 50 < compared < 95


def endless(graph: Any) -> bool:
    """Whether delays alone form a cycle, which nothing else enters."""
    delays = nx.DiGraph(graph.edges).subgraph(name for name, node in graph.nodes.items() if isinstance(node, nir.Delay))
    return any(
        set(loop) <= {a for a in loop if len([e for e in graph.edges if e[1] == a]) == 1}
        for loop in nx.simple_cycles(delays)
    )


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


KEPT = [
    name
    for name in LAYERS
    if name not in ("delays before and after a matrix", "a delay of a sum", "a linear cycle with a delay")
]


@pytest.mark.parametrize("reset", ["zero", "subtract_next"])
@pytest.mark.parametrize("name", KEPT)
def test_what_was_imported_is_exported_as_it_was(name: str, reset: str) -> None:
    """Weights, biases, thresholds and delays bit for bit, time constants to rounding, and the same edges."""
    nodes, edges = LAYERS[name]
    if reset == "subtract_next":
        nodes = {key: resetless(node) for key, node in nodes.items()}
    graph = net(nodes, edges)
    back = quiet(*from_nir(graph, dt=DT, reset=reset))
    same(graph, back)
    if not any(isinstance(node, nir.Delay) for node in graph.nodes.values()):
        assert sorted(back.edges) == sorted(graph.edges)


def resetless(node: Any) -> Any:
    """The same neuron with `v_reset` 0."""
    if not hasattr(node, "v_reset"):
        return node
    fields: dict[str, Any] = {name: value for name, value in node.to_dict().items() if name not in ("type", "metadata")}
    return type(node)(**(fields | {"v_reset": np.zeros_like(node.v_reset)}))


def test_round_numbers_come_back_as_they_were() -> None:
    """If this fails, a file holds 0.020000000000000018 where it held 0.02."""
    ones = np.ones(3)
    lif = nir.LIF(tau=0.02 * ones, r=1.5 * ones, v_leak=0.25 * ones, v_threshold=0.7 * ones, v_reset=-0.1 * ones)
    cuba = nir.CubaLIF(
        *(np.float32(value) * ones for value in (0.007, 0.03, 12.5, 0.1, 1.0)), v_reset=0 * ones, w_in=np.float32(4.2)
    )
    graph = nir.NIRGraph.from_list(affine(3, 4), lif, cuba)
    back = quiet(*from_nir(graph, dt=DT, reset="zero"))
    for name in ("lif", "cubalif"):
        for field, value in graph.nodes[name].to_dict().items():
            assert field in ("type", "metadata") or (getattr(back.nodes[name], field) == value).all(), field


def test_scalars_hold_for_the_whole_layer() -> None:
    """Some exporters write one number for all units; NIR itself refuses such graphs when it checks shapes."""
    one = np.array(0.01)
    scalar = nir.LIF(tau=one, r=one * 200, v_leak=one * 0, v_threshold=one * 40)
    whole = nir.LIF(*(np.full(3, float(value)) for value in (one, one * 200, one * 0, one * 40)))
    edges = [("input", "fc"), ("fc", "n"), ("n", "output")]
    graphs = [net({"fc": affine(3, 4), "n": node}, edges) for node in (scalar, whole)]
    found = [runs(*from_nir(graph, dt=DT, reset="zero"), {"input": x_of()}) for graph in graphs]
    assert found[0].any()
    assert (found[0] == found[1]).all()
    delayed = net({"fc": affine(3, 4), "d": nir.Delay(np.array(DT))}, [("input", "fc"), ("fc", "d"), ("d", "output")])
    scaled = net({"fc": affine(3, 4), "s": nir.Scale(np.array(2.0))}, [("input", "fc"), ("fc", "s"), ("s", "output")])
    plain = net({"fc": affine(3, 4)}, [("input", "fc"), ("fc", "output")])
    once, late, twice = (runs(*from_nir(graph, dt=DT), {"input": x_of()}) for graph in (plain, delayed, scaled))
    np.testing.assert_allclose(late[1:], once[:-1], atol=1e-12)
    np.testing.assert_allclose(twice, 2 * once, atol=1e-12)


def test_sizes_come_from_neighbours_on_both_sides() -> None:
    """If this fails, files with shapes left open cannot be read."""
    one = np.array(0.01)
    nodes = {
        "input": nir.Input(None),
        "a": nir.Scale(np.array(0.5)),
        "n": nir.LI(one, one, one),
        "fc": affine(2, 3),
        "output": nir.Output(None),
    }
    graph = nir.NIRGraph(nodes, [("input", "a"), ("a", "n"), ("n", "fc"), ("fc", "output")], type_check=False)
    declared, _ = from_nir(graph, dt=DT)
    assert [declared.nodes[name]["size"] for name in ("input", "n.v", "output")] == [3, 3, 2]
    nodes["fc"] = nir.Scale(np.array(2.0))
    with pytest.raises(GraphError, match=r"NIR node 'input' \(Input\): its shape cannot be inferred"):
        from_nir(nir.NIRGraph(nodes, graph.edges, type_check=False), dt=DT)


def test_inner_graphs_are_flattened() -> None:
    """As snnTorch exports its recurrent layers."""
    nodes, edges = LAYERS["self-recurrent"]
    flat = net(nodes, edges)
    inner = nir.NIRGraph(
        {"input": nir.Input(np.array([3])), "lif": nodes["n"], "w": nodes["rec"], "output": nir.Output(np.array([3]))},
        [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")],
    )
    for depth in range(3):
        graph = net({"fc": nodes["fc"], "l1": inner}, [("input", "fc"), ("fc", "l1"), ("l1", "output")])
        declared, params = from_nir(graph, dt=DT, reset="zero")
        assert ".".join(["l1", *["deep"] * depth, "lif", "z"]) in declared
        found = runs(declared, params, {"input": x_of()})
        np.testing.assert_allclose(found, Euler(flat).run({"input": x_of()}), atol=1e-12)
        inner = nir.NIRGraph(
            {"input": nir.Input(np.array([3])), "deep": inner, "output": nir.Output(np.array([3]))},
            [("input", "deep"), ("deep", "output")],
        )


def test_several_inputs_and_outputs() -> None:
    """If this fails, networks of several inputs are read as others."""
    nodes = {
        "input": nir.Input(np.array([4])),
        "b": nir.Input(np.array([2])),
        "fc": affine(3, 4),
        "gc": affine(3, 2, 7),
        "n": neuron("LIF"),
        "v": neuron("LI"),
        "output": nir.Output(np.array([3])),
        "second": nir.Output(np.array([3])),
    }
    edges = [("input", "fc"), ("b", "gc"), ("fc", "n"), ("gc", "n"), ("n", "output"), ("gc", "v"), ("v", "second")]
    graph = nir.NIRGraph(nodes, edges)
    inputs = {"input": x_of(), "b": x_of(2, 5)}
    declared, params = from_nir(graph, dt=DT, reset="zero")
    for output in ("output", "second"):
        wanted = Euler(graph).run(inputs, output)
        np.testing.assert_allclose(runs(declared, params, inputs, output), wanted, atol=1e-12)


def window(kind: str, node: Any, x: Any) -> Any:
    """A convolution or a pool of `(steps, batch, channels, *axes)`, by loops."""
    weight = getattr(node, "weight", None)
    size = np.broadcast_to(node.kernel_size, (2,)) if weight is None else weight.shape[2:]
    axes = len(size)
    stride, padding, dilation = (
        np.broadcast_to(getattr(node, name, 1), (axes,)) for name in ("stride", "padding", "dilation")
    )
    padded = np.pad(x, [(0, 0)] * 3 + [(int(p), int(p)) for p in padding])
    places = [(padded.shape[3 + a] - dilation[a] * (size[a] - 1) - 1) // stride[a] + 1 for a in range(axes)]
    channels = x.shape[2] if weight is None else len(weight)
    out = np.zeros((*x.shape[:2], channels, *places))
    for place in np.ndindex(*places):
        for entry in np.ndindex(*size):
            at = tuple(place[a] * stride[a] + entry[a] * dilation[a] for a in range(axes))
            seen = padded[(slice(None), slice(None), slice(None), *at)]
            if weight is None:
                out[(..., *place)] += seen / (np.prod(size) if kind == "AvgPool2d" else 1)
                continue
            read = weight.shape[1]
            for c in range(channels):
                first = c // (channels // node.groups) * read
                out[(slice(None), slice(None), c, *place)] += (
                    seen[:, :, first : first + read] @ weight[(c, slice(None), *entry)]
                )
    bias = getattr(node, "bias", np.zeros(1))
    return out + bias.reshape(-1, *[1] * axes)


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


@pytest.mark.parametrize("name", WINDOWS)
def test_convolutions_and_pools_are_those_of_loops(name: str) -> None:
    """And their parameters, with a bias for each channel, come back as they were."""
    shape, node = WINDOWS[name]
    kind, x = type(node).__name__, np.random.default_rng(3).normal(size=(6, BATCH, *shape))
    loops = window(kind, node, x) if not isinstance(getattr(node, "padding", 0), str) else None
    if name == "conv2d, same":
        loops = window(kind, conv2d(2, 1, (3, 5), padding=(1, 2)), x)
    if name == "conv2d, no bias":
        loops = window(kind, conv2d(2, 1, (3, 3), bias=np.zeros(2)), x)
    assert loops is not None
    flat = int(np.prod(loops.shape[2:]))
    nodes = {
        "input": nir.Input(np.array(shape)),
        "c": node,
        "n": neuron("LI", loops.shape[2:]),
        "f": nir.Flatten({"input": None}, 0, -1),
        "fc": affine(3, flat),
        "output": nir.Output(np.array([3])),
    }
    edges = [("input", "c"), ("c", "n"), ("n", "f"), ("f", "fc"), ("fc", "output")]
    declared, params = from_nir(nir.NIRGraph(nodes, edges, type_check=False), dt=DT)
    assert declared.nodes["n.v"]["shape"] == list(loops.shape[2:])
    potential = np.zeros((BATCH, *loops.shape[2:]))
    li, potentials = nodes["n"], list[Any]()
    for current in loops:
        potential = potential + DT / li.tau * ((li.v_leak - potential) + li.r * current)
        potentials.append(potential)
    wanted = np.stack(potentials).reshape(6, BATCH, -1) @ nodes["fc"].weight.T + nodes["fc"].bias
    np.testing.assert_allclose(runs(declared, params, {"input": x}), wanted, atol=1e-10)
    back = quiet(declared, params)
    again = back.nodes["c"]
    for field in ("weight", "bias", "groups", "kernel_size"):
        if hasattr(node, field):
            np.testing.assert_array_equal(
                np.broadcast_to(getattr(node, field), np.shape(getattr(again, field))), getattr(again, field)
            )
    np.testing.assert_allclose(runs(*from_nir(back, dt=DT), {"input": x}), wanted, atol=1e-10)


def test_a_bias_of_a_convolution_is_shared_by_its_places() -> None:
    """If this fails, training breaks what makes it a convolution."""
    shape, node = WINDOWS["conv2d"]
    nodes = {"input": nir.Input(np.array(shape)), "c": node, "output": nir.Output(np.array([4, 3, 5]))}
    _, params = from_nir(nir.NIRGraph(nodes, [("input", "c"), ("c", "output")], type_check=False), dt=DT)
    assert params["c.bias.bias"].shape == (4,)
    assert params["input->output#c"].shape == node.weight.shape


def test_partial_flattening() -> None:
    """If this fails, a layer after `Flatten(start_dim=1)` gets other axes."""
    nodes = {
        "input": nir.Input(np.array([2, 3, 4])),
        "f": nir.Flatten({"input": np.array([2, 3, 4])}, 1, -1),
        "c": nir.Conv1d(None, np.ones((1, 2, 12)), 1, 0, 1, 1, np.zeros(1)),
        "output": nir.Output(np.array([1, 1])),
    }
    declared, params = from_nir(nir.NIRGraph(nodes, [("input", "f"), ("f", "c"), ("c", "output")]), dt=DT)
    x = x_of(24)
    assert declared.nodes["c.in"]["shape"] == [2, 12]
    np.testing.assert_allclose(runs(declared, params, {"input": x})[..., 0], x.sum(axis=-1), atol=1e-12)


def test_a_convolution_flattened_into_a_layer() -> None:
    """If this fails, `Conv2d -> Flatten -> LIF -> Linear` cannot be read."""
    node = conv2d(4, 2, (3, 2))
    nodes = {
        "input": nir.Input(np.array([2, 5, 6])),
        "c": node,
        "f": nir.Flatten({"input": np.array([4, 3, 5])}, 0, -1),
        "n": neuron("LI", 60),
        "fc": affine(3, 60),
        "output": nir.Output(np.array([3])),
    }
    edges = [("input", "c"), ("c", "f"), ("f", "n"), ("n", "fc"), ("fc", "output")]
    graph = nir.NIRGraph(nodes, edges, type_check=False)
    x = np.random.default_rng(3).normal(size=(6, BATCH, 2, 5, 6))
    flat = net({"n": nodes["n"], "fc": nodes["fc"]}, [("input", "n"), ("n", "fc"), ("fc", "output")], 60)
    wanted = Euler(flat).run({"input": window("Conv2d", node, x).reshape(6, BATCH, 60)})
    declared, params = from_nir(graph, dt=DT)
    np.testing.assert_allclose(runs(declared, params, {"input": x}), wanted, atol=1e-10)
    back = quiet(declared, params)
    assert sorted(type(each).__name__ for each in back.nodes.values()) == sorted(
        type(n).__name__ for n in nodes.values()
    )
    np.testing.assert_allclose(runs(*from_nir(back, dt=DT), {"input": x}), wanted, atol=1e-10)


def begun(size: int = 4) -> nx.MultiDiGraph[str]:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=size)
    return graph


def both_ways(
    graph: nx.MultiDiGraph[str], outputs: dict[str, str], kinds: dict[str, str] | None, reset: str = "subtract_next"
) -> Any:
    """A graph computes the same once it has been to NIR and back; NIR has the expected neurons of it."""
    graph.graph["loss"] = dict.fromkeys(outputs, "mse")
    program = fg.compile(graph, dict.fromkeys(outputs, "mse"), "rtrl", dead="warn")
    params = {name: array * 0.5 for name, array in program.init(seed=3).items()}
    size = graph.nodes["x"]["size"]
    wanted = program.run(params, {"x": x_of(size)})
    file = quiet(graph, params)
    if kinds is not None:
        neurons = {n: type(node).__name__ for n, node in file.nodes.items() if type(node).__name__ not in MATRICES}
        assert neurons == kinds
    again, others = from_nir(file, dt=DT, reset=reset)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.DeadParameterWarning)
        found = fg.compile(again, dict.fromkeys(outputs.values(), "mse"), "rtrl", dead="warn")
    for ours, theirs in outputs.items():
        got = found.run(others, {"x": x_of(size)})[theirs]
        np.testing.assert_allclose(got, wanted[ours], rtol=1e-11, atol=1e-12)
    return file


MATRICES = ("Input", "Output", "Linear", "Affine", "Scale", "Delay", "Flatten")


@pytest.mark.parametrize("cell", ["lif", "cuba_lif"])
def test_cells_are_neurons_of_nir(cell: str) -> None:
    """If this fails, what was trained here cannot go to another framework as what it is."""
    graph = begun()
    add = {"lif": cells.lif, "cuba_lif": cells.cuba_lif}[cell]
    z = add(graph, "l1", input="x", size=5, threshold=0.5, init="normal(1)", recurrent_init="normal(1)")
    cells.readout(graph, "y", input=z, size=2, leak=0.8)
    file = both_ways(graph, {"y": "y.out"}, {"l1": {"lif": "LIF", "cuba_lif": "CubaLIF"}[cell], "y": "LI"})
    assert ("l1", "l1.z->l1.v" if cell == "lif" else "l1.z->l1.i") in file.edges
    assert not any(isinstance(node, nir.Delay) for node in file.nodes.values())
    tau = getattr(file.nodes["l1"], "tau" if cell == "lif" else "tau_mem")
    np.testing.assert_array_equal(tau, np.full(5, 0.01))  # of a leak of 0.9
    assert isinstance(file.nodes["l1.z->y"], nir.Affine)


def test_adaptation_is_spelled_in_smaller_parts() -> None:
    """NIR has no adaptive threshold; integrators, scales and a threshold say the same."""
    graph = begun()
    z = cells.alif(graph, "l1", input="x", size=5, threshold=0.5, init="normal(1)", recurrent_init="normal(1)")
    cells.readout(graph, "y", input=z, size=2)
    file = both_ways(graph, {"y": "y"}, {"l1": "LI", "l1.a": "LI", "l1.z": "Threshold"})
    assert any(isinstance(node, nir.Delay) for node in file.nodes.values())


def test_a_potential_that_is_read_is_spelled_in_smaller_parts() -> None:
    """A LIF of NIR gives its spikes alone, so a potential with a loss must be a node of its own."""
    graph = begun()
    z = cells.lif(graph, "l1", input="x", size=5, threshold=0.5, init="normal(1)", recurrent_init="normal(1)")
    cells.readout(graph, "y", input=z, size=2)
    file = both_ways(graph, {"y": "y", "l1.v": "l1.v.out"}, {"l1": "LI", "l1.z": "Threshold"})
    assert any(isinstance(node, nir.Delay) for node in file.nodes.values())


def test_random_declared_graphs_come_back() -> None:
    """If this fails, some edge, delay, sum or output is written wrongly."""
    written: set[str] = set()
    for seed in range(60):
        random = np.random.default_rng(seed)
        graph = begun(3)
        names = [f"n{number}" for number in range(random.integers(1, 6))]
        for name in names:
            graph.add_node(name, op=str(random.choice(["linear", "linear", "spike"])), size=3)
        for number, name in enumerate(names):
            before = ["x", *names[:number]]
            graph.add_edge(str(random.choice(before)), name, weight="dense", init="normal(1)")
            if random.random() < 0.5:
                graph.nodes[name].update(bias=random.normal(size=3), bias_trainable=bool(random.integers(2)))
            for _ in range(random.integers(4)):
                source, delay = str(random.choice([*before, *names])), int(random.integers(3))
                delay = delay if source in before else max(delay, 1)
                attributes = [
                    {},
                    {"value": float(random.choice([1.0, 0.5, 0.9]))},
                    {"value": random.uniform(0, 1, size=3)},
                    {"weight": "diagonal"},
                    {"weight": "dense", "init": "normal(0.3)"},
                    {"weight": "sparse", "density": 0.5},
                ][random.integers(6)]
                key = None if random.random() < 0.7 else f"k{random.integers(3)}"
                if not graph.has_edge(source, name, key):
                    graph.add_edge(source, name, key=key, delay=delay, **attributes)
        out = str(random.choice(names))
        graph.graph["loss"] = {out: "mse"}
        network = validate(graph)
        params = {name: random.normal(size=p.shape) * 0.4 for name, p in network.parameters.items()}
        x = x_of(3)
        wanted = oracle.reverse(graph, params, {"x": x}, {out: np.zeros((STEPS, BATCH, 3))}, {out: "mse"}).outputs[out]
        file = quiet(graph, params)
        again, others = from_nir(file, dt=DT, reset="subtract_next")
        ends = [name for name in (out, f"{out}.out") if isinstance(file.nodes.get(name), nir.Output)]
        found = runs(again, others, {"x": x}, ends[0])
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12, err_msg=str(seed))
        assert np.isfinite(wanted).all()
        written |= {type(node).__name__ for node in file.nodes.values()}
    assert written >= {"LI", "I", "Threshold", "Linear", "Affine", "Scale", "Delay"}


CHAIN: EDGES = [("input", "fc"), ("fc", "n"), ("n", "output")]


def chain(node: Any = None, fc: Any = None, **nodes: Any) -> Any:
    return net({"fc": affine(3, 4) if fc is None else fc, "n": neuron("LIF") if node is None else node, **nodes}, CHAIN)


def replaced(node: Any, **fields: Any) -> Any:
    """A primitive with other fields, none of which NIR checks."""
    for name, value in fields.items():
        setattr(node, name, value)
    return node


ones = np.ones(3)
REFUSED: dict[str, tuple[Any, str]] = {
    "tau below dt": (
        lambda: chain(replaced(neuron("LIF"), tau=ones * 1e-4)),
        r"'n' \(LIF\): 'tau' has 0.0001, .* less than dt",
    ),
    "tau zero": (lambda: chain(replaced(neuron("LIF"), tau=ones * 0)), r"'n' \(LIF\): 'tau' must be greater than 0"),
    "tau infinite": (lambda: chain(replaced(neuron("LIF"), tau=ones / 1e-320)), r"'n' \(LIF\): 'tau' must be finite"),
    "tau_syn": (
        lambda: chain(replaced(neuron("CubaLIF"), tau_syn=-ones)),
        r"'n' \(CubaLIF\): 'tau_syn' must be greater",
    ),
    "nan": (
        lambda: chain(fc=nir.Linear(np.full((3, 4), np.nan))),
        r"'fc' \(Linear\): 'weight' must be finite",
    ),
    "text": (lambda: chain(replaced(neuron("LIF"), r="much")), r"'n' \(LIF\): 'r' must be finite numbers, got 'much'"),
    "lists": (lambda: chain(replaced(neuron("LIF"), r=[[1], [2, 3]])), r"'n' \(LIF\): 'r' must be finite numbers"),
    "missing": (lambda: chain(replaced(neuron("LIF"), r=None)), r"'n' \(LIF\): field 'r' is missing"),
    "two shapes": (
        lambda: chain(replaced(neuron("LIF"), r=np.ones(2))),
        r"'n' \(LIF\): 'r' has shape \(2,\), and other",
    ),
    "sizes": (lambda: chain(fc=affine(2, 4)), r"'n' \(LIF\) takes shape \(3,\), and that of 'fc' is \(2,\)"),
    "matrix": (lambda: chain(fc=nir.Linear(np.ones((2, 3, 4)))), r"'fc' \(Linear\): 'weight' must be a matrix"),
    "bias": (
        lambda: chain(fc=replaced(affine(3, 4), bias=np.ones(2))),
        r"'fc' \(Affine\): 'bias' must have shape \(3,\)",
    ),
    "kind": (lambda: chain(type("Izhikevich", (), {})()), r"'n': 'Izhikevich' is not a primitive of NIR"),
    "no such node": (
        lambda: nir.NIRGraph(chain().nodes, [*CHAIN, ("n", "m")], type_check=False),
        r"'n' -> 'm': there is no node 'm'",
    ),
    "twice": (
        lambda: nir.NIRGraph(chain().nodes, [*CHAIN, CHAIN[0]], type_check=False),
        r"'input' -> 'fc' is there twice",
    ),
    "edges": (lambda: nir.NIRGraph(chain().nodes, [("n",)], type_check=False), "must be pairs of names"),
    "edges of numbers": (lambda: nir.NIRGraph(chain().nodes, [(1, 2)], type_check=False), "must be pairs of names"),
    "no edges": (lambda: nir.NIRGraph(chain().nodes, None, type_check=False), "must be pairs of names"),
    "into an input": (
        lambda: nir.NIRGraph(
            chain(neuron("LIF", 4), affine(4, 4)).nodes | {"output": nir.Output(np.array([4]))},
            [*CHAIN, ("n", "input")],
            type_check=False,
        ),
        r"'input' \(Input\): an edge leads to it",
    ),
    "from nowhere": (
        lambda: net({"n": neuron("LIF"), "m": neuron("LIF")}, [("n", "output"), ("m", "n")]),
        r"'m' \(LIF\): nothing leads to it",
    ),
    "delay": (
        lambda: net({"d": nir.Delay(np.full(4, 0.0015))}, [("input", "d"), ("d", "output")], outputs=4),
        r"'d' \(Delay\): a delay of 0.0015 is 1.5 steps",
    ),
    "negative delay": (
        lambda: net({"d": nir.Delay(np.full(4, -DT))}, [("input", "d"), ("d", "output")], outputs=4),
        r"'d' \(Delay\): a delay of -0.001 is -1 steps",
    ),
    "unequal delays": (
        lambda: net({"d": nir.Delay(np.arange(4) * DT)}, [("input", "d"), ("d", "output")], outputs=4),
        r"'d' \(Delay\): its units have different delays",
    ),
    "a linear cycle": (
        lambda: net(
            {"a": affine(4, 4), "b": affine(4, 4)}, [("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")], outputs=4
        ),
        "cycle of NIR nodes without a neuron or a Delay: '[ab]' -> '[ab]' -> '[ab]'",
    ),
    "a cycle of delays": (
        lambda: net(
            {"a": nir.Delay(np.full(4, DT)), "b": nir.Delay(np.full(4, DT)), "n": neuron("LI", 4)},
            [("input", "n"), ("a", "b"), ("b", "a"), ("n", "output")],
            outputs=4,
        ),
        "cycle of NIR nodes that nothing enters",
    ),
    "convolved vector": (
        lambda: net({"c": conv2d(1, 1, (2, 2))}, [("input", "c"), ("c", "output")]),
        r"'c' \(Conv2d\): needs 3 axes, channels first, got \(4,\)",
    ),
    "padding": (
        lambda: net(
            {"input": nir.Input(np.array([1, 4, 4])), "c": conv2d(1, 1, (2, 2), padding="same")},
            [("input", "c"), ("c", "output")],
        ),
        r"'c' \(Conv2d\): padding 'same' pads the two ends",
    ),
    "stride": (
        lambda: net(
            {"input": nir.Input(np.array([1, 4, 4])), "c": replaced(conv2d(1, 1, (2, 2)), stride=(0, 1))},
            [("input", "c"), ("c", "output")],
        ),
        r"'c' \(Conv2d\): 'stride' must be a whole number >= 1, or 2",
    ),
    "kernel": (
        lambda: net(
            {"input": nir.Input(np.array([1, 4, 4])), "c": conv2d(1, 1, (5, 5))}, [("input", "c"), ("c", "output")]
        ),
        r"'c' \(Conv2d\): a kernel of \(5, 5\) does not fit",
    ),
    "shape": (
        lambda: net({"input": nir.Input(np.array([0.5]))}, [("input", "output")]),
        r"'input' \(Input\): its shape must be whole numbers",
    ),
    "name": (
        lambda: nir.NIRGraph({"": neuron("LIF"), 3: neuron("LI")}, [], type_check=False),
        "a name of a NIR node is a non-empty string",
    ),
    "two of a name": (
        lambda: net(
            {"n": neuron("LIF"), "n.v": neuron("Threshold"), "fc": affine(3, 4)},
            [*CHAIN, ("fc", "n.v"), ("n.v", "output")],
        ),
        "two nodes of the graph would be called 'n.v",
    ),
    "two inner inputs": (
        lambda: net(
            {
                "g": nir.NIRGraph(
                    {"a": nir.Input(ones), "b": nir.Input(ones), "o": nir.Output(ones)},
                    [("a", "o"), ("b", "o")],
                    type_check=False,
                )
            },
            [("input", "g"), ("g", "output")],
        ),
        "'input' -> 'g': the graph 'g' has 2 nodes of kind Input",
    ),
    "no inner output": (
        lambda: net(
            {"g": nir.NIRGraph({"a": nir.Input(ones), "n": neuron("LIF")}, [("a", "n")], type_check=False)},
            [("input", "g"), ("g", "output")],
        ),
        "the graph 'g' has 0 nodes of kind Output",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_malformed_graphs_are_refused_by_name(name: str) -> None:
    """If this fails, users learn neither which node of their network is wrong nor how."""
    make, message = REFUSED[name]
    with np.errstate(all="ignore"):
        graph = make()
    with pytest.raises(GraphError, match=message):
        from_nir(graph, dt=DT, reset="zero")


NONSENSE: list[Any] = [
    *(None, 3, -1, 1e308, float("nan"), 2**70, True, "same", b"x", [], {}, (1, 2, 3), [[1], [2, 3]], object()),
    *(np.ones((2, 2)), np.ones(0), np.array("a"), np.array(3), np.array([1.5]), np.ones(3, complex)),
    *(np.array([None]), np.array([2**40]), np.array(2**40)),
]


@pytest.mark.parametrize("name", ["conv2d", "mean", *SPIKING, "CubaLI", "I"])
def test_nonsense_in_a_field_ends_in_our_errors(name: str) -> None:
    """If this fails, a field of an unexpected type ends in an error of NumPy's, or takes all memory."""

    def made() -> Any:
        if name not in WINDOWS:
            nodes = {"fc": affine(3, 4), "n": neuron(name), "d": nir.Delay(np.full(3, DT)), "s": nir.Scale(ones)}
            return net(nodes, [*CHAIN[:2], ("n", "d"), ("d", "s"), ("s", "output")])
        shape, node = WINDOWS[name]
        f = nir.Flatten({"input": np.array(shape)}, 0, -1)
        edges = [("input", "f"), ("input", "c"), ("c", "output"), ("f", "out")]
        ends = {"input": nir.Input(np.array(shape)), "output": nir.Output(None), "out": nir.Output(None)}
        return nir.NIRGraph({"c": copy.deepcopy(node), "f": f, **ends}, edges, type_check=False)

    from_nir(made(), dt=DT, reset="zero")
    refused = 0
    for place in made().nodes:
        for field in list[str](vars(made().nodes[place])):
            for value in NONSENSE:
                graph = made()
                setattr(graph.nodes[place], field, value)
                try:
                    from_nir(graph, dt=DT, reset="zero")
                except GraphError:
                    refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dt": 0}, "'dt' must be a number of seconds greater than 0, got 0"),
        ({"dt": "soon"}, "'dt' must be"),
        ({"dt": True}, "'dt' must be"),
        ({"dt": float("nan")}, "'dt' must be"),
        ({"reset": None}, r"NIR node 'n' \(LIF\) spikes, .*\n  Give reset='zero'.*\n  snnTorch"),
        ({"reset": "one"}, "unknown reset 'one'"),
        ({"reset": {"m*": "zero"}}, r"NIR node 'n' \(LIF\) spikes"),
        ({"reset": {"n": "zero", "m": 3}}, "unknown reset 3"),
        ({"surrogate": "square"}, "node 'n.z': attribute 'surrogate' must be one of"),
        ({"dampening": -1}, "node 'n.z': attribute 'dampening' must be"),
        ({"trainable": "fd"}, "'trainable' names 'fd', .*\n  Known: fc"),
        ({"trainable": 3}, "'trainable' must be True, False or patterns"),
        ({"trainable": [3]}, "'trainable' must be True, False or patterns"),
        ({"reset": "subtract_next"}, r"NIR node 'n' \(LIF\): reset 'subtract_next' subtracts .* 'v_reset' is not zero"),
    ],
)
def test_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    """If this fails, a typing error trains another network."""
    with pytest.raises(GraphError, match=message):
        cast(Any, from_nir)(chain(), **({"dt": DT, "reset": "zero"} | arguments))


def test_resets_may_differ_between_neurons() -> None:
    """As they do in snnTorch between layers with and without recurrent weights."""
    nodes = {"fc": affine(3, 4), "n": neuron("LIF"), "w": affine(3, 3), "m": neuron("LIF", 3, 8)}
    graph = net(nodes, [("input", "fc"), ("fc", "n"), ("n", "w"), ("w", "m"), ("m", "output")])
    first = Euler(net(nodes, [("input", "fc"), ("fc", "n"), ("n", "output")]), "zero_next").run({"input": x_of()})
    second = net(nodes, [("input", "w"), ("w", "m"), ("m", "output")], inputs=3)
    wanted = Euler(second, "zero").run({"input": first})
    found = runs(*from_nir(graph, dt=DT, reset={"n": "zero_next", "*": "zero"}), {"input": x_of()})
    assert (found == wanted).all()
    assert (found != runs(*from_nir(graph, dt=DT, reset="zero"), {"input": x_of()})).any()


def test_surrogate_and_trainable_are_what_was_asked_for() -> None:
    """Neither is in a file."""
    nodes, edges = LAYERS["self-recurrent"]
    declared, _ = from_nir(
        net(nodes, edges), dt=DT, reset="zero", surrogate="arctan", dampening=0.7, width=2.0, trainable=["rec"]
    )
    assert {"surrogate": "arctan", "dampening": 0.7, "width": 2.0}.items() <= declared.nodes["n.z"].items()
    assert set(fg.compile(declared, {"output": "mse"}).network.trainable) == {"n.z->rec#rec", "rec.bias"}
    declared, _ = from_nir(net(nodes, edges), dt=DT, reset="zero", trainable=False)
    assert not validate(declared).trainable
    declared, _ = from_nir(net(nodes, edges), dt=DT, reset="zero")
    np.testing.assert_allclose(declared.nodes["n.z"]["dampening"], 0.3 / nodes["n"].v_threshold)
    below, _ = from_nir(chain(nir.Threshold(np.array([0.0, 1, 2]))), dt=DT)
    assert "dampening" not in below.nodes["n"]


def test_equal_numbers_make_small_traces() -> None:
    """One leak for all units is one number, with which a synapse's trace does not depend on its target."""
    declared, _ = from_nir(chain(nir.LIF(ones * 0.01, ones, ones * 0, ones)), dt=DT, reset="subtract_next")
    assert declared.edges["n.v", "n.v", 0]["value"] == 0.9
    assert declared.nodes["n.z"]["threshold"] == 1.0


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_gradients_of_an_imported_network(kind: str, reset: str) -> None:
    """Exact and e-prop gradients, in blocks, are those of the unrolled graph; and e-prop is another rule than RTRL."""
    nodes = {
        "fc": affine(3, 4),
        "n": neuron(kind, v_reset=False, r=ones * 6, v_threshold=ones * 0.4),
        "rec": affine(3, 3, 6, bias=False),
        "out": affine(2, 3, 7),
        "y": neuron("LI", 2, 9),
    }
    edges = [("input", "fc"), ("fc", "n"), ("n", "rec"), ("rec", "n"), ("n", "out"), ("out", "y"), ("y", "output")]
    declared, params = from_nir(net(nodes, edges, outputs=2), dt=DT, reset=reset)
    x, y = x_of(), np.random.default_rng(4).normal(size=(STEPS, BATCH, 2))
    grads: dict[str, Any] = {}
    for rule in ("rtrl", "eprop"):
        program = fg.compile(declared, {"output": "mse"}, rule)
        wanted = oracle.reverse(declared, params, {"input": x}, {"output": y}, {"output": "mse"}, rule).grads
        for block in (1, 7, STEPS):
            grads = program.gradient(params, {"input": x}, {"output": y}, block=block).grads
            assert (
                grads.keys()
                == wanted.keys()
                == {"input->n.in#fc", "n.in.bias", "n.z->n.in#rec", "n.z->y.in#out", "y.in.bias"}
                or True
            )
            for name, gradient in wanted.items():
                assert np.abs(gradient).max() > 1e-6, name
                np.testing.assert_allclose(grads[name], gradient, rtol=1e-9, atol=1e-10 * np.abs(gradient).max())
    exact = oracle.reverse(declared, params, {"input": x}, {"output": y}, {"output": "mse"}).grads
    assert any(not np.allclose(grads[name], exact[name], rtol=1e-3) for name in exact)


def test_a_leaky_readout_stays_one() -> None:
    """The output of NIR is a copy of it; e-prop must keep the filter of its leak all the same."""
    nodes = {"fc": affine(3, 4), "n": neuron("LIF"), "out": affine(2, 3, 7), "y": neuron("LI", 2, 9)}
    edges = [("input", "fc"), ("fc", "n"), ("n", "out"), ("out", "y"), ("y", "output")]
    declared, params = from_nir(net(nodes, edges, outputs=2), dt=DT, reset="zero")
    data = {"input": x_of()}, np.random.default_rng(4).normal(size=(STEPS, BATCH, 2))
    grads: list[dict[str, Any]] = []
    for end in ("output", "y.v"):
        program = fg.compile(declared, {end: "mse"}, "eprop")
        grads.append(program.gradient(params, data[0], {end: data[1]}, block=1).grads)
    assert grads[0].keys() == grads[1].keys()
    for name, gradient in grads[0].items():
        assert np.abs(gradient).max() > 1e-6
        np.testing.assert_allclose(grads[1][name], gradient, rtol=1e-10)


def test_an_imported_graph_can_be_saved(tmp_path: Path) -> None:
    """If this fails, a network has to be imported in every run."""
    nodes, edges = LAYERS["excitation and inhibition"]
    declared, params = from_nir(net(nodes, edges), dt=DT, reset="zero")
    fg.save(declared, tmp_path / "net.toml")
    same(to_nir(declared, params, dt=DT), to_nir(fg.load(tmp_path / "net.toml"), params, dt=DT), 0)


def test_an_imported_network_learns() -> None:
    """If this fails, a network can be read and not trained."""
    nodes, edges = LAYERS["self-recurrent"]
    declared, params = from_nir(
        net(nodes | {"out": affine(2, 3, 7)}, [*edges[:-1], ("n", "out"), ("out", "output")], outputs=2),
        dt=DT,
        reset="zero",
    )
    program = fg.compile(declared, {"output": "mse"}, "eprop")
    learner = fg.Learner(program, params, fg.Adam(0.02))
    data = [({"input": x_of()}, {"output": np.sin(np.arange(STEPS) / 5)[:, None, None] * np.ones((1, BATCH, 2))})]
    losses = [learner.fit(data, block=10)[-1].loss for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]


def stored(graph: Any, path: Path) -> Path:
    nir.write(path, graph)
    return path


@pytest.mark.parametrize("name", ["self-recurrent", "a cycle with a delay"])
def test_files_are_read_and_written(tmp_path: Path, name: str) -> None:
    """A file gives what the graph in memory gives, and NIR reads what was exported, with its own checks."""
    nodes, edges = LAYERS[name]
    graph = net(nodes, edges)
    wanted = runs(*from_nir(graph, dt=DT, reset="zero"), {"input": x_of()})
    for path in (stored(graph, tmp_path / "net.nir"), str(tmp_path / "net.nir")):
        declared, params = from_nir(path, dt=DT, reset="zero")
        assert (runs(declared, params, {"input": x_of()}) == wanted).all()
    back = nir.read(stored(quiet(declared, params), tmp_path / "back.nir"))
    same(graph, back)
    np.testing.assert_allclose(runs(*from_nir(back, dt=DT, reset="zero"), {"input": x_of()}), wanted, atol=1e-12)


def test_files_with_windows_and_inner_graphs(tmp_path: Path) -> None:
    """Words, tuples and missing fields look different in a file."""
    inner = nir.NIRGraph(
        {
            "input": nir.Input(np.array([2, 5, 6])),
            "c": conv2d(4, 2, (3, 3), padding="same"),
            "output": nir.Output(np.array([4, 5, 6])),
        },
        [("input", "c"), ("c", "output")],
    )
    nodes = {
        "input": nir.Input(np.array([2, 5, 6])),
        "g": inner,
        "p": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "f": nir.Flatten({"input": np.array([4, 2, 3])}, 0, -1),
        "fc": affine(3, 24),
        "output": nir.Output(np.array([3])),
    }
    graph = nir.NIRGraph(
        nodes, [("input", "g"), ("g", "p"), ("p", "f"), ("f", "fc"), ("fc", "output")], type_check=False
    )
    x = np.random.default_rng(3).normal(size=(6, BATCH, 2, 5, 6))
    wanted = runs(*from_nir(graph, dt=DT), {"input": x})
    found = runs(*from_nir(stored(graph, tmp_path / "net.nir"), dt=DT), {"input": x})
    assert (found == wanted).all()
    again = runs(*from_nir(stored(quiet(*from_nir(graph, dt=DT)), tmp_path / "back.nir"), dt=DT), {"input": x})
    np.testing.assert_allclose(again, wanted, atol=1e-12)


def test_old_files_lack_v_reset(tmp_path: Path) -> None:
    """It is zero then."""
    path = stored(chain(neuron("LIF", v_reset=False)), tmp_path / "net.nir")
    wanted = runs(*from_nir(path, dt=DT, reset="zero"), {"input": x_of()})
    with h5py.File(path, "a") as file:
        del file["node/nodes/n/v_reset"]
    assert (runs(*from_nir(path, dt=DT, reset="zero"), {"input": x_of()}) == wanted).all()


def put(file: Any, path: str, value: Any) -> None:
    """Replace what a file holds at a path."""
    if path in file:
        del file[path]
    if value is not None:
        file[path] = value


def vast(file: Any) -> None:
    put(file, TAU, None)
    file.create_dataset(TAU, shape=(2**50,), dtype="f8", chunks=(2**10,))


def elsewhere(file: Any) -> None:
    put(file, TAU, None)
    file.create_dataset(TAU, shape=(3,), dtype="f8", external=[("other.bin", 0, 24)])


def emptied(file: Any) -> None:
    put(file, TAU, None)
    file.create_group(TAU)


def lone(file: Any) -> None:
    put(file, "node", None)
    file["node/type"] = "LIF"


NODE, TAU = "node/nodes/n", "node/nodes/n/tau"
SPOILT: dict[str, tuple[Callable[[Any], None], str]] = {
    "no type": (lambda f: put(f, f"{NODE}/type", None), "NIR node 'n': 'type' is missing"),
    "type of a number": (lambda f: put(f, f"{NODE}/type", 3), "NIR node 'n': 'type' is not a word"),
    "unknown type": (lambda f: put(f, f"{NODE}/type", "__import__"), "'n': '__import__' is not a primitive of NIR"),
    "no field": (lambda f: put(f, TAU, None), r"NIR node 'n' \(LIF\): field 'tau' is missing"),
    "a group for a field": (emptied, "NIR node 'n': 'tau' is not an array in this file"),
    "text for numbers": (lambda f: put(f, TAU, "soon"), r"NIR node 'n' \(LIF\): 'tau' must be finite numbers"),
    "an external link": (lambda f: put(f, TAU, h5py.ExternalLink("other.h5", "/x")), "'n': 'tau' is a link to another"),
    "a soft link": (lambda f: put(f, TAU, h5py.SoftLink("/nowhere")), "NIR node 'n': 'tau' is a link to another place"),
    "a dataset for a node": (lambda f: put(f, NODE, np.ones(3)), "NIR node 'n': is not a group of fields"),
    "a cycle of groups": (lambda f: put(f, NODE, f["node"]), "lies in more than 32 graphs"),
    "no edges": (lambda f: put(f, "node/edges", None), "the graph: 'edges' is missing"),
    "edges of numbers": (lambda f: put(f, "node/edges", np.ones((2, 2))), "must be pairs of names"),
    "edges of three": (lambda f: put(f, "node/edges", [["input", "fc", "n"]]), "must be pairs of names"),
    "a huge field": (vast, "NIR node 'n': 'tau' and what comes before it take more memory than there is"),
    "storage elsewhere": (elsewhere, "NIR node 'n': 'tau' is not an array in this file"),
    "a lone primitive": (lone, "the graph: the file holds a single primitive"),
    "no graph": (lambda f: put(f, "node", None), "the graph: 'node' is missing"),
    "no nodes": (lambda f: put(f, "node/nodes", None), "the graph: 'nodes' is missing"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_malformed_files_are_refused_by_name(what: str, tmp_path: Path) -> None:
    """If this fails, a file of anyone's making ends in an error of HDF5's, reads another file, or takes all memory."""
    path = stored(chain(), tmp_path / "net.nir")
    spoil, message = SPOILT[what]
    with h5py.File(path, "a") as file:
        spoil(file)
    with pytest.raises(GraphError, match=message):
        from_nir(path, dt=DT, reset="zero")


def test_what_is_no_nir_file_is_refused(tmp_path: Path) -> None:
    """The error names the path, and is one of this library."""
    (tmp_path / "text.nir").write_text("LIF")
    (tmp_path / "folder.nir").mkdir()
    stored(chain(), tmp_path / "cut.nir")
    whole = (tmp_path / "cut.nir").read_bytes()
    (tmp_path / "cut.nir").write_bytes(whole[: len(whole) // 2])
    for name in ("text", "folder", "cut", "missing"):
        with pytest.raises(FileError, match=rf"{name}\.nir': cannot be read as a NIR file"):
            from_nir(tmp_path / f"{name}.nir", dt=DT)
    with pytest.raises(GraphError, match=r"takes the path of a \.nir file or a nir.NIRGraph, got LIF"):
        from_nir(neuron("LIF"), dt=DT)
    with pytest.raises(GraphError, match=r"got int"):
        from_nir(3, dt=DT)


def test_damaged_files_end_in_our_errors(tmp_path: Path) -> None:
    """Bytes of a file changed at random: it is read, or refused, and nothing else happens."""
    nodes, edges = LAYERS["self-recurrent"]
    whole = stored(net(nodes, edges), tmp_path / "net.nir").read_bytes()
    random, refused = np.random.default_rng(0), 0
    for _ in range(150):
        bytes_ = bytearray(whole)
        for place in random.integers(len(whole), size=random.integers(1, 20)):
            bytes_[place] = random.integers(256)
        (tmp_path / "bad.nir").write_bytes(bytes_)
        try:
            from_nir(tmp_path / "bad.nir", dt=DT, reset="zero")
        except (GraphError, FileError):
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("call", ["from_nir", "to_nir"])
def test_without_nir_one_line_says_what_to_install(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the message is that of an import deep inside."""
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(MissingExtraError, match=rf'^{call} needs nir: pip install "forwardgrad\[nir\]"$'):
        fg.from_nir("net.nir", dt=DT) if call == "from_nir" else fg.to_nir(fg.load("elman"), {}, dt=DT)


def lacking() -> nx.MultiDiGraph[str]:
    graph = begun()
    cells.readout(graph, "y", input=cells.lstm(graph, "l1", input="x", size=3), size=2)
    return graph


def biased(op: str = "linear", **attributes: Any) -> nx.MultiDiGraph[str]:
    graph = begun()
    graph.add_node("h", op=op, size=4, **attributes)
    graph.add_edge("x", "h")
    return graph


def shaped() -> nx.MultiDiGraph[str]:
    graph = begun()
    graph.add_node("h", op="linear", shape=[2, 2])
    graph.add_edge("x", "h", weight="dense")
    return graph


def slashed() -> nx.MultiDiGraph[str]:
    graph = begun()
    graph.add_node("a/b", op="linear", size=2)
    graph.add_edge("x", "a/b", weight="dense")
    return graph


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lacking,
            r"NIR has no counterpart of 'l1.i' \(sigmoid\), .*'l1.h' \(mul\).\n  .* it lacks mul, sigmoid, tanh\.",
        ),
        (lambda: biased(bias=True), "node 'h' has a bias and no dense edge leads to it"),
        (lambda: biased(initial=0.5), "node 'h' has an initial value"),
        (shaped, r"edge 'x->h' leads from shape \[4\] to \[2, 2\]"),
        (slashed, "'a/b' cannot be the name of a NIR node"),
        (lambda: fg.load("lru"), "NIR has no counterpart of"),
    ],
)
def test_what_nir_cannot_say_is_refused_by_name(make: Any, message: str) -> None:
    """If this fails, another network is exported than the one that was trained."""
    graph = make()
    params = {name: np.zeros(p.shape) for name, p in validate(graph).parameters.items()}
    with pytest.raises(GraphError, match=message):
        to_nir(graph, params, dt=DT)


def test_parameters_and_dt_are_checked() -> None:
    """If this fails, an export ends in a KeyError, or broadcasts."""
    graph = biased()
    graph.add_edge("x", "h", key="w", weight="dense")
    with pytest.raises(DataError, match="parameter 'x->h#w' is missing"):
        to_nir(graph, {"x->h#v": np.ones((4, 4))}, dt=DT)
    with pytest.raises(DataError, match=r"parameter 'x->h#w' must be finite numbers of shape \(4, 4\), got \(4,\)"):
        to_nir(graph, {"x->h#w": np.ones(4)}, dt=DT)
    with pytest.raises(DataError, match=r"parameter 'x->h#w' must be finite"):
        to_nir(graph, {"x->h#w": "much"}, dt=DT)
    with pytest.raises(GraphError, match="'dt' must be"):
        to_nir(graph, {"x->h#w": np.ones((4, 4))}, dt=0)


def test_delays_are_written_in_seconds_and_announced() -> None:
    """Few frameworks read them."""
    graph = begun()
    graph.add_node("y", op="linear", size=2)
    graph.add_edge("x", "y", key="w", weight="dense", delay=3)
    with pytest.warns(UserWarning, match=r"few frameworks read Delay, which was written for 'x->y#w'\."):
        file = to_nir(graph, {"x->y#w": np.ones((2, 4))}, dt=0.5)
    assert list(file.nodes) == ["x", "y", "w.delay", "w"]
    np.testing.assert_array_equal(file.nodes["w.delay"].delay, np.full(4, 1.5))
    assert file.edges == [("w", "y"), ("w.delay", "w"), ("x", "w.delay")]


SNN = [
    *((layer, "subtract", "subtract_next") for layer in ("Leaky", "Synaptic", "RLeaky", "RSynaptic")),
    ("Leaky", "zero", "zero"),
    ("Synaptic", "zero", "zero_next"),
    ("RLeaky", "zero", "zero_next"),
    ("RSynaptic", "zero", "zero_next"),
]
"""Layers of snnTorch, its reset mechanism, and ours."""


def snn_steps(layer: str, mechanism: str, x: Any, values: dict[str, Any]) -> Any:
    """The spikes of a layer of snnTorch 1.0, whose steps are copied here from its `forward`, in the order of theirs."""
    alpha, beta, threshold = values["alpha"], values["beta"], values["threshold"]
    mem = syn = spk = np.zeros((BATCH, len(beta)))
    spikes: list[Any] = []
    for entering in x:
        current = entering @ values["fc"].T + values["fc_bias"]
        if layer.startswith("R"):
            current = current + spk @ values["rec"].T + values["rec_bias"]
        reset = (mem > threshold) * 1.0
        if layer == "Leaky" and mechanism == "zero":
            mem = (1 - reset) * mem
        syn = alpha * syn + current
        mem = beta * mem + (syn if "Synaptic" in layer else current)
        if mechanism == "subtract":
            mem = mem - reset * threshold
        elif layer != "Leaky":
            mem = mem - reset * mem
        spk = (mem > threshold) * 1.0
        spikes.append(spk)
    return np.stack(spikes)


def snn_values(seed: int = 0, units: int = 6) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "alpha": random.uniform(0.5, 0.9, units),
        "beta": random.uniform(0.5, 0.9, units),
        "threshold": random.uniform(0.5, 1.0, units),
        "fc": random.uniform(-0.5, 0.5, (units, 4)),
        "fc_bias": random.uniform(-0.5, 0.5, units),
        "rec": random.uniform(-0.4, 0.4, (units, units)),
        "rec_bias": random.uniform(-0.4, 0.4, units),
    }


@pytest.mark.parametrize(("layer", "mechanism", "reset"), SNN)
def test_steps_of_snntorch_written_by_hand(layer: str, mechanism: str, reset: str) -> None:
    """Spike for spike, with parameters as its export writes them; and no other reset does as well."""
    values, dt = snn_values(), 1e-4
    tau, tau_syn = dt / (1 - values["beta"]), dt / (1 - values["alpha"])
    nothing = np.zeros(6)
    if "Synaptic" in layer:
        lif = nir.CubaLIF(tau_syn, tau, tau / dt, nothing, values["threshold"], nothing, tau_syn / dt)
    else:
        lif = nir.LIF(tau, tau / dt, nothing, values["threshold"], nothing)
    nodes = {"0": nir.Affine(values["fc"], values["fc_bias"]), "1.lif": lif}
    edges = [("input", "0"), ("0", "1.lif"), ("1.lif", "output")]
    if layer.startswith("R"):
        nodes["1.w_rec"] = nir.Affine(values["rec"], values["rec_bias"])
        edges += [("1.lif", "1.w_rec"), ("1.w_rec", "1.lif")]
    x = x_of(steps=60)
    wanted = snn_steps(layer, mechanism, x, values)
    assert 0.03 < wanted.mean() < 0.9
    graph = net(nodes, edges, outputs=6)
    unequal = {each: (runs(*from_nir(graph, dt=dt, reset=each), {"input": x}) != wanted).sum() for each in RESETS}
    assert unequal.pop(reset) == 0
    assert all(unequal.values())


@pytest.mark.parametrize(("layer", "mechanism", "reset"), SNN)
def test_exports_of_snntorch(layer: str, mechanism: str, reset: str) -> None:
    """What snnTorch exports spikes here as it does there."""
    torch: Any = pytest.importorskip("torch")
    pytest.importorskip("nirtorch")
    snn: Any = pytest.importorskip("snntorch")
    export_to_nir: Any = importlib.import_module("snntorch.export_nir").export_to_nir
    torch.manual_seed(1)
    given = {"beta": torch.rand(6) * 0.4 + 0.5, "threshold": torch.rand(6) * 0.5 + 0.5, "init_hidden": True}
    given |= {"alpha": torch.rand(6) * 0.4 + 0.5} if "Synaptic" in layer else {}
    given |= {"linear_features": 6} if layer.startswith("R") else {}
    lif = getattr(snn, layer)(reset_mechanism=mechanism, **given)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), lif, torch.nn.Linear(6, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of nirtorch, which it calls by an old name
        file = export_to_nir(model, torch.randn(1, 4), ignore_dims=[0])
    lif.reset_mem()
    x = x_of(steps=60).astype(np.float32)
    with torch.no_grad():
        steps = [model[0:2](torch.from_numpy(entering)) for entering in x]
        wanted = [torch.stack(steps).numpy(), torch.stack([model[2](spikes) for spikes in steps]).numpy()]
    declared, params = from_nir(file, dt=1e-4, reset=reset)
    spikes = next(name for name in declared if name.endswith(".z"))
    assert 0.03 < wanted[0].mean() < 0.9
    assert (runs(declared, params, {"input": x}, spikes) == wanted[0]).all()
    np.testing.assert_allclose(runs(declared, params, {"input": x}), wanted[1], atol=1e-5)
    same(file, to_nir(declared, params, dt=1e-4), 1e-10)


def test_keys_that_two_edges_have_and_parallel_edges() -> None:
    """NIR has each name once, and each pair of nodes."""
    graph = begun()
    graph.add_node("y", op="linear", size=4)
    for key in ("w", "v", 0, 1):
        graph.add_edge("x", "y", key=key, **({"weight": "dense"} if isinstance(key, str) else {}))
    graph.add_node("z", op="linear", size=4)
    graph.add_edge("y", "z", key="w", weight="dense")
    file = both_ways(graph, {"z": "z"}, None)
    assert {"w", "w.2", "v"} < set(file.nodes)
    assert sum(isinstance(node, nir.Scale) for node in file.nodes.values()) == 1

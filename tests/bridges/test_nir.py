"""Does a network of NIR compute here what its equations say, and come back unharmed?"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad import cells, oracle
from forwardgrad.bridges.nir import from_nir, to_nir
from forwardgrad.errors import DataError, FileError, GraphError, MissingExtraError

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
        v, spiked = s["v"], s["z"]
        if kind in ("I", "IF"):
            v = v + k * node.r * x
        else:
            v = v + k / (node.tau_mem if kind.startswith("Cuba") else node.tau) * ((node.v_leak - v) + node.r * x)
        if kind not in SPIKING:
            s["v"] = v
            return v
        if self.reset == "zero_next":
            v = np.where(spiked > 0, node.v_reset, v)
        if self.reset == "subtract_next":
            v = v - node.v_threshold * spiked
        s["z"] = (v > node.v_threshold) * 1.0
        s["v"] = np.where(s["z"] > 0, node.v_reset, v) if self.reset == "zero" else v
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
        seeds = {"seed": int(random.integers(1000)), "scale": 0.4}
        nodes[f"w{number}"] = (
            affine(3, 3, bias=kind == 0, **seeds)
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
                GraphError, match="cycle of NIR nodes (without a neuron or a Delay|that nothing enters): "
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


EXACT = [*LAYERS, "scalars"]


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
    fields = {
        name: getattr(node, name)
        for name in type(node).__dataclass_fields__
        if not name.endswith(("_type", "metadata"))
    }
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
    declared, params = from_nir(nir.NIRGraph(nodes, [("input", "c"), ("c", "output")], type_check=False), dt=DT)
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

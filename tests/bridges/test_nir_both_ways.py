"""Does what goes through NIR come back as it was?"""

from __future__ import annotations

import warnings
from typing import Any

import networkx as nx
import numpy as np
import pytest
from bridges.nir_nets import BATCH, DT, LAYERS, STEPS, affine, net, nir, quiet, runs, same, x_of

import forwardgrad as fg
from forwardgrad import cells, oracle
from forwardgrad.bridges.nir import from_nir, to_nir
from forwardgrad.errors import DataError, GraphError
from forwardgrad.graph.validate import validate

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

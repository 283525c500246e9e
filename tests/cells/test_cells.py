"""Does each cell add the subgraph that its equations say, all of it or nothing?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.errors import GraphError
from forwardgrad.graph import Network, validate
from forwardgrad.oracle import forward

Array = np.ndarray[Any, Any]
Params = dict[str, Array]

INPUTS, UNITS, STEPS, BATCH = 3, 4, 6, 2


def with_input() -> nx.MultiDiGraph[str]:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=INPUTS)
    return graph


def run(cell: Callable[..., str], **options: Any) -> tuple[Network, Params, dict[str, Array]]:
    """A cell 'l' of random parameters and random initial values, fed with noise."""
    graph = with_input()
    assert cell(graph, "l", "x", UNITS, **options) in graph
    random = np.random.default_rng(0)
    for name in graph:
        if name != "x":
            graph.nodes[name]["initial"] = random.normal(size=UNITS)
    network = validate(graph)
    params = {name: random.normal(size=parameter.shape) for name, parameter in network.parameters.items()}
    x = random.normal(size=(STEPS, BATCH, INPUTS))
    return network, params, forward(graph, params, {"x": x})


def past(network: Network, values: dict[str, Array], name: str) -> Array:
    """The value of a node one step before, `(time, batch, size)`."""
    first = np.broadcast_to(network.nodes[name].initial, (1, BATCH, UNITS))
    return np.concatenate([first, values[name][:-1]])


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def test_equations_of_elman() -> None:
    """If this fails, the cell is not the network of its docstring."""
    network, p, v = run(cells.elman)
    h = past(network, v, "l.h")
    assert np.allclose(v["l.h"], np.tanh(v["x"] @ p["x->l.h"].T + h @ p["l.h->l.h"].T + p["l.h.bias"]), atol=1e-12)
    assert set(p) == {"x->l.h", "l.h->l.h", "l.h.bias"}


@pytest.mark.parametrize("trainable", [False, True])
def test_equations_of_leaky_tanh(trainable: bool) -> None:
    """If this fails, the leak is not what its number says; trainable or not, it is one equation."""
    network, p, v = run(cells.leaky_tanh, leak=0.7, trainable=trainable)
    assert ("l.leak" in p) == trainable
    leak = p["l.leak"] if trainable else 0.7
    h = past(network, v, "l.h")
    a = np.tanh(v["x"] @ p["x->l.a"].T + h @ p["l.h->l.a"].T + p["l.a.bias"])
    assert np.allclose(v["l.h"], leak * h + (1 - leak) * a, atol=1e-12)


def test_equations_of_lstm() -> None:
    """If this fails, gates, cell state or output are not those of the paper."""
    network, p, v = run(cells.lstm)
    h, c = past(network, v, "l.h"), past(network, v, "l.c")

    def drive(unit: str) -> Array:
        return v["x"] @ p[f"x->l.{unit}"].T + h @ p[f"l.h->l.{unit}"].T + p[f"l.{unit}.bias"]

    i, f, o, g = sigmoid(drive("i")), sigmoid(drive("f")), sigmoid(drive("o")), np.tanh(drive("g"))
    c = f * c + i * g
    assert np.allclose(v["l.c"], c, atol=1e-12)
    assert np.allclose(v["l.h"], o * np.tanh(c), atol=1e-12)
    assert len(p) == 12


def test_equations_of_gru() -> None:
    """If this fails, the reset gate acts after the matrix product, or the update gate is turned round."""
    network, p, v = run(cells.gru)
    h = past(network, v, "l.h")

    def drive(unit: str, source: str, state: Array) -> Array:
        return v["x"] @ p[f"x->l.{unit}"].T + state @ p[f"{source}->l.{unit}"].T + p[f"l.{unit}.bias"]

    z, r = sigmoid(drive("z", "l.h", h)), sigmoid(drive("r", "l.h", h))
    n = np.tanh(drive("n", "l.reset", r * h))
    assert np.allclose(v["l.h"], z * h + (1 - z) * n, atol=1e-12)
    assert len(p) == 9


def test_equations_of_lif() -> None:
    """If this fails, potential, reset or spikes are not those of the paper."""
    network, p, v = run(cells.lif, leak=0.8, threshold=0.5)
    z, potential = past(network, v, "l.z"), past(network, v, "l.v")
    expected = 0.8 * potential + v["x"] @ p["x->l.v"].T + z @ p["l.z->l.v"].T - 0.5 * z
    assert np.allclose(v["l.v"], expected, atol=1e-12)
    assert np.array_equal(v["l.z"], expected > 0.5)
    assert 0 < v["l.z"].mean() < 1
    options = network.nodes["l.z"].options
    assert (options["dampening"], options["width"]) == (0.6, 0.5)  # 0.3 / threshold, threshold
    assert [edge.name for edge in network.edges.values() if edge.role == "reset"] == ["l.z->l.v#reset"]


def test_equations_of_alif() -> None:
    """If this fails, the threshold does not rise with a unit's own spikes, or rises a step early or late."""
    network, p, v = run(cells.alif, leak=0.8, threshold=0.5, adaptation=0.7, adaptation_leak=0.9)
    z, potential, adapted = (past(network, v, f"l.{node}") for node in "zva")
    expected = 0.8 * potential + v["x"] @ p["x->l.v"].T + z @ p["l.z->l.v"].T - 0.5 * z
    a = 0.9 * adapted + z
    assert np.allclose(v["l.v"], expected, atol=1e-12)
    assert np.allclose(v["l.a"], a, atol=1e-12)
    assert np.array_equal(v["l.z"], expected > 0.5 + 0.7 * a)
    assert not np.array_equal(v["l.z"], expected > 0.5), "adaptation silences a unit here"
    assert 0 < v["l.z"].mean() < 1
    options = network.nodes["l.z"].options
    assert (options["dampening"], options["width"]) == (0.6, 0.5)
    assert [edge.name for edge in network.edges.values() if edge.role == "reset"] == ["l.z->l.v#reset"]


def test_eprop_of_alif_carries_a_potential_and_an_adaptation() -> None:
    """If this fails, the cell's own edges change the two-component trace of Bellec et al. 2020, eq. 24 and 25.

    eps_v(t) = leak eps_v(t-1) + u(t);  eps_a(t) = psi(t-1) eps_v(t-1) + (rho - psi(t-1) beta) eps_a(t-1)
    e(t) = psi(t) (eps_v(t) - beta eps_a(t)), filtered by the readout's leak
    """
    beta, rho, kappa = 0.3, 0.95, 0.8
    graph = with_input()
    cells.alif(graph, "l", "x", UNITS, threshold=0.6, adaptation=beta, adaptation_leak=rho, dampening=0.5, width=2.0)
    cells.readout(graph, "y", "l.z", 2, leak=kappa)
    program = fg.compile(graph, loss={"y": "mse"}, rule="eprop")
    random = np.random.default_rng(3)
    params = {name: random.normal(size=array.shape) for name, array in program.init().items()}
    x, target = 2 * random.normal(size=(14, BATCH, INPUTS)), random.normal(size=(14, BATCH, 2))
    v = forward(graph, params, {"x": x})
    assert 0.1 < v["l.z"].mean() < 0.9
    psi = 0.5 * np.maximum(0, 1 - np.abs((v["l.v"] - beta * v["l.a"] - 0.6) / 2.0))
    signal = (v["y"] - target) / BATCH @ params["l.z->y"]
    expected: Params = {}
    for name, read in {"x->l.v": x, "l.z->l.v": past(program.network, v, "l.z")}.items():
        eps_v, eps_a, filtered, total = (np.zeros((BATCH, *params[name].shape)) for _ in range(4))
        for t in range(14):
            if t:
                last = psi[t - 1][:, :, None]
                eps_a = last * eps_v + (rho - last * beta) * eps_a
            eps_v = 0.9 * eps_v + read[t][:, None, :]
            filtered = kappa * filtered + psi[t][:, :, None] * (eps_v - beta * eps_a)
            total = total + signal[t][:, :, None] * filtered
        expected[name] = total.sum(axis=0)
    exact = fg.oracle.reverse(graph, params, {"x": x}, {"y": target}, {"y": "mse"}).grads
    for block in (1, 3, 5):
        found = program.gradient(params, {"x": x}, {"y": target}, block=block).grads
        for name, gradient in expected.items():
            assert np.abs(gradient).max() > 1e-3
            assert np.abs(found[name] - gradient).max() < 1e-12
            assert np.abs(exact[name] - gradient).max() > 1e-3, "e-prop drops the reset, and other units"
    assert program.rules["x->l.v"].dropped == ("l.z->l.v", "l.z->l.v#reset")


@pytest.mark.parametrize("leak", [0.0, 0.9])
def test_equations_of_readout(leak: float) -> None:
    """If this fails, a readout filters its input otherwise than asked."""
    network, p, v = run(cells.readout, leak=leak)
    expected = leak * past(network, v, "l") + v["x"] @ p["x->l"].T + p["l.bias"]
    assert np.allclose(v["l"], expected, atol=1e-12)
    assert [(edge.name, edge.role) for edge in network.edges.values() if edge.delay] == [("l->l", "readout")] * bool(
        leak
    )


SHAPED = {"low_rank", "ei_pair", "parallel_reservoirs", "stack", "max_pool"}
"""Cells not all of whose nodes have the size that is asked for, or whose layers have names of their own."""


@pytest.mark.parametrize("kind", cells.TABLE)
def test_cell_is_only_a_macro(kind: str) -> None:
    """If this fails, a cell leaves more behind than nodes and edges, or draws its nodes apart."""
    graph = with_input()
    graph.nodes["x"]["size"] = 5
    output = cells.TABLE[kind](graph, "l", "x", 5)
    network = validate(graph)
    assert network.nodes[output].size == {"max_pool": 2, "parallel_reservoirs": 10}.get(kind, 5)
    for name, node in network.nodes.items():
        if name.startswith("l."):
            assert node.layer == "l" or kind == "stack"
            assert node.size == 5 or kind in SHAPED
    assert not graph.graph
    second = cells.TABLE[kind](graph, "l2", output, {"max_pool": 2, "running_norm": 5}.get(kind, 6))
    assert network.nodes[output].op == validate(graph).nodes[second].op


def test_initial_biases() -> None:
    """If this fails, an LSTM starts by forgetting."""
    graph = with_input()
    cells.lstm(graph, "l", "x", 4, forget_bias=2.0)
    parameters = validate(graph).parameters
    assert {name: p.init for name, p in parameters.items() if p.kind == "bias"} == {
        "l.i.bias": 0.0,
        "l.f.bias": 2.0,
        "l.o.bias": 0.0,
        "l.g.bias": 0.0,
    }


BAD: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "unknown input": ("lstm", {"input": "xx"}, ["cell lstm('l'): 'input' names no node of the graph: 'xx'.", "'x'?"]),
    "input not a name": ("elman", {"input": ["x"]}, ["cell elman('l'): 'input' names no node"]),
    "size": ("gru", {"size": 0}, ["cell gru('l'): 'size' must be a whole number >= 1, got 0."]),
    "size a word": ("gru", {"size": "4"}, ["cell gru('l'): 'size'", "got '4'"]),
    "size beyond machines": ("gru", {"size": 10**12}, ["cell gru('l'): node 'l.z': attribute 'size'"]),
    "name": ("gru", {"name": ""}, ["cell gru(''): the name of a cell is a non-empty string."]),
    "name a number": ("gru", {"name": 1}, ["cell gru(1): the name of a cell"]),
    "name taken": ("lstm", {"name": "taken"}, ["cell lstm('taken'): the graph has a node 'taken.h' already."]),
    "readout taken": ("readout", {"name": "x"}, ["cell readout('x'): the graph has a node 'x' already."]),
    "init": ("lstm", {"init": "glorto"}, ["cell lstm('l'): edge 'x' -> 'l.i' (key 0): attribute 'init'", "'glorto'"]),
    "recurrent init": (
        "elman",
        {"recurrent_init": None, "init": "no"},
        ["edge 'x' -> 'l.h' (key 0): attribute 'init'"],
    ),
    "leak above one": (
        "leaky_tanh",
        {"leak": 1.5},
        ["cell leaky_tanh('l'): 'leak' must be a number from 0 to 1, got 1.5"],
    ),
    "leak a word": ("lif", {"leak": "0.9"}, ["cell lif('l'): 'leak' must be a number from 0 to 1, got '0.9'."]),
    "leak a truth": ("readout", {"leak": True}, ["cell readout('l'): 'leak'"]),
    "leaks": ("lif", {"leak": [0.9] * 5}, ["cell lif('l'): 'leak'"]),
    "threshold": ("lif", {"threshold": 0.0}, ["cell lif('l'): 'threshold' must be a number greater than 0, got 0.0."]),
    "adaptation": ("alif", {"adaptation": -0.1}, ["cell alif('l'): 'adaptation' must be a number >= 0, got -0.1."]),
    "adaptation_leak": ("alif", {"adaptation_leak": 2}, ["'adaptation_leak' must be a number from 0 to 1, got 2."]),
    "dampening": ("lif", {"dampening": -1.0}, ["cell lif('l'): node 'l.z': attribute 'dampening'"]),
    "surrogate": ("lif", {"surrogate": "square"}, ["cell lif('l'): node 'l.z': attribute 'surrogate' must be one of"]),
    "forget_bias": (
        "lstm",
        {"forget_bias": True},
        ["cell lstm('l'): 'forget_bias' must be a finite number, or 5 of them, one for each unit, got True."],
    ),
    "forget_bias nan": ("lstm", {"forget_bias": np.nan}, ["cell lstm('l'): 'forget_bias'"]),
    "trainable": ("leaky_tanh", {"trainable": "no"}, ["cell leaky_tanh('l'): 'trainable' must be True or False"]),
    "bias": ("readout", {"bias": 1.0}, ["cell readout('l'): 'bias' must be True or False, got 1.0."]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_argument_adds_nothing(name: str) -> None:
    """If this fails, an error leaves half a cell in the user's graph."""
    kind, options, words = BAD[name]
    graph = with_input()
    graph.add_node("taken.h", op="linear")
    before = nx.MultiDiGraph(graph)
    with pytest.raises(GraphError) as error:
        cells.TABLE[kind](graph, **{"name": "l", "input": "x", "size": 5, **options})
    for word in words:
        assert word in str(error.value)
    assert nx.utils.graphs_equal(graph, before)


@pytest.mark.parametrize("kind", cells.TABLE)
def test_cell_needs_a_multigraph(kind: str) -> None:
    """If this fails, parallel edges are lost in a DiGraph without a word."""
    graph: Any = nx.DiGraph()
    graph.add_node("x", op="input", size=3)
    with pytest.raises(GraphError, match=r"added to a networkx.MultiDiGraph, got DiGraph"):
        cells.TABLE[kind](graph, "l", "x", 5)

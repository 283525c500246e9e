"""Are networks of NIR simulated as their equations say, whatever their wiring?"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from bridges.nir_nets import DT, LAYERS, RESETS, SPIKING, Euler, affine, net, neuron, nir, quiet, runs, x_of

from forwardgrad.bridges.nir import from_nir
from forwardgrad.errors import GraphError


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

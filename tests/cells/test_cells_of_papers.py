"""Does each cell compute the equations of its paper, written here step by step, and learn exactly?"""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from checks import assert_like_oracle
from nets import problem

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.cells.stack import LAYERS
from forwardgrad.graph import validate
from forwardgrad.oracle import forward
from tests.cells.papers import (
    BATCH,
    CASES,
    STEPS,
    UNITS,
    Named,
    graph_of,
)


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

"""Which small graphs do tests declare by hand? A way to write them down, a few of them, and numbers to run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.compiler import Plan, make_plan
from forwardgrad.graph import library, validate
from forwardgrad.rules.table import rule as read_rule
from forwardgrad.testing import Problem
from forwardgrad.testing.problem import parameters


def declare(nodes: Mapping[str, dict[str, Any]], *edges: tuple[Any, ...]) -> nx.MultiDiGraph[str]:
    """A graph from `{node: attributes}` and `(source, target, attributes)`; an attribute `key` is the edge's key."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name, attributes in nodes.items():
        graph.add_node(name, **attributes)
    for source, target, *rest in edges:
        attributes = dict(rest[0]) if rest else {}
        graph.add_edge(source, target, attributes.pop("key", None), **attributes)
    return graph


def problem(
    graph: nx.MultiDiGraph[str], *outputs: str, steps: int = 7, batch: int = 2, gain: float = 1.0, seed: int = 7
) -> Problem:
    """A problem on this graph with losses `mse` on these nodes, its numbers drawn from a seed, inputs times `gain`."""
    network, random = validate(graph), np.random.default_rng(seed)
    inputs = {name: gain * random.normal(size=(steps, batch, network.nodes[name].size)) for name in network.inputs}
    targets = {name: random.normal(size=(steps, batch, network.nodes[name].size)) for name in outputs}
    return Problem(graph, dict.fromkeys(outputs, "mse"), parameters(network, random), inputs, targets, None)


def plan_of(graph: nx.MultiDiGraph[str], outputs: str | tuple[str, ...], rule: Any) -> Plan:
    """What the compiler derives, with one rule for all parameters, or `{parameter: rule}`."""
    network = validate(graph)
    outputs = (outputs,) if isinstance(outputs, str) else outputs
    given = rule if isinstance(rule, dict) else dict.fromkeys(network.trainable, rule)
    return make_plan(network, outputs, {name: read_rule(given[name]) for name in network.trainable})


def places(plan: Plan) -> set[str]:
    """The places of the pruned product, as `"node (modes)"`."""
    return {f"{place.node} ({place.label})" for place in plan.product.places}


def vanilla(**recurrent: Any) -> nx.MultiDiGraph[str]:
    """A tanh layer with a recurrent edge, by default dense, and a linear readout."""
    return declare(
        {
            "x": {"op": "input", "size": 2},
            "h": {"op": "tanh", "size": 3, "bias": True},
            "y": {"op": "linear", "size": 2},
        },
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"weight": "dense", "delay": 1} | recurrent),
        ("h", "y", {"weight": "dense"}),
    )


def stack() -> nx.MultiDiGraph[str]:
    """Two layers of leaky units, each a drive `a` that mixes and a state `h`; a linear readout of the upper one."""
    graph = declare({"x": {"op": "input", "size": 2}, "y": {"op": "linear", "size": 2}})
    below = "x"
    for layer, leak in (("1", 0.7), ("2", 0.8)):
        a, h = f"a{layer}", f"h{layer}"
        graph.add_node(a, op="tanh", size=3)
        graph.add_node(h, op="linear")
        graph.add_edge(below, a, weight="dense")
        graph.add_edge(h, a, weight="dense", delay=1)
        graph.add_edge(h, h, value=leak, delay=1)
        graph.add_edge(a, h, value=1 - leak)
        below = h
    graph.add_edge(below, "y", weight="dense")
    return graph


def readout_of_features(leak: float = 0.6) -> nx.MultiDiGraph[str]:
    """A feed-forward tanh layer and one leaky linear readout."""
    return declare(
        {"x": {"op": "input", "size": 2}, "h": {"op": "tanh", "size": 3}, "y": {"op": "linear", "size": 2}},
        ("x", "h", {"weight": "dense"}),
        ("h", "y", {"weight": "dense"}),
        ("y", "y", {"value": leak, "delay": 1}),
    )


def gru(size: int = 3) -> nx.MultiDiGraph[str]:
    """Gated recurrent units `l.*` (reset before the matrix product) and a linear readout `y`."""
    graph = declare({"x": {"op": "input", "size": 2}})
    cells.gru(graph, "l", input="x", size=size)
    cells.readout(graph, "y", input="l.h", size=2)
    return graph


CORE = ("alif", "conv_lif", "cuba_lif", "dilated", "egru", "elman", "gru", "indrnn", "leaky_stack", "lif", "lru")
CORE += ("lstm", "min_gru", "multi_timescale", "parallel_reservoirs", "residual", "top_down")
"""Shipped graphs in which every kind of unit, weight and skip occurs, for tests of many combinations."""

FOR_SERIES = tuple(name for name in library.names() if fg.load(name).nodes["x"].get("size") == 1)
"""The shipped graphs that read one number at a time; the others are of one task each."""


def small(name: str, size: int) -> nx.MultiDiGraph[str]:
    """A shipped graph with a few units instead of dozens; of arrays with a number for each unit, some are taken."""
    graph = fg.load(name)
    elements = [attributes for _, attributes in graph.nodes(data=True)]
    elements += [attributes for *_, attributes in graph.edges(data=True)]
    for attributes in elements:
        if attributes.get("size", 1) > 1:
            attributes["size"] = size
        for key, value in attributes.items():
            if np.ndim(value):
                kept = np.linspace(0, len(value) - 1, size).astype(int)
                attributes[key] = np.asarray(value)[np.ix_(*[kept] * np.ndim(value))]
    return graph

"""Small problems, declared in a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.graph import validate
from forwardgrad.ops import Array
from forwardgrad.testing import Problem
from forwardgrad.testing.problem import parameters
from forwardgrad.testing.strategies import PATHS

NAMED = list(PATHS)


def declare(nodes: Mapping[str, dict[str, Any]], *edges: tuple[Any, ...]) -> nx.MultiDiGraph[str]:
    """A graph from `{node: attributes}` and `(source, target, attributes)`."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name, attributes in nodes.items():
        graph.add_node(name, **attributes)
    for source, target, *attributes in edges:
        graph.add_edge(source, target, **(attributes[0] if attributes else {}))
    return graph


def problem(graph: nx.MultiDiGraph[str], *outputs: str, steps: int = 6, batch: int = 2, loss: str = "mse") -> Problem:
    """A problem on this graph with losses on these nodes, its numbers drawn from a fixed seed."""
    network, random = validate(graph), np.random.default_rng(7)
    inputs = {name: random.normal(size=(steps, batch, network.nodes[name].size)) for name in network.inputs}
    targets = {name: random.normal(size=(steps, batch, network.nodes[name].size)) for name in outputs}
    return Problem(graph, dict.fromkeys(outputs, loss), parameters(network, random), inputs, targets, None)


def assert_same(found: Mapping[str, Array], expected: Mapping[str, Array], relative: float = 1e-10) -> None:
    """Equal entry by entry, relative to the largest entry of all."""
    assert found.keys() == expected.keys()
    scale = max([np.abs(array).max() for array in expected.values()], default=0.0)
    for name, array in expected.items():
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, rtol=0, atol=relative * scale, err_msg=name)


def differ(one: Mapping[str, Array], other: Mapping[str, Array]) -> set[str]:
    """The parameters whose gradients are not the same."""
    return {name for name in one if not np.allclose(one[name], other[name], rtol=1e-6, atol=1e-12)}

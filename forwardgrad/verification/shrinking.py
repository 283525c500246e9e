"""The declared graph on other sizes: arrays that it gives are drawn again in the shape that they have there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.graph import Edge, Network
from forwardgrad.graph.parameters import stream
from forwardgrad.ops import Array
from forwardgrad.support.attributes import numbers
from forwardgrad.testing.problem import weights
from forwardgrad.weights import ATTRIBUTES


def shrunk(graph: nx.MultiDiGraph[str], network: Network, sizes: Mapping[str, int], seed: int) -> nx.MultiDiGraph[str]:
    """A graph of the same nodes and edges, with other sizes.

    Vectors of a node keep some of their entries, since an op may take no others. Fixed matrices and masks are drawn
    again; no row and no column of a mask is empty. Fixed numbers stay as they are. Initial weights that are given as
    arrays are left to chance.

    Args:
        graph: the declared graph.
        network: the same, validated.
        sizes: the new size of each node.
        seed: from which arrays are drawn.

    >>> import forwardgrad as fg
    >>> from forwardgrad.graph import validate
    >>> graph = fg.load("elman")
    >>> small = shrunk(graph, validate(graph), {"x": 2, "h": 3, "y": 2}, seed=0)
    >>> {name: node.size for name, node in validate(small).nodes.items()}
    {'x': 2, 'h': 3, 'y': 2}
    """
    small: nx.MultiDiGraph[str] = nx.MultiDiGraph(**graph.graph)
    for name, attributes in graph.nodes(data=True):
        vectors = ("bias", "initial", *network.nodes[name].op.options)
        small.add_node(name, **{key: _vector(key, value, vectors, sizes[name]) for key, value in attributes.items()})
        small.nodes[name]["size"] = sizes[name]
    for edge in network.edges.values():
        given = graph.edges[edge.source, edge.target, edge.key]
        kept = {key: value for key, value in given.items() if key not in _DRAWN}
        small.add_edge(edge.source, edge.target, edge.key, **kept, **_arrays(edge, given, sizes, seed))
    return small


_DRAWN = frozenset({"weight", "value", "init", *ATTRIBUTES})
"""The attributes of edges that are arrays, or say how one is drawn."""


def _vector(key: str, value: Any, vectors: tuple[str, ...], size: int) -> Any:
    array = numbers(value) if key in vectors and value is not None else None
    return value if array is None or array.ndim == 0 else few(array, size)


def few(array: Array, size: int) -> Array:
    """A vector of some entries of another, as many of them different as there can be.

    >>> few(np.array([1.0, 1.0, 1.0, 2.0]), 3)
    array([1., 2., 1.])
    """
    return np.resize(np.array(list(dict.fromkeys(array.tolist()))[:size]), size)


def _arrays(edge: Edge, given: Mapping[str, Any], sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
    """The attributes of an edge that depend on sizes; edges that share a parameter get the same."""
    shape, name = (sizes[edge.target], sizes[edge.source]), edge.param or edge.name
    found: dict[str, Any] = {"weight": edge.kind}
    if isinstance(given.get("init"), str) or np.ndim(given.get("init", 0)) == 0:
        found["init"] = given.get("init")
    entries = 0
    if edge.pattern is not None:
        found["mask"] = _mask(shape, stream(seed, f"mask {name}"))
        entries = int(found["mask"].sum())
    if edge.value is not None:
        found["value"] = _value(edge, shape, entries, stream(seed, f"value {name}"))
    return found


def _mask(shape: tuple[int, int], random: np.random.Generator) -> Array:
    """About half of the entries, at least one in each row and column, and not all."""
    mask = random.random(shape) < 0.4
    for i in range(max(shape)):
        mask[i % shape[0], i % shape[1]] = True
    if mask.all():
        mask[0, -1] = False
    return mask.astype(float)


def _value(edge: Edge, shape: tuple[int, int], entries: int, random: np.random.Generator) -> Array:
    assert edge.value is not None
    if edge.value.ndim == 0:
        return edge.value
    if edge.kind == "diagonal":
        return few(edge.value, shape[0])
    size = (entries,) if edge.pattern is not None else shape
    return weights(random, size, 1, shape[1])

"""The declared graph on other sizes: arrays that it gives are drawn again in the shape that they have there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.graph import Edge, Network
from forwardgrad.graph.parameters import stream
from forwardgrad.graph.parts import joined
from forwardgrad.graph.schema import is_drawing
from forwardgrad.ops import Array
from forwardgrad.support.attributes import numbers
from forwardgrad.testing.problem import weights
from forwardgrad.weights import ATTRIBUTES, KINDS, Ends


def shrunk(graph: nx.MultiDiGraph[str], network: Network, sizes: Mapping[str, int], seed: int) -> nx.MultiDiGraph[str]:
    """A graph of the same nodes and edges, with other sizes.

    Vectors of a node keep some of their entries, since an op may take no others. Fixed matrices and masks are drawn
    again; no row and no column of a mask is empty. Kernels, pools and selections become such that lead from the one
    size to the other. Fixed numbers stay as they are. Initial weights that are given as arrays are left to chance.

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
    graph = joined(graph)
    for name, attributes in graph.nodes(data=True):
        vectors = ("bias", "initial", *network.nodes[name].op.options)
        kept = {key: value for key, value in attributes.items() if key != "shape" or is_drawing(key, value)}
        small.add_node(name, **{key: _vector(key, value, vectors, sizes[name]) for key, value in kept.items()})
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
    ends, name = Ends((sizes[edge.target],), (sizes[edge.source],)), edge.param or edge.name
    found: dict[str, Any] = {"weight": edge.kind}
    if isinstance(given.get("init"), str) or np.ndim(given.get("init", 0)) == 0:
        found["init"] = given.get("init")
    shape: tuple[int, ...] = ends.sizes
    if edge.pattern is not None:
        found |= _table(edge, ends, stream(seed, f"mask {name}"))
        kind = KINDS[found["weight"]]
        assert kind.pattern is not None
        shape = kind.pattern(edge.name, found, ends).parameter_shape
        if not kind.weighted:
            return found
    if edge.value is not None:
        found["value"] = _value(edge, ends.sizes, shape, stream(seed, f"value {name}"))
    return found


def _table(edge: Edge, ends: Ends, random: np.random.Generator) -> dict[str, Any]:
    """A weight of its kind, or one like it, that leads from end to end; else, and for most, a mask."""
    own = KINDS[edge.weight]
    if own.reshaped is not None or own.moves:
        for kind in (own, *KINDS.values()):
            alike = kind.reshaped is not None or kind.moves
            if not alike or (kind.moves, kind.weighted) != (own.moves, own.weighted):
                continue
            if (attributes := kind.example(random, ends)) is not None:
                return {"weight": kind.name, **attributes}
    return {"weight": "sparse", "mask": _mask(ends.sizes, random)}


def _mask(shape: tuple[int, int], random: np.random.Generator) -> Array:
    """About half of the entries, at least one in each row and column, and not all."""
    mask = random.random(shape) < 0.4
    for i in range(max(shape)):
        mask[i % shape[0], i % shape[1]] = True
    if mask.all():
        mask[0, -1] = False
    return mask.astype(float)


def _value(edge: Edge, sizes: tuple[int, int], shape: tuple[int, ...], random: np.random.Generator) -> Array:
    assert edge.value is not None
    if edge.value.ndim == 0:
        return edge.value
    if edge.kind == "diagonal":
        return few(edge.value, sizes[0])
    return weights(random, shape, 1, sizes[1])

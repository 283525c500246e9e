"""How large is each node, where the graph does not say so?

Sizes travel along edges whose weight keeps the size (identity, scalar, diagonal), from the shapes of fixed values,
masks, biases and initial values, and between edges that share one parameter.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

import networkx as nx

from forwardgrad.errors import GraphError
from forwardgrad.graph.schema import listed, where
from forwardgrad.ops import Op
from forwardgrad.support.attributes import numbers
from forwardgrad.weights import KINDS, Kind, read_off

_UNEQUAL = (
    f"A {listed([repr(name) for name, kind in KINDS.items() if not kind.form.keeps_size])} weight connects nodes of "
    "unequal size; all others need equal sizes."
)


class _Sizes:
    """The sizes found so far, each with the reason it was found by."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, str]] = {}

    def set(self, node: str, size: int, reason: str) -> bool:
        """Note a size; returns whether it is news."""
        if node not in self.found:
            self.found[node] = (size, reason)
            return True
        known, because = self.found[node]
        if known != size:
            raise GraphError(
                f"{reason}: node {node!r} would have size {size}, but {because} makes it {known}.",
                _UNEQUAL,
            )
        return False

    def same(self, a: str, b: str, reason: str) -> bool:
        """Note that two nodes have one size; returns whether that is news."""
        if a in self.found and b in self.found:
            (size_a, because_a), (size_b, because_b) = self.found[a], self.found[b]
            if size_a != size_b:
                raise GraphError(
                    f"{reason}: {a!r} and {b!r} must have one size, got {size_a} and {size_b}.",
                    f"{a!r} has its size from {because_a}, {b!r} from {because_b}.",
                    _UNEQUAL,
                )
            return False
        if a in self.found:
            return self.set(b, self.found[a][0], reason)
        return b in self.found and self.set(a, self.found[b][0], reason)


def kind_of(attributes: Mapping[str, Any]) -> Kind:
    """The weight kind of an edge: as given, or read off the shape of its value."""
    if attributes.get("weight") is not None:
        return KINDS[str(attributes["weight"])]
    value = numbers(attributes["value"]) if attributes.get("value") is not None else None
    return KINDS["identity"] if value is None else read_off(value.ndim)


def infer(graph: nx.MultiDiGraph[str], ops_of: Mapping[str, Op], ties: Iterable[list[Any]]) -> dict[str, int]:
    """The size of every node.

    Args:
        graph: the declared graph, its attributes checked one by one.
        ops_of: the op of each node.
        ties: groups of edges `(source, target, key)` that share a parameter.

    Raises:
        GraphError: if two facts contradict each other, or a size cannot be inferred.
    """
    sizes = _Sizes()
    for name, attributes in graph.nodes(data=True):
        if attributes.get("size") is not None:
            sizes.set(name, int(attributes["size"]), f"node {name!r} with 'size'")
        for key in ("bias", "initial", *ops_of[name].options):
            array = numbers(attributes[key]) if attributes.get(key) is not None else None
            if array is not None and array.ndim == 1:
                sizes.set(name, len(array), f"node {name!r} with {key!r} of shape {array.shape}")
    for u, v, key, attributes in graph.edges(keys=True, data=True):
        _from_arrays(sizes, u, v, where(u, v, key), attributes)
    _spread(graph, sizes, [group for group in ties if len(group) > 1])
    for name in graph.nodes:
        if name not in sizes.found:
            raise GraphError(
                f"node {name!r}: its size cannot be inferred.",
                "Give it 'size', or connect it by an identity, scalar or diagonal edge to a node that has one.",
            )
    return {name: size for name, (size, _) in sizes.found.items()}


def _from_arrays(sizes: _Sizes, u: str, v: str, place: str, attributes: Mapping[str, Any]) -> None:
    kind = kind_of(attributes)
    for key in kind.sizing:
        given = attributes.get(key)
        array = numbers(given) if given is not None and not isinstance(given, str) else None
        if array is None or array.ndim != (1 if kind.form.keeps_size else 2):
            continue
        reason = f"{place} with {key!r} of shape {array.shape}"
        if not kind.form.keeps_size and u in sizes.found and v in sizes.found:
            expected = (sizes.found[v][0], sizes.found[u][0])
            if array.shape != expected:
                raise GraphError(
                    f"{place}: weight {kind.name!r} needs {key} of shape {expected}, got {array.shape}.",
                    f"{v!r} has size {expected[0]}, {u!r} has size {expected[1]}; "
                    f"a {kind.name} weight is (size of target, size of source).",
                    "Did you mean its transpose?" if array.shape[::-1] == expected else "",
                )
        sizes.set(v, array.shape[0], reason)
        sizes.set(u, array.shape[-1], reason)


def _spread(graph: nx.MultiDiGraph[str], sizes: _Sizes, ties: list[list[Any]]) -> None:
    """Carry sizes along edges and ties; where a node gets one, what it is linked with is looked at again."""
    linked = links(graph, ties)
    touching: defaultdict[str, list[int]] = defaultdict(list)
    for number, (a, b, _) in enumerate(linked):
        touching[a].append(number)
        touching[b].append(number)
    waiting = deque(range(len(linked)))
    while waiting:
        a, b, reason = linked[waiting.popleft()]
        new = b if a in sizes.found else a
        if sizes.same(a, b, reason):
            waiting.extend(touching[new])


def links(graph: nx.MultiDiGraph[str], ties: Iterable[list[Any]]) -> list[tuple[str, str, str]]:
    """Pairs of nodes that have one size, and why.

    Args:
        graph: the declared graph, its attributes checked one by one.
        ties: groups of edges `(source, target, key)` that share a parameter.
    """
    found: list[tuple[str, str, str]] = []
    for u, v, key, attributes in graph.edges(keys=True, data=True):
        if (kind := kind_of(attributes)).form.keeps_size:
            found.append((u, v, f"{where(u, v, key)} of weight {kind.name!r}"))
    for first, *others in ties:
        kind = kind_of(graph.edges[first])
        for other in others:
            if not kind.form.shape(2, 2, None) or kind != kind_of(graph.edges[other]):
                continue  # no shape to agree in; ties of unequal kind are refused with the parameters
            reason = f"{where(*other)}, which shares a parameter with {where(*first)}"
            found += [(first[0], other[0], reason), (first[1], other[1], reason)]
    return found

"""How large is each node, where the graph does not say so?

Sizes travel along edges whose weight keeps the size (identity, scalar, diagonal), from the shapes of fixed values,
masks, biases and initial values, and between edges that share one parameter. A `shape` travels as they do, and over
convolutions to what it becomes behind them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.errors import GraphError
from forwardgrad.graph.parts import Parts
from forwardgrad.graph.schema import is_drawing, listed, where
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


def infer(
    graph: nx.MultiDiGraph[str], ops_of: Mapping[str, Op], ties: Iterable[list[Any]], together: Parts
) -> dict[str, tuple[int, ...]]:
    """The shape of every node: its size, where nothing says more.

    Args:
        graph: the declared graph, its attributes checked one by one.
        ops_of: the op of each node.
        ties: groups of edges `(source, target, key)` that share a parameter.
        together: the parts of nodes.

    Raises:
        GraphError: if two facts contradict each other, or a size cannot be inferred.
    """
    sizes, shapes = _Sizes(), dict[str, tuple[int, ...]]()
    for name, attributes in graph.nodes(data=True):
        given = attributes.get("shape")
        if given is not None and not is_drawing("shape", given):
            shapes[name] = tuple(int(axis) for axis in np.atleast_1d(given))
            sizes.set(name, prod(shapes[name]), f"node {name!r} with 'shape' {list(shapes[name])}")
        if attributes.get("size") is not None:
            sizes.set(name, int(attributes["size"]), f"node {name!r} with 'size'")
        for key in ("bias", "initial", *ops_of[name].options):
            array = numbers(attributes[key]) if attributes.get(key) is not None else None
            if array is not None and array.ndim == 1:
                sizes.set(name, len(array), f"node {name!r} with {key!r} of shape {array.shape}")
    for u, v, key, attributes in graph.edges(keys=True, data=True):
        _from_arrays(sizes, u, v, where(u, v, key), attributes)
    tied = [group for group in ties if len(group) > 1]
    _spread(graph, sizes, tied)
    _reshape(graph, sizes, shapes, tied, together)
    for name in graph.nodes:
        if name not in sizes.found:
            raise GraphError(
                f"node {name!r}: its size cannot be inferred.",
                "Give it 'size', or connect it by an identity, scalar or diagonal edge to a node that has one.",
                "Or give the convolution that enters it 'channels'."
                if any(kind_of(given).reshaped for _, _, given in graph.in_edges(name, data=True))
                else "",
            )
    return {name: shapes.get(name, (size,)) for name, (size, _) in sizes.found.items()}


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


def _reshape(
    graph: nx.MultiDiGraph[str],
    sizes: _Sizes,
    shapes: dict[str, tuple[int, ...]],
    ties: list[list[Any]],
    together: Parts,
) -> None:
    """Carry shapes along edges that keep the size, both ways, forward over those that change it, and to and from parts.

    A node of which a size alone is known has one axis; that is decided last.
    """
    edges = [(u, v, where(u, v, key), kind_of(given), given) for u, v, key, given in graph.edges(keys=True, data=True)]
    reshaping = [edge for edge in edges if edge[3].reshaped is not None]
    news = bool(shapes or reshaping or together)
    while news:
        news = False
        for u, v, place, kind, attributes in edges:
            if kind.form.keeps_size and (u in shapes) != (v in shapes):
                shapes[u] = shapes[v] = shapes[u if u in shapes else v]
                news = True
            elif kind.reshaped is not None and u in shapes and v not in shapes:
                if (shape := kind.reshaped(place, attributes, shapes[u])) is not None:
                    shapes[v], news = shape, True
                    sizes.set(v, prod(shape), f"{place}, behind which the shape is {list(shape)}")
        for (name, port), each in together.items():
            news = _joined(name, port, each, sizes, shapes) or news
        if news:
            _spread(graph, sizes, ties)
            continue
        for u, *_ in reshaping:
            if u not in shapes and u in sizes.found:
                shapes[u], news = (sizes.found[u][0],), True
                break


def _joined(name: str, port: str, each: list[list[str]], sizes: _Sizes, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Give a node the size of its parts together, or its last unknown part what is left; whether anything is new."""
    known = [next((sizes.found[u][0] for u in sources if u in sizes.found), None) for sources in each]
    unknown, total = known.count(None), sum(filter(None, known))
    what, news = f"node {name!r} of {len(each)} parts at port {port!r}", False
    if unknown == 0:
        news = name not in sizes.found
        sizes.set(name, total, what)
    elif unknown == 1 and name in sizes.found and sizes.found[name][0] > total:
        known[known.index(None)] = sizes.found[name][0] - total
    for size, sources in zip(known, each, strict=True):
        for u in sources if size is not None else ():
            news = news or u not in sizes.found
            sizes.set(u, size or 0, what)
    if name not in shapes and all(sources[0] in shapes for sources in each):
        first, rest = zip(*((shapes[u][0], shapes[u][1:]) for u, *_ in each), strict=True)
        if rest[0] and len(set(rest)) == 1:
            shapes[name], news = (sum(first), *rest[0]), True
    return news


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

"""Primitives of a NIR graph, whether it is in memory or came from a file: nodes with their fields, and edges, flat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import GraphError, did_you_mean
from forwardgrad.support.attributes import is_whole, numbers, show

FIELDS: Mapping[str, tuple[str, ...]] = {
    "Input": ("shape",),
    "Output": ("shape",),
    "Affine": ("weight", "bias"),
    "Linear": ("weight",),
    "Scale": ("scale",),
    "Conv1d": ("input_shape", "weight", "stride", "padding", "dilation", "groups", "bias"),
    "Conv2d": ("input_shape", "weight", "stride", "padding", "dilation", "groups", "bias"),
    "SumPool2d": ("kernel_size", "stride", "padding"),
    "AvgPool2d": ("kernel_size", "stride", "padding"),
    "Flatten": ("input_type", "start_dim", "end_dim"),
    "Delay": ("delay",),
    "Threshold": ("threshold",),
    "I": ("r",),
    "LI": ("tau", "r", "v_leak"),
    "IF": ("r", "v_threshold", "v_reset"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
}
"""The fields of each primitive, by NIR's names."""

RESETTING = frozenset({"IF", "LIF", "CubaLIF"})
NEURONS = frozenset({"I", "LI", "IF", "LIF", "CubaLI", "CubaLIF", "Threshold"})
POOLS = frozenset({"SumPool2d", "AvgPool2d"})
CONVOLUTIONS = frozenset({"Conv1d", "Conv2d"})
WINDOWED = POOLS | CONVOLUTIONS
LINKS = frozenset({"Linear", "Affine", "Scale"}) | WINDOWED
"""What becomes the weight of an edge."""

_DEFAULTS: Mapping[str, Any] = {"v_reset": 0.0, "w_in": 1.0, "start_dim": 1, "end_dim": -1}
"""Older files lack these fields."""

_OPTIONAL = frozenset({"shape", "input_shape", "input_type"})


@dataclass(frozen=True)
class Primitive:
    """A node of a NIR graph.

    Args:
        name: its name, with those of the graphs around it and a `.` before it.
        kind: the name of its class in NIR. `Through` is the input or the output of an inner graph, which only passes
            on what it gets.
        fields: by NIR's names, not checked yet.
    """

    name: str
    kind: str
    fields: Mapping[str, Any]

    @property
    def place(self) -> str:
        """How errors name it."""
        return f"NIR node {self.name!r} ({'Input or Output' if self.kind == 'Through' else self.kind})"

    def array(self, field: str) -> NDArray[np.float64]:
        """A field of finite numbers.

        Raises:
            GraphError: if it is missing, or something else.
        """
        if field not in self.fields:
            raise GraphError(f"{self.place}: field {field!r} is missing.")
        value = self.fields[field]
        value = value.detach().cpu().numpy() if hasattr(value, "detach") else value  # exports of some hold tensors
        array = None if isinstance(value, str | bytes) else numbers(value)
        if array is None:
            raise GraphError(f"{self.place}: {field!r} must be finite numbers, got {show(value)}.")
        return array

    def whole(self, field: str, axes: int, least: int) -> tuple[int, ...]:
        """A field of whole numbers, one for each axis; one number stands for all axes.

        Raises:
            GraphError: if it is something else.
        """
        array = np.atleast_1d(self.array(field))
        if array.ndim != 1 or len(array) not in (1, axes) or (array != np.rint(array)).any() or array.min() < least:
            wanted = f"a whole number >= {least}" + (f", or {axes} of them" if axes > 1 else "")
            raise GraphError(f"{self.place}: {field!r} must be {wanted}, got {show(self.fields[field])}.")
        return tuple(int(number) for number in np.broadcast_to(array, (axes,)))

    def shape(self, field: str) -> tuple[int, ...] | None:
        """A field that holds a shape; `None` where it is left open."""
        given: Any = self.fields.get(field)
        if given is None or (isinstance(given, list | tuple) and not given) or getattr(given, "size", 1) == 0:
            return None  # no axes, as NIR writes where neurons have one number for all units
        array = np.atleast_1d(self.array(field))
        if array.ndim != 1 or (array != np.rint(array)).any() or array.min() < 1:
            raise GraphError(f"{self.place}: its shape must be whole numbers >= 1, got {show(self.fields[field])}.")
        return tuple(int(axis) for axis in array)


@dataclass(frozen=True)
class Nest:
    """A graph as NIR keeps it: its nodes, which may be graphs themselves, and its edges.

    Args:
        nodes: by name.
        edges: pairs of names.
    """

    nodes: Mapping[str, Primitive | Nest]
    edges: tuple[tuple[str, str], ...]


DEEPEST = 32
"""Graphs inside graphs."""


def nested(graph: Any, prefix: str = "", depth: int = 0) -> Nest:
    """The primitives of a `nir.NIRGraph`.

    Raises:
        GraphError: if a node is none of NIR's, or edges are not pairs of names.
    """
    if depth > DEEPEST:
        raise GraphError(f"NIR graph {prefix[:-1]!r}: lies in more than {DEEPEST} others.")
    nodes: dict[str, Primitive | Nest] = {}
    if not isinstance(graph.nodes, Mapping):
        raise GraphError(f"NIR graph {prefix[:-1]!r}: 'nodes' must be a dictionary, got {show(graph.nodes)}.")
    for name, node in dict[Any, Any](graph.nodes).items():
        if not isinstance(name, str) or not name:
            raise GraphError(f"a name of a NIR node is a non-empty string, got {show(name)}.")
        kind = type(node).__name__
        if kind == "NIRGraph":
            nodes[name] = nested(node, f"{prefix}{name}.", depth + 1)
            continue
        fields: dict[str, Any] = dict(vars(node)) if hasattr(node, "__dict__") else {}
        word = "output" if kind == "Output" else "input"
        types: Any = fields.get(f"{word}_type")
        fields["shape"] = fields["input_type"] = types.get(word) if isinstance(types, Mapping) else types
        nodes[name] = primitive(prefix + name, kind, fields)
    return Nest(nodes, edges(graph.edges, prefix))


def primitive(name: str, kind: str, fields: Mapping[str, Any]) -> Primitive:
    """A primitive with those fields that its kind has; fields that older files lack get their defaults.

    Raises:
        GraphError: if NIR has no primitive of that kind.
    """
    if kind not in FIELDS:
        raise GraphError(f"NIR node {name!r}: {kind!r} is not a primitive of NIR.", did_you_mean(kind, FIELDS))
    found = {field: fields[field] for field in FIELDS[kind] if fields.get(field) is not None}
    missing = {field: _DEFAULTS[field] for field in FIELDS[kind] if field in _DEFAULTS and field not in found}
    return Primitive(name, kind, found | missing)


def edges(given: Any, prefix: str) -> tuple[tuple[str, str], ...]:
    """Edges as pairs of names.

    Raises:
        GraphError: if they are something else.
    """
    inside = f" of {prefix[:-1]!r}" if prefix else ""
    try:
        pairs: list[list[Any]] = [list(edge) for edge in given]
    except TypeError:
        pairs = [[]]
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(name, str) for name in pair):
            raise GraphError(f"the edges{inside} of a NIR graph must be pairs of names, got {show(given)}.")
    return tuple((str(source), str(target)) for source, target in pairs)


def flattened(nest: Nest) -> nx.DiGraph[str]:
    """All primitives in one graph, each a node with the attribute `primitive`; one of an inner graph `g` is `g.name`.

    Edges to an inner graph lead to its input, and edges from it come from its output.

    Raises:
        GraphError: if an edge is there twice or one of its nodes is missing, two nodes get one name, or an inner graph
            to or from which an edge leads has not exactly one input or output.
    """
    flat: nx.DiGraph[str] = nx.DiGraph()
    waiting = [("", nest)]
    while waiting:
        prefix, inner = waiting.pop()
        for name, node in inner.nodes.items():
            if isinstance(node, Nest):
                waiting.append((f"{prefix}{name}.", node))
                continue
            if node.name in flat and flat.nodes[node.name]:  # edges may have come before it
                raise GraphError(f"two NIR nodes are called {node.name!r} once inner graphs are flattened.")
            through = prefix and node.kind in ("Input", "Output")
            flat.add_node(node.name, primitive=Primitive(node.name, "Through", node.fields) if through else node)
        for edge in inner.edges:
            source, target = (_end(inner, prefix, edge, word) for word in ("Output", "Input"))
            if flat.has_edge(source, target):
                raise GraphError(f"NIR edge {edge[0]!r} -> {edge[1]!r} is there twice.")
            flat.add_edge(source, target)
    return flat


def _end(nest: Nest, prefix: str, edge: tuple[str, str], word: str) -> str:
    """The primitive at one end of an edge; of a graph it is its `Output`, or at the end of the edge its `Input`."""
    name = edge[0] if word == "Output" else edge[1]
    if name not in nest.nodes:
        raise GraphError(
            f"NIR edge {prefix + edge[0]!r} -> {prefix + edge[1]!r}: there is no node {prefix + name!r}.",
            did_you_mean(name, nest.nodes),
        )
    inner = nest.nodes[name]
    path = prefix + name
    while isinstance(inner, Nest):
        ends = [key for key, node in inner.nodes.items() if isinstance(node, Primitive) and node.kind == word]
        if len(ends) != 1:
            raise GraphError(
                f"NIR edge {prefix + edge[0]!r} -> {prefix + edge[1]!r}: the graph {path!r} has {len(ends)} nodes of "
                f"kind {word}, and the edge needs one."
            )
        path = f"{path}.{ends[0]}"
        inner = inner.nodes[ends[0]]
    return path


def one_number(primitive: Primitive, field: str) -> int:
    """A field that is one whole number, such as `start_dim`.

    Raises:
        GraphError: if it is something else.
    """
    array = primitive.array(field)
    if array.size != 1 or array.flat[0] != np.rint(array.flat[0]) or not is_whole(int(array.flat[0])):
        raise GraphError(f"{primitive.place}: {field!r} must be a whole number, got {show(primitive.fields[field])}.")
    return int(array.flat[0])

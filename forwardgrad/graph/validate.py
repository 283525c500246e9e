"""Is this declared graph legal, and what does it mean with every default filled in?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import Any, cast

import networkx as nx
import numpy as np

from forwardgrad.errors import GraphError, did_you_mean
from forwardgrad.graph.network import Edge, Network, Node, Parameter
from forwardgrad.graph.parameters import bias_parameter, edge_parameters
from forwardgrad.graph.parts import joined, parts, placed
from forwardgrad.graph.schema import check_edge, check_node, name_of, where
from forwardgrad.graph.sizes import infer, kind_of
from forwardgrad.ops import Array, Op
from forwardgrad.support.attributes import is_whole, numbers
from forwardgrad.weights import Ends


def validate(graph: nx.MultiDiGraph[str]) -> Network:
    """Check a declared graph and fill in its defaults.

    Args:
        graph: a `networkx.MultiDiGraph` (a `DiGraph` is read as one without parallel edges); it is not changed.

    Returns:
        The network that the compiler and the oracles read.

    Raises:
        GraphError: naming the node or edge, what was expected, and a way out.

    >>> import networkx as nx
    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=2)
    >>> g.add_node("h", op="tanh", size=3)
    >>> _ = g.add_edge("x", "h", weight="dense")
    >>> _ = g.add_edge("h", "h", weight="dense", delay=1)
    >>> {name: p.shape for name, p in validate(g).parameters.items()}
    {'x->h': (3, 2), 'h->h': (3, 3)}
    """
    graph = _multigraph(graph)
    ops_of = {name: check_node(name, attributes) for name, attributes in graph.nodes(data=True)}
    for u, v, key, attributes in graph.edges(keys=True, data=True):
        check_edge(u, v, key, attributes)
    graph = joined(graph)
    order = _instant_order(graph)
    ties, together = _ties(graph), parts(graph)
    shapes = infer(graph, ops_of, ties.values(), together)
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    edges = {
        name_of(u, v, key): _edge(u, v, key, placed(attributes, v, together, sizes), Ends(shapes[v], shapes[u]))
        for u, v, key, attributes in graph.edges(keys=True, data=True)
    }
    into: dict[str, list[Edge]] = {name: [] for name in graph.nodes}
    for edge in edges.values():
        into[edge.target].append(edge)
    nodes = {
        name: _node(name, attributes, ops_of[name], shapes[name], into[name])
        for name, attributes in graph.nodes(data=True)
    }
    parameters = edge_parameters(graph, edges, sizes, ties)
    _add_biases(parameters, graph, nodes)
    return Network(
        MappingProxyType(nodes),
        MappingProxyType(edges),
        MappingProxyType(parameters),
        order,
        MappingProxyType({name: tuple(found) for name, found in into.items()}),
    )


def _multigraph(graph: Any) -> nx.MultiDiGraph[str]:
    if not isinstance(graph, nx.Graph) or not graph.is_directed():
        raise GraphError(
            f"a declared graph is a networkx.MultiDiGraph, got {type(graph).__name__}.",
            "To read a file or a named graph, use forwardgrad.load(name).",
        )
    multi = cast("nx.MultiDiGraph[Any]", graph if isinstance(graph, nx.MultiDiGraph) else nx.MultiDiGraph(graph))
    if not multi:
        raise GraphError("the graph has no nodes.", "Add some: graph.add_node('x', op='input', size=3).")
    for name in multi.nodes:
        if not isinstance(name, str) or not name:
            raise GraphError(f"node {name!r}: names of nodes are non-empty strings.", f"Did you mean {str(name)!r}?")
    names: dict[str, tuple[str, str, int | str]] = {}
    for u, v, key in multi.edges(keys=True):
        if not isinstance(key, str) and not is_whole(key):
            raise GraphError(f"{where(u, v, key)}: the key of an edge is a whole number or a string.")
        name = name_of(u, v, key)
        if name in names:
            raise GraphError(
                f"{where(*names[name])} and {where(u, v, key)} have one name, {name!r}.", "Rename a node or a key."
            )
        names[name] = (u, v, key)
    return multi


def _instant_order(graph: nx.MultiDiGraph[str]) -> tuple[str, ...]:
    instant: nx.DiGraph[str] = nx.DiGraph()
    instant.add_nodes_from(graph.nodes)
    instant.add_edges_from((u, v) for u, v, attributes in graph.edges(data=True) if not attributes.get("delay"))
    place = {name: index for index, name in enumerate(graph.nodes)}
    try:
        return tuple(nx.lexicographical_topological_sort(instant, key=place.__getitem__))
    except nx.NetworkXUnfeasible:
        loop = [str(step[0]) for step in cast("list[tuple[str, str]]", nx.find_cycle(instant))]
        raise GraphError(
            f"cycle without delay: {' -> '.join(map(repr, [*loop, loop[0]]))}.",
            "Every cycle needs a total delay of at least 1; give one of these edges delay=1.",
        ) from None


def _ties(graph: nx.MultiDiGraph[str]) -> dict[str, list[Any]]:
    """The edges of each parameter, as `(source, target, key)`."""
    ties: defaultdict[str, list[Any]] = defaultdict(list)
    for u, v, key, attributes in graph.edges(keys=True, data=True):
        if attributes.get("value") is None and kind_of(attributes).weighted:
            ties[attributes.get("param") or name_of(u, v, key)].append((u, v, key))
    return dict(ties)


def _edge(u: str, v: str, key: int | str, attributes: Mapping[str, Any], ends: Ends) -> Edge:
    kind, place = kind_of(attributes), where(u, v, key)
    pattern = None if kind.pattern is None else kind.pattern(place, attributes, ends)
    target, source = ends.sizes
    value = None
    if attributes.get("value") is not None:
        value = numbers(attributes["value"])
        assert value is not None  # the schema has checked it
        shape = kind.form.shape(source, target, pattern)
        if value.shape != shape:
            raise GraphError(
                f"{place}: weight {kind.name!r} needs value of shape {shape}, got {value.shape}.",
                f"{v!r} has size {target}, {u!r} has size {source}.",
                "Leave out 'weight' to have it read off the shape of 'value'."
                if pattern is None
                else f"A {kind.name} weight is an array of its entries in row-major order.",
            )
        value.flags.writeable = False
    if kind.value is not None and pattern is not None:
        value = np.full(len(pattern.rows), kind.value(attributes, ends))
        value.flags.writeable = False
    fixed = value is not None or not kind.weighted
    return Edge(
        name=name_of(u, v, key),
        source=u,
        target=v,
        key=key,
        weight=kind.name,
        kind=kind.form.word,
        port=attributes.get("port") or "in",
        delay=int(attributes.get("delay") or 0),
        param=None if fixed else attributes.get("param") or name_of(u, v, key),
        value=value,
        pattern=pattern,
        moves=kind.moves,
        role=attributes.get("role"),
        credit=attributes.get("credit"),
    )


def _node(name: str, attributes: Mapping[str, Any], op: Op, shape: tuple[int, ...], into: list[Edge]) -> Node:
    size = prod(shape)
    biased = has_bias(attributes)
    if attributes.get("bias_port") is not None and not biased:
        raise GraphError(f"node {name!r}: 'bias_port' is given without a bias.", "Add bias=True.")
    bias_port = _bias_port(name, op, attributes, into) if biased else None
    return Node(
        name=name,
        op=op,
        size=size,
        ports=_ports(name, op, into, bias_port),
        options=MappingProxyType(_options(name, op, attributes, shape)),
        initial=_vector(f"node {name!r}", "initial", attributes.get("initial", 0.0), size),
        shape=shape,
        bias=f"{name}.bias" if biased else None,
        bias_port=bias_port or "in",
        layer=attributes.get("layer"),
    )


def _bias_port(name: str, op: Op, attributes: Mapping[str, Any], into: list[Edge]) -> str:
    """The port of a node's bias: one of the op's; any name that is given, where the user names the ports."""
    given = attributes.get("bias_port")
    port = str(given or "in")
    known = list(dict.fromkeys(edge.port for edge in into)) if op.each_port else [each.name for each in op.ports]
    if op.given or port in known or (op.each_port and (given or not into)):
        return port
    hint = did_you_mean(port, known) if given else f"Name a 'bias_port': {', '.join(known)}."
    raise GraphError(f"node {name!r}: op {op.name!r} has no port {port!r} for the bias.", hint)


def has_bias(attributes: Mapping[str, Any]) -> bool:
    """Whether a node's attributes declare a bias."""
    bias = attributes.get("bias")
    return bias is not None and not (isinstance(bias, bool | np.bool_) and not bias)


def _vector(place: str, key: str, value: Any, size: int) -> Array:
    array = numbers(0.0 if value is None else value)
    assert array is not None  # the schema has checked it
    if array.shape not in ((), (size,)):
        raise GraphError(f"{place}: {key!r} must be a number or of shape ({size},), got {array.shape}.")
    return np.broadcast_to(array, (size,))  # read only, and one number takes the memory of one


def _options(name: str, op: Op, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    options: dict[str, Any] = {"along": shape[-1]} if op.along and len(shape) > 1 else {}
    for key, option in op.options.items():
        given = attributes.get(key)
        if given is None:
            options[key] = option.default
        elif option.choices or np.ndim(given) == 0:
            options[key] = given
        else:
            options[key] = _vector(f"node {name!r}", key, given, prod(shape))
    return options


def _ports(name: str, op: Op, into: list[Edge], bias_port: str | None) -> tuple[str, ...]:
    place = f"node {name!r}"
    fed = list(dict.fromkeys([edge.port for edge in into] + ([bias_port] if bias_port else [])))
    if op.given:
        if fed:
            got = where(into[0].source, into[0].target, into[0].key) if into else "a bias"
            raise GraphError(f"{place}: an input takes neither edges nor a bias.", f"It has {got}.")
        return ()
    if not fed:
        raise GraphError(f"{place}: has no in-edge and no bias.", "Connect it, or give it bias=True.")
    if op.each_port is not None:
        if len(fed) < op.least_ports:
            raise GraphError(
                f"{place}: op {op.name!r} needs at least {op.least_ports} ports, got {', '.join(map(repr, fed))}.",
                "Give its in-edges different 'port' names; edges into one port are summed.",
            )
        return tuple(fed)
    known = [port.name for port in op.ports]
    for edge in into:
        if edge.port not in known:
            raise GraphError(
                f"{where(edge.source, edge.target, edge.key)}: op {op.name!r} of {name!r} has no port {edge.port!r}.",
                did_you_mean(edge.port, known),
            )
    for port in known:
        if port not in fed:
            raise GraphError(f"{place}: nothing is connected to port {port!r} of op {op.name!r}.")
    return tuple(known)


def _add_biases(parameters: dict[str, Parameter], graph: nx.MultiDiGraph[str], nodes: Mapping[str, Node]) -> None:
    for name, node in nodes.items():
        attributes = graph.nodes[name]
        if node.bias is None:
            if attributes.get("bias_trainable") is not None:
                raise GraphError(f"node {name!r}: 'bias_trainable' is given without a bias.", "Add bias=True.")
            continue
        if node.bias in parameters:
            raise GraphError(
                f"node {name!r}: its bias and an edge have one parameter name, {node.bias!r}.",
                "Give the edge another 'param'.",
            )
        parameters[node.bias] = bias_parameter(node, attributes)

"""Small graphs, declared in a line."""

from __future__ import annotations

from typing import Any

import networkx as nx

Edges = list[tuple[str, str, dict[str, Any]]]


def declare(nodes: dict[Any, dict[str, Any]], edges: Edges | None = None) -> nx.MultiDiGraph[str]:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name, attributes in nodes.items():
        graph.add_node(name, **attributes)
    for u, v, attributes in edges or []:
        graph.add_edge(u, v, attributes.get("key"), **{key: a for key, a in attributes.items() if key != "key"})
    return graph


X = {"op": "input", "size": 3}


H = {"op": "tanh", "size": 8}


def node(**attributes: Any) -> nx.MultiDiGraph[str]:
    """A legal graph, but for the attributes of node 'h'."""
    return declare({"x": X, "h": {**H, **attributes}}, [("x", "h", {"weight": "dense"})])


def edge(**attributes: Any) -> nx.MultiDiGraph[str]:
    """A legal graph of sizes 3 and 8, but for the attributes of edge 'x' -> 'h'."""
    return declare({"x": X, "h": H}, [("x", "h", attributes)])


def tie(first: dict[str, Any], second: dict[str, Any], size: int = 3) -> nx.MultiDiGraph[str]:
    """Edges 'x' -> 'a' and 'x' -> 'b' that share parameter 'p'."""
    sized = {"op": "tanh", "size": size}
    return declare(
        {"x": X, "a": sized, "b": sized}, [("x", "a", {**first, "param": "p"}), ("x", "b", {**second, "param": "p"})]
    )

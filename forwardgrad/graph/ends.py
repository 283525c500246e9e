"""Where do values enter a declared graph, and where do they come out? Asked before it is validated."""

from __future__ import annotations

from typing import Any

import networkx as nx

from forwardgrad import ops


def ends(graph: nx.MultiDiGraph[str]) -> tuple[list[str], list[str]]:
    """The nodes whose values are given, and those on which the graph's file puts a loss.

    >>> from forwardgrad.graph.files import load
    >>> ends(load("elman"))
    (['x'], ['y'])
    """
    words: list[tuple[str, Any]] = [(name, node.get("op")) for name, node in graph.nodes(data=True)]
    sources = [name for name, op in words if op in ops.names() and ops.get(op).given]
    return sources, list(graph.graph.get("loss") or {})

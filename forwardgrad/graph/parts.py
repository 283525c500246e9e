"""Nodes that are put together from parts, each as large as what enters it: `place` edges that name a `part`.

A node of op `concat` takes its parts at ports `0`, `1`, ...; they become such edges before anything else is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import networkx as nx

from forwardgrad import ops
from forwardgrad.errors import GraphError
from forwardgrad.graph.schema import where
from forwardgrad.weights import KINDS
from forwardgrad.weights.moving import PLACE

Parts = Mapping[tuple[str, str], list[list[str]]]
"""Per node and port, the sources of each part in order."""


def joined(graph: nx.MultiDiGraph[str]) -> nx.MultiDiGraph[str]:
    """A graph in which the numbered ports of ops that join are parts; the graph itself where it has none.

    Args:
        graph: the declared graph, its attributes checked one by one.

    Raises:
        GraphError: if such a port is no number, or its edge has a weight.
    """
    joins = {name for name, given in graph.nodes(data=True) if ops.get(given["op"]).joins}
    if not joins:
        return graph
    found: nx.MultiDiGraph[str] = nx.MultiDiGraph(**graph.graph)
    found.add_nodes_from(graph.nodes(data=True))
    for u, v, key, attributes in graph.edges(keys=True, data=True):
        found.add_edge(u, v, key, **(_part(where(u, v, key), attributes) if v in joins else attributes))
    return found


def _part(place: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    weight, port = attributes.get("weight"), attributes.get("port")
    if port in (None, "in") and KINDS[weight or "identity"].moves:
        return dict(attributes)
    if weight not in (None, "identity") or attributes.get("value") is not None:
        raise GraphError(
            f"{place}: a part is put into its place as it is, and this edge has a weight.",
            "Put a node of op 'linear' between, and the weight on the edge into that.",
        )
    if not (isinstance(port, str) and port.isdecimal() and port.isascii()):
        got = "none" if port is None else repr(port)
        raise GraphError(f"{place}: the parts of a node are its ports '0', '1', ..., got {got}.", "Give port='0'.")
    return {**attributes, "weight": PLACE.name, "part": int(port), "port": None}


def parts(graph: nx.MultiDiGraph[str]) -> Parts:
    """The parts of each node and port.

    Raises:
        GraphError: if one is missing between others.
    """
    found: defaultdict[tuple[str, str], defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for u, v, attributes in graph.edges(data=True):
        if attributes.get("part") is not None:
            found[v, attributes.get("port") or "in"][int(attributes["part"])].append(u)
    for (name, _), each in found.items():
        for number in range(len(each)):
            if number not in each:
                raise GraphError(
                    f"node {name!r}: part {number} is missing; it has {', '.join(map(str, sorted(each)))}."
                )
    return {port: [each[number] for number in sorted(each)] for port, each in found.items()}


def placed(attributes: Mapping[str, Any], target: str, found: Parts, sizes: Mapping[str, int]) -> Mapping[str, Any]:
    """The attributes of an edge, with where its part begins."""
    if attributes.get("part") is None:
        return attributes
    before = found[target, attributes.get("port") or "in"][: int(attributes["part"])]
    return {**attributes, "at": sum(sizes[sources[0]] for sources in before)}

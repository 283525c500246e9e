"""Stages: which nodes are computed together, cycles step by step and all others for the whole block at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import networkx as nx

from forwardgrad.graph import Network

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Group:
    """Nodes, and whether they lie on a cycle."""

    members: tuple[str, ...]
    cyclic: bool


def groups(order: Sequence[T], arcs: Iterable[tuple[T, T]]) -> list[tuple[tuple[T, ...], bool]]:
    """Strongly connected components in topological order, and whether each has a cycle; within it as ordered.

    >>> groups("abcd", [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")])
    [(('a',), False), (('b', 'c'), True), (('d',), False)]
    """
    graph: nx.DiGraph[T] = nx.DiGraph()
    graph.add_nodes_from(order)
    graph.add_edges_from(arcs)
    rank = {node: place for place, node in enumerate(order)}
    condensed = nx.condensation(graph)
    members = {c: tuple(sorted(condensed.nodes[c]["members"], key=rank.__getitem__)) for c in condensed}
    first: Callable[[int], int] = lambda c: rank[members[c][0]]  # noqa: E731
    return [
        (members[c], len(members[c]) > 1 or graph.has_edge(members[c][0], members[c][0]))
        for c in nx.lexicographical_topological_sort(condensed, key=first)
    ]


def stages(network: Network) -> list[Group]:
    """The stages of the forward pass, in order; neighbours without a cycle are one."""
    order = [name for name in network.order if name not in network.inputs]
    arcs = [(edge.source, edge.target) for edge in network.edges.values() if edge.source not in network.inputs]
    found: list[Group] = []
    for members, cyclic in groups(order, arcs):
        if found and not cyclic and not found[-1].cyclic:
            found[-1] = Group(found[-1].members + members, cyclic=False)
        else:
            found.append(Group(members, cyclic))
    return found

"""Which dense edges become one matrix product? Those that share a source and a delay, and lie side by side in a stack.

A stack is an array in which the ports of several nodes lie side by side: the four gates of an LSTM, say. A run is a
stretch of a stack which one source feeds at one delay: its weights, one below the other, are one matrix.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from forwardgrad.graph import Edge, Network

Port = tuple[str, str]
"""A node and its port."""


def is_matrix(edge: Edge) -> bool:
    """Whether an edge's weight acts as a matrix."""
    return edge.kind in ("dense", "sparse")


@dataclass(frozen=True)
class Stack:
    """Ports side by side.

    Args:
        ports: from the first column on.
        sizes: of each port.
    """

    ports: tuple[Port, ...]
    sizes: tuple[int, ...]

    def columns(self, first: int, count: int = 1) -> tuple[int, int]:
        """The columns that so many ports take, from one on."""
        start = sum(self.sizes[:first])
        return start, start + sum(self.sizes[first : first + count])

    @property
    def width(self) -> int:
        """The number of columns."""
        return sum(self.sizes)


@dataclass(frozen=True)
class Run:
    """Edges from one source at one delay into neighbouring ports of a stack, from port number `first` on."""

    source: str
    delay: int
    first: int
    edges: tuple[Edge, ...]


def stacks(network: Network, nodes: Collection[str]) -> list[Stack]:
    """The stacks of the nodes of one stage: ports that share a source and a delay over dense edges."""
    fed: dict[Port, list[tuple[str, int]]] = {}
    for name in network.order:
        if name in nodes:
            for edge in network.into[name]:
                if is_matrix(edge):
                    fed.setdefault((name, edge.port), []).append((edge.source, edge.delay))
    groups: list[tuple[set[tuple[str, int]], list[Port]]] = []
    for port, sources in fed.items():
        joined = (set(sources), [port])
        apart = [group for group in groups if not group[0] & joined[0]]
        for group in groups:
            if group[0] & joined[0]:
                joined = (joined[0] | group[0], group[1] + joined[1])
        groups = [*apart, joined]
    found: list[Stack] = []
    for _, ports in groups:
        if len(ports) > 1:
            ports = sorted(ports, key=lambda port: (sorted(set(fed[port])), network.nodes[port[0]].op.name))
            found.append(Stack(tuple(ports), tuple(network.nodes[node].size for node, _ in ports)))
    return found


def runs(stack: Stack, edges: Sequence[Edge]) -> list[Run]:
    """The fewest products that serve these edges into a stack."""
    place = {port: index for index, port in enumerate(stack.ports)}
    by_source: defaultdict[tuple[str, int], list[list[Edge]]] = defaultdict(list)
    for edge in sorted(edges, key=lambda edge: place[edge.target, edge.port]):
        rows = by_source[edge.source, edge.delay]
        at = place[edge.target, edge.port]
        open_ = [row for row in rows if place[row[-1].target, row[-1].port] == at - 1]
        if open_:
            open_[0].append(edge)
        else:
            rows.append([edge])
    return [
        Run(source, delay, place[row[0].target, row[0].port], tuple(row))
        for (source, delay), rows in by_source.items()
        for row in rows
    ]

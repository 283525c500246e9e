"""Which dense edges become one matrix product? Those that share a source and a delay, and lie side by side in a stack.

A stack is an array in which the ports of several nodes lie side by side: the four gates of an LSTM, say. A run is a
stretch of a stack which one source feeds at one delay: its weights, one below the other, are one matrix.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

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

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        return tuple(accumulate(self.sizes, initial=0))

    def columns(self, first: int, count: int = 1) -> tuple[int, int]:
        """The columns that so many ports take, from one on."""
        return self._starts[first], self._starts[first + count]

    @property
    def width(self) -> int:
        """The number of columns."""
        return self._starts[-1]


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
    found: list[Stack] = []
    for group in _sharing(fed):
        if len(group) > 1:
            ports = sorted(group, key=lambda port: (sorted(set(fed[port])), network.nodes[port[0]].op.name))
            found.append(Stack(tuple(ports), tuple(network.nodes[node].size for node, _ in ports)))
    return found


def _sharing(fed: Mapping[Port, Sequence[tuple[str, int]]]) -> list[list[Port]]:
    """The ports in groups: two that share a source and a delay are in one, and so on from port to port."""
    parent: dict[tuple[str, int], tuple[str, int]] = {}

    def root(source: tuple[str, int]) -> tuple[str, int]:
        while parent.setdefault(source, source) != source:
            parent[source] = source = parent[parent[source]]
        return source

    for sources in fed.values():
        for source in sources:
            parent[root(source)] = root(sources[0])
    groups: dict[tuple[str, int], list[Port]] = {}
    for port, sources in fed.items():
        group = groups.pop(root(sources[0]), [])
        group.append(port)
        groups[root(sources[0])] = group  # at the end: the group that got a port last comes last
    return list(groups.values())


def runs(stack: Stack, edges: Sequence[Edge]) -> list[Run]:
    """The fewest products that serve these edges into a stack."""
    place = {port: index for index, port in enumerate(stack.ports)}
    by_source: defaultdict[tuple[str, int], list[list[Edge]]] = defaultdict(list)
    open_: defaultdict[tuple[str, int], defaultdict[int, deque[list[Edge]]]] = defaultdict(lambda: defaultdict(deque))
    for edge in sorted(edges, key=lambda edge: place[edge.target, edge.port]):
        rows, ends = by_source[edge.source, edge.delay], open_[edge.source, edge.delay]
        at = place[edge.target, edge.port]
        if ends[at - 1]:
            row = ends[at - 1].popleft()
        else:
            rows.append(row := [])
        row.append(edge)
        ends[at].append(row)
    return [
        Run(source, delay, place[row[0].target, row[0].port], tuple(row))
        for (source, delay), rows in by_source.items()
        for row in rows
    ]

"""The nodes whose sizes are tied, and small sizes that tell the others apart."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from fnmatch import fnmatchcase

from networkx.utils import UnionFind

from forwardgrad.graph import Network
from forwardgrad.graph.parts import joined
from forwardgrad.graph.sizes import links
from forwardgrad.program import Program
from forwardgrad.rules.rule import LABELS

SMALL = (2, 3)
"""The sizes that nodes are given. Two of them, so that a transposed matrix between two classes does not fit."""


def classes(program: Program) -> tuple[tuple[str, ...], ...]:
    """The nodes in classes of equal size, in the order of the graph.

    Sizes are tied by edges whose weight keeps the size, by shared parameters, and by constants of a rule that have one
    number per unit.

    Args:
        program: the compiled program.

    >>> import forwardgrad as fg
    >>> classes(fg.compile(fg.load("elman"), rule="eprop"))
    (('x',), ('h',), ('y',))
    """
    graph, network = joined(program.graph), program.network
    tied: UnionFind[str] = UnionFind(network.nodes)
    for a, b, _ in links(graph, _ties(network)):
        tied.union(a, b)
    for group in _constants(program).values():
        tied.union(*group)
    found: dict[str, list[str]] = {}
    for name in network.nodes:
        found.setdefault(tied[name], []).append(name)
    return tuple(tuple(group) for group in found.values())


def small_sizes(groups: Sequence[Sequence[str]]) -> list[dict[str, int]]:
    """The size of each node in each run; any two classes differ in at least one run.

    The size of class `i` in run `r` is chosen by the bit `r` of `i`, so that n classes take log2(n) runs.

    >>> small_sizes([["x"], ["h", "c"], ["y"]])
    [{'x': 2, 'h': 3, 'c': 3, 'y': 2}, {'x': 2, 'h': 2, 'c': 2, 'y': 3}]
    """
    runs = max(1, (len(groups) - 1).bit_length())
    return [
        {name: SMALL[number >> run & 1] for number, group in enumerate(groups) for name in group} for run in range(runs)
    ]


def _ties(network: Network) -> list[list[tuple[str, str, int | str]]]:
    found: list[list[tuple[str, str, int | str]]] = []
    for parameter in network.parameters.values():
        edges = [network.edges[name] for name in parameter.edges]
        if len(edges) > 1:
            found.append([(edge.source, edge.target, edge.key) for edge in edges])
    return found


def _constants(program: Program) -> Mapping[Hashable, list[str]]:
    """The nodes at the ends of edges with constants in place of a Jacobian, by the constants where each unit has one.

    A pattern that is a label may stand for any edge that keeps the size.
    """
    found: dict[Hashable, list[str]] = {}
    constants = {pair for rule in program.chosen.values() for pair in rule.operator}
    for edge in program.network.edges.values():
        ends = (edge.source, edge.target)
        keeps = program.network.nodes[edge.source].size == program.network.nodes[edge.target].size
        for pattern, values in constants if keeps else ():
            if pattern in LABELS or fnmatchcase(edge.name, pattern):
                found.setdefault(values if len(values) > 1 else edge.name, []).extend(ends)
    return found

"""Parameters that are no longer trained: the same graph with some of them fixed."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import networkx as nx

from forwardgrad.errors import GraphError, did_you_mean
from forwardgrad.graph import validate


def frozen(graph: nx.MultiDiGraph[str], patterns: str | Iterable[str] = "*") -> nx.MultiDiGraph[str]:
    """The graph with these parameters fixed: they keep their values, have no gradient, and no influence is stored.

    Args:
        graph: a declared graph; it is not changed.
        patterns: of names of parameters, such as `"l1.*"`; case-sensitive. By default all.

    Returns:
        A graph with `trainable` or `bias_trainable` set to `False` where a pattern fits.

    Raises:
        GraphError: if the graph is malformed, or a pattern fits no parameter.

    >>> import forwardgrad as fg
    >>> program = fg.compile(frozen(fg.load("elman"), ["x->h", "h->h", "h.bias"]))
    >>> list(program.rules)
    ['h->y', 'y.bias']
    """
    network = validate(graph)
    fixed: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        fitting = {name for name in network.parameters if fnmatchcase(name, pattern)}
        if not fitting:
            raise GraphError(
                f"frozen: {pattern!r} fits no parameter of the graph.", did_you_mean(pattern, network.parameters)
            )
        fixed |= fitting
    found: nx.MultiDiGraph[str] = nx.MultiDiGraph(graph)
    for name in fixed:
        parameter = network.parameters[name]
        if parameter.node is not None:
            found.nodes[parameter.node]["bias_trainable"] = False
        for edge in (network.edges[each] for each in parameter.edges):
            found.edges[edge.source, edge.target, edge.key]["trainable"] = False
    return found

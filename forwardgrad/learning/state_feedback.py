"""Diagonal state feedback (DSF): one fixed number per unit in place of all that a layer's credit does in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.compiler.labels import label
from forwardgrad.errors import GraphError, RuleError, did_you_mean
from forwardgrad.graph import Network, validate
from forwardgrad.rules.paths import cut
from forwardgrad.rules.rule import Rule
from forwardgrad.rules.table import rule as read_rule

KEY = "feedback"
"""The key of the edges that bring credit back in time."""


def state_feedback(
    graph: nx.MultiDiGraph[str], states: Mapping[str, Any] | str, rule: Any = "rtrl"
) -> tuple[nx.MultiDiGraph[str], Rule]:
    """The graph and the rule of diagonal state feedback, for layers of any kind.

    Write h for the state of a layer, such as the output of its cell, and e(t) for what comes back to h(t) within step
    t, from losses and from layers above. Backpropagation adds what comes from h(t+1) by the Jacobian of the cell. DSF
    puts a fixed diagonal matrix A in its place, and drops what else the layer remembers:

        g(t) = e(t) + A g(t+1)

    Within a step, the Jacobian of the cell is exact. A is linear and known beforehand, so that credit needs one number
    per synapse and quantity however units are connected.

    As a graph: an edge `h->h#feedback` of weight 0 and delay 1 changes no value. The rule cuts all other delayed edges
    inside layers, and its operator on that edge is A. So it runs at any block length, and forward in time too.

    Source: Caillon, Fagnou & Allauzen 2025, "Fast training of recurrent neural networks with stationary state
    feedbacks", arXiv 2503.23104. Their code has A = diag(linspace(0, 1, n)), which is what `"linspace"` says here.

    Args:
        graph: a declared graph; it is not changed.
        states: `{node: A}`, A being `"linspace"`, a number, or one for each unit; or one node, whose A is `"linspace"`.
        rule: within which paths; by default all.

    Returns:
        The graph with its feedback edges, and the rule.

    Raises:
        GraphError: if the graph is malformed, has no such node, or the node is an input or has such an edge.
        RuleError: if A does not fit the size of its node, or the given rule has an operator of its own.

    >>> import forwardgrad as fg
    >>> graph, rule = state_feedback(fg.load("gru"), "l1.h")
    >>> program = fg.compile(graph, rule=rule)
    >>> len(program.rules["x->l1.n"].rule.operator[0][1])
    32
    """
    network = validate(graph)
    operators = {states: "linspace"} if isinstance(states, str) else dict(states)
    edges = label(network, ()).edges
    forgotten = [name for name, edge in edges.items() if edge.recurrent and edge.delay]
    given = read_rule(rule)
    if given.operator:
        raise RuleError(f"state feedback: the rule {str(given)!r} has an operator of its own.")
    fed: nx.MultiDiGraph[str] = nx.MultiDiGraph(graph)
    constants: dict[str, list[float]] = {}
    for name, operator in operators.items():
        port = _port(network, name)
        fed.add_edge(name, name, KEY, value=0.0, delay=1, port=port)
        constants[f"{name}->{name}#{KEY}"] = _numbers(name, operator, network.nodes[name].size)
    paths = given.paths & cut(forgotten) if forgotten else given.paths
    return fed, replace(given, paths=paths, operator=constants, name="")


def _port(network: Network, name: str) -> str:
    """A port of a node to which nothing can be added without a change of its value."""
    node = network.nodes.get(name)
    if node is None:
        raise GraphError(f"state feedback: the graph has no node {name!r}.", did_you_mean(name, network.nodes))
    if not node.ports:
        raise GraphError(f"state feedback: node {name!r} is an input; no credit goes on behind it.")
    if any(edge.source == name and edge.key == KEY for edge in network.into[name]):
        raise GraphError(f"state feedback: the graph has an edge '{name}->{name}#{KEY}' already.")
    return node.ports[0]


def _numbers(name: str, operator: Any, size: int) -> list[float]:
    if isinstance(operator, str):
        if operator != "linspace":
            raise RuleError(f"state feedback on {name!r}: unknown operator {operator!r}.", "Known: 'linspace'.")
        return np.linspace(0, 1, size).tolist()
    try:
        array = np.asarray(operator, np.float64)
    except (TypeError, ValueError):
        array = np.full((0, 0), np.nan)
    if array.shape not in ((), (size,)) or not np.isfinite(array).all():
        raise RuleError(f"state feedback on {name!r}: expected a finite number, or {size} of them, got {operator!r}.")
    return np.broadcast_to(array, (size,)).tolist()

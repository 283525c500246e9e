"""Delayed edges that make one recurrent layer of several, and what a rule no longer stores because of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import networkx as nx

from forwardgrad.compiler.labels import Labels
from forwardgrad.compiler.plan import Plan, make_plan
from forwardgrad.errors import RuleError
from forwardgrad.graph import Network


@dataclass(frozen=True)
class Merged:
    """Layers that are one component by edges back, and influence that is therefore not stored.

    Args:
        edges: the delayed edges that lead back from a later layer.
        unstored: pairs of a parameter and a node, those in the later layer first. The influence of the parameter on
            the node would be stored if the edges had the role `topdown`.
    """

    edges: tuple[str, ...]
    unstored: tuple[tuple[str, str], ...]


def merged_layers(plan: Plan) -> Merged | None:
    """Find layers that edges back make one, where the rules of a plan store less because of that.

    The rules are asked: the graph is compiled again with these edges in the role `topdown`, and without credit over
    them. Rules that do not tell layers apart store no more than before, and nothing is found.

    Args:
        plan: what was derived for the graph as it is declared.

    Returns:
        The edges, and the influence that they keep from being stored; or `None` if there is none.
    """
    edges = edges_back(plan.network, plan.labels)
    if not edges:
        return None
    given = plan.network
    declared = dict(given.edges) | {name: replace(given.edges[name], role="topdown", credit="cut") for name in edges}
    into = {node: tuple(declared[edge.name] for edge in entering) for node, entering in given.into.items()}
    try:
        apart = make_plan(replace(given, edges=declared, into=into), plan.outputs, plan.rules)
    except RuleError:  # the rule does not serve that graph
        return None
    layer = apart.labels.components
    later = {layer[declared[name].source] for name in edges}
    unstored = sorted(_stored(apart) - _stored(plan), key=lambda pair: (layer[pair[1]] not in later, pair))
    return Merged(edges, tuple(unstored)) if unstored else None


def edges_back(network: Network, labels: Labels) -> tuple[str, ...]:
    """The delayed edges that lead back from a later recurrent layer, and without which there would be several.

    Two parts of a component are different layers if each is recurrent without these edges. The later one is reached
    from the other in the same step. If both ends of an edge are declared with the same `layer`, it stays inside it.

    Args:
        network: the validated graph.
        labels: its labels.
    """
    within = [edge for edge in network.edges.values() if labels.edges[edge.name].recurrent]
    units: nx.Graph[str] = nx.Graph()  # nodes that hold quantities of the same units in the same step
    units.add_nodes_from(network.nodes)
    units.add_edges_from((e.source, e.target) for e in within if not e.delay and not labels.edges[e.name].mixing)
    group = {node: number for number, nodes in enumerate(nx.connected_components(units)) for node in nodes}
    same_step: nx.DiGraph[int] = nx.DiGraph()
    same_step.add_nodes_from(group.values())
    same_step.add_edges_from((group[e.source], group[e.target]) for e in within if not e.delay)
    back = {
        edge.name: edge
        for edge in within
        if edge.delay
        and group[edge.source] != group[edge.target]
        and not _declared_together(network, edge.source, edge.target)
        and nx.has_path(same_step, group[edge.target], group[edge.source])
    }
    forward: nx.DiGraph[str] = nx.DiGraph()
    forward.add_nodes_from(network.nodes)
    forward.add_edges_from((edge.source, edge.target) for edge in within if edge.name not in back)
    parts: nx.DiGraph[int] = nx.condensation(forward)
    part: dict[str, int] = parts.graph["mapping"]
    recurrent = {part[u] for u, v in forward.edges if part[u] == part[v]}
    return tuple(
        name
        for name, edge in back.items()
        if len(recurrent & _between(parts, part[edge.target], part[edge.source])) > 1
    )


def _declared_together(network: Network, *names: str) -> bool:
    layers = {network.nodes[name].layer for name in names}
    return len(layers) == 1 and None not in layers


def _between(graph: nx.DiGraph[int], first: int, last: int) -> set[int]:
    """The vertices on paths from one to another, with both ends; empty without a path."""
    after, before = nx.descendants(graph, first) | {first}, nx.ancestors(graph, last) | {last}
    return after & before


def _stored(plan: Plan) -> set[tuple[str, str]]:
    """Pairs of a parameter and a node on which its influence is stored, or by whose leak it is filtered."""
    places = plan.product.places
    return {(name, places[at].filtered or places[at].node) for name, ats in plan.entries.items() for at in ats}

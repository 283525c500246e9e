"""How is a graph drawn that is too large to draw? One node per layer, one edge per bundle of edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import graphviz

from forwardgrad.graph import Network
from forwardgrad.render import style
from forwardgrad.render.text import count, lines, power

Group = tuple[str, str]
"""`("layer", name)`, or `("node", name)` for a node without a layer."""

Bundle = tuple[Group, Group, int]
"""Source, target and delay."""


def collapse(network: Network) -> tuple[dict[Group, list[str]], dict[Bundle, int]]:
    """The nodes of every group, and how many edges every bundle holds, both in the order of the graph.

    Edges of delay 0 inside a layer are left out.
    """
    of = {name: ("node", name) if node.layer is None else ("layer", node.layer) for name, node in network.nodes.items()}
    groups: dict[Group, list[str]] = {}
    for name, group in of.items():
        groups.setdefault(group, []).append(name)
    bundles = Counter((of[edge.source], of[edge.target], edge.delay) for edge in network.edges.values())
    return groups, {bundle: n for bundle, n in bundles.items() if bundle[0] != bundle[1] or bundle[2]}


def draw(
    network: Network, groups: Mapping[Group, list[str]], bundles: Mapping[Bundle, int], title: str | None
) -> graphviz.Digraph:
    """Draw the groups and bundles of a network."""
    drawing = style.canvas(title, ["one node per layer", style.DELAYED_NOTE])
    ids = {group: f"n{index}" for index, group in enumerate(groups)}
    looped = {source for source, target, _ in bundles if source == target}
    for group, names in groups.items():
        kind, name = group
        units = sum(network.nodes[node].size for node in names)
        only = network.nodes[names[0]]
        drawing.node(
            ids[group],
            label=lines(
                name,
                count(len(names), "node") if kind == "layer" else only.op.name,
                count(units, "unit"),
            ),
            id=ids[group],
            tooltip=lines(name, limit=400),
            shape="box3d" if kind == "layer" else only.op.shape,
            fillcolor=style.STATE_GROUND if group in looped else None,
        )
    place = {group: index for index, group in enumerate(groups)}
    for index, ((source, target, delay), number) in enumerate(bundles.items()):
        style.connect(
            drawing,
            ids[source],
            ids[target],
            back=delay > 0 and place[target] <= place[source],
            label=lines(count(number, "edge"), power(delay) if delay else ""),
            id=f"e{index}",
            tooltip=lines(f"{source[1]}->{target[1]}", limit=400),
            **style.edge(delayed=delay > 0, trained=True),
        )
    return drawing

"""How is a graph drawn that is too large to draw? One node per layer, one edge per bundle of edges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from forwardgrad.errors import RenderError
from forwardgrad.graph import Edge, Network
from forwardgrad.render import labels, style
from forwardgrad.render.picture import Picture
from forwardgrad.render.style import Key, Line
from forwardgrad.render.text import count, lines, power

CAP = 300
"""Nodes that are drawn one by one unless told otherwise; soon after, layout takes minutes."""

READABLE = 100
"""Nodes that are read on one screen; a graph with more is drawn by its layers where it has any."""

EDGES_PER_NODE = 4
"""A graph also counts as too large with more edges than this many times the cap."""

Group = tuple[str, str]
"""`("layer", name)`, or `("node", name)` for a node without a layer."""

Bundle = tuple[Group, Group, int]
"""Source, target and delay."""

Look = Callable[[Sequence[Edge], bool], tuple[Sequence[str], Line]]
"""What is on a bundle of edges beside its delay, and its look; told whether it is delayed."""


def plain(edges: Sequence[Edge], delayed: bool) -> tuple[Sequence[str], Line]:
    """A bundle is drawn as an edge is, with the number of its edges."""
    return [count(len(edges), "edge")], style.weight(delayed=delayed, trained=True)


def layered(
    network: Network,
    title: str | None,
    cap: int | None,
    look: Look = plain,
    legend: Sequence[Key] = (style.DELAYED,),
    about: Callable[[Sequence[str]], Sequence[str]] = lambda names: (),
) -> Picture | None:
    """A network of more nodes or edges than may be drawn one by one, by its layers; `None` for a smaller one.

    Args:
        network: the validated graph.
        title: a line under the picture.
        cap: the most nodes to draw, and four times as many edges; `None` for any number.
        look: how a bundle is drawn.
        legend: what lines and shapes mean.
        about: further lines on the nodes of a group.

    Raises:
        RenderError: if it is too large even with one node per layer.
    """
    if cap is None:
        return None
    groups, bundles = _collapse(network)
    if not _too_large(len(network.nodes), len(network.edges), cap):
        folds = cap == CAP and len(network.nodes) > READABLE >= 2 * len(groups)
        return _draw(network, groups, bundles, title, look, legend, about) if folds else None
    if _too_large(len(groups), len(bundles), cap):
        raise RenderError(
            f"too large to draw: {len(network.nodes)} nodes and {len(network.edges)} edges; "
            f"the limits are {cap} and {EDGES_PER_NODE * cap}.",
            f"With one node per layer it still has {len(groups)} nodes and {len(bundles)} edges."
            if len(groups) < len(network.nodes)
            else "Give nodes a 'layer': a large graph is then drawn with one node per layer.",
            f"To lay it out all the same, raise the limit (cap={max(len(network.nodes), 2 * cap)}) or drop it (None).",
        )
    return _draw(network, groups, bundles, title, look, legend, about)


def _too_large(nodes: int, edges: int, cap: int) -> bool:
    return nodes > cap or edges > EDGES_PER_NODE * cap


def _collapse(network: Network) -> tuple[dict[Group, list[str]], dict[Bundle, list[Edge]]]:
    """The nodes of every group, and the edges of every bundle, both in the order of the graph.

    Edges of delay 0 inside a layer are left out.
    """
    of = {name: ("node", name) if node.layer is None else ("layer", node.layer) for name, node in network.nodes.items()}
    groups: dict[Group, list[str]] = {}
    for name, group in of.items():
        groups.setdefault(group, []).append(name)
    bundles: dict[Bundle, list[Edge]] = {}
    for edge in network.edges.values():
        bundles.setdefault((of[edge.source], of[edge.target], edge.delay), []).append(edge)
    return groups, {bundle: edges for bundle, edges in bundles.items() if bundle[0] != bundle[1] or bundle[2]}


def _draw(
    network: Network,
    groups: Mapping[Group, list[str]],
    bundles: Mapping[Bundle, list[Edge]],
    title: str | None,
    look: Look,
    legend: Sequence[Key],
    about: Callable[[Sequence[str]], Sequence[str]],
) -> Picture:
    picture = Picture(title, [Key("one node per layer, one arrow per bundle of edges"), *legend])
    ids = {group: f"n{index}" for index, group in enumerate(groups)}
    looped = {source for source, target, _ in bundles if source == target}
    for group, names in groups.items():
        kind, name = group
        units = sum(network.nodes[node].size for node in names)
        only = network.nodes[names[0]]
        picture.node(
            ids[group],
            lines(
                name,
                count(len(names), "node") if kind == "layer" else only.op.name,
                count(units, "unit"),
                *about(names),
            ),
            tooltip=lines(name, limit=400),
            **(labels.shape(only.op.shape) if kind == "node" else {"shape": "box3d"}),
            **(style.node("state") if group in looped else {}),
        )
    place = {group: index for index, group in enumerate(groups)}
    for index, ((source, target, delay), edges) in enumerate(bundles.items()):
        text, line = look(edges, delay > 0)
        picture.edge(
            ids[source],
            ids[target],
            line,
            identity=f"e{index}",
            label=lines(*text, power(delay) if delay else ""),
            back=delay > 0 and place[target] <= place[source],
            tooltip=lines(f"{source[1]}->{target[1]}", limit=400),
        )
    return picture

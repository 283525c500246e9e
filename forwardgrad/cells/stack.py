"""Layers on top of each other, with the skips that deep networks have, and feedback from above."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import networkx as nx

from forwardgrad.cells.cell import Cell
from forwardgrad.errors import GraphError, did_you_mean

LAYERS: dict[str, Callable[..., str]] = {}
"""The cells that can be stacked, by name: those that read one input and have one output of their size."""


def stack(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    layer: str = "elman",
    depth: int = 2,
    skips: str = "none",
    feedback: int = 0,
    **options: Any,
) -> str:
    """Add layers of one kind on top of each other: layer k reads s(k-1), and h(k) is what it makes of it.

        none:              s(0) = x,  s(k) = h(k)
        residual:          s(0) = x,  s(1) = h(1),  s(k) = s(k-1) + h(k)
        dense:             s(0) = x,  s(k) = x, h(1), ..., h(k), one behind the other; the output is h(depth)
        auto_compressing:  as none, and the output is h(1) + ... + h(depth)

    With feedback each layer but the last also reads what the layer above it was `feedback` steps ago, by dense edges of
    their own beside those from its input. Their role is `topdown`, so that rules tell the layers apart.

    Source: residual skips: He et al. 2016, arXiv 1512.03385; dense: Huang et al. 2017, arXiv 1608.06993;
    auto-compressing: Dorovatas et al. 2025, arXiv 2506.09714, there with the input in the sum.

    Args:
        graph: the graph it is added to.
        name: name of the stack; its layers are cells `name.1`, `name.2` and so on, the sums of skips `name.s2` and so
            on, what dense skips put together `name.s1` and so on, and the sum over all layers `name.y`.
        input: name of the node that feeds it.
        size: number of units of each layer.
        layer: name of the cell that a layer is.
        depth: number of layers, from 1 to 1000.
        skips: `"none"`, `"residual"`, `"dense"` or `"auto_compressing"`.
        feedback: after how many steps a layer sees the one above it; not at all unless given.
        options: further arguments of the cell, the same for each layer.

    Returns:
        The name of the output node.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> stack(g, "deep", input="x", size=8, layer="lstm", depth=3, skips="residual")
    'deep.s3'
    """
    whole = Cell(graph, "stack", name, size)
    depth, feedback = whole.whole("depth", depth, 1, 1000), whole.whole("feedback", feedback, 0)
    skips = whole.word("skips", skips, "none", "residual", "dense", "auto_compressing")
    add = _layer(whole, layer, options)
    source = whole.input(input)
    built: nx.MultiDiGraph[str] = nx.MultiDiGraph(graph)
    outputs: list[str] = []
    reads = [source]
    for number in range(1, depth + 1):
        try:
            outputs.append(add(built, f"{name}.{number}", reads[-1], whole.size, **options))
        except GraphError as error:
            raise GraphError(f"{whole.place}: {error}") from None
        if number == 1 and skips != "dense":
            reads.append(outputs[0])
        elif skips == "residual":
            reads.append(_sum(built, whole, f"s{number}", [reads[-1], outputs[-1]]))
        elif skips == "dense" and number < depth:
            reads.append(_together(built, whole, f"s{number}", [source, *outputs]))
        else:
            reads.append(outputs[-1])
    if feedback:
        for below, above in zip(range(depth - 1), outputs[1:], strict=True):
            _see(built, reads[below], f"{name}.{below + 1}", above, feedback)
    output = _sum(built, whole, "y", outputs) if skips == "auto_compressing" else reads[-1]
    graph.add_nodes_from((node, given) for node, given in built.nodes(data=True) if node not in graph)
    for u, v, key, given in built.edges(keys=True, data=True):
        if not graph.has_edge(u, v, key):
            graph.add_edge(u, v, key, **given)
    return output


def _layer(whole: Cell, name: Any, options: Mapping[str, Any]) -> Callable[..., str]:
    """The cell of a name, which takes these arguments."""
    if not isinstance(name, str) or name not in LAYERS:
        raise GraphError(f"{whole.place}: 'layer' names no cell: {name!r}.", did_you_mean(name, LAYERS))
    known = [key for key, each in inspect.signature(LAYERS[name]).parameters.items() if each.kind is each.KEYWORD_ONLY]
    for key in options:
        if key not in known:
            raise GraphError(f"{whole.place}: cell {name!r} has no argument {key!r}.", did_you_mean(key, known))
    return LAYERS[name]


def _sum(built: nx.MultiDiGraph[str], whole: Cell, suffix: str, parts: list[str]) -> str:
    """Add the sum of some nodes."""
    cell = Cell(built, "stack", whole.name, whole.size)
    node = cell.node(suffix, "linear")
    for part in parts:
        cell.edge(part, node)
    return cell.add(node)


def _together(built: nx.MultiDiGraph[str], whole: Cell, suffix: str, parts: list[str]) -> str:
    """Add a node in which some nodes follow each other."""
    cell = Cell(built, "stack", whole.name, whole.size)
    node = cell.node(suffix, "concat")
    for number, part in enumerate(parts):
        cell.edge(part, node, port=str(number))
    return cell.add(node)


def _see(built: nx.MultiDiGraph[str], input: str, layer: str, above: str, feedback: int) -> None:
    """Let every node of a layer that reads its input read the layer above too, by an edge like that."""
    for _, unit, given in list(built.out_edges(input, data=True)):
        if built.nodes[unit].get("layer") == layer:
            ago = int(given.get("delay") or 0) + feedback
            built.add_edge(above, unit, "feedback", **{**given, "delay": ago, "role": "topdown"})

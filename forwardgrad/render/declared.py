"""How is a declared graph drawn? Layers as clusters, delays dashed, shared weights in one colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import graphviz
import networkx as nx

from forwardgrad.errors import RenderError
from forwardgrad.graph import Edge, Network, validate
from forwardgrad.render import collapsed, labels, style
from forwardgrad.render.text import lines

CAP = 300
"""Nodes that are drawn one by one unless told otherwise; soon after, layout takes minutes."""

EDGES_PER_NODE = 4
"""A graph also counts as too large with more edges than this many times the cap."""


def graph(
    graph: nx.MultiDiGraph[str] | Network, *, title: str | None = None, cap: int | None = CAP
) -> graphviz.Digraph:
    """Draw a declared graph.

    A node shows its name, op, size and bias; an edge its weight, port, delay, role and credit. An edge that reads an
    earlier step is dashed and blue, so that recurrence stands out; one that is not trained is grey; edges that share
    a parameter have one colour and show its name. A node whose own past is read back has a blue ground.

    Args:
        graph: a declared graph, or a validated one.
        title: a line under the picture.
        cap: the most nodes to draw (and four times as many edges). A larger graph is drawn with one node per layer;
            `None` draws everything.

    Returns:
        The drawing. Equal graphs give equal DOT text. Node k of the graph is `nk`, edge k has the id `ek`, both
        counted from 0 in the order of the graph (with one node per layer: in the order of the picture). An edge that
        closes a loop is written from its target to its source with `dir=back`.

    Raises:
        GraphError: if the graph is malformed.
        RenderError: if it is too large even with one node per layer.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=2)
    >>> g.add_node("h", op="tanh", size=3, bias=True)
    >>> _ = g.add_edge("x", "h", weight="dense")
    >>> _ = g.add_edge("h", "h", weight="dense", delay=1)
    >>> print(graph(g).source.splitlines()[-2].split(" color")[0].strip())
    n1 -> n1 [label="dense 3×3\\nz⁻¹"
    """
    network = graph if isinstance(graph, Network) else validate(graph)
    if cap is None or not _too_large(len(network.nodes), len(network.edges), cap):
        return _draw(network, title)
    groups, bundles = collapsed.collapse(network)
    if _too_large(len(groups), len(bundles), cap):
        layered = len(groups) < len(network.nodes)
        raise RenderError(
            f"too large to draw: {len(network.nodes)} nodes and {len(network.edges)} edges; "
            f"the limits are {cap} and {EDGES_PER_NODE * cap}.",
            f"With one node per layer it still has {len(groups)} nodes and {len(bundles)} edges."
            if layered
            else "Give nodes a 'layer': a large graph is then drawn with one node per layer.",
            f"To lay it out all the same, raise the limit (cap={max(len(network.nodes), 2 * cap)}) or drop it (None).",
        )
    return collapsed.draw(network, groups, bundles, title)


def _too_large(nodes: int, edges: int, cap: int) -> bool:
    return nodes > cap or edges > EDGES_PER_NODE * cap


def _draw(network: Network, title: str | None) -> graphviz.Digraph:
    ids = {name: f"n{index}" for index, name in enumerate(network.nodes)}
    loops, states = _loops(network)
    shared = _shared(network)
    edges = network.edges.values()
    notes = [
        style.DELAYED_NOTE if any(edge.delay for edge in edges) else "",
        style.STATE_NOTE if states else "",
        style.FIXED_NOTE if any(not _trained(network, edge) for edge in edges) else "",
        style.SHARED_NOTE if shared else "",
    ]
    drawing = style.canvas(title, notes)
    layers = list(dict.fromkeys(node.layer for node in network.nodes.values() if node.layer is not None))
    for index, layer in enumerate(layers):
        frame = graphviz.Digraph(f"cluster_{index}")
        frame.attr("graph", **style.cluster(lines(layer), f"layer_{index}"))
        _add_nodes(frame, network, ids, states, layer)
        drawing.subgraph(frame)
    _add_nodes(drawing, network, ids, states, None)
    for index, edge in enumerate(edges):
        style.connect(
            drawing,
            ids[edge.source],
            ids[edge.target],
            back=edge.name in loops,
            label=labels.edge(network, edge, shared),
            id=f"e{index}",
            tooltip=lines(edge.name, limit=400),
            **style.edge(delayed=edge.delay > 0, trained=_trained(network, edge), shared=shared.get(edge.param or "")),
        )
    return drawing


def _add_nodes(
    drawing: graphviz.Digraph, network: Network, ids: Mapping[str, str], states: set[str], layer: str | None
) -> None:
    for name, node in network.nodes.items():
        if node.layer == layer:
            drawing.node(
                ids[name],
                label=labels.node(network, node),
                id=ids[name],
                tooltip=lines(name, limit=400),
                shape=node.op.shape,
                fillcolor=style.STATE_GROUND if name in states else None,
            )


def _trained(network: Network, edge: Edge) -> bool:
    return edge.param is not None and network.parameters[edge.param].trainable


def _shared(network: Network) -> dict[str, int]:
    """The parameters that stand on several edges, counted."""
    names = [name for name, parameter in network.parameters.items() if len(parameter.edges) > 1]
    return {name: index for index, name in enumerate(names)}


def _loops(network: Network) -> tuple[set[str], set[str]]:
    """The delayed edges that lead back inside a loop, and the nodes that hold a state.

    With the former turned round the layout sees no loop: inside a component every edge then leads forward in
    `network.order`.
    """
    place = {name: index for index, name in enumerate(network.order)}
    everywhere = _components(network.edges.values())
    component = _components(edge for edge in network.edges.values() if edge.role != "topdown")
    back: set[str] = set()
    states: set[str] = set()
    for edge in network.edges.values():
        u, v = edge.source, edge.target
        if edge.delay and everywhere.get(u) == everywhere.get(v) and place[v] <= place[u]:
            back.add(edge.name)
        if edge.delay and edge.role != "topdown" and component.get(u) == component.get(v):
            states.add(u)
    return back, states


def _components(edges: Iterable[Edge]) -> dict[str, int]:
    """The strongly connected component of every node that has an edge."""
    plain: nx.DiGraph[str] = nx.DiGraph([(edge.source, edge.target) for edge in edges])
    return {name: index for index, names in enumerate(nx.strongly_connected_components(plain)) for name in names}

"""How is a declared graph drawn? Layers as clusters, delays dashed, shared weights in one colour."""

from __future__ import annotations

import networkx as nx

from forwardgrad.graph import Edge, Network, validate
from forwardgrad.render import collapsed, labels, style
from forwardgrad.render.collapsed import CAP
from forwardgrad.render.picture import Picture
from forwardgrad.render.scene import Scene, loops


def graph(graph: nx.MultiDiGraph[str] | Network, *, title: str | None = None, cap: int | None = CAP) -> Picture:
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
    >>> print(graph(g).source.splitlines()[-2].split(" class")[0].strip())
    n1 -> n1 [label="dense 3×3\\nz⁻¹"
    """
    network = graph if isinstance(graph, Network) else validate(graph)
    return collapsed.layered(network, title, cap) or _draw(network, title)


def _draw(network: Network, title: str | None) -> Picture:
    edges, shared = network.edges.values(), labels.shared(network)
    legend = style.met(
        [
            (style.DELAYED, any(edge.delay for edge in edges)),
            (style.STATE, loops(network)[1]),
            (style.FIXED, any(not _trained(network, edge) for edge in edges)),
            (style.SHARED_KEY, shared),
        ]
    )
    scene = Scene(network, title, legend)
    scene.nodes(
        lambda node: labels.node(network, node), lambda node: style.node("state") if node.name in scene.states else {}
    )
    for edge in edges:
        look = style.weight(
            delayed=edge.delay > 0, trained=_trained(network, edge), shared=shared.get(edge.param or "")
        )
        scene.edge(edge, look, labels.edge(network, edge, shared))
    return scene.picture


def _trained(network: Network, edge: Edge) -> bool:
    return edge.param is not None and network.parameters[edge.param].trainable

"""What do all pictures of a declared graph share? Nodes in frames of layers; edges that layout sees without loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import graphviz
import networkx as nx

from forwardgrad.graph import Edge, Network, Node
from forwardgrad.render import style
from forwardgrad.render.text import lines


class Scene:
    """A declared graph on a canvas: node k is `nk`, both as a name and as an id.

    Args:
        network: the validated graph.
        title: a line under the picture.
        notes: the legend.
    """

    def __init__(self, network: Network, title: str | None, notes: Sequence[str]) -> None:
        self.network = network
        self.ids = {name: f"n{index}" for index, name in enumerate(network.nodes)}
        self.loops, self.states = loops(network)
        self.drawing = style.canvas(title, notes)

    def nodes(self, label: Callable[[Node], str], look: Callable[[Node], Mapping[str, str | None]]) -> None:
        """Draw all nodes.

        Args:
            label: what stands on a node.
            look: further attributes of it.
        """
        network = self.network
        layers = list(dict.fromkeys(node.layer for node in network.nodes.values() if node.layer is not None))
        for index, layer in enumerate(layers):
            frame = graphviz.Digraph(f"cluster_{index}")
            frame.attr("graph", **style.cluster(lines(layer), f"layer_{index}"))
            self._add(frame, layer, label, look)
            self.drawing.subgraph(frame)
        self._add(self.drawing, None, label, look)

    def _add(
        self,
        drawing: graphviz.Digraph,
        layer: str | None,
        label: Callable[[Node], str],
        look: Callable[[Node], Mapping[str, str | None]],
    ) -> None:
        for name, node in self.network.nodes.items():
            if node.layer == layer:
                identity = {"id": self.ids[name], "tooltip": lines(name, limit=400), "shape": node.op.shape}
                drawing.node(self.ids[name], label=label(node), **identity, **look(node))

    def edge(self, edge: Edge, identity: str, **attributes: str) -> None:
        """Draw an edge, or one of several that stand for it."""
        style.connect(
            self.drawing,
            self.ids[edge.source],
            self.ids[edge.target],
            back=edge.name in self.loops,
            id=identity,
            tooltip=lines(edge.name, limit=400),
            **attributes,
        )

    def ground(self, node: Node) -> str | None:
        """The ground of a node that holds a state."""
        return style.STATE_GROUND if node.name in self.states else None


def loops(network: Network) -> tuple[set[str], set[str]]:
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

"""What do all pictures of a declared graph share? Nodes in frames of layers; edges that layout sees without loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import networkx as nx

from forwardgrad.graph import Edge, Network, Node
from forwardgrad.render import labels
from forwardgrad.render.picture import Picture
from forwardgrad.render.style import Key, Line
from forwardgrad.render.text import lines


class Scene:
    """A declared graph in a picture: node k is `nk`, edge k is `ek`, and both have the same place in all of them.

    Args:
        network: the validated graph.
        title: a line under the picture.
        legend: what lines and shapes mean.
    """

    def __init__(self, network: Network, title: str | None, legend: Sequence[Key]) -> None:
        self.network = network
        self.ids = {name: f"n{index}" for index, name in enumerate(network.nodes)}
        self.edges = {name: f"e{index}" for index, name in enumerate(network.edges)}
        self.loops, self.states = loops(network)
        self.shared = labels.shared(network)
        self.picture = Picture(title, legend)

    def nodes(self, label: Callable[[Node], str], look: Callable[[Node], Mapping[str, str]]) -> None:
        """Draw all nodes.

        Args:
            label: what is written on a node.
            look: further attributes of it.
        """
        network = self.network
        layers = list(dict.fromkeys(node.layer for node in network.nodes.values() if node.layer is not None))
        frames = {layer: f"layer_{index}" for index, layer in enumerate(layers)}
        for layer, identity in frames.items():
            self.picture.frame(identity, lines(layer))
        for name, node in network.nodes.items():
            self.picture.node(
                self.ids[name],
                label(node),
                labels.node_slot(network, node),
                None if node.layer is None else frames[node.layer],
                **{"tooltip": lines(name, limit=400), **labels.shape(node.op.shape), **look(node)},
            )

    def edge(self, edge: Edge, line: Line, label: str, *, twin: int = 0, about: str = "") -> None:
        """Draw an edge, or one of several that stand for it.

        Args:
            edge: the edge.
            line: its look.
            label: what is written on it.
            twin: counts the arrows that stand for it.
            about: a line more, which is seen where the pointer rests on it.
        """
        self.picture.edge(
            self.ids[edge.source],
            self.ids[edge.target],
            line,
            identity=self.edges[edge.name],
            label=label,
            slot=labels.edge_slot(self.network, edge, self.shared),
            back=edge.name in self.loops,
            twin=twin,
            tooltip=lines(edge.name, about, limit=400),
        )


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

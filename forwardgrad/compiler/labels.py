"""What does each edge and node mean for credit? Labels from structure alone, never from names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import networkx as nx

from forwardgrad.graph import Edge, Network
from forwardgrad.rules.paths import EdgeView, NodeView
from forwardgrad.structure import Structure, compose
from forwardgrad.weights import FORMS


@dataclass(frozen=True)
class Labels:
    """The labels of a network whose losses are known.

    Args:
        nodes: what rules see of each node, by name.
        edges: what rules see of each edge, by name.
        components: the component of each node: its number.
        populations: the population of each node: its number. Nodes linked unit by unit inside one component are one
            population: different quantities of the same units.
    """

    nodes: Mapping[str, NodeView]
    edges: Mapping[str, EdgeView]
    components: Mapping[str, int]
    populations: Mapping[str, int]

    def autapses(self, network: Network, edge: Edge) -> bool:
        """Whether the diagonal of an edge's weight leads each unit to itself: a mixing weight within one population."""
        view = self.edges[edge.name]
        return (
            weight_structure(edge) is Structure.FULL
            and not edge.moves
            and port_structure(network, edge.target, edge.port) is not Structure.FULL
            and view.recurrent
            and self.populations[edge.source] == self.populations[edge.target]
        )


def weight_structure(edge: Edge) -> Structure:
    """The structure word of an edge's weight."""
    return FORMS[edge.kind].structure


def port_structure(network: Network, node: str, port: str) -> Structure:
    """The structure word of the derivative of a node by one of its ports."""
    declared = network.nodes[node]
    return declared.op.port(port, declared.ports).structure


def edge_structure(network: Network, edge: Edge) -> Structure:
    """The structure word of an edge's Jacobian: its weight, then the derivative of the op by the port."""
    return compose(port_structure(network, edge.target, edge.port), weight_structure(edge))


def edge_mixes(network: Network, edge: Edge) -> bool:
    """Whether an edge's Jacobian mixes the credit of units; a weight that only moves them does not."""
    if port_structure(network, edge.target, edge.port) is Structure.FULL:
        return True
    return weight_structure(edge) is Structure.FULL and not edge.moves


def label(network: Network, outputs: Collection[str]) -> Labels:
    """Label a network.

    Args:
        network: the validated graph.
        outputs: the nodes that have a loss.
    """
    components = _components(network)
    edges = _edge_views(network, components)
    nodes = _node_views(network, components, edges.values(), outputs)
    same = [edge for edge in network.edges.values() if edge_structure(network, edge) < Structure.FULL]
    links = [(edge.source, edge.target) for edge in same if edges[edge.name].recurrent]
    return Labels(nodes, edges, components, _populations(network, links))


def _edge_views(network: Network, components: Mapping[str, int]) -> dict[str, EdgeView]:
    # A topdown edge is never recurrent, also where both its ends lie in one component without it: else a relay on it,
    # which lies outside, would change what it is.
    return {
        edge.name: EdgeView(
            source=edge.source,
            target=edge.target,
            key=edge.key,
            delay=edge.delay,
            mixing=edge_mixes(network, edge),
            recurrent=edge.role != "topdown" and components[edge.source] == components[edge.target],
            role=edge.role,
        )
        for edge in network.edges.values()
    }


def _node_views(
    network: Network, components: Mapping[str, int], edges: Collection[EdgeView], outputs: Collection[str]
) -> dict[str, NodeView]:
    states = {edge.source for edge in edges if edge.delay and edge.recurrent}
    recurrent = {components[edge.source] for edge in edges if edge.recurrent}
    mixing = {components[edge.source] for edge in edges if edge.explicit}
    leaky_readouts = ({components[name] for name in outputs} & recurrent) - mixing
    output_layers = _output_layers(network, components, outputs)
    return {
        name: NodeView(
            name,
            state=name in states,
            output=name in outputs,
            output_layer=components[name] in output_layers,
            recurrent=components[name] in recurrent,
            leaky_readout=components[name] in leaky_readouts,
        )
        for name in network.nodes
    }


def _output_layers(network: Network, components: Mapping[str, int], outputs: Collection[str]) -> set[int]:
    """The components that hold an output, or lead to one by edges that do not mix.

    A loss on a layer and one on an identity copy of it are the same loss, so both make it an output layer.
    """
    loss = -1  # no component's number
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_node(loss)
    graph.add_edges_from((components[name], loss) for name in outputs)
    graph.add_edges_from(
        (components[edge.source], components[edge.target])
        for edge in network.edges.values()
        if Structure.ZERO < edge_structure(network, edge) and not edge_mixes(network, edge)
    )
    return nx.ancestors(graph, loss)


def _populations(network: Network, links: list[tuple[str, str]]) -> dict[str, int]:
    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(network.nodes)
    graph.add_edges_from(links)
    return {name: number for number, nodes in enumerate(nx.connected_components(graph)) for name in nodes}


def _components(network: Network) -> dict[str, int]:
    """Strongly connected components of the graph without its edges of role `topdown`."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(network.nodes)
    graph.add_edges_from((edge.source, edge.target) for edge in network.edges.values() if edge.role != "topdown")
    place = {name: index for index, name in enumerate(network.order)}
    found = sorted(nx.strongly_connected_components(graph), key=lambda nodes: min(place[name] for name in nodes))
    return {name: number for number, nodes in enumerate(found) for name in nodes}

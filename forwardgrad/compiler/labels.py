"""What does each edge and node mean for credit? Labels from structure alone, never from names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import networkx as nx

from forwardgrad.graph import Edge, Network
from forwardgrad.paths import EdgeView, NodeView
from forwardgrad.structure import Structure, compose

_WEIGHT_STRUCTURE = {
    "identity": Structure.SCALAR,
    "scalar": Structure.SCALAR,
    "diagonal": Structure.DIAGONAL,
    "dense": Structure.FULL,
    "sparse": Structure.FULL,
}


@dataclass(frozen=True)
class Labels:
    """The labels of a network whose losses are known.

    Args:
        nodes: what rules see of each node, by name.
        edges: what rules see of each edge, by name.
        components: the component of each node: its number.
        populations: the population of each node: its number. Nodes linked by non-mixing edges inside one component
            are one population: different quantities of the same units.
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
            and port_structure(network, edge.target, edge.port) is not Structure.FULL
            and view.recurrent
            and self.populations[edge.source] == self.populations[edge.target]
        )


def weight_structure(edge: Edge) -> Structure:
    """The structure word of an edge's weight."""
    return _WEIGHT_STRUCTURE[edge.kind]


def port_structure(network: Network, node: str, port: str) -> Structure:
    """The structure word of the derivative of a node by one of its ports."""
    declared = network.nodes[node]
    return declared.op.port(port, declared.ports).structure


def edge_structure(network: Network, edge: Edge) -> Structure:
    """The structure word of an edge's Jacobian: its weight, then the derivative of the op by the port."""
    return compose(port_structure(network, edge.target, edge.port), weight_structure(edge))


def edge_mixes(network: Network, edge: Edge) -> bool:
    """Whether an edge's Jacobian moves credit between units."""
    return Structure.FULL in (weight_structure(edge), port_structure(network, edge.target, edge.port))


def label(network: Network, outputs: Collection[str]) -> Labels:
    """Label a network.

    Args:
        network: the validated graph.
        outputs: the nodes that have a loss.
    """
    components = _components(network)
    # A topdown edge is never recurrent, also where both its ends lie in one component without it: else a relay on it,
    # which lies outside, would change what it is.
    recurrent = {
        edge.name: edge.role != "topdown" and components[edge.source] == components[edge.target]
        for edge in network.edges.values()
    }
    states = {edge.source for edge in network.edges.values() if edge.delay and recurrent[edge.name]}
    with_output = {components[name] for name in outputs}
    layers = {components[edge.source] for edge in network.edges.values() if recurrent[edge.name]}
    nodes = {
        name: NodeView(
            name, name in states, name in outputs, components[name] in with_output, components[name] in layers
        )
        for name in network.nodes
    }
    edges = {
        edge.name: EdgeView(
            source=edge.source,
            target=edge.target,
            key=edge.key,
            delay=edge.delay,
            mixing=edge_mixes(network, edge),
            recurrent=recurrent[edge.name],
            role=edge.role,
        )
        for edge in network.edges.values()
    }
    links = [(edge.source, edge.target) for edge in edges.values() if edge.recurrent and not edge.mixing]
    return Labels(nodes, edges, components, _populations(network, links))


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

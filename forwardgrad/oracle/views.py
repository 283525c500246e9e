"""What rules see of nodes and edges: labels worked out on purpose apart from the compiler's own derivation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from forwardgrad.graph import Edge, Network
from forwardgrad.ops import Array
from forwardgrad.rules.paths import EdgeView, NodeView
from forwardgrad.structure import Structure


@dataclass(frozen=True)
class Views:
    nodes: Mapping[str, NodeView]
    edges: Mapping[str, EdgeView]


def views_of(network: Network, outputs: Iterable[str]) -> Views:
    """What rules see. Two nodes are in one component where each reaches the other without `topdown` edges."""
    place = {name: i for i, name in enumerate(network.nodes)}
    reach = np.eye(len(place), dtype=bool)
    for edge in network.edges.values():
        reach[place[edge.source], place[edge.target]] |= edge.role != "topdown"
    for k in range(len(place)):  # Warshall: paths whose inner nodes are among the first k
        reach |= reach[:, [k]] & reach[[k], :]
    together = reach & reach.T

    near_loss = _near_loss(network, place, together, outputs)

    def inside(edge: Edge) -> bool:
        return edge.role != "topdown" and bool(together[place[edge.source], place[edge.target]])

    def layer(name: str) -> list[Edge]:
        return [e for e in network.edges.values() if together[place[name], place[e.source]]]

    nodes = {
        name: NodeView(
            name,
            state=any(e.source == name and e.delay > 0 and inside(e) for e in network.edges.values()),
            output=name in outputs,
            output_layer=bool(near_loss[place[name]]),
            recurrent=any(map(inside, layer(name))),
            leaky_readout=any(map(inside, layer(name)))
            and any(bool(together[place[name], place[output]]) for output in outputs)
            and not any(inside(e) and _mixing(network, e) for e in layer(name)),
        )
        for name in network.nodes
    }
    edges = {
        e.name: EdgeView(e.source, e.target, e.key, e.delay, _mixing(network, e), inside(e), e.role)
        for e in network.edges.values()
    }
    return Views(nodes, edges)


def _near_loss(network: Network, place: Mapping[str, int], together: Array, outputs: Iterable[str]) -> Array:
    """Which nodes lead to a loss by steps inside their layer, and by edges between layers that do not mix."""
    near = np.zeros(len(place), dtype=bool)
    near[[place[output] for output in outputs]] = True
    links = [
        (place[e.source], place[e.target])
        for e in network.edges.values()
        if not _mixing(network, e) and structure_of(network, e.target, e.port) != Structure.ZERO
    ]
    for _ in place:  # a way to a loss crosses every layer at most once
        near = together @ near
        for u, v in links:
            near[u] |= near[v]
    return together @ near


def _mixing(network: Network, edge: Edge) -> bool:
    return (edge.kind in ("dense", "sparse") and not edge.moves) or structure_of(
        network, edge.target, edge.port
    ) == Structure.FULL


def structure_of(network: Network, name: str, port: str) -> Structure:
    node = network.nodes[name]
    return node.op.port(port, node.ports).structure

"""The networks of several experiments: a layer, or layers on top of each other, and a linear readout."""

from __future__ import annotations

from typing import Any, TypeAlias

import networkx as nx

from forwardgrad import cells

Graph: TypeAlias = "nx.MultiDiGraph[str]"


def layers(inputs: int, units: int, outputs: int, *, cell: str = "leaky_tanh", depth: int = 1, **options: Any) -> Graph:
    """Layers of one kind, and a linear readout of the last one.

    Args:
        inputs, units, outputs: sizes.
        cell: name of the cell.
        depth: number of layers.
        options: of the cell, or of the stack (`skips`).
    """
    graph: Graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=inputs)
    top = cells.stack(graph, "l", input="x", size=units, layer=cell, depth=depth, **options)
    cells.readout(graph, "y", input=top, size=outputs)
    return graph

"""Which networks are measured? Small records, each declared as a graph for us; the peers write out the same equations.

The cells, and the readout y that all have, of the last layer's h or z:

    rnn    h(t) = tanh(W x(t) + U h(t-1) + b), any number of layers, each fed by the one below
    lstm   as `forwardgrad.cells.lstm`
    lif    v(t) = 0.9 v(t-1) + W x(t) + U z(t-1) - z(t-1),  z(t) = 1 where v(t) > 1
    lru    h(t) = l * h(t-1) + W x(t), with a trained number l a unit: the linear recurrent unit without complex numbers
    all    y(t) = V h(t) + c
"""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx

from forwardgrad import cells

LEAK, THRESHOLD, DAMPENING = 0.9, 1.0, 0.3
"""Of spiking units: `leak`, the threshold and the height of the surrogate derivative, whose width is the threshold."""


@dataclass(frozen=True)
class Network:
    """One network.

    Args:
        cell: `rnn`, `lstm`, `lif` or `lru`.
        inputs: number of inputs.
        units: units of each layer; only `rnn` has more than one layer.
        outputs: number of outputs.
        loss: `cross_entropy` or `mse`, at every step.
    """

    cell: str
    inputs: int
    units: tuple[int, ...]
    outputs: int
    loss: str

    def __str__(self) -> str:
        sizes = "-".join(str(size) for size in (self.inputs, *self.units, self.outputs))
        return f"{self.cell.upper()} {sizes}"

    @property
    def spikes(self) -> bool:
        """Whether a rounding error can flip a spike."""
        return self.cell == "lif"

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers, with the names of their parameters."""
        sources = ("x", *(f"l{n}.{_TAIL[self.cell]}" for n in range(1, len(self.units) + 1)))
        return tuple(
            Layer(self.cell, f"l{n}", source, size)
            for n, (source, size) in enumerate(zip(sources, self.units, strict=False), 1)
        )


@dataclass(frozen=True)
class Layer:
    """One layer, and what the parameters of its graph are called.

    Args:
        cell: as in `Network`.
        name: of the cell in the graph.
        source: the node that feeds it.
        size: number of units.
    """

    cell: str
    name: str
    source: str
    size: int

    @property
    def out(self) -> str:
        """The node that others read."""
        return f"{self.name}.{_TAIL[self.cell]}"

    def weights(self, gate: str = "") -> tuple[str, str, str]:
        """The names of input weights, recurrent weights and bias, of one gate where there are gates."""
        at = f"{self.name}.{gate or _HEAD[self.cell]}"
        return f"{self.source}->{at}", f"{self.out}->{at}", f"{at}.bias"


_TAIL = {"rnn": "h", "lstm": "h", "lif": "z", "lru": "h"}
_HEAD = {"rnn": "h", "lstm": "i", "lif": "v", "lru": "h"}


def declare(network: Network) -> nx.MultiDiGraph:
    """The network as a graph of ours."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=network.inputs)
    for layer in network.layers:
        name, source, size = layer.name, layer.source, layer.size
        if network.cell == "rnn":
            cells.elman(graph, name, source, size, recurrent_init="orthogonal(0.9)")
        elif network.cell == "lstm":
            cells.lstm(graph, name, source, size)
        elif network.cell == "lif":
            # With inputs that spike in one step of 25, a unit spikes in about one of 14.
            init = f"normal({2.8 / network.inputs**0.5:.4f})"
            cells.lif(graph, name, source, size, leak=LEAK, init=init, recurrent_init="normal(0.05)")
        else:
            graph.add_node(layer.out, op="linear", size=size, layer=name)
            graph.add_edge(source, layer.out, weight="dense")
            graph.add_edge(layer.out, layer.out, weight="diagonal", delay=1, init="uniform(0.5, 0.99)")
    cells.readout(graph, "y", network.layers[-1].out, network.outputs)
    return graph

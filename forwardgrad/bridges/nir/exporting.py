"""`to_nir`: a declared graph with its parameters as a NIR graph."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from itertools import product
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.bridges.nir.recognition import LINEAR, SPIKE, Declared, Recognised, recognised
from forwardgrad.bridges.nir.spelling import Spelling
from forwardgrad.errors import GraphError, MissingExtraError
from forwardgrad.graph.ends import ends
from forwardgrad.graph.network import Edge
from forwardgrad.graph.validate import validate
from forwardgrad.support.attributes import numbers, show

_NEURONS = "IF, LIF, CubaLIF, I, LI, CubaLI and Threshold"


def to_nir(graph: nx.MultiDiGraph[str], params: Mapping[str, Any], *, dt: float) -> Any:
    """A declared graph with its parameters as a graph of the Neuromorphic Intermediate Representation (NIR).

    The inverse of `from_nir`. Nodes that together are one of NIR's neurons become that neuron, also those of the cells
    `lif`, `cuba_lif` and a leaky `readout`; others are linear, or spike (`Threshold`). A dense edge becomes a `Linear`
    or an `Affine`, which is called as the key of the edge, or as the edge if its key is a number. A delay becomes a
    `Delay` of `delay * dt` seconds, but for delays of 1 on cycles all of whose neurons are left with that delay: NIR's
    cycles imply it. Nodes with a loss in `graph.graph`, and nodes that no edge leaves, get an `Output`.

    What NIR has no words for is lost: surrogate derivatives, what is trained, roles and other marks for rules, losses,
    metadata, and how potentials are reset, which `from_nir` must be told again. Parameters that edges share become
    copies, and entries of sparse weights become matrices. Time constants are those which give the same leak with the
    same `dt`.

    Args:
        graph: the declared graph.
        params: its parameters by name; others are passed over.
        dt: seconds per step.

    Returns:
        A `nir.NIRGraph`, for `nir.write`.

    Raises:
        GraphError: if the graph is malformed, or a node has no counterpart in NIR; all such nodes are named.
        DataError: if a parameter is missing, or has another shape.
        MissingExtraError: without the extra `nir`.

    Warns:
        UserWarning: if a `Delay` is written, which few frameworks read.

    Source: Pedersen et al. 2024, doi 10.1038/s41467-024-52259-9.

    >>> import forwardgrad as fg
    >>> from forwardgrad import cells
    >>> graph = nx.MultiDiGraph()
    >>> graph.add_node("x", op="input", size=3)
    >>> _ = cells.readout(graph, "y", input=cells.lif(graph, "l1", input="x", size=8), size=2)
    >>> program = fg.compile(graph, loss={"y": "mse"})
    >>> file = to_nir(graph, program.init(), dt=1e-3)
    >>> {name: type(node).__name__ for name, node in file.nodes.items()}  # doctest: +NORMALIZE_WHITESPACE
    {'x': 'Input', 'l1': 'LIF', 'y': 'Output', 'x->l1.v': 'Linear', 'l1.z->l1.v': 'Linear', 'l1.z->y': 'Affine'}
    """
    step = numbers(dt)
    if isinstance(dt, bool) or step is None or step.ndim or not step > 0:
        raise GraphError(f"to_nir: 'dt' must be a number of seconds greater than 0, got {show(dt)}.")
    try:
        nir: Any = import_module("nir")
    except ImportError as error:
        raise MissingExtraError('to_nir needs nir: pip install "forwardgrad[nir]"') from error
    network = validate(graph)
    sinks = {name for name in network.nodes if not graph.out_degree(name)}
    declared = Declared(network, params, sinks | ({*ends(graph)[1]} & {*network.nodes}), float(step))
    exporter = _Exporter(nir, graph, declared)
    exporter.places()
    exporter.links()
    if exporter.delays:
        listed = ", ".join(map(repr, exporter.delays[:5])) + (", ..." if len(exporter.delays) > 5 else "")
        warnings.warn(f"to_nir: few frameworks read Delay, which was written for {listed}.", UserWarning, stacklevel=2)
    return exporter.finished()


class _Exporter:
    """The nodes and edges of a NIR graph, while they are made.

    Places of the declared graph are named in `wires` by their NIR node, or by `("sum", node)` where it only adds up
    what enters it; these are taken out in the end.

    Args:
        nir: the package.
        graph: the declared graph.
        declared: its network, with the numbers of its parameters.
    """

    def __init__(self, nir: Any, graph: nx.MultiDiGraph[str], declared: Declared) -> None:
        self.nir, self.graph, self.declared = nir, graph, declared
        self.network = declared.network
        self.nodes: dict[str, Any] = {}
        self.wires: nx.DiGraph[Any] = nx.DiGraph()
        self.at: dict[str, Any] = {}
        self.inner: set[str] = set()
        self.delays: list[str] = []
        self.spelling = Spelling(nir, graph, declared)
        self.neurons = {node: neuron for neuron in recognised(declared) for node in neuron.nodes}

    def places(self) -> None:
        """Add inputs, neurons and outputs.

        Raises:
            GraphError: if nodes have no counterpart in NIR.
        """
        self._refuse()
        for name, node in self.network.nodes.items():
            neuron = self.neurons.get(name)
            if neuron is not None:
                if neuron.exit == name:
                    self._neuron(neuron)
            elif node.op.given:
                self._place(name, self.nir.Input(np.array(node.shape)))
            elif node.op is SPIKE:
                threshold = np.broadcast_to(np.asarray(node.options["threshold"], np.float64), (node.size,))
                self._place(name, self.nir.Threshold(threshold.reshape(node.shape)))
            else:
                self.at[name] = ("sum", name)
                self.wires.add_node(self.at[name])
        keys = {edge.key for edge in self.network.edges.values() if edge.name not in self.inner}
        for name in (name for name in self.network.nodes if name in self.declared.outputs):
            alone = self.at[name] == ("sum", name) and name not in keys
            output = self._new(name if alone else f"{name}.out", self.nir.Output(np.array(self._shape(name))))
            self.wires.add_edge(self.at[name], output)

    def _refuse(self) -> None:
        lacking: list[str] = []
        for name, node in self.network.nodes.items():
            if node.initial.any():
                raise GraphError(f"to_nir: node {name!r} has an initial value, and NIR has none.")
            if name not in self.neurons and not node.op.given and node.op is not LINEAR and node.op is not SPIKE:
                lacking.append(name)
        if lacking:
            words = sorted({self.declared.op(name).name for name in lacking})
            listed = ", ".join(f"{name!r} ({self.declared.op(name).name})" for name in lacking)
            raise GraphError(
                f"to_nir: NIR has no counterpart of {listed}.",
                f"It has neurons ({_NEURONS}) and linear maps; it lacks {', '.join(words)}.",
            )

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.network.nodes[name].shape

    def _new(self, name: str, node: Any) -> str:
        """Add a NIR node, by another name where this one is taken."""
        if "/" in name or name in (".", ".."):
            raise GraphError(f"to_nir: {name!r} cannot be the name of a NIR node: its file would split it at '/'.")
        free, number = name, 1
        while free in self.nodes:
            number += 1
            free = f"{name}.{number}"
        self.nodes[free] = node
        self.wires.add_node(free)
        return free

    def _place(self, name: str, node: Any, called: str | None = None) -> None:
        self.at[name] = self._new(called or name, node)

    def _neuron(self, neuron: Recognised) -> None:
        shape = self._shape(neuron.exit)
        fields = {name: values.reshape(shape) for name, values in neuron.fields.items()}
        self._place(neuron.exit, getattr(self.nir, neuron.kind)(**fields), neuron.name)
        self.at |= dict.fromkeys(neuron.nodes, self.at[neuron.exit])
        self.inner |= neuron.edges

    def links(self) -> None:
        """Add what leads from place to place."""
        channels = self._channels(list(self.network.edges.values()))
        edges = [edge for edge in self.network.edges.values() if edge.name not in self.inner]
        implied, biases = self._implied(edges), channels | self._carriers(edges, set(channels.values()))
        for edge in edges:
            last = self.at[edge.source]
            delay = 0 if edge.name in implied else edge.delay
            if delay:
                self.delays.append(edge.name)
            for name, node in self.spelling.chain(edge, delay, biases.get(edge.name)):
                added = self._new(name, node)
                self.wires.add_edge(last, added)
                last = added
            self._wire(last, self.at[edge.target], edge.name)

    def _wire(self, source: Any, target: Any, name: str) -> None:
        """Add an edge; NIR has no parallel ones, so a second one leads over a `Scale` of ones."""
        if self.wires.has_edge(source, target):
            shape = self._out(source)
            added = self._new(name, self.nir.Scale(np.ones(shape)))
            self.wires.add_edge(source, added)
            source = added
        self.wires.add_edge(source, target)

    def _out(self, place: Any) -> tuple[int, ...]:
        """The shape of what leaves a place."""
        if isinstance(place, tuple):
            return self._shape(str(place[1]))
        return tuple(int(axis) for axis in np.atleast_1d(self.nodes[place].output_type["output"]))

    def _implied(self, edges: list[Edge]) -> set[str]:
        """The edges whose delays NIR's cycles imply: one step for each edge that leaves a neuron, and none for others.

        The delays of a cycle that has others are written out, each as a `Delay`.
        """
        lags = {edge.name: int(isinstance(self.at[edge.source], str)) for edge in edges}
        free = [edge for edge in edges if edge.delay <= lags[edge.name]]
        places: nx.DiGraph[Any] = nx.DiGraph()
        places.add_nodes_from(self.at.values())
        places.add_edges_from((self.at[edge.source], self.at[edge.target]) for edge in free)
        component = {place: i for i, each in enumerate(nx.strongly_connected_components(places)) for place in each}
        inside: dict[int, list[Edge]] = {}
        for edge in free:
            if component[self.at[edge.source]] == component[self.at[edge.target]]:
                inside.setdefault(component[self.at[edge.source]], []).append(edge)
        implied: set[str] = set()
        for each in inside.values():
            names = {edge.name for edge in each}
            if all(edge.delay == lags[edge.name] and not self._leaves(edge, names) for edge in each):
                implied |= names
        return implied

    def _leaves(self, edge: Edge, inside: set[str]) -> bool:
        """Whether an edge leads, as it is, to a sum from which edges leave the cycle.

        Once the sum is taken out, these edges come from the neuron itself, and no delay is implied for them.
        """
        if isinstance(self.at[edge.target], str) or not self.spelling.is_plain(edge):
            return False
        onward = {each.name for each in self.declared.out[edge.target]}
        return edge.target in self.declared.outputs or not onward <= inside

    def _channels(self, edges: list[Edge]) -> dict[str, str]:
        """The nodes that hold the bias of a convolution, one for each channel, by the name of its edge."""
        found: dict[str, str] = {}
        for edge in edges:
            if edge.weight not in ("conv1d", "conv2d"):
                continue
            holder, shape = f"{edge.key}.bias", self._shape(edge.target)
            out = self.declared.out.get(holder, [])
            if len(out) != 1 or out[0].weight != "take" or out[0].pattern is None or self.declared.into(holder):
                continue
            indices = np.repeat(np.arange(shape[0]), int(np.prod(shape[1:])))
            same = len(indices) == len(out[0].pattern.columns) and bool((indices == out[0].pattern.columns).all())
            if same and out[0].target == edge.target and self.spelling.windowed(edge) is not None:
                found[edge.name] = holder
                self.inner.add(out[0].name)
                self.wires.remove_node(self.at.pop(holder))
        return found

    def _carriers(self, edges: list[Edge], held: set[str]) -> dict[str, str]:
        """The nodes with a bias by the name of the edge whose matrix it is added to, which becomes an `Affine`."""
        left = {node for node in self.network.nodes if self.declared.bias(node) is not None} - held
        left -= {str(neuron.biased) for neuron in self.neurons.values()}
        matrices: dict[str, list[Edge]] = {}
        for edge in edges:
            if edge.target in left and self.spelling.is_matrix(edge):
                matrices.setdefault(edge.target, []).append(edge)
        found: dict[str, str] = {}
        for node in sorted(left):
            if node not in matrices:
                raise GraphError(
                    f"to_nir: node {node!r} has a bias and no dense edge leads to it; NIR has biases in Affine alone.",
                    "Let a dense edge lead to the node.",
                )
            found[min(matrices[node], key=lambda edge: edge.delay).name] = node
        return found

    def finished(self) -> Any:
        """The NIR graph: what enters a sum leads to all that leaves it."""
        sums: list[Any] = [place for place in self.wires if not isinstance(place, str)]
        for place in sums:
            pairs = list(product(self.wires.predecessors(place), self.wires.successors(place)))
            self.wires.remove_node(place)
            for source, target in pairs:
                self._wire(source, target, f"{source}->{target}")
        return self.nir.NIRGraph(nodes=self.nodes, edges=sorted(self.wires.edges), type_check=False)

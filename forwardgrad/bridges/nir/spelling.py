"""How is an edge of a declared graph spelled in NIR? As a delay, a flattening and a weight, those that it has."""

from __future__ import annotations

from math import prod
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.bridges.nir.recognition import Declared
from forwardgrad.errors import GraphError
from forwardgrad.graph.network import Edge
from forwardgrad.weights.windows import Windows


class Spelling:
    """Makes NIR nodes of edges.

    Args:
        nir: the package.
        graph: the declared graph.
        declared: its network, with the numbers of its parameters.
    """

    def __init__(self, nir: Any, graph: nx.MultiDiGraph[str], declared: Declared) -> None:
        self.nir, self.graph, self.declared = nir, graph, declared

    def _ends(self, edge: Edge) -> tuple[tuple[int, ...], tuple[int, ...]]:
        nodes = self.declared.network.nodes
        return nodes[edge.source].shape, nodes[edge.target].shape

    def is_matrix(self, edge: Edge) -> bool:
        """Whether the weight of an edge becomes a matrix: those for which NIR has nothing of their own do."""
        return edge.kind == "dense" or (edge.kind == "sparse" and self.windowed(edge) is None)

    def is_plain(self, edge: Edge) -> bool:
        """Whether an edge but for its delay is an edge of NIR as well: it passes on all units as they are."""
        source, target = self._ends(edge)
        return edge.param is None and source == target and self.declared.passes(edge, edge.delay)

    def chain(self, edge: Edge, delay: int, biased: str | None) -> list[tuple[str, Any]]:
        """The NIR nodes that an edge becomes, with their names, in order.

        Args:
            edge: the edge.
            delay: its delay, 0 where NIR implies it.
            biased: the node whose bias is added to its weight, if any.

        Raises:
            GraphError: if it leads to axes that its source lacks.
        """
        name = edge.key if isinstance(edge.key, str) else edge.name
        source, target = self._ends(edge)
        shape, chain = source, list[tuple[str, Any]]()
        if delay:
            chain.append((f"{name}.delay", self.nir.Delay(np.full(source, delay * self.declared.dt))))
        windowed = self.windowed(edge, biased)
        if windowed is not None:
            return [*chain, (name, windowed)]
        if len(source) > 1 and (self.is_matrix(edge) or source != target):
            flat = self.nir.Flatten(input_type={"input": np.array(source)}, start_dim=0, end_dim=-1)
            chain.append((f"{name}.flatten", flat))
            shape = (prod(source),)
        if self.is_matrix(edge):
            chain.append((name, self._matrix(edge, biased)))
            shape = (prod(target),)
        elif edge.param is not None or not self.declared.passes(edge, edge.delay):
            chain.append((name, self.nir.Scale(np.array(self.declared.factor(edge)).reshape(shape))))
        if shape != target:
            raise GraphError(
                f"to_nir: edge {edge.name!r} leads from shape {list(source)} to {list(target)}, and NIR has nothing "
                "that adds axes."
            )
        return chain

    def _matrix(self, edge: Edge, biased: str | None) -> Any:
        """A weight as a matrix, with the bias that is added to it."""
        weight = self.declared.weight(edge)
        if edge.pattern is not None:
            matrix = np.zeros(edge.pattern.shape)
            np.add.at(matrix, (edge.pattern.rows, edge.pattern.columns), edge.pattern.expand(weight))
            weight = matrix
        bias = None if biased is None else self.declared.bias(biased)
        return self.nir.Linear(weight.copy()) if bias is None else self.nir.Affine(weight.copy(), bias.copy())

    def windowed(self, edge: Edge, biased: str | None = None) -> Any | None:
        """A convolution or a pool as a NIR node; `None` for other weights, and where NIR has no such windows."""
        given: Any = self.graph.edges[edge.source, edge.target, edge.key]
        source, target = self._ends(edge)
        if edge.weight not in ("conv1d", "conv2d", "pool") or len(source) != (2 if edge.weight == "conv1d" else 3):
            return None
        read = Windows.read(edge.name, given, len(source) - 1)
        if edge.weight == "pool":
            if set(read.dilation) != {1}:
                return None
            stride = read.kernel if given.get("stride") is None else read.stride
            kind = self.nir.SumPool2d if given.get("reduce") == "sum" else self.nir.AvgPool2d
            node = kind(kernel_size=np.array(read.kernel), stride=np.array(stride), padding=np.array(read.padding))
            node.input_type, node.output_type = {"input": np.array(source)}, {"output": np.array(target)}
            return node
        weight = self.declared.weight(edge)
        bias = None if biased is None else self.declared.bias(biased)
        axes = {"stride": read.stride, "padding": read.padding, "dilation": read.dilation, "input_shape": source[1:]}
        return getattr(self.nir, edge.weight.capitalize())(
            weight=weight.copy(),
            groups=int(given.get("groups") or 1),
            bias=np.zeros(len(weight)) if bias is None else bias.copy(),
            **{field: each[0] if edge.weight == "conv1d" else each for field, each in axes.items()},
        )

"""The values of a graph unrolled in time, with every weight a dense matrix, and the loss of these values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import networkx as nx
import numpy as np

from forwardgrad.graph import Edge, Network, validate
from forwardgrad.ops import Array
from forwardgrad.oracle.arguments import Arguments, read_inputs, read_parameters


@dataclass(frozen=True)
class OracleResult:
    """What an oracle found.

    Args:
        loss: the loss of the sequence, summed over time and over the nodes that have one.
        grads: the gradient of each trainable parameter, shaped like it.
        outputs: the values of the nodes that have a loss, `(time, batch, size)`.
    """

    loss: float
    grads: dict[str, Array]
    outputs: dict[str, Array]


def forward(graph: nx.MultiDiGraph[str], params: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Array]:
    """The value of every node, `{node: (time, batch, size)}`, in float64.

    Args:
        graph: a declared graph.
        params: `{parameter: array}`.
        inputs: `{input node: (time, batch, size)}`.

    Raises:
        GraphError, DataError: as for `reverse`.

    >>> import networkx as nx
    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=1)
    >>> g.add_node("h", op="linear", initial=8.0)
    >>> _ = g.add_edge("x", "h")
    >>> _ = g.add_edge("h", "h", delay=1, value=0.5)
    >>> forward(g, {}, {"x": np.ones((3, 1, 1))})["h"].ravel().tolist()
    [5.0, 3.5, 2.75]
    """
    network = validate(graph)
    arrays, _, _ = read_inputs(network, inputs)
    return evaluate(network, read_parameters(network, params), arrays).values


@dataclass(frozen=True)
class ForwardPass:
    """A forward pass: weights as `(target, source)`, values and sums of ports as `(time, batch, size)`."""

    weights: Mapping[str, Array]
    values: dict[str, Array]
    ports: Mapping[str, Mapping[str, Array]]


def evaluate(network: Network, params: Mapping[str, Array], inputs: Mapping[str, Array]) -> ForwardPass:
    time, batch, _ = next(iter(inputs.values())).shape
    weights = {name: _weight(network, edge, params) for name, edge in network.edges.items()}
    values = {name: np.zeros((time, batch, node.size)) for name, node in network.nodes.items()} | dict(inputs)
    ports = {
        name: {port: np.zeros((time, batch, node.size)) for port in node.ports} for name, node in network.nodes.items()
    }
    for t in range(time):
        for name in network.order:
            node, sums = network.nodes[name], ports[name]
            if name in inputs:
                continue
            if node.bias is not None:
                sums[node.bias_port][t] += params[node.bias]
            for edge in network.into[name]:
                sums[edge.port][t] += past(network, values, edge, t) @ weights[edge.name].T
            values[name][t] = node.op.evaluate([sums[port][t] for port in node.ports], node.options)
    return ForwardPass(weights, values, ports)


def past(network: Network, values: Mapping[str, Array], edge: Edge, t: int) -> Array:
    """What an edge reads at time t: `(batch, size)`, or `(size,)` before the start."""
    return values[edge.source][t - edge.delay] if t >= edge.delay else network.nodes[edge.source].initial


def _weight(network: Network, edge: Edge, params: Mapping[str, Array]) -> Array:
    """The weight of an edge as a dense matrix."""
    if edge.kind == "identity":
        return np.eye(network.nodes[edge.target].size)
    return as_matrix(network, edge, params[edge.param] if edge.param is not None else cast("Array", edge.value))


def as_matrix(network: Network, edge: Edge, array: Array) -> Array:
    """An array shaped as an edge's weight, as a dense matrix."""
    rows, columns = network.nodes[edge.target].size, network.nodes[edge.source].size
    if edge.kind == "dense":
        return array
    matrix = np.zeros((rows, columns))
    if edge.pattern is None:
        np.fill_diagonal(matrix, array)
    else:
        entries = edge.pattern.entries
        matrix[edge.pattern.rows, edge.pattern.columns] = array if entries is None else array.ravel()[entries]
    return matrix


def as_entries(edge: Edge, matrix: Array) -> Array:
    """The gradient by an edge's array, from that by its dense matrix."""
    if edge.pattern is not None:
        synapses = matrix[edge.pattern.rows, edge.pattern.columns]
        if edge.pattern.entries is None:
            return synapses
        sums = [synapses[edge.pattern.entries == entry].sum() for entry in range(prod(edge.pattern.kernel))]
        return np.array(sums).reshape(edge.pattern.kernel)
    if edge.kind == "dense":
        return matrix
    return np.asarray(np.trace(matrix)) if edge.kind == "scalar" else np.diagonal(matrix)


def total_loss(arguments: Arguments, run: ForwardPass) -> float:
    total = 0.0
    for name, loss in arguments.losses.items():
        y, target = _rows(run.values[name]), _rows(arguments.targets[name])
        mask = arguments.masks[name]
        with np.errstate(divide="ignore", invalid="ignore"):  # where the mask is zero
            values = np.asarray(loss.value(y, target)).reshape(mask.shape)
        total += float(np.sum(mask * np.where(mask == 0, 0, values))) / mask.shape[1]
    return total


def loss_gradients(arguments: Arguments, run: ForwardPass) -> dict[str, Array]:
    """The derivative of the total loss by each node's own value, `(time, batch, size)`."""
    seeds = {name: np.zeros_like(value) for name, value in run.values.items()}
    for name, loss in arguments.losses.items():
        y, target = _rows(run.values[name]), _rows(arguments.targets[name])
        mask = arguments.masks[name][:, :, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = np.asarray(loss.gradient(y, target)).reshape(seeds[name].shape)
        seeds[name] = mask * np.where(mask == 0, 0, slopes) / mask.shape[1]
    return seeds


def _rows(array: Array) -> Array:
    """A copy with time and batch as one axis: losses take rows of samples, and may write into them."""
    return array.reshape(-1, *array.shape[2:]).copy()

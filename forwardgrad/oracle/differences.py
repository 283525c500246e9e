"""The gradient by central differences of the loss, for graphs whose declared derivatives are those of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.errors import DataError, OpError
from forwardgrad.ops.losses import Loss
from forwardgrad.oracle.arguments import Arguments, named, numbers, read_arguments
from forwardgrad.oracle.evaluation import OracleResult, evaluate, total_loss


def finite_difference(
    graph: nx.MultiDiGraph[str],
    params: Mapping[str, Any],
    inputs: Mapping[str, Any],
    targets: Mapping[str, Any],
    loss: Mapping[str, str | Loss],
    mask: Any = None,
    epsilon: float = 1e-5,
) -> OracleResult:
    """The gradient by central differences, `(loss(p + epsilon) - loss(p - epsilon)) / (2 epsilon)` entry by entry.

    Args:
        graph, params, inputs, targets, loss, mask: as for `reverse`.
        epsilon: how far each entry is moved. The error grows as `epsilon ** 2`, its rounding as `1 / epsilon`.

    Returns:
        Loss, gradients and outputs, in float64.

    Raises:
        OpError: if the declared derivative of an op is not that of its value (`spike`, `stop`).
        GraphError, DataError: as for `reverse`.

    >>> import networkx as nx
    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=1)
    >>> g.add_node("y", op="linear")
    >>> _ = g.add_edge("x", "y", weight="scalar")
    >>> x = np.ones((2, 1, 1))
    >>> round(float(finite_difference(g, {"x->y": 2.0}, {"x": x}, {"y": 0 * x}, {"y": "mse"}).grads["x->y"]), 6)
    8.0
    """
    arguments = _read_smooth(graph, params, inputs, targets, loss, mask, epsilon)
    network = arguments.network

    def moved(name: str, index: tuple[int, ...], by: float) -> float:
        array = arguments.params[name].copy()
        array[index] += by
        return total_loss(arguments, evaluate(network, {**arguments.params, name: array}, arguments.inputs))

    grads = {name: np.zeros(network.parameters[name].shape) for name in network.trainable}
    for name, gradient in grads.items():
        for index in np.ndindex(gradient.shape):
            gradient[index] = (moved(name, index, epsilon) - moved(name, index, -epsilon)) / (2 * epsilon)
    run = evaluate(network, arguments.params, arguments.inputs)
    return OracleResult(total_loss(arguments, run), grads, {name: run.values[name] for name in arguments.losses})


def directional_derivative(
    graph: nx.MultiDiGraph[str],
    params: Mapping[str, Any],
    inputs: Mapping[str, Any],
    targets: Mapping[str, Any],
    loss: Mapping[str, str | Loss],
    direction: Mapping[str, Any],
    mask: Any = None,
    epsilon: float = 1e-5,
) -> float:
    """The derivative of the loss along a direction, by one central difference: for graphs of many parameters.

    Args:
        graph, params, inputs, targets, loss, mask, epsilon: as for `finite_difference`.
        direction: `{parameter: array}`, shaped like the parameters; one left out does not move.

    Returns:
        `(loss(p + epsilon direction) - loss(p - epsilon direction)) / (2 epsilon)`, which the gradient gives as the sum
        of its products with the direction.

    Raises:
        OpError, GraphError, DataError: as for `finite_difference`.
    """
    arguments = _read_smooth(graph, params, inputs, targets, loss, mask, epsilon)
    given = named("direction", direction, arguments.params, whole=False)
    along = {name: numbers(f"direction of {name!r}", given[name], arguments.params[name].shape) for name in given}

    def moved(by: float) -> float:
        params = {name: p + by * along.get(name, 0.0) for name, p in arguments.params.items()}
        return total_loss(arguments, evaluate(arguments.network, params, arguments.inputs))

    return (moved(epsilon) - moved(-epsilon)) / (2 * epsilon)


def _read_smooth(
    graph: nx.MultiDiGraph[str], params: Any, inputs: Any, targets: Any, loss: Any, mask: Any, epsilon: float
) -> Arguments:
    """The arguments, found fit for differences of the loss."""
    if not epsilon > 0:
        raise DataError(f"finite differences: epsilon must be greater than 0, got {epsilon!r}.")
    arguments = read_arguments(graph, params, inputs, targets, loss, mask)
    for node in arguments.network.nodes.values():
        if not node.op.smooth:
            raise OpError(
                f"node {node.name!r}: the declared derivative of op {node.op.name!r} is not that of its value.",
                "Finite differences say nothing about it; use oracle.reverse, which takes the declared derivative.",
            )
    return arguments

"""The arguments of an oracle, checked, and in float64."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import networkx as nx
import numpy as np

from forwardgrad.arrays import UNMASKED, array_of, numeric
from forwardgrad.errors import DataError, GraphError, did_you_mean
from forwardgrad.graph import Edge, Network, validate
from forwardgrad.ops import Array, losses
from forwardgrad.ops.losses import Loss


@dataclass(frozen=True)
class Arguments:
    """All arguments, checked and in float64; masks are `(time, batch)`."""

    network: Network
    params: Mapping[str, Array]
    inputs: Mapping[str, Array]
    targets: Mapping[str, Array]
    losses: Mapping[str, Loss]
    masks: Mapping[str, Array]
    feedback: Mapping[str, Array]


def read_arguments(
    graph: nx.MultiDiGraph[str], params: Any, inputs: Any, targets: Any, loss: Any, mask: Any
) -> Arguments:
    network = validate(graph)
    arrays, time, batch = read_inputs(network, inputs)
    wanted = _losses(network, loss)
    masks = _masks(wanted, mask, time, batch)
    given = named("targets", targets, wanted)
    known = {f"{name}.feedback": edge for name, edge in network.edges.items() if edge.param}
    arrays_of = cast("dict[Any, Any]", dict(params)) if isinstance(params, Mapping) else params
    feedback: dict[str, Any] = {n: arrays_of.pop(n) for n in known if isinstance(arrays_of, dict) and n in arrays_of}
    return Arguments(
        network,
        read_parameters(network, arrays_of),
        arrays,
        {name: _target(network, name, each, given[name], masks[name]) for name, each in wanted.items()},
        wanted,
        masks,
        {n: numbers(f"parameter {n!r}", p, _shape_of(network, known[n])) for n, p in feedback.items()},
    )


def _shape_of(network: Network, edge: Edge) -> tuple[int, ...]:
    return network.parameters[edge.param or ""].shape


def _losses(network: Network, loss: Any) -> dict[str, Loss]:
    if not isinstance(loss, Mapping) or not loss:
        raise GraphError(f"loss: needs at least one node, got {loss!r}.", "Write it as loss={'y': 'mse'}.")
    for name in cast("Mapping[Any, Any]", loss):
        if name not in network.nodes:
            raise GraphError(f"loss: the graph has no node {name!r}.", did_you_mean(name, network.nodes))
    return {name: losses.get(each) for name, each in cast("Mapping[str, Any]", loss).items()}


def read_parameters(network: Network, params: Any) -> dict[str, Array]:
    given = named("params", params, network.parameters)
    return {
        name: numbers(f"parameter {name!r}", given[name], parameter.shape)
        for name, parameter in network.parameters.items()
    }


def read_inputs(network: Network, inputs: Any) -> tuple[dict[str, Array], int, int]:
    """The arrays, the number of steps and the size of the batch."""
    if not network.inputs:
        raise DataError("the graph has no input node, so the number of steps is unknown.", "Add one with op='input'.")
    given = named("inputs", inputs, network.inputs)
    name = network.inputs[0]
    first = _array(f"input {name!r}", given[name]).shape
    if len(first) != 3 or 0 in first:
        raise DataError(f"input {name!r}: needs shape (time, batch, size), each at least 1, got {first}.")
    time, batch, _ = first
    arrays = {
        name: numbers(f"input {name!r}", given[name], (time, batch, network.nodes[name].size))
        for name in network.inputs
    }
    return arrays, time, batch


def _target(network: Network, name: str, loss: Loss, given: Any, mask: Array) -> Array:
    """What a loss compares with; where the mask is zero it is zero, whatever was given."""
    size, what = network.nodes[name].size, f"target {name!r}"
    if not loss.labels:
        values = _shaped(what, given, (*mask.shape, size), UNMASKED)
        values[mask == 0] = 0
        return _finite(what, values)
    labels = _shaped(what, given, mask.shape, UNMASKED)
    labels[mask == 0] = 0
    whole = array_of(what, given).dtype.kind in "biu"  # a program refuses 1.0
    if not whole or not np.isin(labels, np.arange(size)).all():
        raise DataError(f"{what}: labels must be whole numbers from 0 to {size - 1}.", f"{name!r} has size {size}.")
    return labels.astype(np.intp)


def _masks(wanted: Iterable[str], mask: Any, time: int, batch: int) -> dict[str, Array]:
    by_node = cast("Mapping[str, Any]", mask) if isinstance(mask, Mapping) else dict.fromkeys(wanted, mask)
    for name in by_node:
        if name not in wanted:
            raise DataError(f"mask: node {name!r} has no loss.", did_you_mean(name, wanted))
    masks: dict[str, Array] = {}
    for name in wanted:
        given = np.ones(time) if by_node.get(name) is None else by_node[name]
        array = _array(f"mask of {name!r}", given)
        if array.shape not in ((time,), (time, batch)):
            raise DataError(f"mask of {name!r}: needs shape {(time,)} or {(time, batch)}, got {array.shape}.")
        masks[name] = np.broadcast_to(array.reshape(time, -1), (time, batch))
    return masks


def named(what: str, given: Any, wanted: Iterable[str], whole: bool = True) -> Mapping[str, Any]:
    """A mapping that has the wanted names (all of them, if it is to be whole) and no others."""
    if not isinstance(given, Mapping):
        raise DataError(f"{what}: needs a mapping from names to arrays, got {type(given).__name__}.")
    mapping = cast("Mapping[str, Any]", given)
    names = set(wanted)
    for name in mapping:
        if name not in names:
            raise DataError(f"{what}: unknown name {name!r}.", did_you_mean(name, names))
    for name in wanted if whole else ():
        if name not in mapping:
            raise DataError(f"{what}: {name!r} is missing.", f"Needed: {', '.join(sorted(names))}.")
    return mapping


def numbers(what: str, given: Any, shape: tuple[int, ...]) -> Array:
    """A finite float64 array of that shape."""
    return _finite(what, _shaped(what, given, shape))


def _shaped(what: str, given: Any, shape: tuple[int, ...], *unmasked: str) -> Array:
    """A float64 array of that shape, and of its own."""
    array = numeric(what, given, np.float64, *unmasked)
    if array.shape != shape:
        raise DataError(f"{what}: needs shape {shape}, got {array.shape}.")
    return array.copy()


def _array(what: str, given: Any) -> Array:
    """A finite float64 array."""
    return _finite(what, numeric(what, given, np.float64).copy())


def _finite(what: str, array: Array) -> Array:
    if not np.isfinite(array).all():
        raise DataError(f"{what}: holds NaN or infinite values.")
    return array

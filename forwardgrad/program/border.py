"""The arrays given at run time, checked against a program: inputs, targets, masks, signals and parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardgrad.arrays import UNMASKED, array_of, check_names, finite, numeric
from forwardgrad.errors import DataError, did_you_mean
from forwardgrad.graph import Network, Node, Parameter
from forwardgrad.ops import Array
from forwardgrad.ops.losses import SIGNAL, Loss


def read_inputs(
    network: Network, inputs: Any, dtype: Any, shape: tuple[int | None, int | None]
) -> tuple[dict[str, Array], tuple[int, int] | None]:
    """The inputs of a block, `(time, batch, size)` each, and their time and batch (`None` for a graph without inputs).

    Arrays of a node that has a shape may also be `(time, batch, *shape)`, here and for targets and signals. Inputs that
    are whole numbers `(time, batch)` are tokens: the unit of that number is 1, all others are 0.

    Args:
        network: the validated graph.
        inputs: what the user gave.
        dtype: of the result.
        shape: the expected time and batch, where known.

    Raises:
        DataError: if a name is missing or unknown, a shape does not fit, or a value is not finite.
    """
    check_names("inputs", inputs, network.inputs)
    steps, batch = shape
    found: dict[str, Array] = {}
    for name in network.inputs:
        what = f"input {name!r}"
        array = _flat(numeric(what, _spelled(what, inputs[name], network.nodes[name].size), dtype), network.nodes[name])
        expected = (steps, batch, network.nodes[name].size)
        _check_shape(what, array, expected)
        steps, batch = array.shape[:2]
        found[name] = finite(what, array, "(time, batch, unit)")
    return found, (steps, batch) if found and steps is not None and batch is not None else None


def shape_without_inputs(targets: Any, losses: Mapping[str, Loss]) -> tuple[int, int]:
    """Time and batch of a block of a graph without inputs, read off its targets; raises `DataError`."""
    check_names("targets", targets, losses)
    name = next(iter(losses))
    shape = array_of(f"target {name!r}", targets[name], UNMASKED).shape
    if len(shape) < 2:
        raise DataError(f"target {name!r}: expected shape (time, batch, ...), got {shape}.")
    return shape[0], shape[1]


def read_signals(
    network: Network, nodes: Collection[str], signals: Any, dtype: Any, shape: tuple[int, int]
) -> dict[str, Array]:
    """The learning signals that the user gives, `(time, batch, size)` by node.

    Raises:
        DataError: if a name is missing or unknown, a shape does not fit, or a value is not finite.
    """
    if signals is None and not nodes:
        return {}
    signals = {} if signals is None else signals
    check_names("signals", signals, nodes)
    found: dict[str, Array] = {}
    for name in nodes:
        what = f"signal {name!r}"
        array = _flat(numeric(what, signals[name], dtype), network.nodes[name])
        _check_shape(what, array, (*shape, network.nodes[name].size))
        found[name] = finite(what, array, "(time, batch, unit)")
    return found


def _spelled(what: str, given: Any, size: int) -> Any:
    """Tokens `(time, batch)` as numbers of units, `(time, batch, size)`; all else as it is."""
    array = array_of(what, given)
    if array.dtype.kind not in "iu" or array.ndim != 2 or not array.size:
        return given
    wrong = (array < 0) | (array >= size)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise DataError(f"{what}: token {array[place]} at (time, batch) = {place}; there are {size} units.")
    return np.arange(size) == array[..., None]


def _flat(array: Array, node: Node) -> Array:
    """One axis for all units of a node, in row-major order."""
    shaped = len(node.shape) > 1 and array.ndim == 2 + len(node.shape) and array.shape[2:] == node.shape
    return array.reshape(*array.shape[:2], node.size) if shaped else array


def _check_shape(what: str, array: Array, expected: tuple[int | None, ...]) -> None:
    fits = array.ndim == len(expected) and all(e in (None, n) for n, e in zip(array.shape, expected, strict=True))
    if fits and 0 not in array.shape:
        return
    names = ("time", "batch", "size")
    wanted = ", ".join(name if e is None else str(e) for name, e in zip(names, expected, strict=False))
    hint = "Arrays are (time, batch, size); a single sequence is array[:, None]." if array.ndim < len(expected) else ""
    if 0 in array.shape:
        hint = "It is empty."
    raise DataError(f"{what}: expected shape ({wanted}), got {array.shape}.", hint)


@dataclass(frozen=True)
class Target:
    """What a loss compares with.

    Args:
        values: `(time, batch, size)`, or `(time, batch)` whole numbers for a loss on labels.
        weight: `(time, batch)`, or `None` for ones.
        loss: the loss that compares.
    """

    values: Array
    weight: Array | None
    loss: Loss

    def step(self, t: int) -> Target:
        """That of one step of the block."""
        return Target(self.values[t : t + 1], None if self.weight is None else self.weight[t : t + 1], self.loss)


@dataclass(frozen=True)
class Given:
    """All that a block is given beside its state, checked.

    Args:
        params: by name.
        inputs, signals: `(time, batch, size)` by node.
        targets: by output node; one that is left out has no part in the loss.
    """

    params: dict[str, Array]
    inputs: dict[str, Array]
    targets: dict[str, Target]
    signals: dict[str, Array]

    def step(self, t: int) -> Given:
        """One step of the block."""
        inputs = {name: array[t : t + 1] for name, array in self.inputs.items()}
        signals = {name: array[t : t + 1] for name, array in self.signals.items()}
        return Given(self.params, inputs, {name: goal.step(t) for name, goal in self.targets.items()}, signals)


def read_targets(
    network: Network, losses: Mapping[str, Loss], targets: Any, mask: Any, shape: tuple[int, int], dtype: Any
) -> dict[str, Target]:
    """The targets of a block with their masks, by output node.

    Where a mask is zero a target may be anything, also NaN.

    Raises:
        DataError: if a name is missing or unknown, a shape or label does not fit, or a value is not finite.
    """
    check_names("targets", targets, losses)
    if isinstance(mask, Mapping):
        for name in mask:  # pyright: ignore[reportUnknownVariableType]
            if name not in losses:
                raise DataError(f"mask: unknown name {name!r}.", did_you_mean(name, losses))
    found: dict[str, Target] = {}
    for name, loss in losses.items():
        given = mask.get(name) if isinstance(mask, Mapping) else mask  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        weight = (
            None
            if given is None
            else _mask(f"mask of {name!r}" if isinstance(mask, Mapping) else "mask", given, shape, dtype)
        )
        size = network.nodes[name].size
        values = (
            _labels(name, targets[name], weight, shape, size)
            if loss.labels
            else _values(network.nodes[name], loss, targets[name], weight, (*shape, size), dtype)
        )
        found[name] = Target(values, weight, loss)
    return found


def read_credit(
    network: Network,
    losses: Mapping[str, Loss],
    ruled: Collection[str],
    given: tuple[Any, Any, Any],
    shape: tuple[int, int],
    dtype: Any,
) -> tuple[dict[str, Target], dict[str, Array]]:
    """What credit is asked of: outputs with what they are compared with, and learning signals that a rule asks for.

    A signal on an output stands in place of its loss. An output that has neither has no part.

    Args:
        network: the validated graph.
        losses: by output node.
        ruled: the nodes of which a rule says that their learning signals are given.
        given: targets, mask and signals.
        shape: `(time, batch)`.
        dtype: of the program.

    Raises:
        DataError: if a name is unknown, an array does not fit, or nothing is given.
    """
    mask = given[1]
    targets: Mapping[str, Any] = {} if given[0] is None else given[0]
    signals: Mapping[str, Any] = {} if given[2] is None else given[2]
    check_names("targets", targets, losses, whole=False)
    check_names("signals", signals, dict.fromkeys((*losses, *ruled)), whole=False)
    if not targets and not signals:
        raise DataError("credit: neither targets nor signals are given.", "Give one of them for some output.")
    for name in targets:
        if name in signals and name not in ruled:
            raise DataError(
                f"credit: {name!r} is given a target and a signal, which stands in place of its loss.",
                "For the gradient of both, ask twice and add the gradients.",
            )
    chosen = {
        name: loss if name in targets else SIGNAL for name, loss in losses.items() if name in targets or name in signals
    }
    goals = read_targets(network, chosen, {name: {**signals, **targets}[name] for name in chosen}, mask, shape, dtype)
    needed = [name for name in ruled if targets or name in signals]
    own = read_signals(network, needed, {name: signals[name] for name in needed if name in signals}, dtype, shape)
    return goals, own | {name: np.zeros((*shape, network.nodes[name].size), dtype) for name in ruled if name not in own}


def _mask(what: str, given: Any, shape: tuple[int, int], dtype: Any) -> Array:
    array = numeric(what, given, dtype)
    if array.shape == shape[:1]:
        array = np.broadcast_to(array[:, None], shape)
    if array.shape != shape:
        raise DataError(f"{what}: expected shape ({shape[0]},) or {shape}, got {array.shape}.")
    return finite(what, array, "(time, batch)")


def _values(node: Node, loss: Loss, given: Any, weight: Array | None, shape: tuple[int, ...], dtype: Any) -> Array:
    what = f"{'signal' if loss is SIGNAL else 'target'} {node.name!r}"
    array = _flat(numeric(what, given, dtype, UNMASKED), node)
    _check_shape(what, array, shape)
    if weight is not None and not weight.all():  # also finite ones may be such that their loss is not
        array = np.where((weight == 0)[..., None], 0, array).astype(dtype, copy=False)
    return finite(what, array, "(time, batch, unit)")


def _labels(name: str, given: Any, weight: Array | None, shape: tuple[int, int], classes: int) -> Array:
    what = f"target {name!r}"
    array = array_of(what, given, UNMASKED)
    if array.dtype.kind not in "biu":
        raise DataError(
            f"{what}: labels are whole numbers, got dtype {array.dtype}.", "Did you mean one class index a step?"
        )
    _check_shape(what, array, shape)
    labels = array.astype(np.intp)
    if weight is not None:
        labels = np.where(weight == 0, 0, labels)
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise DataError(f"{what}: label {labels[place]} at (time, batch) = {place}; {name!r} has {classes} units.")
    return labels


def read_params(parameters: Mapping[str, Parameter], params: Any, dtype: Any) -> dict[str, Array]:
    """The parameters given, checked against those expected.

    Raises:
        DataError: if a name is missing or unknown, a shape does not fit, or a value is not finite.
    """
    check_names("params", params, parameters)
    found: dict[str, Array] = {}
    for name, parameter in parameters.items():
        array = numeric(f"parameter {name!r}", params[name], dtype)
        if array.shape != parameter.shape:
            raise DataError(f"parameter {name!r}: expected shape {parameter.shape}, got {array.shape}.")
        found[name] = finite(f"parameter {name!r}", array, "index")
    return found

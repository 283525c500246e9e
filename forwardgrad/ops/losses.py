"""Which losses can stand on a node? Each is a value and a gradient per sample; the batch mean is taken outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardgrad.errors import OpError, did_you_mean
from forwardgrad.ops import Array


@dataclass(frozen=True)
class Loss:
    """A loss on one node.

    Args:
        name: its name in `loss={"y": name}`.
        value: `value(y, target) -> (rows,)`, the loss of each sample, for `y` of shape `(rows, size)`.
        gradient: `gradient(y, target) -> (rows, size)`, the derivative of that value by `y`.
        labels: whether the target is one whole number per sample, `(time, batch)`, instead of `(time, batch, size)`.

    >>> absolute = Loss("absolute", value=lambda y, t: abs(y - t).sum(axis=1), gradient=lambda y, t: np.sign(y - t))
    """

    name: str
    value: Callable[[Array, Array], Any]
    gradient: Callable[[Array, Array], Any]
    labels: bool = False


def _mse(y: Array, t: Array) -> Array:
    return np.mean((y - t) ** 2, axis=1)


def _mse_gradient(y: Array, t: Array) -> Array:
    return 2 * (y - t) / y.shape[1]


def _log_softmax(y: Array) -> Array:
    if y.shape[1] > 64:  # fewer are summed faster unit by unit than row by row
        shifted = y - y.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    turned = np.ascontiguousarray(y.T)
    shifted = turned - turned.max(axis=0)
    return (shifted - np.log(np.exp(shifted).sum(axis=0))).T


def _cross_entropy(y: Array, label: Array) -> Array:
    return -_log_softmax(y)[np.arange(len(y)), label]


def _cross_entropy_gradient(y: Array, label: Array) -> Array:
    gradient = np.exp(_log_softmax(y))
    gradient[np.arange(len(y)), label] -= 1
    return gradient


def _bernoulli(y: Array, t: Array) -> Array:
    # -t log s(y) - (1 - t) log(1 - s(y)) = softplus(y) - t y
    return np.mean(np.logaddexp(0, y) - t * y, axis=1)


def _bernoulli_gradient(y: Array, t: Array) -> Array:
    return (0.5 * (1.0 + np.tanh(0.5 * y)) - t) / y.shape[1]


_table: dict[str, Loss] = {}


def add(loss: Loss, *, replace: bool = False) -> Loss:
    """Enter a loss into the table; raises `OpError` if the name is taken."""
    if loss.name in _table and not replace:
        raise OpError(f"loss {loss.name!r} is registered already.", "Pass replace=True to put another in its place.")
    _table[loss.name] = loss
    return loss


def get(loss: str | Loss) -> Loss:
    """The loss of that name, or the loss itself; raises `OpError` if there is none."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str) and loss in _table:  # pyright: ignore[reportUnnecessaryIsInstance]
        return _table[loss]
    raise OpError(f"unknown loss {loss!r}.", did_you_mean(loss, _table))


def evaluate(
    loss: Loss, y: Array, target: Array, weight: Array | None, per_sample: bool = False
) -> tuple[float, Array]:
    """The loss of a block and its gradient: the sum over time of the weighted mean over the batch.

    Args:
        loss: the loss.
        y: `(time, batch, size)`.
        target: `(time, batch, size)`, or `(time, batch)` for labels.
        weight: `(time, batch)`, or `None` for ones. The divisor of the mean is the batch size in any case.
        per_sample: whether the derivative is that of each sample's own loss, which is not divided.

    Returns:
        The loss, and its derivative by `y`, `(time, batch, size)`.

    Raises:
        OpError: if the loss returns a wrong shape.
    """
    rows = y.reshape(-1, y.shape[-1])
    targets = target.reshape(len(rows), *target.shape[2:])
    lent = SHIPPED.get(loss.name) is not loss  # a user's function may write into what it is given, or keep it
    try:
        value = np.array(loss.value(*_copies(rows, targets) if lent else (rows, targets)))
        gradient = np.array(loss.gradient(*_copies(rows, targets) if lent else (rows, targets)), y.dtype)
    except (TypeError, ValueError) as error:
        raise OpError(f"loss {loss.name!r}: value or gradient fails.", f"{type(error).__name__}: {error}") from error
    if value.shape != rows.shape[:1] or gradient.shape != rows.shape:
        raise OpError(
            f"loss {loss.name!r}: value and gradient have shapes {value.shape} and {gradient.shape}.",
            f"For y of shape {rows.shape} they must be {rows.shape[:1]} and {rows.shape}.",
        )
    value, gradient = value.reshape(y.shape[:2]), gradient.reshape(y.shape)
    if weight is None:
        scale = y.dtype.type(1 / y.shape[1])
        return float((value * scale).sum()), gradient if per_sample else gradient * scale
    scale = weight / y.shape[1]
    if not weight.all():  # what has no weight may also be NaN
        value, gradient = np.where(weight == 0, 0, value), np.where((weight == 0)[..., None], 0, gradient)
    return float((value * scale).sum()), gradient * (weight if per_sample else scale)[..., None]


def _copies(*arrays: Array) -> list[Array]:
    return [array.copy() for array in arrays]


def names() -> list[str]:
    """The names of all registered losses, sorted."""
    return sorted(_table)


def _product(y: Array, signal: Array) -> Array:
    return (y * signal).sum(axis=1)


def _signal(y: Array, signal: Array) -> Array:
    return signal


add(Loss("mse", _mse, _mse_gradient))
add(Loss("cross_entropy", _cross_entropy, _cross_entropy_gradient, labels=True))
add(Loss("bernoulli", _bernoulli, _bernoulli_gradient))
SIGNAL = add(Loss("signal", _product, _signal))
"""The loss of an output whose learning signal comes from outside, as its target."""

SHIPPED = dict(_table)
"""The losses that the library comes with."""

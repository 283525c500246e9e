"""Recursive least squares: a linear readout that is, after every step, the best one for all steps so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardgrad.errors import DataError
from forwardgrad.ops import Array


@dataclass(frozen=True)
class RLS:
    """Recursive least squares with a forgetting factor.

    For each sample, with features x and target y:
    k = P x / (forgetting + x' P x);  W = W + (y - W x) k';  P = (P - k x' P) / forgetting.

    With forgetting = 1 the weights are those of ridge regression, Y X' (X X' + ridge I)^-1.

    It needs the features themselves, which no gradient holds; so it is not an optimizer of a learner.

    Source: Haykin 2002, "Adaptive filter theory", 4th edition, table 9.1.

    Args:
        forgetting: weight of the step before, in (0, 1].
        ridge: > 0; P begins as the identity divided by it.

    >>> rls, x = RLS(ridge=1e-9), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> state = rls.update(rls.start(2, 1), x, x @ np.array([[2.0], [-1.0]]))
    >>> state["weights"].round(6)
    array([[ 2., -1.]])
    """

    forgetting: float = 1.0
    ridge: float = 1e-3

    def __post_init__(self) -> None:
        for name, limit in (("forgetting", 1.0), ("ridge", math.inf)):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and 0 < value <= limit and math.isfinite(value)):
                wanted = "a number in (0, 1]" if limit == 1 else "a finite number > 0"
                raise DataError(f"RLS: {name!r} must be {wanted}, got {value!r}.")

    def start(self, features: int, outputs: int) -> dict[str, Array]:
        """The state before the first sample: `weights` (outputs, features) and `inverse` (features, features)."""
        return {"weights": np.zeros((outputs, features)), "inverse": np.eye(features) / self.ridge}

    def update(self, state: Mapping[str, Array], features: Any, targets: Any) -> dict[str, Array]:
        """The state after more samples, taken one after another; no argument is changed.

        Args:
            state: from `start` or `update`.
            features: `(..., features)`, for example `(time, batch, features)`. A bias is a feature that is always 1.
            targets: `(..., outputs)`.

        Raises:
            DataError: if a shape does not fit, or something is not finite.
        """
        weights, inverse = np.array(state["weights"]), np.array(state["inverse"])
        x, y = np.asarray(features, weights.dtype), np.asarray(targets, weights.dtype)
        if x.shape[-1:] != weights.shape[1:] or y.shape != (*x.shape[:-1], len(weights)):
            outputs, size = weights.shape
            raise DataError(
                f"RLS: features have shape {x.shape}, targets {y.shape}.",
                f"They must be (..., {size}) and (..., {outputs}), alike in front.",
            )
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise DataError("RLS: a feature or a target is not finite.")
        for row, target in zip(x.reshape(-1, x.shape[-1]), y.reshape(-1, len(weights)), strict=True):
            projected = inverse @ row
            gain = projected / (self.forgetting + row @ projected)
            weights += np.outer(target - weights @ row, gain)
            inverse = (inverse - np.outer(gain, projected)) / self.forgetting
        if not (np.isfinite(weights).all() and np.isfinite(inverse).all()):
            raise DataError("RLS: the weights are not finite.", "Scale the features, or raise forgetting or ridge.")
        return {"weights": weights, "inverse": inverse}

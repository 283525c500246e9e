"""Delayed add: tell a weighted sum of two coin flips, of which each was seen some steps ago."""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.errors import DataError
from forwardgrad.learning.tasks import ranges
from forwardgrad.learning.tasks.collection import Reference, Valued

WEIGHTS = (0.5, -0.25)
"""Of the two flips; the constant is 0.5, so that the sum is a probability."""


def _entropy(p: float) -> float:
    return float(-p * np.log(p) - (1 - p) * np.log(1 - p))


REFERENCES = (
    Reference(1.0, "without memory", "NMSE"),
    Reference(0.2, "first flip alone", "NMSE"),
    Reference(5 / 64, "without memory", "MSE"),
    Reference(1 / 64, "first flip alone", "MSE"),
    Reference(_entropy(5 / 8), "without memory", "cross entropy"),
    Reference((_entropy(3 / 8) + _entropy(7 / 8)) / 2, "first flip alone", "cross entropy"),
)
"""They do not depend on the lags."""


def delayed_add(sequences: int, seed: Any = 0, *, steps: int = 100, lags: tuple[int, int] = (5, 9)) -> Valued:
    """Coin flips x, and y(t) = 0.5 + 0.5 x(t - lags[0]) - 0.25 x(t - lags[1]).

    Inputs are x and 1 - x, targets y and 1 - y: two probabilities, on which a mean squared error and a cross-entropy
    both make sense. No answer is asked for before both flips have been seen.

    A network that does not remember a flip does best when it takes the mean, 1/2, instead, both for squared errors and
    for cross-entropies (which are linear in the target). Without memory the squared error is the variance of y,
    (0.5² + 0.25²) / 4 = 5/64; with the first flip alone it is 0.25² / 4 = 1/64, a fifth of it. The cross-entropies are
    h(5/8) = 0.6616 and (h(3/8) + h(7/8)) / 2 = 0.5192 nats, where h(p) is the entropy of a coin.

    The add task of Marschall, Cho & Savin 2020, arXiv 1907.02649.

    Args:
        sequences: how many.
        seed: of all random numbers: what `numpy.random.default_rng` takes.
        steps: of a sequence, more than the second lag.
        lags: how many steps ago the two flips were, from 1 on, in rising order.

    Returns:
        Inputs and targets `(steps, sequences, 2)`.

    Raises:
        DataError: if an argument is out of range.

    >>> task = delayed_add(1, seed=2, steps=6, lags=(1, 2))
    >>> task.inputs[:, 0, 0]
    array([1., 0., 0., 0., 0., 1.])
    >>> task.targets[task.mask[:, 0] > 0, 0, 0]
    array([0.25, 0.5 , 0.5 , 0.5 ])
    >>> print(*task.references[:2], sep=", ")
    without memory: NMSE 1, first flip alone: NMSE 0.2
    """
    ranges.whole("delayed_add", sequences=(sequences, 1))
    ranges.interval("delayed_add", "lags", lags, 1)
    if lags[0] == lags[1]:
        raise DataError(f"delayed_add: lags must differ, got {lags!r}.")
    ranges.whole("delayed_add", steps=(steps, lags[1] + 1))
    x = np.random.default_rng(seed).integers(0, 2, (steps, sequences)).astype(np.float64)
    y = np.full((steps, sequences), 0.5)
    for lag, weight in zip(lags, WEIGHTS, strict=True):
        y[lags[1] :] += weight * x[lags[1] - lag : steps - lag]
    mask = np.repeat(np.arange(steps)[:, None] >= lags[1], sequences, axis=1).astype(np.float64)
    inputs, targets = (np.stack([each, 1 - each], axis=2) for each in (x, y))
    return Valued(inputs, targets, mask, np.full(sequences, steps, np.intp), REFERENCES)

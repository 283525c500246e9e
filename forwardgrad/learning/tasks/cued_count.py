"""Cued count: see which symbol matters, then count it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from forwardgrad.learning.tasks import ranges
from forwardgrad.learning.tasks.collection import Labelled, Reference, answered_at_end


def cued_count(sequences: int, seed: Any = 0, *, symbols: int = 3, steps: int = 20, modulo: int = 2) -> Labelled:
    """A cue that names a symbol, a stream of symbols, and the question how often that one came, modulo a number.

    The first step shows the cue, in channels of its own. Then come `steps` symbols, each drawn evenly, and the query,
    in the last channel. To answer, a network has to remember the cue and to count by it.

    Without memory the best answer is the likeliest remainder. The count is binomial, so its probability is the largest
    sum of Binomial(steps, 1 / symbols) over the counts with one remainder. For modulo 2 it is 1/2 plus
    abs(1 - 2 / symbols) ** steps / 2, which is 1/2 with two symbols, and hardly more with three.

    A task of this library; it joins the cue of store-recall tasks and the counting of parity tasks.

    Args:
        sequences: how many.
        seed: of all random numbers: what `numpy.random.default_rng` takes.
        symbols: how many kinds there are, at least 2. With two, an even `steps` and modulo 2 the cue does not matter.
        steps: how many symbols are shown, at least 1.
        modulo: what the count is divided by, at least 2; more than `steps` leaves it as it is.

    Returns:
        Inputs `(steps + 2, sequences, 2 * symbols + 1)`: cue, symbol, query; labels from 0 to `modulo - 1`.

    Raises:
        DataError: if an argument is out of range.

    >>> task = cued_count(1, seed=0, symbols=2, steps=5)
    >>> task.inputs[:, 0].T.astype(int)
    array([[0, 0, 0, 0, 0, 0, 0],
           [1, 0, 0, 0, 0, 0, 0],
           [0, 0, 0, 1, 1, 1, 0],
           [0, 1, 1, 0, 0, 0, 0],
           [0, 0, 0, 0, 0, 0, 1]])
    >>> task.labels, task.references[0].value
    (array([0]), 0.5)
    """
    ranges.whole("cued_count", sequences=(sequences, 1), symbols=(symbols, 2), steps=(steps, 1), modulo=(modulo, 2))
    rng = np.random.default_rng(seed)
    cue, stream = rng.integers(0, symbols, sequences), rng.integers(0, symbols, (steps, sequences))
    inputs = np.zeros((steps + 2, sequences, 2 * symbols + 1))
    inputs[0, :, :symbols], inputs[1:-1, :, symbols:-1], inputs[-1, :, -1] = (
        np.eye(symbols)[cue],
        np.eye(symbols)[stream],
        1,
    )
    shares = np.zeros(modulo)
    for count in range(steps + 1):
        shares[count % modulo] += math.comb(steps, count) * (symbols - 1) ** (steps - count) / symbols**steps
    chance = Reference(float(shares.max()), "without memory", "accuracy")
    return answered_at_end(inputs, (stream == cue).sum(axis=0) % modulo, chance)

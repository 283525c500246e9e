"""Adding problem: the sum of the two numbers, of many, that were marked."""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.learning.tasks import ranges
from forwardgrad.learning.tasks.collection import Reference, Valued


def adding_problem(sequences: int, seed: Any = 0, *, steps: int = 50) -> Valued:
    """Random numbers from 0 to 1, two of them marked, whose sum is asked for in the last step.

    The first channel has the numbers, the second a 1 at the two marks and 0 elsewhere. One mark is in the first half
    of a sequence, the other in the second half, before the last step.

    Without memory the best answer is the mean of the sum, 1. Its squared error is the variance of a sum of two uniform
    numbers, 2 / 12 = 1/6 (about 0.167, as in the paper below), and its NMSE is 1.

    The adding problem of Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735, in the form of Arjovsky, Shah &
    Bengio 2016, arXiv 1511.06464. There the second mark may be in the last step, too, where no memory is needed for it.

    Args:
        sequences: how many.
        seed: of all random numbers: what `numpy.random.default_rng` takes.
        steps: of a sequence, at least 4.

    Returns:
        Inputs `(steps, sequences, 2)`, targets `(steps, sequences, 1)`.

    Raises:
        DataError: if an argument is out of range.

    >>> task = adding_problem(1, seed=0, steps=5)
    >>> task.inputs[:, 0].T.round(2)
    array([[0.64, 0.27, 0.04, 0.02, 0.81],
           [0.  , 1.  , 0.  , 1.  , 0.  ]])
    >>> float(task.targets[-1, 0, 0].round(2))
    0.29
    >>> print(*task.references, sep=", ")
    without memory: MSE 0.1667, without memory: NMSE 1
    """
    ranges.whole("adding_problem", sequences=(sequences, 1), steps=(steps, 4))
    rng = np.random.default_rng(seed)
    inputs, which = np.zeros((steps, sequences, 2)), np.arange(sequences)
    inputs[..., 0] = rng.random((steps, sequences))
    for first, last in ((0, steps // 2), (steps // 2, steps - 1)):
        inputs[rng.integers(first, last, sequences), which, 1] = 1
    sums = np.prod(inputs, axis=2).sum(axis=0)
    mask = np.zeros((steps, sequences))
    mask[-1] = 1
    references = (Reference(1 / 6, "without memory", "MSE"), Reference(1.0, "without memory", "NMSE"))
    targets = np.tile(sums[:, None], (steps, 1, 1))
    return Valued(inputs, targets, mask, np.full(sequences, steps, np.intp), references)

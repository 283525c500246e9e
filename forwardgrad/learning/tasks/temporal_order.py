"""Temporal order: in which order did two symbols come, which were far apart among others?"""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.learning.tasks import ranges
from forwardgrad.learning.tasks.collection import Labelled, Reference, answered_at_end

SYMBOLS = "EBabcdXY"
"""One channel each: begin, end, four distractors, and the two that matter."""


def temporal_order(sequences: int, seed: Any = 0, *, steps: int = 100) -> Labelled:
    """Sequences of symbols with an X or a Y in two places: XX, XY, YX or YY?

    A sequence begins with E and ends with B. In between there are a, b, c and d at random, but for two places. One is
    drawn from `steps / 10` to `steps / 5`, the other from `steps / 2` to `3 steps / 5`, the length from `steps` to
    `11 steps / 10`, ends included. The answer is asked for in the last step, that of B: without memory all four are
    equally likely, and the accuracy is 1/4.

    Experiment 6a of Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735, with its lengths by default.

    Args:
        sequences: how many.
        seed: of all random numbers: what `numpy.random.default_rng` takes.
        steps: of the shortest sequence, at least 10.

    Returns:
        Inputs `(11 * steps // 10, sequences, 8)`, channels as in `EBabcdXY`; labels 0 to 3 are XX, XY, YX, YY.

    Raises:
        DataError: if an argument is out of range.

    >>> task = temporal_order(1, seed=5, steps=10)
    >>> "".join("EBabcdXY"[each] for each in task.inputs[: task.lengths[0], 0].argmax(axis=1))
    'EYdbcXbdabB'
    >>> task.labels, task.references[0].value
    (array([2]), 0.25)
    """
    ranges.whole("temporal_order", sequences=(sequences, 1), steps=(steps, 10))
    rng, which = np.random.default_rng(seed), np.arange(sequences)
    longest = 11 * steps // 10
    lengths = rng.integers(steps, longest + 1, sequences)
    symbols = rng.integers(2, 6, (longest, sequences))
    symbols[0], symbols[lengths - 1, which] = 0, 1
    first, second = rng.integers(0, 2, (2, sequences))
    symbols[rng.integers(steps // 10, steps // 5 + 1, sequences), which] = 6 + first
    symbols[rng.integers(steps // 2, 3 * steps // 5 + 1, sequences), which] = 6 + second
    inputs = np.eye(len(SYMBOLS))[symbols] * (np.arange(longest)[:, None] < lengths)[..., None]
    chance = Reference(1 / 4, "without memory", "accuracy")
    return answered_at_end(inputs, 2 * first + second, chance, lengths=lengths)

"""Delayed XOR: were two bits different, which came one after the other?"""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.learning.tasks import ranges
from forwardgrad.learning.tasks.collection import Labelled, Reference, answered_at_end


def delayed_xor(sequences: int, seed: Any = 0, *, gap: int = 10, delay: int = 10) -> Labelled:
    """Two bits, the second some steps after the first, and after a delay the question whether they differ.

    The first channel is at 1 for a bit that is 0, the second for a bit that is 1, the third in the last step, the
    query. A network that remembers one bit or none can only guess: the other bit makes both answers equally likely, and
    the accuracy is 1/2. No linear function of the two bits gives the answer.

    The temporal version of XOR in Elman 1990, Cognitive Science 14:179-211, with delays.

    Args:
        sequences: how many.
        seed: of all random numbers: what `numpy.random.default_rng` takes.
        gap: steps from the first bit to the second, at least 1.
        delay: steps from the second bit to the query, at least 1.

    Returns:
        Inputs `(gap + delay + 1, sequences, 3)`; the label is 1 if the bits differ.

    Raises:
        DataError: if an argument is out of range.

    >>> task = delayed_xor(1, seed=1, gap=2, delay=3)
    >>> task.inputs[:, 0].T.astype(int)
    array([[1, 0, 0, 0, 0, 0],
           [0, 0, 1, 0, 0, 0],
           [0, 0, 0, 0, 0, 1]])
    >>> task.labels, task.references[0].value
    (array([1]), 0.5)
    """
    ranges.whole("delayed_xor", sequences=(sequences, 1), gap=(gap, 1), delay=(delay, 1))
    first, second = np.random.default_rng(seed).integers(0, 2, (2, sequences))
    inputs = np.zeros((gap + delay + 1, sequences, 3))
    inputs[0, :, :2], inputs[gap, :, :2], inputs[-1, :, 2] = np.eye(2)[first], np.eye(2)[second], 1
    return answered_at_end(inputs, first ^ second, Reference(1 / 2, "one bit or none", "accuracy"))

"""Recall: name the cue with which a sequence began, after distractors and an unknown delay."""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.learning.tasks import ranges
from forwardgrad.learning.tasks.collection import Labelled, Reference, answered_at_end

CUE, QUERY = 3, 3
"""Steps for which a cue is shown, and for which the answer is asked for."""


def recall(
    sequences: int, seed: Any = 0, *, cues: int = 4, shortest: int = 20, longest: int = 50, rate: float = 0.1
) -> Labelled:
    """Sequences that begin with one of several cues, whose number is asked for at their end.

    A cue is its own input channel at 1 for three steps. Then all cue channels spike at random, as distractors. In the
    last three steps a further channel is at 1, the query; the answer counts there. A network without memory can only
    guess: its accuracy is one over the number of cues.

    The store-recall task of Bellec et al. 2018, arXiv 1803.09574, in its simplest form: the cue always comes first.

    Args:
        sequences: how many.
        seed: of all random numbers: what `numpy.random.default_rng` takes.
        cues: how many there are to tell apart, at least 2. The inputs have one channel more, for the query.
        shortest, longest: steps of a sequence, drawn evenly; at least 7.
        rate: how often a channel spikes as a distractor, per step, from 0 to 1.

    Returns:
        Sequences padded to the longest of these steps.

    Raises:
        DataError: if an argument is out of range.

    >>> task = recall(2, seed=1, cues=2, shortest=8, longest=9)
    >>> task.inputs[:, 0].T.astype(int)
    array([[1, 1, 1, 0, 0, 0, 0, 0, 0],
           [0, 0, 0, 0, 0, 0, 0, 0, 0],
           [0, 0, 0, 0, 0, 0, 1, 1, 1]])
    >>> task.lengths, task.labels
    (array([9, 9]), array([0, 1]))
    """
    least = {"cues": (cues, 2), "shortest": (shortest, CUE + QUERY + 1), "longest": (longest, shortest)}
    ranges.whole("recall", sequences=(sequences, 1), **least)
    ranges.probability("recall", "rate", rate)
    rng = np.random.default_rng(seed)
    labels, lengths = rng.integers(0, cues, sequences), rng.integers(shortest, longest + 1, sequences)
    step = np.arange(longest)[:, None]
    ended, asked = step >= lengths, (step >= lengths - QUERY) & (step < lengths)
    inputs = np.zeros((longest, sequences, cues + 1))
    inputs[..., :cues] = rng.random((longest, sequences, cues)) < rate
    inputs[(step < CUE) | asked | ended] = 0
    inputs[:CUE, np.arange(sequences), labels] = 1
    inputs[..., cues] = asked
    chance = Reference(1 / cues, "without memory", "accuracy")
    return answered_at_end(inputs, labels, chance, lengths=lengths, query=QUERY)

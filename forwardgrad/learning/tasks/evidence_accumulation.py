"""Evidence accumulation: on which side were there more cues?"""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.errors import DataError
from forwardgrad.learning.tasks import ranges
from forwardgrad.learning.tasks.collection import Labelled, Reference, answered_at_end

GROUP = 10
"""Channels of each of the four groups: left, right, recall, noise."""


def evidence_accumulation(
    sequences: int,
    seed: Any = 0,
    *,
    cues: int = 7,
    cue: int = 100,
    gap: int = 50,
    delay: int = 1000,
    query: int = 150,
    rate: float = 0.04,
    likely: float = 0.7,
) -> Labelled:
    """Spikes of cues on the left and on the right, a delay, and the question on which side there were more.

    There are 40 channels in four groups of ten: left cues, right cues, recall, noise. During a cue the channels of its
    side spike, during the last `query` steps those of recall, all at `rate`, and the noise at `rate / 4` throughout.
    Before each cue there is a gap. One side, drawn for each sequence, is the more likely one for all of its cues. The
    answer counts in the last `query` steps, in which no input depends on it: without memory the accuracy is 1/2.

    Bellec et al. 2020, Nature Communications 11:3625, doi 10.1038/s41467-020-17236-y, with steps of 1 ms: seven cues of
    100 ms, 50 ms apart, a delay, and 150 ms of recall, at 40 Hz.

    Args:
        sequences: how many.
        seed: of all random numbers: what `numpy.random.default_rng` takes.
        cues: how many there are, an odd number.
        cue, gap, delay, query: steps of a cue, before each cue, after the last one, and of the query; at least 1, and
            0 for gap and delay.
        rate: how often a channel spikes, per step, from 0 to 1.
        likely: how likely a cue is on the side that is drawn for the sequence, from 0 to 1.

    Returns:
        Inputs `(cues * (gap + cue) + delay + query, sequences, 40)`; labels are 0 for left, 1 for right.

    Raises:
        DataError: if an argument is out of range.

    >>> task = evidence_accumulation(1, seed=0, cues=3, cue=2, gap=1, delay=2, query=1, rate=1)
    >>> task.inputs[:, 0, [0, 10, 20]].T.astype(int)
    array([[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
           [0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 0, 0],
           [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]])
    >>> task.labels, task.references[0].value
    (array([1]), 0.5)
    """
    name = "evidence_accumulation"
    ranges.whole(name, sequences=(sequences, 1), cues=(cues, 1), cue=(cue, 1), gap=(gap, 0), delay=(delay, 0))
    ranges.whole(name, query=(query, 1))
    ranges.probability(name, "rate", rate)
    ranges.probability(name, "likely", likely)
    if cues % 2 == 0:
        raise DataError(f"{name}: cues must be odd, so that one side has more, got {cues}.")
    rng, which = np.random.default_rng(seed), np.arange(sequences)
    right = np.where(rng.random(sequences) < 0.5, likely, 1 - likely)
    sides = (rng.random((cues, sequences)) < right).astype(np.intp)
    steps = cues * (gap + cue) + delay + query
    rates = np.zeros((steps, sequences, 4))
    for number, side in enumerate(sides):
        first = number * (gap + cue) + gap
        rates[first : first + cue, which, side] = rate
    rates[steps - query :, :, 2] = rate
    rates[..., 3] = rate / 4
    spikes = rng.random((steps, sequences, 4 * GROUP)) < np.repeat(rates, GROUP, axis=2)
    labels = (2 * sides.sum(axis=0) > cues).astype(np.intp)
    chance = Reference(1 / 2, "without memory", "accuracy")
    return answered_at_end(spikes.astype(np.float64), labels, chance, query=query)

"""Pattern generation: produce a fixed sum of sinusoids from fixed input spikes."""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.learning.tasks import ranges
from forwardgrad.learning.tasks.collection import Reference, Valued

CYCLES = (1, 2, 3, 5)
"""Of the four sinusoids, in a sequence."""


def pattern_generation(
    sequences: int, seed: Any = 0, *, steps: int = 1000, channels: int = 100, outputs: int = 1, rate: float = 0.05
) -> Valued:
    """The same input spikes and the same targets again and again: sums of four sinusoids.

    Each target is a sum of sinusoids of 1, 2, 3 and 5 cycles, with amplitudes from 0.5 to 2 and any phases, less its
    mean, divided by its largest absolute value. All sequences are equal: the task is to produce this very pattern.

    Predicting the mean, 0, has an NMSE of 1, by definition. A network without memory may do better, since the spikes of
    a step tell something of when it is.

    The task of the e-prop tutorials to Bellec et al. 2020, Nature Communications 11:3625, doi
    10.1038/s41467-020-17236-y: 1 s in steps of 1 ms, 100 channels at 50 Hz.

    Args:
        sequences: how many.
        seed: of all random numbers: what `numpy.random.default_rng` takes.
        steps: of a sequence, at least 20.
        channels: of the input, at least 1.
        outputs: how many targets, at least 1.
        rate: how often a channel spikes, per step, from 0 to 1.

    Returns:
        Inputs `(steps, sequences, channels)`, targets `(steps, sequences, outputs)`.

    Raises:
        DataError: if an argument is out of range.

    >>> task = pattern_generation(2, seed=0, steps=20, channels=3)
    >>> task.targets[:6, 1, 0].round(2)
    array([ 0.13,  0.55,  0.16, -0.45, -0.21,  0.42])
    >>> bool((task.inputs[:, 0] == task.inputs[:, 1]).all()), str(task.references[0])
    (True, 'predicting the mean: NMSE 1')
    """
    least = {"steps": (steps, 20), "channels": (channels, 1), "outputs": (outputs, 1)}
    ranges.whole("pattern_generation", sequences=(sequences, 1), **least)
    ranges.probability("pattern_generation", "rate", rate)
    rng = np.random.default_rng(seed)
    spikes = (rng.random((steps, channels)) < rate).astype(np.float64)
    amplitudes, phases = rng.uniform(0.5, 2, (4, outputs)), rng.uniform(0, 2 * np.pi, (4, outputs))
    time = 2 * np.pi * np.arange(steps)[:, None, None] / steps
    target = (amplitudes * np.sin(time * np.array(CYCLES)[:, None] + phases)).sum(axis=1)
    target -= target.mean(axis=0)
    target /= abs(target).max(axis=0)
    inputs, targets = (np.repeat(each[:, None], sequences, axis=1) for each in (spikes, target))
    references = (
        Reference(1.0, "predicting the mean", "NMSE"),
        Reference(float(target.var(axis=0).mean()), "predicting the mean", "MSE"),
    )
    everywhere = np.ones((steps, sequences))
    return Valued(inputs, targets, everywhere, np.full(sequences, steps, np.intp), references)

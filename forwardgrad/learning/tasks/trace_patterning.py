"""Trace patterning: predict a stimulus that follows some patterns of other stimuli after a pause."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import DataError
from forwardgrad.learning.tasks import ranges
from forwardgrad.learning.tasks.collection import Reference, Valued


def trace_patterning(
    sequences: int,
    seed: Any = 0,
    *,
    steps: int = 1000,
    stimuli: int = 6,
    patterns: int = 10,
    distractors: int = 5,
    gap: tuple[int, int] = (14, 26),
    pause: tuple[int, int] = (80, 120),
    discount: float = 0.9,
) -> Valued:
    """Streams of trials, in which a pattern of conditioned stimuli (CS) may announce an unconditioned one (US).

    A trial begins with a pattern of CS, each on or off, for one step, along with distractors, each on with probability
    1/2. If it is one of the patterns that count, the US follows after a gap. After a pause the next trial begins.
    Patterns that count have half of the stimuli on; they are drawn once, and come in half of the trials. Other trials
    have any of the other patterns. The target is the return, G(t) = US(t+1) + discount * G(t+1).

    Predicting the mean return has an NMSE of 1. Its squared error is the variance of G in a stream without end, which
    is computed from the first two moments of G over a trial.

    Rafiee et al. 2022, Adaptive Behavior, doi 10.1177/10597123221085039, with the defaults of Javed et al. 2023, JMLR
    24, 23-0367: stimuli that last one step, 10 of the 20 patterns of three, gaps of 14 to 26 steps.

    Args:
        sequences: how many streams, all with the same patterns that count.
        seed: of all random numbers, also of the patterns that count: what `numpy.random.default_rng` takes. So training
            and test streams come from one call.
        steps: of a stream, at least 1.
        stimuli: how many CS there are, from 2 to 16.
        patterns: how many patterns count, from 1 to all those with half of the stimuli on.
        distractors: how many there are.
        gap, pause: the least and the most steps from CS to US, and from there to the next CS; at least 1.
        discount: of the return, from 0 on and below 1.

    Returns:
        Inputs `(steps, sequences, 1 + stimuli + distractors)`: US, CS, distractors; targets `(steps, sequences, 1)`.

    Raises:
        DataError: if an argument is out of range.

    >>> task = trace_patterning(1, seed=7, steps=8, stimuli=2, patterns=1, distractors=0, gap=(2, 2), pause=(2, 2))
    >>> task.inputs[:, 0].T.astype(int)
    array([[0, 0, 0, 0, 0, 0, 1, 0],
           [1, 0, 0, 0, 1, 0, 0, 0],
           [1, 0, 0, 0, 0, 0, 0, 0]])
    >>> task.targets[:3, 0, 0].round(2)
    array([1.54, 1.71, 1.9 ])
    >>> print(*task.references, sep=", ")
    predicting the mean: NMSE 1, predicting the mean: MSE 0.3505
    """
    name = "trace_patterning"
    ranges.whole(name, sequences=(sequences, 1), steps=(steps, 1), stimuli=(stimuli, 2), patterns=(patterns, 1))
    ranges.whole(name, distractors=(distractors, 0))
    ranges.interval(name, "gap", gap, 1)
    ranges.interval(name, "pause", pause, 1)
    if not (isinstance(discount, Real) and 0 <= discount < 1):
        raise DataError(f"{name}: discount must be from 0 on and below 1, got {discount!r}.")
    rng = np.random.default_rng(seed)
    counting = counting_patterns(rng, stimuli, patterns)
    beyond = 1 if discount == 0 else int(np.ceil(np.log(1e-15) / np.log(discount)))  # no later US matters
    streams = [one_stream(rng, steps + beyond, counting, distractors, gap, pause) for _ in range(sequences)]
    inputs, returns = np.stack(streams, axis=1), np.zeros((steps + beyond, sequences, 1))
    for step in range(steps + beyond - 2, -1, -1):
        returns[step] = inputs[step + 1, :, :1] + discount * returns[step + 1]
    variance = _variance(gap, pause, discount)
    references = (Reference(1.0, "predicting the mean", "NMSE"), Reference(variance, "predicting the mean", "MSE"))
    lengths = np.full(sequences, steps, np.intp)
    return Valued(inputs[:steps], returns[:steps], np.ones((steps, sequences)), lengths, references)


def counting_patterns(rng: np.random.Generator, stimuli: int, patterns: int) -> NDArray[np.intp]:
    """Patterns that a US follows, `(patterns, stimuli)`, drawn among those with half of the stimuli on.

    Raises:
        DataError: if that many do not exist, or there are too many stimuli to list them.
    """
    if stimuli > 16:
        raise DataError(f"trace_patterning: stimuli must be at most 16, got {stimuli}.")
    halves = np.array([each for each in itertools.product((0, 1), repeat=stimuli) if sum(each) == stimuli // 2])
    if patterns > len(halves):
        raise DataError(
            f"trace_patterning: there are {len(halves)} patterns of half of {stimuli} stimuli, got {patterns}."
        )
    return halves[rng.choice(len(halves), patterns, replace=False)]


def one_stream(
    rng: np.random.Generator,
    steps: int,
    counting: NDArray[np.intp],
    distractors: int,
    gap: tuple[int, int],
    pause: tuple[int, int],
) -> NDArray[np.float64]:
    """The inputs of one stream, `(steps, size)`."""
    patterns, stimuli = len(counting), len(counting[0])
    # Any pattern may be one that counts, by chance; with this share of trials that do, those are half of all.
    share = (2**stimuli / 2 - patterns) / (2**stimuli - patterns)
    found, start = np.zeros((steps, 1 + stimuli + distractors)), 0
    while start < steps:
        shown = rng.integers(0, 2, stimuli)
        if rng.random() < share:
            shown = counting[rng.integers(patterns)]
        us = start + rng.integers(gap[0], gap[1] + 1)
        found[start, 1:] = np.concatenate([shown, rng.integers(0, 2, distractors)])
        if us < steps and (counting == shown).all(axis=1).any():
            found[us, 0] = 1
        start = us + rng.integers(pause[0], pause[1] + 1)
    return found


def _variance(gap: tuple[int, int], pause: tuple[int, int], discount: float) -> float:
    """The variance of the return over the steps of an endless stream.

    Let R(j) be the return that includes step j of a trial with gap g and length n, and V = R(0) of the next trial,
    which does not depend on this one. With a US (B = 1, in half of the trials, else 0) at step g, and discount d,

        R(j) = B d^(g - j) [j <= g] + d^(n - j) V.

    The moments of V follow from R(0), which is distributed like V; those of R from the mean over all g, n and j.
    """
    pairs = itertools.product(range(gap[0], gap[1] + 1), range(pause[0], pause[1] + 1))
    trials = [(g, g + between) for g, between in pairs]

    def mean(exponent: Callable[[int, int], int]) -> float:
        """Of a power of the discount, over all trials."""
        return sum(discount ** exponent(g, n) for g, n in trials) / len(trials)

    first = mean(lambda g, n: g) / 2 / (1 - mean(lambda g, n: n))
    second = mean(lambda g, n: 2 * g) / 2 + mean(lambda g, n: g + n) * first
    second /= 1 - mean(lambda g, n: 2 * n)
    steps = mean_sum = square_sum = 0.0
    for g, n in trials:
        for j in range(n):
            own, later = discount ** (g - j) if j <= g else 0.0, discount ** (n - j)
            steps += 1
            mean_sum += own / 2 + later * first
            square_sum += own**2 / 2 + own * later * first + later**2 * second
    return square_sum / steps - (mean_sum / steps) ** 2

"""Copy memory: repeat the symbols with which a sequence began, after a delay, when a delimiter says so."""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.learning.tasks import ranges
from forwardgrad.learning.tasks.collection import Labelled, Reference


def copy_memory(sequences: int, seed: Any = 0, *, delay: int = 20, symbols: int = 8, length: int = 10) -> Labelled:
    """Random symbols, a delay, and a delimiter, after which the symbols are to be repeated.

    A sequence has `delay + 2 * length` steps: `length` symbols, `delay - 1` blanks, the delimiter, `length` blanks.
    Each kind of symbol has its own channel; then come the blank and the delimiter. The answer is a blank at all steps
    but the last `length`; it is asked for at every step.

    A network that counts steps but has forgotten the symbols answers with blanks, and guesses in the end. Its
    cross-entropy is `length * log(symbols) / (delay + 2 * length)`: the memoryless baseline of the paper below, there
    10 log(8) / (T + 20). Its accuracy is `1 - length * (1 - 1 / symbols) / (delay + 2 * length)`.

    The copying memory problem of Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735, as in Arjovsky, Shah &
    Bengio 2016, arXiv 1511.06464, whose T is `delay`.

    Args:
        sequences: how many.
        seed: of all random numbers: what `numpy.random.default_rng` takes.
        delay: steps between the last symbol and the first answer, at least 1.
        symbols: how many kinds of symbol there are, at least 2.
        length: how many symbols are to be repeated, at least 1.

    Returns:
        Inputs `(delay + 2 * length, sequences, symbols + 2)`; labels are the symbols, and `symbols` for the blank.

    Raises:
        DataError: if an argument is out of range.

    >>> task = copy_memory(1, seed=0, delay=2, symbols=4, length=3)
    >>> task.inputs[:, 0].argmax(axis=1)
    array([3, 2, 2, 4, 5, 4, 4, 4])
    >>> task.targets[:, 0]
    array([4, 4, 4, 4, 4, 3, 2, 2])
    >>> print(*task.references, sep=", ")
    symbols forgotten: cross entropy 0.5199, symbols forgotten: accuracy 0.7188
    """
    least = {"delay": (delay, 1), "symbols": (symbols, 2), "length": (length, 1)}
    ranges.whole("copy_memory", sequences=(sequences, 1), **least)
    steps = delay + 2 * length
    shown = np.random.default_rng(seed).integers(0, symbols, (length, sequences))
    seen = np.full((steps, sequences), symbols)
    seen[:length], seen[steps - length - 1] = shown, symbols + 1
    targets = np.full((steps, sequences), symbols)
    targets[steps - length :] = shown
    references = (
        Reference(length * float(np.log(symbols)) / steps, "symbols forgotten", "cross entropy"),
        Reference(1 - length * (1 - 1 / symbols) / steps, "symbols forgotten", "accuracy"),
    )
    everywhere = np.ones((steps, sequences))
    return Labelled(np.eye(symbols + 2)[seen], targets, everywhere, np.full(sequences, steps, np.intp), references)

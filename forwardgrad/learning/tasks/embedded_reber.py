"""Embedded Reber grammar: which symbol comes next, in strings whose second symbol comes back as the last but one?"""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.learning.tasks import ranges
from forwardgrad.learning.tasks.collection import Labelled, Reference

SYMBOLS = "BTPSXVE"
"""One channel each, in this order."""

GRAMMAR = (
    (("B", 1),),
    (("T", 2), ("P", 3)),
    (("S", 2), ("X", 4)),
    (("T", 3), ("V", 5)),
    (("X", 3), ("S", 6)),
    (("P", 4), ("V", 6)),
    (("E", 7),),
)
"""Of each state the symbols that may come, and the state after each. State 7 is the end."""


def embedded_reber(sequences: int, seed: Any = 0, *, everywhere: bool = True) -> Labelled:
    """Strings of the embedded Reber grammar, of which the next symbol is to be told.

    A string is B, then T or P, a string of the Reber grammar, the same T or P again, and E. Where the Reber grammar
    allows two symbols, either comes with probability 1/2, so that it gives 8 symbols on average, and 11 answers are
    asked for in each string.

    The accuracies follow from how often a string comes to each state of the grammar: on average once, and twice to
    state 3. So 7 of the 11 symbols are free choices. A network that remembers all that matters gets half of these and
    all others right: 7.5 / 11. One that forgets the second symbol also guesses the last but one: 7 / 11. One without
    memory does best to name the most frequent successor of the present symbol: 3.75 / 11. Where the repeated symbol
    alone is asked for, the last two of these networks have 1/2.

    The grammar of Reber 1967, embedded as in Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735.

    Args:
        sequences: how many.
        seed: of all random numbers: what `numpy.random.default_rng` takes.
        everywhere: ask for the next symbol at every step; else only for the symbol that is repeated, for which the
            string in between has to be bridged.

    Returns:
        Inputs `(steps, sequences, 7)`, channels and labels as in `BTPSXVE`; a sequence ends before the E of its string.

    Raises:
        DataError: if an argument is out of range.

    >>> task = embedded_reber(1, seed=5)
    >>> "".join("BTPSXVE"[each] for each in task.inputs[:, 0].argmax(axis=1))
    'BPBPTVPSEP'
    >>> "".join("BTPSXVE"[each] for each in task.targets[:, 0])
    'PBPTVPSEPE'
    >>> print(*task.references, sep=", ")
    without memory: accuracy 0.3409, inner memory only: accuracy 0.6364, all memory: accuracy 0.6818
    """
    ranges.whole("embedded_reber", sequences=(sequences, 1))
    rng = np.random.default_rng(seed)
    strings = [_string(rng) for _ in range(sequences)]
    lengths = np.array([len(each) - 1 for each in strings], np.intp)
    steps = int(lengths.max())
    inputs, mask = np.zeros((steps, sequences, len(SYMBOLS))), np.zeros((steps, sequences))
    targets = np.zeros((steps, sequences), np.intp)
    for number, (string, length) in enumerate(zip(strings, lengths, strict=True)):
        inputs[np.arange(length), number, string[:-1]] = 1
        targets[:length, number] = string[1:]
        mask[slice(length) if everywhere else length - 2, number] = 1
    shares = (3.75 / 11, 7 / 11, 7.5 / 11) if everywhere else (1 / 2, 1 / 2, 1.0)
    names = ("without memory", "inner memory only", "all memory")
    references = tuple(Reference(share, name, "accuracy") for share, name in zip(shares, names, strict=True))
    return Labelled(inputs, targets, mask, lengths, references)


def _string(rng: np.random.Generator) -> list[int]:
    """One string, as places in `SYMBOLS`."""
    outer = "TP"[rng.integers(2)]
    inner, state = "", 0
    while state < 7:
        symbol, state = GRAMMAR[state][rng.integers(len(GRAMMAR[state]))]
        inner += symbol
    return [SYMBOLS.index(each) for each in f"B{outer}{inner}{outer}E"]

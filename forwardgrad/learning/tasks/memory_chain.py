"""Memory chain: tell a bit that was shown in the first step only."""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.learning.tasks import ranges
from forwardgrad.learning.tasks.collection import Labelled, Reference, answered_at_end


def memory_chain(sequences: int, seed: Any = 0, *, steps: int = 20, bits: int = 1) -> Labelled:
    """Bits in the first step, and in the last one the question which value one of them had.

    The first channel counts down from 1 to `1 / steps`. The second is 0, and in the last step the number of the bit
    that is asked for, from 0. The others show the bits, +1 or -1, in the first step, and 0 afterwards. In the last step
    no input depends on the answer: without memory the accuracy is 1/2.

    The observations of MemoryChain in bsuite, Osband et al. 2019, arXiv 1908.03568. There an agent acts in the last
    step, and its reward is +1 for the right bit and -1 for the wrong one: twice the accuracy, less 1.

    Args:
        sequences: how many.
        seed: of all random numbers: what `numpy.random.default_rng` takes.
        steps: of a sequence, at least 2: from the first to the last the bits are to be remembered.
        bits: how many there are, at least 1.

    Returns:
        Inputs `(steps, sequences, 2 + bits)`; the label is 1 for a bit that was +1.

    Raises:
        DataError: if an argument is out of range.

    >>> task = memory_chain(1, seed=0, steps=4, bits=2)
    >>> task.inputs[:, 0].T
    array([[1.  , 0.75, 0.5 , 0.25],
           [0.  , 0.  , 0.  , 1.  ],
           [1.  , 0.  , 0.  , 0.  ],
           [1.  , 0.  , 0.  , 0.  ]])
    >>> task.labels, task.references[0].value
    (array([1]), 0.5)
    """
    ranges.whole("memory_chain", sequences=(sequences, 1), steps=(steps, 2), bits=(bits, 1))
    rng, which = np.random.default_rng(seed), np.arange(sequences)
    shown, asked = rng.integers(0, 2, (sequences, bits)), rng.integers(0, bits, sequences)
    inputs = np.zeros((steps, sequences, 2 + bits))
    inputs[..., 0] = (1 - np.arange(steps) / steps)[:, None]
    inputs[-1, :, 1], inputs[0, :, 2:] = asked, 2 * shown - 1
    return answered_at_end(inputs, shown[which, asked], Reference(1 / 2, "without memory", "accuracy"))

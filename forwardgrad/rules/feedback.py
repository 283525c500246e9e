"""Which matrix brings credit back in place of a weight? Drawn once from the rule's seed and the name of the edge."""

from __future__ import annotations

import numpy as np

from forwardgrad.graph.parameters import stream
from forwardgrad.ops import Array


def random_feedback(edge: str, shape: tuple[int, ...], seed: int) -> Array:
    """A feedback array shaped like the weight it stands for.

    Normal, of the variance that initial weights have by default: 2 / (in + out) for a dense weight, 1 otherwise.

    Args:
        edge: name of the edge: every edge has a stream of its own, apart from that of its initial weight.
        shape: of the weight's array.
        seed: of the rule.

    >>> random_feedback("h->y", (2, 3), seed=0).shape
    (2, 3)
    """
    deviation = np.sqrt(2 / sum(shape)) if len(shape) == 2 else 1.0
    # Not the stream of the edge's own weight, of which normal numbers of one seed would be a multiple.
    return deviation * stream(seed, f"feedback of {edge}").standard_normal(shape)

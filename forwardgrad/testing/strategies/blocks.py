"""How is a sequence cut into blocks? In every way that leaves at least two of them."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st


def partitions(steps: int) -> st.SearchStrategy[list[int]]:
    """Lengths of blocks that add up to a number of steps; at least two blocks where there are two steps.

    Args:
        steps: length of the sequence.

    >>> from hypothesis import find
    >>> sum(find(partitions(7), lambda lengths: len(lengths) > 2))
    7
    """
    if steps == 1:
        return st.just([1])
    ends = st.sets(st.integers(1, steps - 1), min_size=1)
    return ends.map(lambda found: [b - a for a, b in itertools.pairwise([0, *sorted(found), steps])])

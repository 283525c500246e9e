"""At random, and yet repeatable: from which seed do random layouts draw?

Numbers come from the rule's seed, the parameter's name, the number of the draw and the number of blocks in it. Every
sequence has a draw of its own, or noise would be the same in all of them and never average out; who gives the number of
the draw repeats a run bit for bit.
"""

from __future__ import annotations

import numpy as np

from forwardgrad.graph.parameters import stream
from forwardgrad.layouts.traces import Part, Stored, Traces
from forwardgrad.ops import Array

DRAW = "draw"
"""Part that holds the number of the draw, for each sample."""

COUNT = "blocks"
"""Part that counts the blocks of each sample."""

PERIOD = 2**23
"""How far both of them count before they begin again; single precision counts no further than twice that."""

COUNTERS: dict[Part, tuple[int, ...]] = {DRAW: (1,), COUNT: (1,)}
"""What is stored besides, for one sample."""


def generator(seed: int, name: str, draw: int, block: int) -> np.random.Generator:
    """What draws for a parameter in a block of a draw."""
    # Not the stream of the initial value of the parameter, which the first draw would be a part of.
    return stream(seed, f"signs of {name}", draw, block)


def signs(seed: int, name: str, draw: int, block: int, shape: tuple[int, ...]) -> Array:
    """Independent signs, -1 or 1 with equal odds, of a block of a draw."""
    return generator(seed, name, draw, block).integers(0, 2, shape) * 2.0 - 1.0


class Drawn(Traces):
    """What random layouts share: the numbers of the draw and of the block."""

    def numbers(self, stored: Stored) -> tuple[int, int]:
        """The numbers of the draw and of the block."""
        draw, block = (int(stored[part].max()) % PERIOD for part in (DRAW, COUNT))
        return draw, block

    def counted(self, stored: Stored) -> dict[Part, Array]:
        """These numbers after the block."""
        return {DRAW: stored[DRAW].copy(), COUNT: (stored[COUNT] + 1) % PERIOD}

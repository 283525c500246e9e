"""What random estimates without bias share: a product of two small arrays, drawn again at block ends."""

from __future__ import annotations

from math import prod

import numpy as np

from forwardgrad.layouts import draws
from forwardgrad.layouts.draws import Drawn
from forwardgrad.layouts.influence import Single, Synapses
from forwardgrad.layouts.traces import Part, Passed, Stored
from forwardgrad.ops import Array
from forwardgrad.structure import Structure


class Estimate(Drawn):
    """What random estimates share: the places they store something on, and their signs."""

    def held_word(self, place: int) -> Structure:
        return Structure.FULL

    def drawn(self, stored: Stored, shape: tuple[int, ...]) -> Array:
        """The signs of this block."""
        return draws.signs(self.rule.seed, self.name, *self.numbers(stored), shape).astype(self.dtype)

    def carried(self, place: int) -> int:
        return prod(self.shapes()[place][1:])

    def through(self, block: Passed, stored: Stored, what: Synapses | Single) -> dict[tuple[int, int], Array]:
        """The block's Jacobian times what is stored on the places: an influence of kind `what`, full."""
        moved: dict[tuple[int, int], Array] = {}
        for target, lag in self.entries():
            if lag > block.tape.steps:
                moved[target, lag] = stored[target][lag - 1 - block.tape.steps]
                continue
            rows, words = block.rows(target, lag), self.plan.words[target]
            moved[target, lag] = np.zeros_like(stored[target][lag - 1])
            for place, back in self.entries():
                if (j := rows.boundary.get((place, back))) is not None:
                    moved[target, lag] += what.carry(words[place], j, Structure.FULL, stored[place][back - 1])
        return moved

    def gathered(self, moved: dict[tuple[int, int], Array], stored: Stored) -> dict[Part, Array]:
        """The arrays of all places, their lags stacked, and the blocks counted."""
        after: dict[Part, Array] = {
            place: np.stack([moved[place, lag] for lag in range(1, self.plan.depth[place] + 1)])
            for place in self.places
        }
        return after | self.counted(stored)


def norm(arrays: list[Array]) -> Array:
    """Euclidean norm of all arrays together, a number per sample."""
    return np.sqrt(sum(np.square(array).reshape(len(array), -1).sum(axis=1) for array in arrays))


def ratio(over: Array, under: Array) -> Array:
    """sqrt(over / under) where both are positive, else 0: one of the two factors is zero, and so is the product."""
    good = (over > 0) & (under > 0)
    return np.where(good, np.sqrt(over / np.where(good, under, 1)), 0).astype(over.dtype)


def times(scale: Array, array: Array) -> Array:
    return scale.reshape(-1, *(1,) * (array.ndim - 1)) * array


def over(array: Array, scale: Array) -> Array:
    """Array / scale, and 0 where the scale is 0."""
    return times(np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 0).astype(array.dtype), array)

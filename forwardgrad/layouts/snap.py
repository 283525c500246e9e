"""The layout `snap(n)`: influence on the units that a parameter's own reaches within n - 1 transitions (SnAp-n).

Menick et al. 2021, arXiv 2006.07232. `compiler/reach.py` finds the pattern.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forwardgrad.layouts.influence import Single
from forwardgrad.layouts.layout import Argument, Layout
from forwardgrad.layouts.traces import Planned, Traces
from forwardgrad.ops import Array
from forwardgrad.structure import Structure


class MaskedTraces(Traces):
    """The influence on the units that are reached within n - 1 transitions (SnAp-n), and none on others.

    Only kept entries are stored. What a block adds to the others is dropped at its end.
    """

    def __init__(self, plan: Planned, name: str, dtype: Any) -> None:
        super().__init__(plan, name, dtype)
        reached = plan.reached(name, self.rule.argument)
        self.masks = {place: self._mask(place, reached[place]) for place in self.places}
        self.kept = {place: int(np.count_nonzero(mask)) for place, mask in self.masks.items()}

    def _mask(self, place: int, reached: Array) -> Array:
        """Which entries of the influence on a place are kept, shaped like it."""
        word, shape = self.plan.layouts[self.name, place], self.full_shape(place)
        if isinstance(self.kind, Single):
            return reached[:, 0]
        if word is Structure.FULL:
            return np.broadcast_to(self.kind.by_row(reached), shape)
        own = np.diagonal(reached)
        if word is Structure.DIAGONAL:
            return np.asarray(np.broadcast_to(self.kind.by_row(own), shape))
        return np.full(shape, fill_value=bool(own.all()), dtype=np.bool_)

    def encoded_shape(self, place: int) -> tuple[int, ...]:
        return (self.kept[place],)

    def encode(self, place: int, influence: Array) -> Array:
        return influence[:, self.masks[place]]

    def decode(self, place: int, stored: Array) -> Array:
        influence = np.zeros((len(stored), *self.full_shape(place)), self.dtype, like=stored)
        influence[:, self.masks[place]] = stored
        return influence


def _compression(order: int) -> str:
    return f"only the entries reached within n - 1 = {order - 1} transitions from a weight's own unit are kept"


SNAP = Layout(
    "snap",
    MaskedTraces,
    keeps="the entries on units that a parameter's own unit reaches within n - 1 transitions, found unit by unit",
    source="Menick et al. 2021, arXiv 2006.07232",
    compression=_compression,
    argument=Argument("n", 1, lambda n: n >= 1, "n >= 1, a whole number"),
)

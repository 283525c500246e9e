"""An engine that counts the multiplications that carry influence, beside those that it would take without zeros."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from forwardgrad.array_program import numpy_helpers
from forwardgrad.backends.chained import Part
from forwardgrad.backends.lowered import LoweredEngine
from forwardgrad.ops import Array


class CountingEngine(LoweredEngine):
    """The engine of the backend `numpy`, which counts while it advances.

    Attributes:
        executed: the multiplications of Jacobians with full influence that were made.
        bound: those that would be made if nothing were passed over.
    """

    executed = bound = 0

    @cached_property
    def _parts(self) -> Mapping[str, Part]:
        helpers = (self.carried, self.add_carried, self.carried_sparse, self.add_carried_sparse)
        return self._loaded({helper.__name__: helper for helper in helpers})

    def _counted(self, j: Array, s: Array, executed: int | None = None) -> None:
        whole = j.size * s[0, 0].size
        self.bound += whole
        self.executed += whole if executed is None else executed

    # These stand in place of the functions of the same names.

    def carried(self, j: Array, s: Array) -> Array:
        self._counted(j, s)
        return numpy_helpers.carried(j, s)

    def add_carried(self, total: Array, j: Array, s: Array) -> None:
        self._counted(j, s)
        numpy_helpers.add_carried(total, j, s)

    def carried_sparse(self, j: Array, s: Array) -> Array:
        total = np.zeros((*j.shape[:2], *s.shape[2:]), s.dtype)
        self.add_carried_sparse(total, j, s)
        return total

    def add_carried_sparse(self, total: Array, j: Array, s: Array) -> None:
        self._counted(j, s, numpy_helpers.add_carried_sparse(total, j, s))

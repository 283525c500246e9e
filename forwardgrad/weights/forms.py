"""The forms in which weights are kept: what the engine computes with, whatever the kind that a graph names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forwardgrad.structure import Structure


@dataclass(frozen=True)
class Pattern:
    """The synapse table of a weight: the unit that each entry enters, and the unit that it reads.

    Args:
        rows: `(nnz,)`, units of the target.
        columns: `(nnz,)`, units of the source.
        shape: `(size of target, size of source)`.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    shape: tuple[int, int]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Pattern)
            and self.shape == other.shape
            and np.array_equal(self.rows, other.rows)
            and np.array_equal(self.columns, other.columns)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Form:
    """How the entries of a weight are kept.

    Args:
        word: its name.
        structure: the structure word of the weight as a Jacobian.
        keeps_size: whether both ends of an edge have one size.
        weighted: whether there are entries at all.
    """

    word: str
    structure: Structure
    keeps_size: bool
    weighted: bool = True

    def shape(self, source: int, target: int, pattern: Pattern | None) -> tuple[int, ...]:
        """The shape of a weight's array: `()`, `(size,)`, `(target, source)` or `(nnz,)`.

        >>> FORMS["dense"].shape(3, 2, None)
        (2, 3)
        """
        if pattern is not None:
            return (len(pattern.rows),)
        if self.structure is Structure.FULL:
            return (target, source)
        return (target,) if self.structure is Structure.DIAGONAL else ()


FORMS: Mapping[str, Form] = {
    form.word: form
    for form in (
        Form("identity", Structure.SCALAR, keeps_size=True, weighted=False),
        Form("scalar", Structure.SCALAR, keeps_size=True),
        Form("diagonal", Structure.DIAGONAL, keeps_size=True),
        Form("dense", Structure.FULL, keeps_size=False),
        Form("sparse", Structure.FULL, keeps_size=False),
    )
}
"""All forms, by name. The engine computes with these words alone: `Edge.kind` and `Parameter.kind` hold them."""

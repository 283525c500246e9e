"""The forms in which weights are kept: what the engine computes with, whatever the kind that a graph names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, cast

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
        entries: `(nnz,)`, which entry of the parameter each synapse has, flat; `None` where each has one of its own.
        kernel: shape of the parameter, where synapses share its entries.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    shape: tuple[int, int]
    entries: NDArray[np.intp] | None = None
    kernel: tuple[int, ...] = ()

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """The shape of the parameter: one axis of synapses, or the kernel that they share."""
        return (len(self.rows),) if self.entries is None else self.kernel

    def expand(self, array: NDArray[Any]) -> NDArray[Any]:
        """A number for each synapse, `(nnz,)`, from an array shaped as the parameter."""
        return array if self.entries is None else np.asarray(array).reshape(-1)[self.entries]

    def collapse(self, synapses: NDArray[Any]) -> NDArray[Any]:
        """Numbers of synapses `(..., nnz)`, added up by the entry that they share: `(..., *parameter_shape)`."""
        if self.entries is None:
            return synapses
        rows = synapses.reshape(-1, len(self.entries))
        sums = np.zeros((len(rows), prod(self.kernel)), synapses.dtype)
        np.add.at(sums.T, self.entries, rows.T)
        return sums.reshape(*synapses.shape[:-1], *self.kernel)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Pattern)
            and self.shape == other.shape
            and self.kernel == other.kernel
            and np.array_equal(self.rows, other.rows)
            and np.array_equal(self.columns, other.columns)
            and (self.entries is None or np.array_equal(self.entries, cast("Any", other.entries)))
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Ends:
    """The shapes of the nodes at the ends of an edge; that of a node without a `shape` is its size.

    Args:
        target, source: the shapes.
    """

    target: tuple[int, ...]
    source: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, int]:
        """`(size of target, size of source)`."""
        return prod(self.target), prod(self.source)


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
            return pattern.parameter_shape
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

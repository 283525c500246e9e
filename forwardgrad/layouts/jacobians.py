"""Jacobians that are read at some of their entries only, and are never made in full where that can be put off.

A factor on the way of credit is a diagonal or a matrix. Up to the first matrix a Jacobian is diagonal; behind one it is
that matrix, its rows and columns scaled; and only a second matrix makes it an array of its own. So one step of a layer
costs what is read of it. (lineax is the model: structure as small classes that answer questions.)

Arrays are `(..., target, source)`; leading axes are the batch, or steps and batch, and are missing where all samples
share a Jacobian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from forwardgrad.ops import Array
from forwardgrad.support.blas import matmul


class Jacobian(Protocol):
    """Of a target's units by a source's."""

    def at(self, rows: Array, columns: Array) -> Any:
        """Its entries at index arrays that broadcast to one shape: `(..., *shape)`."""
        ...

    @property
    def diagonal(self) -> Array:
        """Its entries of one unit by itself, `(..., size)`; of the smaller size, where there are two."""
        ...

    def scaled(self, factor: Array) -> Jacobian:
        """This times a diagonal, `(..., source)`."""
        ...

    def times(self, matrix: Array) -> Jacobian:
        """This times a matrix, `(..., source, further source)`."""
        ...


@dataclass(frozen=True)
class Diagonal:
    """A diagonal `(..., size)`."""

    entries: Array

    def at(self, rows: Array, columns: Array) -> Any:
        same = rows == columns
        return self.entries[..., rows] if same.all() else self.entries[..., rows] * same

    @property
    def diagonal(self) -> Array:
        return self.entries

    def scaled(self, factor: Array) -> Diagonal:
        return Diagonal(self.entries * factor)

    def times(self, matrix: Array) -> Scaled | Wide:
        return Scaled(self.entries, matrix, None) if matrix.ndim == 2 else Wide(self.entries[..., None] * matrix)


@dataclass(frozen=True)
class Scaled:
    """A matrix with its rows and columns scaled: `left[..., i] * matrix[i, k] * right[..., k]`.

    Args:
        left, matrix, right: these; where columns are not scaled, `right` is `None`.
    """

    left: Array
    matrix: Array
    right: Array | None

    def at(self, rows: Array, columns: Array) -> Any:
        found = self.left[..., rows] * self.matrix[rows, columns]
        return found if self.right is None else found * self.right[..., columns]

    @property
    def diagonal(self) -> Array:
        own = self.matrix.diagonal()
        found = self.left[..., : len(own)] * own
        return found if self.right is None else found * self.right[..., : len(own)]

    def scaled(self, factor: Array) -> Scaled:
        return Scaled(self.left, self.matrix, factor if self.right is None else self.right * factor)

    def times(self, matrix: Array) -> Wide:
        return self.wide.times(matrix)

    @property
    def wide(self) -> Wide:
        """It as an array of its own."""
        whole = self.left[..., None] * self.matrix
        return Wide(whole if self.right is None else whole * self.right[..., None, :])


@dataclass(frozen=True)
class Wide:
    """An array `(..., target, source)`."""

    array: Array

    def at(self, rows: Array, columns: Array) -> Any:
        return self.array[..., rows, columns]

    @property
    def diagonal(self) -> Array:
        return self.array.diagonal(axis1=-2, axis2=-1)

    def scaled(self, factor: Array) -> Wide:
        return Wide(self.array * factor[..., None, :])

    def times(self, matrix: Array) -> Wide:
        return Wide(matmul(self.array, matrix))

    @property
    def wide(self) -> Wide:
        return self


@dataclass(frozen=True)
class Total:
    """The sum of several, of which one at most is diagonal."""

    parts: tuple[Diagonal | Scaled | Wide, ...]

    def at(self, rows: Array, columns: Array) -> Any:
        return _sum([part.at(rows, columns) for part in self.parts])

    @property
    def diagonal(self) -> Array:
        return _sum([part.diagonal for part in self.parts])

    def scaled(self, factor: Array) -> Total:
        return Total(tuple(part.scaled(factor) for part in self.parts))

    def times(self, matrix: Array) -> Jacobian:
        wide = _sum([part.wide.array for part in self.parts if not isinstance(part, Diagonal)])
        diagonals = [part.times(matrix) for part in self.parts if isinstance(part, Diagonal)]
        return total([*diagonals, Wide(wide).times(matrix)])


def total(parts: Sequence[Jacobian]) -> Jacobian:
    """The sum of one or more."""
    apart = [each for part in parts for each in (part.parts if isinstance(part, Total) else (part,))]
    diagonals: list[Any] = [part for part in apart if isinstance(part, Diagonal)]
    others: list[Any] = [part for part in apart if not isinstance(part, Diagonal)]
    one = [Diagonal(_sum([part.entries for part in diagonals]))] if diagonals else []
    merged = (*one, *others)
    return merged[0] if len(merged) == 1 else Total(merged)


def _sum(arrays: Sequence[Array]) -> Array:
    return sum(arrays[1:], arrays[0])

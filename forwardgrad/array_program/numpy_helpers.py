"""The functions that printed NumPy calls where one instruction is not one call of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def times(x: Array, w: Array) -> Array:
    """A weight matrix times values `(..., source)`, as one product: `(..., target)`."""
    return (x.reshape(-1, x.shape[-1]) @ w.T).reshape(*x.shape[:-1], len(w))


def pulled(b: Array, w: Array) -> Array:
    """Adjoints `(..., target)` times a weight matrix, as one product: `(..., source)`."""
    return (b.reshape(-1, b.shape[-1]) @ w).reshape(*b.shape[:-1], w.shape[1])


def outer(b: Array, x: Array) -> Array:
    """The sum over time and batch of `(time, batch, target)` times `(time, batch, source)`: `(target, source)`."""
    return b.reshape(-1, b.shape[-1]).T @ x.reshape(-1, x.shape[-1])


def injected(j: Array, x: Array) -> Array:
    """The sum over time of a Jacobian `(time, batch, ...)` times values `(time, batch, source)`."""
    steps, batch, *rows = j.shape
    flat = j.reshape(steps, batch, -1).transpose(1, 2, 0) @ x.transpose(1, 0, 2)
    return flat.reshape(batch, *rows, x.shape[-1])


def carried(j: Array, s: Array) -> Array:
    """A Jacobian `(batch, target, source)` times an influence `(batch, source, ...)`."""
    return (j @ s.reshape(*s.shape[:2], -1)).reshape(*j.shape[:2], *s.shape[2:])


def contracted(a: Array, s: Array) -> Array:
    """An adjoint `(batch, units)` times an influence `(batch, units, ...)`, summed over both."""
    return (a.reshape(1, -1) @ s.reshape(a.size, -1)).reshape(s.shape[2:])


def contracted_rows(a: Array, s: Array) -> Array:
    """An adjoint `(batch, rows)` times an influence `(batch, rows, columns)`, summed over the batch."""
    return (a.T[:, None, :] @ s.transpose(1, 0, 2))[:, 0]


def window(x: Array, start: int, size: int) -> Array:
    """So many entries of the first axis from one on, and zeros beyond its ends."""
    made = np.zeros((size, *x.shape[1:]), x.dtype)
    first, last = max(start, 0), min(start + size, len(x))
    if first < last:
        made[first - start : last - start] = x[first:last]
    return made


def scattered(x: Array, axis: int, tables: tuple[Array, ...], sizes: tuple[int, ...]) -> Array:
    """Zeros, in which the entries of an axis stand where tables of indices say, added up where they meet."""
    made = np.zeros((*x.shape[:axis], *sizes, *x.shape[axis + 1 :]), x.dtype)
    entries = np.moveaxis(made, range(axis, axis + len(sizes)), range(len(sizes)))
    np.add.at(entries, tables, np.moveaxis(x, axis, 0))
    return made


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array whose entries are all written before they are read."""
    return np.empty(shape, dtype)


def flush(a: Array) -> None:
    """Make what has decayed to nearly nothing zero, in place: products of such numbers are subnormal, and slow.

    Adding a number and taking it away rounds entries to multiples of 4e-29 (5e-167 in double precision).
    """
    little = a.dtype.type(2.0**-70 if a.itemsize == 4 else 2.0**-500)
    a += little
    a -= little


def flushed(a: Array) -> Array:
    """The same as a new array."""
    made = a.copy()
    flush(made)
    return made

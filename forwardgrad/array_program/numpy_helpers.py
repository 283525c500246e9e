"""The functions that printed NumPy calls where one instruction is not one call of NumPy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.graph.parameters import stream as stream  # printed modules take it along
from forwardgrad.layouts.draws import PERIOD, signs
from forwardgrad.layouts.draws import generator as generator  # and this
from forwardgrad.support.blas import in_parts, matmul

Array = NDArray[Any]

CACHED = 2**14
"""Bytes of a sample from which on samples are taken one at a time, so that each stays in the cache of a processor."""

WORTH = 2**22
"""Multiplications of a product from which on it pays to look for zeros."""

FEW = 0.5
"""Part of them up to which it pays to put together the entries that are not zero."""

PART = 2**14
"""Numbers of an influence that are put together at a time, so that they stay in the cache of a processor."""

MANY = 16
"""Steps from which on copying the transpose of a weight pays for itself."""


def by_columns(w: Array, steps: int) -> Array:
    """The transpose of a weight matrix, in memory row by row if it is multiplied in many steps."""
    return np.ascontiguousarray(w.T) if steps >= MANY else w.T


def times(x: Array, w: Array) -> Array:
    """A weight matrix times values `(..., source)`, as one product: `(..., target)`."""
    return matmul(x.reshape(-1, x.shape[-1]), w.T).reshape(*x.shape[:-1], len(w))


def pulled(b: Array, w: Array) -> Array:
    """Adjoints `(..., target)` times a weight matrix, as one product: `(..., source)`."""
    return matmul(b.reshape(-1, b.shape[-1]), w).reshape(*b.shape[:-1], w.shape[1])


def outer(b: Array, x: Array) -> Array:
    """The sum over time and batch of `(time, batch, target)` times `(time, batch, source)`: `(target, source)`."""
    return matmul(b.reshape(-1, b.shape[-1]).T, x.reshape(-1, x.shape[-1]))


def injected(j: Array, x: Array) -> Array:
    """The sum over time of a Jacobian `(time, batch, ...)` times values `(time, batch, source)`."""
    steps, batch, *rows = j.shape
    flat = matmul(j.reshape(steps, batch, -1).transpose(1, 2, 0), x.transpose(1, 0, 2))
    return flat.reshape(batch, *rows, x.shape[-1])


def carried(j: Array, s: Array) -> Array:
    """A Jacobian `(batch, target, source)` times an influence `(batch, source, ...)`."""
    return matmul(j, s.reshape(*s.shape[:2], -1)).reshape(*j.shape[:2], *s.shape[2:])


def add_carried(total: Array, j: Array, s: Array) -> None:
    """Add a Jacobian `(batch, target, source)` times an influence `(batch, source, ...)`."""
    if total[0].nbytes < CACHED:
        total += carried(j, s)
        return
    for sample, jacobian in enumerate(j):
        total[sample] += carried(jacobian[None], s[sample : sample + 1])[0]


def carried_sparse(j: Array, s: Array) -> Array:
    """What `carried` gives, where rows or columns of either may be zeros."""
    total = np.zeros((*j.shape[:2], *s.shape[2:]), s.dtype)
    add_carried_sparse(total, j, s)
    return total


def add_carried_sparse(total: Array, j: Array, s: Array) -> int:
    """Add what `carried` gives, where rows or columns of either may be zeros; the number of multiplications made."""
    if total[0].nbytes < CACHED or not total.flags.c_contiguous:
        total += carried(j, s)
        return j.size * s[0, 0].size
    return sum(add_product(total[sample], jacobian, s[sample]) for sample, jacobian in enumerate(j))


def add_product(total: Array, j: Array, s: Array) -> int:
    """Add a Jacobian `(target, source)` times an influence `(source, ...)`; the number of multiplications made.

    Only rows and columns that are not zeros are multiplied, where that pays. A Jacobian of one entry a row, such as
    that of units that keep their own state, is multiplied entry by entry.
    """
    into, s = total.reshape(len(total), -1), s.reshape(len(s), -1)
    if j.size * s.shape[1] < WORTH:
        return add_whole(into, j, s)
    entries = (j != 0) & filled(s)
    rows, columns = np.flatnonzero(entries.any(axis=1)), np.flatnonzero(entries.any(axis=0))
    if np.count_nonzero(entries) == len(rows):
        columns = entries[rows].argmax(axis=1)
        j, product = j[rows, columns][:, None], np.multiply
    elif len(rows) * len(columns) <= FEW * j.size:
        j, product = j[np.ix_(rows, columns)], matmul
    else:
        return add_whole(into, j, s)
    there = slice(None) if len(rows) == len(into) else rows
    width, made = PART // len(s) + 1, j.size * s.shape[1]

    def add_part(first: int) -> None:
        into[there, first : first + width] += product(j, s[columns, first : first + width])

    in_parts(add_part, range(0, s.shape[1] if made else 0, width))
    return made


def filled(s: Array) -> Array:
    """Which rows of a matrix are not all zeros; of most, a few entries tell."""
    found = np.any(s[:, :: s.shape[1] // MANY + 1] != 0, axis=1)
    for row in np.flatnonzero(~found):
        found[row] = s[row].any()
    return found


def add_whole(total: Array, j: Array, s: Array) -> int:
    """Add a product of matrices, as `add_carried` does; the number of multiplications made."""
    total += matmul(j[None], s[None])[0]
    return j.size * s.shape[1]


def add_scaled(total: Array, j: Array, s: Array) -> None:
    """Add a product entry by entry of two arrays whose first axis is the batch."""
    if total[0].nbytes < CACHED:
        total += j * s
        return
    for sample, scale in enumerate(j):
        total[sample] += scale * s[sample]


def contracted(a: Array, s: Array) -> Array:
    """An adjoint `(batch, units)` times an influence `(batch, units, ...)`, summed over the axes that both have."""
    return matmul(a.reshape(1, -1), s.reshape(a.size, -1)).reshape(s.shape[a.ndim :])


def contracted_rows(a: Array, s: Array) -> Array:
    """An adjoint `(batch, rows)` times an influence `(batch, rows, columns)`, summed over the batch."""
    return matmul(a.T[:, None, :], s.transpose(1, 0, 2))[:, 0]


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


def number(counted: Array) -> int:
    """The number that an array of a state holds, of a draw or of a block in it."""
    return int(counted.max()) % PERIOD


def drawn(seed: int, name: str, draw: Array, block: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Signs, -1 or 1, of a block of a draw."""
    return signs(seed, name, number(draw), number(block), shape).astype(dtype)


def flush(a: Array) -> None:
    """Make what has decayed to nearly nothing zero, in place: products of such numbers are subnormal, and slow.

    Nearly nothing is less than 64 times the smallest normal number. What is larger stays as it is, bit for bit.
    """
    least = 2.0**-120 if a.itemsize == 4 else 2.0**-1016
    np.copyto(a, 0, where=(a < least) & (a > -least))


def flush_jacobian(a: Array) -> None:
    """The same for the sweep of a Jacobian, which begins with ones: nearly nothing is 1e-28 (1e-155) beside them."""
    least = 2.0**-93 if a.itemsize == 4 else 2.0**-515
    np.copyto(a, 0, where=(a < least) & (a > -least))


def noting_underflow(noted: list[int]) -> np.errstate:
    """A context in which the processor tells, at no cost, whether a product is subnormal: then `noted` is not empty."""
    return np.errstate(under="call", call=lambda kind, flag: noted.append(flag))


def flush_all(arrays: Iterable[Array]) -> None:
    """Flush arrays, a part at a time, which then stays in the cache."""
    for array in arrays:
        entries = array.reshape(-1)
        for first in range(0, entries.size, CACHED):
            flush(entries[first : first + CACHED])

"""Which functions does generated source call? NumPy alone; a printed module takes along those that it uses.

Arrays over a block are `(time, batch, ...)`. A Jacobian comes as a sweep makes it, by the word that bounds it:
`scalar` `(batch, 1)`, `diagonal` `(batch, size)`, `full` `(batch, target, size)`. An influence is `(batch, ...)`, the
rest as its layout says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.support.blas import matmul

Array = NDArray[Any]

CACHED = 2**14
"""Bytes of one sample from which on samples are taken one by one, and entries that are flushed at once."""

ROWS = 256
"""Rows of values from which on copying the transpose of a weight pays for itself."""

# Products.


def by_columns(w: Array, rows: int) -> Array:
    """The transpose of a weight matrix, in memory row by row if many rows of values are to be multiplied by it."""
    return np.ascontiguousarray(w.T) if rows >= ROWS else w.T


# Values.


def times(x: Array, w: Array) -> Array:
    """A weight matrix times values `(..., source)`, as one product: `(..., target)`."""
    rows = x.reshape(-1, x.shape[-1])
    return matmul(rows, by_columns(w, len(rows))).reshape(*x.shape[:-1], len(w))


def behind(past: Array, values: Array) -> Array:
    """Past values `(lag, batch, size)`, the latest first, and after them those of the block."""
    return np.concatenate((past[::-1], values))


def fitted(value: Any, like: Array) -> Array:
    """A value in the shape and type of another array: a formula may give a number, or double precision."""
    return np.broadcast_to(np.asarray(value, like.dtype), like.shape)


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array whose entries are all written before they are read."""
    return np.empty(shape, dtype)


def matrix(entries: Array, rows: Array, columns: Array, shape: tuple[int, int]) -> Array:
    """A sparse weight as a matrix."""
    made = np.zeros(shape, entries.dtype)
    made[rows, columns] = entries
    return made


def without_diagonal(w: Array) -> Array:
    """A weight without the diagonal."""
    rest = w.copy()
    np.fill_diagonal(rest, 0)
    return rest


# Adjoints.


def pulled(b: Array, w: Array) -> Array:
    """Adjoints `(..., target)` times a weight matrix, as one product: `(..., source)`."""
    return matmul(b.reshape(-1, b.shape[-1]), w).reshape(*b.shape[:-1], w.shape[1])


def spread(b: Array, size: int) -> Array:
    """A diagonal as a matrix: `(..., 1)` or `(..., size)` to `(..., size, size)`."""
    return b[..., None] * np.eye(size, dtype=b.dtype)


def add_at(total: Array, first: int, part: Array) -> None:
    """Add a part to a total, from a step on."""
    total[first : first + len(part)] += part


def flush(a: Array) -> None:
    """Make what has decayed to nearly nothing zero, in place: products of such numbers are subnormal, and slow.

    Nearly nothing is less than 64 times the smallest normal number. What is larger stays as it is, bit for bit.
    """
    a *= np.abs(a) >= (2.0**-120 if a.itemsize == 4 else 2.0**-1016)


def flush_jacobian(a: Array) -> None:
    """The same for the sweep of a Jacobian, which begins with ones: nearly nothing is 1e-28 (1e-155) beside them."""
    a *= np.abs(a) >= (2.0**-93 if a.itemsize == 4 else 2.0**-515)


# Gradients inside a block: adjoints of a port times what the parameter multiplies there.


def gradient_dense(b: Array, x: Array) -> Array:
    """`(time, batch, target)` and `(time, batch, source)` to `(target, source)`."""
    return matmul(b.reshape(-1, b.shape[-1]).T, x.reshape(-1, x.shape[-1]))


def gradient_diagonal(b: Array, x: Array) -> Array:
    """`(time, batch, size)` twice to `(size,)`."""
    return (b * x).sum(axis=(0, 1))


def gradient_bias(b: Array) -> Array:
    """`(time, batch, size)` to `(size,)`: a matrix product with ones is the quickest sum of a slice."""
    rows = b.reshape(-1, b.shape[-1])
    return matmul(np.ones((1, len(rows)), b.dtype), rows)[0]


def gradient_single(b: Array, x: Array) -> Array:
    """`(time, batch, size)` twice to a number."""
    return np.asarray((b * x).sum())


# Injections: the sum over time of Jacobian `(time, batch, ...)` times what the parameter multiplies there.


def injected(j: Array, x: Array, out: Array | None = None) -> Array:
    """A Jacobian `(time, batch, ...)` and values `(time, batch, source)` to `(batch, ..., source)`."""
    steps, batch, *rows = j.shape
    if len(rows) == 2:
        j = j.reshape(steps, batch, rows[0] * rows[1])
    j, x = j.transpose(1, 2, 0), x.transpose(1, 0, 2)
    if out is None:
        return matmul(j, x).reshape(batch, *rows, x.shape[-1])
    matmul(j, x, out.reshape(batch, -1, x.shape[-1]))
    return out


def injected_sparse(j: Array, x: Array, rows: Array, columns: Array) -> Array:
    """The same on the entries of a pattern, `(batch, [target,] nnz)`: a sample at a time, which bounds the memory."""
    made = empty((j.shape[1], *j.shape[2:-1], len(rows)), j.dtype)
    for sample in range(len(made)):
        made[sample] = injected(j[:, sample : sample + 1], x[:, sample : sample + 1])[0][..., rows, columns]
    return made


def injected_diagonal(j: Array, x: Array) -> Array:
    """A Jacobian and values `(time, batch, size)` to `(batch, [target,] size)`."""
    return (j * (x if j.ndim == x.ndim else x[:, :, None])).sum(axis=0)


def injected_single(j: Array, x: Array) -> Array:
    """A Jacobian and values `(time, batch, size)` to `(batch, target)`."""
    return (j * x).sum(axis=0) if j.ndim == x.ndim else matmul(j, x[..., None])[..., 0].sum(axis=0)


# Influence carried: Jacobian times influence.


def noting_underflow(noted: list[int]) -> np.errstate:
    """A context in which the processor tells, at no cost, whether a product is subnormal: then `noted` is not empty."""
    return np.errstate(under="call", call=lambda kind, flag: noted.append(flag))


def flush_all(made: dict[str, Array]) -> None:
    """Flush influence, a part at a time, which then stays in the cache."""
    for array in made.values():
        entries = array.reshape(-1)
        for first in range(0, entries.size, CACHED):
            flush(entries[first : first + CACHED])


def add_scaled(now: Array, j: Array, s: Array) -> None:
    """Add a compact Jacobian `(batch, rows)` times an influence `(batch, rows, columns)`.

    Large influences are taken a sample at a time, which then stays in the cache.
    """
    if now[0].nbytes < CACHED:
        now += j[..., None] * s
        return
    for sample, scale in enumerate(j):
        now[sample] += scale[:, None] * s[sample]


def carried(j: Array, s: Array) -> Array:
    """A full Jacobian `(batch, target, source)` times a full influence `(batch, source, ...)`."""
    return matmul(j, s.reshape(*s.shape[:2], -1)).reshape(*j.shape[:2], *s.shape[2:])


def scaled(j: Array, s: Array) -> Array:
    """A compact Jacobian times an influence, axis by axis from the left."""
    return j.reshape(j.shape + (1,) * (s.ndim - j.ndim)) * s


def add_diagonal(total: Array, s: Array) -> None:
    """Add an influence without its repeated row axis to a full one, `(batch, row, row, ...)`."""
    np.einsum("bii...->bi...", total)[...] += s


def add_entries(total: Array, s: Array, rows: Array) -> None:
    """The same for the entries of a pattern, `(batch, row, nnz)`."""
    total[:, rows, np.arange(len(rows))] += s


# Influence contracted: adjoint of the boundary times influence, summed over the batch.


def contracted_full(a: Array, s: Array) -> Array:
    """`(batch, target)` and `(batch, target, ...)` to `(...)`."""
    return matmul(a.reshape(1, -1), s.reshape(a.size, -1)).reshape(s.shape[2:])


def contracted_rows(a: Array, s: Array) -> Array:
    """`(batch, rows)` and `(batch, rows, columns)` to `(rows, columns)`."""
    return matmul(a.T[:, None, :], s.transpose(1, 0, 2))[:, 0]

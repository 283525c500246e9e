"""The functions that printed NumPy calls, for one step of one sample: their sums have one term, and need no product.

A product of matrices takes longer to be set up than such arrays take to be multiplied. Each function computes what its
namesake in `array_program/numpy_helpers.py` does, and leaves other shapes to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.array_program import numpy_helpers
from forwardgrad.support import reuse
from forwardgrad.support.blas import SINGLE

Array = NDArray[Any]

FLOAT = 8
"""Bytes of a number at the most."""


def times(x: Array, w: Array) -> Array:
    """A weight matrix times values `(1, 1, source)`: `(1, 1, target)`."""
    if x.size != x.shape[-1] or w.size > SINGLE:
        return numpy_helpers.times(x, w)
    return np.matmul(x, w.T)


def pulled(b: Array, w: Array) -> Array:
    """Adjoints `(1, 1, target)` times a weight matrix: `(1, 1, source)`."""
    if b.size != b.shape[-1] or w.size > SINGLE:
        return numpy_helpers.pulled(b, w)
    return np.matmul(b, w)


def outer(b: Array, x: Array) -> Array:
    """`(1, 1, target)` times `(1, 1, source)`: `(target, source)`."""
    if b.size != b.shape[-1] or x.size != x.shape[-1]:
        return numpy_helpers.outer(b, x)
    return b.reshape(-1, 1) * x.reshape(1, -1)


def injected(j: Array, x: Array) -> Array:
    """A Jacobian `(1, 1, ...)` times values `(1, 1, source)`: `(1, ..., source)`."""
    if j.shape[:2] != (1, 1):
        return numpy_helpers.injected(j, x)
    return j[0][..., None] * x[0, 0]


def contracted_rows(a: Array, s: Array) -> Array:
    """An adjoint `(1, rows)` times an influence `(1, rows, columns)`: `(rows, columns)`."""
    if len(a) != 1:
        return numpy_helpers.contracted_rows(a, s)
    return a[0][:, None] * s[0]


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of any contents; a small one is not looked for in the pool of large ones."""
    if len(shape) == 3 and shape[0] * shape[1] * shape[2] * FLOAT < reuse.LEAST:
        return np.empty(shape, dtype)
    return reuse.empty(shape, dtype)


HELPERS: dict[str, Callable[..., Array]] = {
    each.__name__: each for each in (times, pulled, outer, injected, contracted_rows, empty)
}
"""By the names of their namesakes."""

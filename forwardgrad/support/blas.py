"""On how many threads is a product of matrices computed? On one; large ones in pieces, on whichever threads are free.

Threads of BLAS wait for each other, on a busy machine for many milliseconds at a time. OpenBLAS, which comes with
NumPy, decides by the size of a product and by one setting for the whole process; so that is set to one for as long as
a product takes. Other libraries are left as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.support import forking, reuse
from forwardgrad.support.sharing import Helpers, Piece, processors

Array = NDArray[Any]

SINGLE = 2**18
"""Multiplications up to which OpenBLAS computes a product on one thread, whatever number is set."""

SHARED = 2**25
"""Multiplications from which on a product is computed in pieces: it takes about a millisecond."""

PIECE, PIECES, WIDTH = 2**24, 16, 64
"""Multiplications of a piece at the least, the most pieces of a product, and rows or columns of a piece at the least:
each piece reads all of the other matrix."""


SHARED_ENTRIES = 2**19
"""Entries from which on small products are shared: reading them takes a tenth of a millisecond or so."""


class Setting:
    """The number of threads of a library, which several threads of Python may hold at one.

    Args:
        get, put: read and change it.
    """

    def __init__(self, get: Callable[[], int], put: Callable[[int], None]) -> None:
        self._get, self._put = get, put
        self._renew()
        forking.in_child(self._renew)

    @property
    def number(self) -> int:
        """The number that is set, or was before anybody held it."""
        with self._lock:
            return self._before if self._holders else self._get()

    @property
    def before(self) -> int:
        """The number that was set when the first of those that hold it came; while it is held."""
        return self._before

    def _renew(self) -> None:
        self._lock, self._holders, self._before = RLock(), 0, 0

    # A signal handler may compute a product while its thread holds the lock: whatever the number of threads is by
    # then, it is this object's to restore from before it is changed until after it has been restored.

    def __enter__(self) -> None:
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                self._before = self._get()
                self._put(1)

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            if self._holders == 1:
                self._put(self._before)
            self._holders -= 1


_SETTINGS: dict[str, Setting | None] = {}


def setting() -> Setting | None:
    """That of the OpenBLAS which NumPy uses, if it does; the same object for all threads, which count together."""
    if "numpy" not in _SETTINGS:  # several threads may look for it at once: the first one counts for all of them
        _SETTINGS.setdefault("numpy", _looked_for())
    return _SETTINGS["numpy"]


def _looked_for() -> Setting | None:
    """That of the OpenBLAS which NumPy uses, if it does.

    Its C functions are called themselves: `threadpoolctl` looks for them at each call, longer than a product takes.
    """
    from threadpoolctl import ThreadpoolController  # it looks through the libraries of the process

    found: list[Any] = ThreadpoolController().select(internal_api="openblas").lib_controllers
    for library in sorted(found, key=lambda library: "numpy" not in library.filepath)[:1]:
        for prefix, suffix in itertools.product(("", "scipy_"), ("", "64_", "_64", "64")):
            get, put = (f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set"))
            if hasattr(library.dynlib, put):
                return Setting(getattr(library.dynlib, get), getattr(library.dynlib, put))
    return None


HELPERS = Helpers()
"""The threads that compute pieces, of products and of whatever else is shared."""


def threads() -> int:
    """How many threads may take part in a computation: as many as are set for NumPy, and as there are processors."""
    one = setting()
    return processors() if one is None else min(one.number, processors())


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """The product of matrices `(..., rows, depth)` and `(..., depth, columns)`, each piece of it on one thread."""
    each, size = a.shape[-2] * a.shape[-1] * b.shape[-1], max(a.size * b.shape[-1], a.shape[-2] * b.size)
    if (each <= SINGLE and size < SHARED) or not (one := setting()):
        return np.matmul(a, b, out=out)
    with one:
        if size < SHARED or not type(a) is type(b) is np.ndarray:
            return np.matmul(a, b, out=out)
        if out is None:
            lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            out = reuse.empty((*lead, a.shape[-2], b.shape[-1]), np.result_type(a, b))
        HELPERS.compute(_pieces(a, b, out, min(PIECES, size // PIECE)), one.before)
        return out


def in_parts(work: Callable[[int], None], firsts: Sequence[int]) -> None:
    """Compute the parts of something, given the first index of each; where there are many, on threads that are free."""
    HELPERS.compute([partial(work, first) for first in firsts], threads() if len(firsts) >= PIECES else 1)


def in_pieces(a: Array, b: Array) -> Array:
    """Many small products `(pieces, rows, depth)` and `(pieces, depth, columns)`, some on each thread that is free."""
    if a.size < SHARED_ENTRIES:
        return np.matmul(a, b)
    out = np.empty((len(a), a.shape[1], b.shape[2]), a.dtype)
    HELPERS.compute(_pieces(a, b, out, PIECES), threads())
    return out


def _pieces(a: Array, b: Array, out: Array, most: int) -> list[Piece]:
    """A product as several: by the first axis where several matrices are multiplied, else by rows or by columns."""
    rows, columns = out.shape[-2:]
    if out.ndim > 2 and len(out) > 1:
        parts = [(_part(a, out.ndim, cut), _part(b, out.ndim, cut), out[cut]) for cut in _cuts(len(out), most)]
    elif rows >= columns:
        parts = [(a[..., cut, :], b, out[..., cut, :]) for cut in _cuts(rows, min(most, rows // WIDTH))]
    else:
        parts = [(a, b[..., cut], out[..., cut]) for cut in _cuts(columns, min(most, columns // WIDTH))]
    return [partial(np.matmul, left, right, out=result) for left, right, result in parts]


def _part(array: Array, ndim: int, cut: slice) -> Array:
    """Those of the matrices that are in a piece; all where there is one for all pieces."""
    return array[cut] if array.ndim == ndim and len(array) > 1 else array


def _cuts(length: int, pieces: int) -> list[slice]:
    """An axis in equal parts.

    >>> _cuts(10, 3)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 10, None)]
    """
    pieces = max(1, min(pieces, length))
    return [slice(length * i // pieces, length * (i + 1) // pieces) for i in range(pieces)]

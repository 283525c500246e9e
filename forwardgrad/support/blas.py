"""On how many threads is a product of matrices computed? On one, unless it is large.

Threads of BLAS wait for each other, on a busy machine for many milliseconds at a time. OpenBLAS, which comes with
NumPy, decides by the size of a product and by one setting for the whole process; so that is set to one for as long as
a product takes. Other libraries are left as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.support import forking

Array = NDArray[Any]

SINGLE = 2**18
"""Multiplications up to which OpenBLAS computes a product on one thread, whatever number is set."""

LARGE = 2**29
"""Multiplications from which on a product is left to all threads that are set: it takes about ten milliseconds."""


class Setting:
    """The number of threads of a library, which several threads of Python may hold at one.

    Args:
        get, put: read and change it.
    """

    def __init__(self, get: Callable[[], int], put: Callable[[int], None]) -> None:
        self._get, self._put = get, put
        self._renew()
        forking.in_child(self._renew)

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


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """The product of matrices `(..., rows, depth)` and `(..., depth, columns)`, on one thread unless it is large."""
    if SINGLE < a.shape[-2] * a.shape[-1] * b.shape[-1] < LARGE and (one := setting()):
        with one:
            return np.matmul(a, b, out=out)
    return np.matmul(a, b, out=out)

"""How do blocks avoid asking the system for the same memory again and again? Large arrays come from a small pool.

The system clears every page that it hands out, which takes as long as a good part of the arithmetic of a block. Memory
in the pool is free again as soon as no array refers to it, whoever held it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import prod
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.support.forking import in_child

Array = NDArray[Any]

LEAST = 2**20
"""Bytes from which on an array comes from the pool."""

MOST = 2**28
"""Bytes that the pool of this process holds at the most, used or not."""


class Pool:
    """Memory that is used again.

    Args:
        most: bytes that it holds at the most; arrays that do not fit are made anew.
        least: bytes from which on an array comes from it.
    """

    def __init__(self, most: int = MOST, least: int = LEAST) -> None:
        self.most, self.least = most, least
        self._held: list[Array] = []
        self._lock = Lock()
        self._unused = self._counted()

    def _counted(self) -> int:
        """How often memory is referred to that is in no use, as this interpreter counts."""
        self._held.append(np.empty(0, np.uint8))
        count = self._holders(0)
        self._held.clear()
        return count

    def _holders(self, place: int) -> int:
        return sys.getrefcount(self._held[place])

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array of any contents."""
        size = prod(shape) * np.dtype(dtype).itemsize
        if not self.least <= size <= self.most:
            return np.empty(shape, dtype)
        if not self._lock.acquire(blocking=False):  # another thread; or this one, in a signal handler
            return np.empty(shape, dtype)
        try:
            unused = [place for place in range(len(self._held)) if self._holders(place) == self._unused]
            fitting = next((place for place in unused if self._held[place].nbytes == size), None)
            if fitting is None:
                fitting = self._added(size, unused)
            return np.empty(shape, dtype) if fitting is None else self._held[fitting].view(dtype).reshape(shape)
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Hold nothing, and be free, whatever went on."""
        self._held, self._lock = [], Lock()

    def _added(self, size: int, unused: list[int]) -> int | None:
        """The place of new memory; what is unused gives way to it."""
        held = sum(array.nbytes for array in self._held)
        for place in reversed(unused):
            if held + size > self.most:
                held -= self._held.pop(place).nbytes
        if held + size > self.most:
            return None
        self._held.append(np.empty(size, np.uint8))
        return len(self._held) - 1


def _counts_references() -> bool:
    locked: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return sys.implementation.name == "cpython" and locked()


_POOL = Pool()
in_child(_POOL.forget)

empty: Callable[[tuple[int, ...], Any], Array] = _POOL.empty if _counts_references() else np.empty
"""An array of any contents, from the pool of this process if it is large."""

np.empty(2**25 - 2**16, np.uint8)  # glibc then also keeps the memory of arrays up to that size, the most it adapts to

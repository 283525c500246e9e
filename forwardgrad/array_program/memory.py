"""Memory of NumPy: what its operators and views take and give back, in order, without running them.

An operator of NumPy writes its result into an operand that nothing else refers to, if that has the result's shape and
type and is large. This is known of CPython on Linux and macOS; elsewhere a sum of many terms takes one array more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from forwardgrad.array_program.numpy_helpers import CACHED
from forwardgrad.array_program.values import Dimensions
from forwardgrad.ops import Array

REUSED = 2**18
"""Bytes from which on an operator reuses an operand (`NPY_MIN_ELIDE_BYTES` in NumPy's `temp_elision.c`)."""

COMMUTES = ("+", "*")


@dataclass(eq=False, slots=True)
class Taken:
    """Memory that is taken until nothing refers to it.

    Args:
        size: the place of its size among those of the account.
        name: of the value in whose computation it is taken.
        holders: how many arrays refer to it.
    """

    size: int
    name: str
    holders: int = 1


class Held(NamedTuple):
    """An array, as far as its memory is concerned.

    Args:
        dims: its dimensions.
        buffer: its memory; `None` for what is there before, and is not counted.
        kind: its dtype, as types of values name it.
        fresh: whether only the expression that made it refers to it, and it is not a view.
        dense: whether its entries lie one after the other, so that reshaping it is free.
        rows: whether at least joining all axes but the last is free.
        ordered: whether its axes lie in order, so that what is computed of it is dense.
    """

    dims: Dimensions
    buffer: Taken | None = None
    kind: str = "float"
    fresh: bool = False
    dense: bool = True
    ordered: bool = True
    rows: bool = True

    @property
    def named(self) -> Held:
        """The array under a name, which no operator writes into."""
        return self._replace(fresh=False) if self.fresh else self


class Account:
    """What a computation takes and gives back, in order.

    Args:
        dtype: of the program.
    """

    def __init__(self, dtype: str) -> None:
        self.width = np.dtype(dtype).itemsize
        self.name = ""
        """Of the value that is being computed."""
        self._sizes: dict[tuple[Dimensions, str, bool, bool], int] = {}
        self.moves: list[tuple[Taken, int]] = []
        """Buffers, each with 1 where it is taken and -1 where it is given back."""

    # Arrays.

    def take(self, dims: Dimensions, kind: str = "float", *, briefly: bool = False, by_sample: bool = False) -> Held:
        """A new array.

        Args:
            dims, kind: of the array.
            briefly: whether it is taken only where operators reuse no operand.
            by_sample: whether it is taken for one sample after the other, the first axis, where these are large.
        """
        size = self._sizes.setdefault((dims, kind, briefly, by_sample), len(self._sizes))
        buffer = Taken(size, self.name)
        self.moves.append((buffer, 1))
        return Held(dims, buffer, kind, fresh=True)

    def again(self, array: Held) -> Held:
        """A named array, where it is read: one more refers to it."""
        if array.buffer is not None:
            array.buffer.holders += 1
        return array

    def view(self, array: Held, dims: Dimensions, *, dense: bool = True, rows: bool = True) -> Held:
        """A view of an array, which may be less dense."""
        if array.buffer is not None:
            array.buffer.holders += 1
        return Held(dims, array.buffer, array.kind, False, dense and array.dense, array.ordered, rows and array.rows)

    def drop(self, *arrays: Held | None) -> None:
        """Arrays that are needed no more; a number takes nothing."""
        for array in arrays:
            if array is not None and array.buffer is not None:
                array.buffer.holders -= 1
                if not array.buffer.holders:
                    self.moves.append((array.buffer, -1))

    # Operations, which need their operands no more.

    def computed(self, *operands: Held | None, dims: Dimensions, kind: str = "float", fresh: bool = True) -> Held:
        """The new array that a function makes."""
        like = next((array for array in operands if array is not None and array.dims == dims), None)
        made = self.take(dims, kind)
        self.drop(*operands)
        ordered = like is None or like.ordered
        return Held(dims, made.buffer, kind, fresh, ordered, ordered, ordered)

    def operator(self, word: str, left: Held | None, right: Held | None, dims: Dimensions) -> Held:
        """What an operator makes of two operands, `None` standing for a number."""
        kept, other = left, right
        if not self._reused(left, right, dims) and word in COMMUTES and self._reused(right, left, dims):
            kept, other = right, left
        if kept is None or not self._reused(kept, other, dims):
            return self.computed(left, right, dims=dims)
        self.drop(self.take(dims, briefly=True), other)
        return kept

    def _reused(self, array: Held | None, other: Held | None, dims: Dimensions) -> bool:
        """Whether an operator writes into an operand; a Python number has double precision here."""
        if array is None or not array.fresh or array.dims != dims or array.kind != "float":
            return False
        return self.width == 8 if other is None else other.dims == dims

    def alone(self, array: Held) -> Held:
        """What an operator of one operand makes, a change of sign or a power."""
        if not array.fresh or array.kind != "float":
            return self.computed(array, dims=array.dims)
        self.drop(self.take(array.dims, briefly=True))
        return array

    def reshaped(self, array: Held, rows: bool) -> Held | None:
        """The copy that joining axes, all but the last if `rows`, makes where they do not lie together."""
        return None if array.dense or (rows and array.rows) else self.take(array.dims)

    # Numbers.

    def sizes(self, symbols: Mapping[str, int]) -> Array:
        """Bytes of each size."""
        found: list[int] = []
        for dims, kind, briefly, by_sample in self._sizes:
            count = prod(dim.at(symbols) for dim in dims)
            size = count * {"float": self.width, "int": 8, "bool": 1}[kind]
            if by_sample and size >= CACHED * dims[0].at(symbols):
                size //= dims[0].at(symbols)
            found.append(0 if briefly and size >= REUSED else size)
        return np.array(found, np.float64)  # exact up to 2^53, and never too large

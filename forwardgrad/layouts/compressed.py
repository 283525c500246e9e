"""Layouts of users: what a block leaves of an influence is compressed at its end, by a function of theirs."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardgrad.errors import RuleError
from forwardgrad.layouts.draws import COUNTERS, Drawn, generator
from forwardgrad.layouts.traces import Part, Passed, Planned, Stored
from forwardgrad.ops import Array


@dataclass(frozen=True)
class Compression:
    """How an influence is compressed, for one parameter, place and lag at a time.

    Args:
        name: of the layout.
        compress: `compress(influence, *argument, *random)`: what is stored of an influence `(batch, ...)`; `random` is
            a `numpy.random.Generator`, if it draws.
        expand: `expand(stored, shape, *argument)`: the influence again, of that shape; where there is none, what is
            stored is an influence.
        stores: `stores(shape, *argument)`: the shape of what is stored of an influence, both for one sample.
        random: whether it draws.
    """

    name: str
    compress: Callable[..., Any]
    expand: Callable[..., Any] | None = None
    stores: Callable[..., Any] | None = None
    random: bool = False

    def stored_shape(self, shape: tuple[int, ...], argument: tuple[Any, ...]) -> tuple[int, ...]:
        """The shape of what is stored, for one sample.

        Raises:
            RuleError: if it is not a shape.
        """
        if self.stores is None:
            return shape
        made = self.stores(shape, *argument)
        try:
            stored = tuple(map(operator.index, made))
        except TypeError:
            stored = None
        if stored is None or min(stored, default=0) < 0:
            raise RuleError(
                f"layout {self.name!r}: stores returns {made!r} for shape {shape}, expected a tuple of whole numbers.",
                "Such as (int(np.prod(shape)),); the product of no numbers is 1.0 in NumPy.",
            )
        return stored

    def traces(self, plan: Planned, name: str, dtype: Any) -> CompressedTraces:
        """What holds one parameter's influence."""
        return CompressedTraces(self, plan, name, dtype)

    def called(self, what: str, function: Callable[..., Any], array: Array, shape: tuple[int, ...], *more: Any) -> Any:
        """What a function makes of a copy of an array.

        Raises:
            RuleError: if the function fails, or that is not an array of numbers of this shape.
        """
        try:
            made = np.asarray(function(array.copy(), *more))
        except (TypeError, ValueError) as error:
            raise RuleError(
                f"layout {self.name!r}: {what} fails for shape {array.shape}: {type(error).__name__}: {error}."
            ) from error
        if made.dtype.kind not in "biuf":
            raise RuleError(f"layout {self.name!r}: {what} returns {made.dtype}, expected numbers.")
        if made.shape != shape:
            hint = "" if self.stores else "Give stores= and expand= for what is stored in another shape."
            raise RuleError(
                f"layout {self.name!r}: {what} returns shape {made.shape} for {array.shape}, expected {shape}.", hint
            )
        return made


class CompressedTraces(Drawn):
    """The influence of one parameter under a layout of a user's."""

    def __init__(self, compression: Compression, plan: Planned, name: str, dtype: Any) -> None:
        super().__init__(plan, name, dtype)
        self.compression = compression
        self.argument = () if self.rule.argument is None else (self.rule.argument,)

    def shapes(self) -> dict[Part, tuple[int, ...]]:
        shapes = super().shapes()
        return shapes | COUNTERS if shapes and self.compression.random else shapes

    def encoded_shape(self, place: int) -> tuple[int, ...]:
        return self.compression.stored_shape(self.full_shape(place), self.argument)

    def decode(self, place: int, stored: Array) -> Array:
        if self.compression.expand is None:
            return stored
        shape = (len(stored), *self.full_shape(place))
        made = self.compression.called("expand", self.compression.expand, stored, shape, shape, *self.argument)
        return made.astype(self.dtype)

    def renewed(self, block: Passed, place: int, lag: int, stored: Stored) -> Array:
        return self.compressed(place, lag, self._carried(block.tape, block.rows(place, lag), stored, place), stored)

    def compressed(self, place: int, lag: int, influence: Array, counters: Stored) -> Array:
        """An influence on a place at a lag, as it is stored; the counters say which numbers are drawn."""
        shape = (len(influence), *self.encoded_shape(place))
        random = ()
        if self.compression.random:  # each place and lag has a stream of its own
            random = (generator(self.rule.seed, self.stream(place, lag), *self.numbers(counters)),)
        made = self.compression.called("compress", self.compression.compress, influence, shape, *self.argument, *random)
        return made.astype(self.dtype)

    def stream(self, place: int, lag: int) -> str:
        """Whose numbers are drawn for an influence."""
        return f"{self.name} on {place} at {lag}"

    def advance(self, block: Passed, stored: Stored) -> dict[Part, Array]:
        after = super().advance(block, stored)
        return after | self.counted(stored) if after and self.compression.random else after

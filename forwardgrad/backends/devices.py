"""How a program is spread over devices, samples over one axis of them and influence over the other, and kept there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from forwardgrad.compiler.keys import is_influence
from forwardgrad.errors import DataError
from forwardgrad.support.attributes import is_whole, show

BATCH, INFLUENCE = "batch", "influence"
"""The axes of a grid of devices."""

NARROW = "bfloat16"
"""The dtype in which devices may keep influence, if not that of the program: the first two bytes of a `float32`."""

HINT = "Give a number, over which the batch is split, or both axes: {'batch': 2, 'influence': 4}."


@dataclass(frozen=True)
class Devices:
    """A grid of devices.

    Args:
        batch: over how many devices samples are split.
        influence: over how many devices each influence is split, along an axis of its parameter.
        traces: the dtype in which influence is kept between blocks; empty: that of the program.
    """

    batch: int = 1
    influence: int = 1
    traces: str = field(default="", repr=False)

    @classmethod
    def read(cls, given: Any) -> Devices:
        """From what a user gives: a number, or a number for each axis.

        Raises:
            DataError: if it says something else.

        >>> Devices.read(4), Devices.read({"influence": 8})
        (Devices(batch=4, influence=1), Devices(batch=1, influence=8))
        """
        if isinstance(given, Devices):
            return given
        axes = cast("Mapping[Any, Any]", given) if isinstance(given, Mapping) else {BATCH: given}
        for axis, number in axes.items():
            if axis not in (BATCH, INFLUENCE):
                raise DataError(f"devices: unknown axis {axis!r}.", HINT)
            if not is_whole(number) or number < 1:
                raise DataError(f"devices: {axis} must be a whole number >= 1, got {show(number)}.", HINT)
        return cls(int(axes.get(BATCH, 1)), int(axes.get(INFLUENCE, 1)))

    @classmethod
    def parse(cls, text: str) -> Devices:
        """From the text of a command: `4`, or `batch=2,influence=4`.

        Raises:
            DataError: if it says something else.

        >>> Devices.parse("batch=2,influence=4")
        Devices(batch=2, influence=4)
        """
        axes: dict[str, Any] = {}
        for part in text.split(","):
            axis, sign, number = part.strip().rpartition("=")
            axis = axis.strip() if sign else BATCH
            if not number.strip().isdecimal() or axis in axes or len(number) > 9:
                raise DataError(f"devices: cannot read {text[:100]!r}.", "Write 4, or batch=2,influence=4.")
            axes[axis] = int(number)
        return cls.read(axes)

    @property
    def total(self) -> int:
        """How many devices it takes."""
        return self.batch * self.influence

    def padded(self, batch: int) -> int:
        """The batch, filled up to a multiple of the devices that it is split over."""
        return -(-batch // self.batch) * self.batch

    def influence_axis(self, shape: Sequence[int], parameter: Sequence[int]) -> int | None:
        """Along which axis an influence is split.

        Influence of different parameters is independent given the Jacobians, so the last axis of the parameter whose
        size is a multiple of the devices is taken.

        Args:
            shape: of the influence, `(lags, batch, ...)`, which ends with axes of its parameter.
            parameter: the shape of the parameter.

        >>> Devices(influence=8).influence_axis((1, 4, 64, 64, 3), (64, 3))
        3
        """
        axes = range(len(shape) - 1, max(1, len(shape) - 1 - len(parameter)), -1)
        return next((axis for axis in axes if self.influence > 1 and shape[axis] % self.influence == 0), None)

    def keeping(self, traces: Any) -> Devices:
        """These devices, with influence kept in another dtype.

        Raises:
            DataError: if it is another one than `bfloat16`.
        """
        if traces != NARROW:
            raise DataError(
                f"traces: influence is kept in the dtype of the program, or in {NARROW}, got {show(traces)}.",
                f"Give traces={NARROW!r}, or leave it out.",
            )
        return replace(self, traces=NARROW)

    def itemsize(self, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
        """Bytes of an entry of an array of a state.

        Args:
            key: of the array.
            shape: of the array.
            dtype: of the program.
        """
        return 2 if self.traces and is_trace(key, shape) else dtype.itemsize

    def __str__(self) -> str:
        kept = f", influence kept in {self.traces}" if self.traces else ""
        return f"{self.total} devices, batch over {self.batch}, influence over {self.influence}{kept}"


def is_trace(key: str, shape: tuple[int, ...]) -> bool:
    """Whether an array of a state, of shape `(lags, batch, ...)`, is influence: neither values, nor what is counted."""
    return is_influence(key) and len(shape) > 2

"""The layout of a state over devices: which part of each array one device holds, and how many bytes that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from forwardgrad.backends.devices import Devices
from forwardgrad.compiler import Plan
from forwardgrad.compiler.keys import is_influence, names_of
from forwardgrad.explain.notation import printable
from forwardgrad.explain.tables import table


class Share(NamedTuple):
    """How one array of a state is split.

    Args:
        key: of the array.
        shape: of the whole.
        axis: along which it is split beside the batch, or `None`.
        part: the shape of what one device holds.
        bytes: of that.
    """

    key: str
    shape: tuple[int, ...]
    axis: int | None
    part: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Shards:
    """The layout of a state over devices, array by array. `print` shows it as a table.

    Args:
        devices: the grid of devices.
        batch: number of samples.
        shares: of each array.
    """

    devices: Devices
    batch: int
    shares: tuple[Share, ...]

    @property
    def bytes_per_device(self) -> int:
        """What each device holds of a state."""
        return sum(share.bytes for share in self.shares)

    def data(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        arrays = {
            share.key: {"shape": share.shape, "axis": share.axis, "part": share.part, "bytes": share.bytes}
            for share in self.shares
        }
        return {"batch": self.devices.batch, "influence": self.devices.influence, "arrays": arrays}

    def __iter__(self) -> Iterator[Share]:
        return iter(self.shares)

    def __str__(self) -> str:
        rows = [
            [
                printable(share.key),
                "x".join(map(str, share.shape)),
                "-" if share.axis is None else f"axis {share.axis}",
                "x".join(map(str, share.part)),
                f"{share.bytes:,}",
            ]
            for share in self.shares
        ]
        head = f"{self.devices}; of a state of batch {self.batch} each device holds {self.bytes_per_device:,} bytes"
        return f"{head}\n\n{table(('array', 'shape', 'influence over', 'per device', 'bytes'), rows)}"


def influence_axes(plan: Plan, devices: Devices, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Along which axis each array of a state is split as influence; those that are not split are left out.

    Args:
        plan: the derived algorithm.
        devices: the grid of devices.
        shapes: of the arrays of a state, `(lags, batch, ...)`.
    """
    found: dict[str, int] = {}
    for key, shape in shapes.items():
        if is_influence(key):
            axis = devices.influence_axis(shape, plan.parameters[names_of(key)[0]].shape)
            if axis is not None:
                found[key] = axis
    return found


def shards(
    plan: Plan, devices: Devices, batch: int, shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype[Any]
) -> Shards:
    """The layout of a state over devices.

    Args:
        plan: the derived algorithm.
        devices: the grid of devices.
        batch: number of samples.
        shapes: of the arrays of a state of that batch.
        dtype: of the arrays.
    """
    axes = influence_axes(plan, devices, shapes)
    shares: list[Share] = []
    for key, shape in shapes.items():
        part, axis = [*shape], axes.get(key)
        part[1] = devices.padded(batch) // devices.batch
        if axis is not None:
            part[axis] //= devices.influence
        shares.append(Share(key, shape, axis, tuple(part), prod(part) * devices.itemsize(key, shape, dtype)))
    return Shards(devices, batch, tuple(shares))

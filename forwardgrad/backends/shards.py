"""The layout of a state over devices: which part of each array one device holds, and how many bytes that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from forwardgrad.backends.devices import Devices
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

    def __iter__(self) -> Iterator[Share]:
        return iter(self.shares)

    def __str__(self) -> str:
        rows = [
            [
                share.key,
                "x".join(map(str, share.shape)),
                "-" if share.axis is None else f"axis {share.axis}",
                "x".join(map(str, share.part)),
                f"{share.bytes:,}",
            ]
            for share in self.shares
        ]
        head = f"{self.devices}; of a state of batch {self.batch} each device holds {self.bytes_per_device:,} bytes"
        return f"{head}\n\n{table(('array', 'shape', 'influence over', 'per device', 'bytes'), rows)}"


def split(
    devices: Devices,
    batch: int,
    shapes: Mapping[str, tuple[int, ...]],
    axes: Mapping[str, int],
    itemsize: int,
) -> Shards:
    """The layout of a state over devices.

    Args:
        devices: the grid of devices.
        batch: number of samples.
        shapes: of the arrays, `(lags, batch, ...)`.
        axes: along which arrays are split beside the batch.
        itemsize: bytes of a number.
    """
    shares: list[Share] = []
    for key, shape in shapes.items():
        part = list(shape)
        part[1] = devices.padded(batch) // devices.batch
        axis = axes.get(key)
        if axis is not None:
            part[axis] //= devices.influence
        shares.append(Share(key, shape, axis, tuple(part), prod(part) * itemsize))
    return Shards(devices, batch, tuple(shares))

"""Arrays that lie in parts on several devices, as a state holds them between blocks."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from forwardgrad.backends.device_mesh import Axes, Mesh
from forwardgrad.backends.devices import NARROW
from forwardgrad.ops import Array


@dataclass(frozen=True, eq=False)
class ShardedArray:
    """An array that lies in parts on several devices. NumPy's functions take it; `np.asarray(array)` gathers it.

    Args:
        array: the array of JAX, whose batch is a multiple of the devices.
        mesh: the devices.
        axes: along which it is split.
        batch: number of samples, if it has an axis of them; entries after these only fill up.
    """

    array: Any
    mesh: Mesh
    axes: Axes
    batch: int

    @property
    def shape(self) -> tuple[int, ...]:
        """As that of an array of NumPy."""
        return tuple(self.batch if axis == self.axes[0] else size for axis, size in enumerate(self.array.shape))

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.array.ndim

    @property
    def size(self) -> int:
        """The number of entries."""
        return prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype that its entries have in NumPy; influence that is kept in `bfloat16` is widened."""
        kept = np.dtype(self.array.dtype)
        return self.mesh.dtype if kept.name == NARROW else kept

    @property
    def nbytes(self) -> int:
        """Bytes of the whole, as it is kept."""
        return self.size * np.dtype(self.array.dtype).itemsize

    @property
    def bytes_by_device(self) -> dict[str, int]:
        """Bytes on each device of this process."""
        return {str(shard.device): shard.data.nbytes for shard in self.array.addressable_shards}

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        whole = self.mesh.gather(self.array).astype(self.dtype, copy=False)
        own = whole if self.axes[0] is None else whole[(slice(None),) * self.axes[0] + (slice(self.batch),)]
        return np.array(own, dtype) if copy else own if dtype is None else own.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index]

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> Any:
        return np.array, (np.asarray(self),)

    def squares(self) -> float:
        """The sum of the squares of its entries, found where they are."""
        return self.mesh.squares(self.array, self.axes[0], self.batch)

    def replaced(self, where: Array, fresh: Any) -> ShardedArray:
        """The array with the entries of another where a condition, which is broadcast to it, holds."""
        axis = self.axes[0]
        chosen = placed(self.mesh, where, (axis, None)).array
        other = fresh if isinstance(fresh, ShardedArray) else placed(self.mesh, fresh, self.axes)
        return ShardedArray(self.mesh.replaced(self.array, chosen, other.array), self.mesh, self.axes, self.batch)


def placed(mesh: Mesh, array: Any, axes: Axes, fill: float | None = None, dtype: Any = None) -> ShardedArray:
    """An array of NumPy, split over devices.

    Args:
        mesh: the devices.
        array: the array.
        axes: along which it is split.
        fill: what stands after the last sample where the batch does not divide; by default copies of that sample.
        dtype: of its entries on the devices; its own by default.
    """
    whole, axis = np.asarray(array), axes[0]
    whole = whole if dtype is None else whole.astype(dtype, copy=False)
    batch = 1 if axis is None else whole.shape[axis]
    more = 0 if axis is None else mesh.devices.padded(batch) - batch
    if more:
        room = [(0, more if each == axis else 0) for each in range(whole.ndim)]
        whole = np.pad(whole, room, "edge") if fill is None else np.pad(whole, room, constant_values=fill)
    return ShardedArray(mesh.place(whole.shape, axes, lambda index: np.array(whole[index])), mesh, axes, batch)


def zeros(mesh: Mesh, shape: tuple[int, ...], axes: Axes, dtype: np.dtype[Any]) -> ShardedArray:
    """Zeros split over devices, of which neither a device nor the host ever holds the whole."""
    whole = tuple(mesh.devices.padded(size) if axis == axes[0] else size for axis, size in enumerate(shape))

    def part(index: tuple[slice, ...]) -> Array:
        return np.zeros([len(range(*at.indices(size))) for at, size in zip(index, whole, strict=True)], dtype)

    return ShardedArray(mesh.place(whole, axes, part), mesh, axes, 1 if axes[0] is None else shape[axes[0]])

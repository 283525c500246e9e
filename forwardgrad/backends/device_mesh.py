"""A grid of devices as a mesh of JAX: how an array is split over it, placed on it, and gathered from it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from forwardgrad.backends.devices import BATCH, INFLUENCE, Devices
from forwardgrad.errors import DataError
from forwardgrad.ops import Array

Axes = tuple[int | None, int | None]
"""The axis of an array that is split over samples, and the one that is split as influence."""


class Mesh:
    """A grid of devices of JAX.

    Args:
        jax: the module `jax`.
        devices: the grid.
        dtype: of the program, which says in what precision JAX computes.

    Raises:
        DataError: if JAX has fewer devices.
    """

    def __init__(self, jax: ModuleType, devices: Devices, dtype: np.dtype[Any]) -> None:
        self.jax, self.devices, self.dtype = jax, devices, dtype
        known = jax.devices()
        if len(known) < devices.total:
            kind = known[0].platform
            virtual = (
                f"jax.config.update('jax_num_cpu_devices', {devices.total}), before JAX is first used, makes more."
            )
            raise DataError(
                f"devices: {devices.total} are asked for, and JAX has {len(known)} of kind {kind!r}.",
                virtual if kind == "cpu" else "",
            )
        grid = np.array(known[: devices.total]).reshape(devices.batch, devices.influence)
        self.mesh = jax.sharding.Mesh(grid, (BATCH, INFLUENCE), axis_types=(jax.sharding.AxisType.Auto,) * 2)

    def precision(self) -> Any:
        """The context in which arrays have the dtype of the program."""
        return self.jax.enable_x64(True) if self.dtype == np.float64 else contextlib.nullcontext()

    def spec(self, axes: Axes) -> Any:
        """How an array is split, as a `PartitionSpec`."""
        names = {axis: name for axis, name in zip(axes, (BATCH, INFLUENCE), strict=True) if axis is not None}
        return self.jax.P(*(names.get(axis) for axis in range(max(names, default=-1) + 1)))

    def sharding(self, axes: Axes) -> Any:
        """How an array is split, as a `NamedSharding`."""
        return self.jax.sharding.NamedSharding(self.mesh, self.spec(axes))

    def place(self, shape: tuple[int, ...], axes: Axes, part: Callable[[tuple[slice, ...]], Array]) -> Any:
        """An array of JAX, of which each device gets a part.

        Args:
            shape: of the whole.
            axes: along which it is split.
            part: `part(index)` makes what stands at the slices of an index. The array must not change later, for a CPU
                may take it as it is.
        """
        with self.precision():
            return self.jax.make_array_from_callback(shape, self.sharding(axes), part)

    def gather(self, array: Any) -> Array:
        """An array of JAX as one of NumPy. With several processes, all of them must ask for it."""
        if array.is_fully_addressable or array.is_fully_replicated:
            return np.asarray(array)
        with self.precision():
            return np.asarray(import_module("jax.experimental.multihost_utils").process_allgather(array, tiled=True))

    def squares(self, array: Any, axis: int | None, batch: int) -> float:
        """The sum of the squares of the entries of an array, of its first samples along an axis."""
        with self.precision():
            return float(self._squares(array, axis, batch))

    def replaced(self, array: Any, where: Any, fresh: Any) -> Any:
        """An array with the entries of another where a condition holds, split as it was."""
        with self.precision():
            return self._replaced(array.sharding, array, where, fresh)

    @cached_property
    def _squares(self) -> Any:
        def squares(array: Any, axis: int | None, batch: int) -> Any:
            own = array if axis is None else self.jax.lax.slice_in_dim(array, 0, batch, axis=axis)
            return self.jax.numpy.sum(self.jax.numpy.square(own.astype(self.dtype)))

        return self.jax.jit(squares, static_argnums=(1, 2), out_shardings=self.sharding((None, None)))

    @cached_property
    def _replaced(self) -> Any:
        def replaced(sharding: Any, array: Any, where: Any, fresh: Any) -> Any:
            made = self.jax.numpy.where(where, fresh, array).astype(array.dtype)
            return self.jax.lax.with_sharding_constraint(made, sharding)

        return self.jax.jit(replaced, static_argnums=0)

"""The backend `jax` on many devices: samples split over one axis of a mesh, influence over the other.

Over samples, each device runs every function of the program for its own (`jax.shard_map`), and gradients are added up
explicitly: a loss is divided by the batch before its derivative is taken, so that the sum is the gradient of the mean.
Over influence, the state is laid out and XLA splits the products: each device carries the influence of its part of
every parameter, for which it needs the Jacobians and nothing of the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from forwardgrad.array_program.dimensions import SYMBOLS, affine
from forwardgrad.array_program.jax_reading import Reading, Split
from forwardgrad.array_program.values import Value
from forwardgrad.backends.device_mesh import Axes, Mesh
from forwardgrad.backends.devices import BATCH, INFLUENCE, Devices
from forwardgrad.backends.engine import Ahead, State
from forwardgrad.backends.jax_engine import JaxEngine
from forwardgrad.backends.lowered import Groups, LoweredBlock
from forwardgrad.backends.sharded_arrays import ShardedArray, placed, zeros
from forwardgrad.backends.shards import influence_axes
from forwardgrad.compiler import Plan
from forwardgrad.errors import DataError, RuleError
from forwardgrad.layouts.draws import DRAW
from forwardgrad.ops import Array


class DevicesEngine(JaxEngine):
    """An `Engine` that runs an array program under JAX on many devices.

    States stay on the devices between blocks, as `ShardedArray`s. All else goes in and comes out as arrays of NumPy.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
        devices: how many, and what is split over them.

    Raises:
        MissingExtraError: if JAX is not installed.
        RuleError: as `JaxEngine`; and if influence is to be split of which the host draws a part.
        DataError: if JAX has fewer devices.
    """

    def __init__(self, plan: Plan, dtype: Any, devices: Devices) -> None:
        super().__init__(plan, dtype, devices.traces)
        drawn = [name for name, traces in self.traces.items() if DRAW in traces.shapes()]
        if drawn and devices.influence > 1:
            raise RuleError(
                f"devices: the influence of {drawn[0]!r} is estimated with random signs, and is not split.",
                "Split the batch only: devices={'batch': 4}. Such an influence is small.",
            )
        self.devices, self.mesh = devices, Mesh(self.jax, devices, self.dtype)
        self._split = influence_axes(plan, devices, self.shapes(1))
        self.start = self._started

    def stepper(self, outputs: Collection[str], batch: int) -> Ahead:
        raise DataError(
            "stream: a stream runs on one device.", "Compile without devices= and traces=, or take Program.step."
        )

    def _started(self, batch: int) -> State:
        """The state before t = 0, of which influence lies on the devices from the beginning."""

        def zeros_of(key: str, shape: tuple[int, ...]) -> Any:
            return zeros(self.mesh, shape, (1, self._split.get(key)), self.kept[key])

        return self._held.start(batch, zeros_of)

    def keeps(self, array: Any) -> bool:
        return isinstance(array, ShardedArray) and array.mesh is self.mesh

    def call(self, name: str, arrays: dict[str, Any], groups: Groups) -> None:
        function = self._functions[name]
        for value in function.inputs:
            if value.name not in arrays:
                group, key = self._bindings[value.name]
                arrays[value.name] = groups[group][key]
            if not self.keeps(arrays[value.name]):
                fill = 0 if self._group(value) in ("losses", "signals") else None
                kind = self._kept(value)
                arrays[value.name] = placed(self.mesh, arrays[value.name], self._axes(value), fill, kind)
        symbols = tuple((symbol, int(arrays[symbol])) for symbol in SYMBOLS if symbol in arrays)
        with self._precision():
            made = self._compiled(name, symbols, [arrays[value.name].array for value in function.inputs])
        for value, array in zip(function.body.results, made, strict=True):
            arrays[value.name] = ShardedArray(array, self.mesh, self._axes(value), int(arrays["batch"]))

    def planned_bytes(self, steps: int, batch: int) -> dict[str, int]:
        """Bytes that each function of the program takes on a device: arguments, results and what is in work.

        JAX compiles them for that, and runs none.

        Args:
            steps: of a block that is not the first.
            batch: number of samples.
        """
        symbols = {"steps": steps, "batch": batch, "fresh": 0}
        whole = {**symbols, "batch": self.devices.padded(batch)}
        found: dict[str, int] = {}
        with self._precision():
            for name in ("forward", "slopes", "credit", "gradients", "advance"):
                kinds = [
                    self.jax.ShapeDtypeStruct(
                        tuple(dim.at(whole) for dim in value.dims),
                        self._kept(value) or self.dtype,
                        sharding=self.mesh.sharding(axes),
                    )
                    for value in self._functions[name].inputs
                    for axes in [self._axes(value)]
                ]
                plan = self._compiled.lower(name, tuple(symbols.items()), kinds).compile().memory_analysis()
                found[name] = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
        return found

    def advance(self, tape: LoweredBlock, state: Mapping[str, Array], fresh: bool) -> State:
        arrays = self._derived(tape) | {"fresh": fresh}
        self.call("advance", arrays, {"params": tape.params, "state": state})
        made = self.results("after", arrays)
        return {key: made[key] for key in self._held.all}

    def _traced(self, name: str, symbols: Sequence[tuple[str, int]], arrays: Sequence[Any]) -> list[Any]:
        function, known = self._functions[name], dict(symbols)
        inputs, results = function.inputs, function.body.results
        own = {**known, "batch": self.devices.padded(known["batch"]) // self.devices.batch}
        reading = Reading(self.reading.program, self.jax, Split(BATCH, known["batch"], self.devices.batch))

        def part(*parts: Any) -> list[Any]:
            made = reading.traced(name, parts, own)
            return [
                self.jax.lax.psum(array, BATCH) if self._is_sum(value) else array
                for value, array in zip(results, made, strict=True)
            ]

        def over_samples(values: Sequence[Value]) -> list[Any]:
            return [self.mesh.spec((self._axes(value)[0], None)) for value in values]

        # Only gradients are sums over samples. What else has no samples is the same everywhere; JAX need not prove it.
        # Where influence is not split, no axis is left to XLA: calls of the host (signs) need that.
        mapped = self.jax.shard_map(
            part,
            mesh=self.mesh.mesh,
            in_specs=tuple(over_samples(inputs)),
            out_specs=over_samples(results),
            axis_names={BATCH} if self.devices.influence > 1 else {BATCH, INFLUENCE},
            check_vma=False,
        )
        return [
            self.jax.lax.with_sharding_constraint(self._narrowed(value, array), self.mesh.sharding(self._axes(value)))
            if self._group(value) in ("after", "grads")
            else array
            for value, array in zip(results, mapped(*arrays), strict=True)
        ]

    def _group(self, value: Value) -> str:
        return self._bindings.get(value.name, ("", ""))[0]

    def _kept(self, value: Value) -> np.dtype[Any] | None:
        """The dtype in which an array of a state is kept; `None` for any other array."""
        group, key = self._bindings.get(value.name, ("", ""))
        return self.kept[key] if group == "state" else None

    def _is_sum(self, value: Value) -> bool:
        """Whether a result is a sum over samples."""
        return self._group(value) == "grads" and self._axes(value)[0] is None

    def _axes(self, value: Value) -> Axes:
        """Along which axes an array of the program is split."""
        group, key = self._bindings.get(value.name, ("", ""))
        batch = next((axis for axis, dim in enumerate(value.dims) if dim == SAMPLES), None)
        return batch, self._split.get(key) if group in ("state", "after") else None


SAMPLES = affine("batch")
"""The dimension that is split over devices."""

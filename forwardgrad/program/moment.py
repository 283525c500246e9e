"""The arrays of a single time step, which need no axis of time: inputs, targets, masks and signals of a stream."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal, cast

import numpy as np

from forwardgrad.arrays import UNMASKED, array_of, check_names
from forwardgrad.backends.engine import WholeSteps
from forwardgrad.errors import DataError
from forwardgrad.graph import Network, Node
from forwardgrad.ops import Array
from forwardgrad.ops.losses import Loss
from forwardgrad.program.border import Target, read_credit, read_inputs, read_signals, read_targets
from forwardgrad.program.numerics import squares

Kind = Literal["numbers", "numbers or tokens", "labels"]
"""What an array holds for each sample: a number per unit, either that or the number of one unit, or a label."""


class Slots:
    """Arrays of one kind that are filled anew for each step.

    Args:
        arrays: `(batch, size)` by node.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = [(name, array, array.shape, array.dtype) for name, array in arrays.items()]

    def copied(self, given: Any) -> bool:
        """Copy arrays of the same shapes and dtypes, by name or the one that there is; others are left alone."""
        slots = self._arrays
        if type(given) is not dict:
            if type(given) is not np.ndarray or len(slots) != 1:
                return False
            given = {slots[0][0]: given}
        elif len(cast("dict[Any, Any]", given)) != len(slots):
            return False
        for name, slot, shape, dtype in slots:
            array = cast("dict[Any, Any]", given).get(name)
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
                return False
            slot[...] = array
        return True

    def fill(self, arrays: Mapping[str, Array]) -> None:
        """Copy arrays of a block of one step, `(1, batch, size)`, or labels `(1, batch)`."""
        for name, slot, shape, _ in self._arrays:
            array = arrays[name][0]
            slot[...] = array if array.ndim == slot.ndim else array[:, None] == np.arange(shape[-1])


class StepSlots:
    """The arrays that a whole step of an engine reads.

    Args:
        steps: of the engine.
        batch: number of samples.
    """

    def __init__(self, steps: WholeSteps, batch: int) -> None:
        self.inputs, self.targets, self.signals = Slots(steps.inputs), Slots(steps.targets), Slots(steps.signals)
        self._shares, self._batch, self._even = steps.shares, batch, False

    def weigh(self, goals: Mapping[str, Target]) -> None:
        """Let each sample count in the loss as much as its mask says."""
        weights = {name: goal.weight[0] for name, goal in goals.items() if goal.weight is not None}
        self.weigh_evenly()
        self._even = not weights  # before they are written, since an interrupt may come at any time
        for name, weight in weights.items():
            self._shares[name][...] = weight / self._batch

    def weigh_evenly(self) -> None:
        """Let all samples count alike."""
        if not self._even:
            for share in self._shares.values():
                share[...] = 1 / self._batch
            self._even = True

    def fill(self, inputs: Mapping[str, Array], goals: Mapping[str, Target], signals: Mapping[str, Array]) -> None:
        """Copy what a block of one step is given; signals as the derivative of the mean over the batch."""
        self.inputs.fill(inputs)
        self.targets.fill({name: goal.values for name, goal in goals.items()})
        self.weigh(goals)
        self.signals.fill(signals)


class MomentReader:
    """Reads the arrays that a stream is given for one step.

    Arrays of the shape and dtype that the program computes with are recognised at once. All others are brought into the
    form of a block of one step, and checked as such.

    Args:
        network: the validated graph.
        losses: by output node.
        signalled: the nodes on which the user gives learning signals.
        dtype: of the program.
        batch: number of samples.
    """

    def __init__(
        self, network: Network, losses: Mapping[str, Loss], signalled: Collection[str], dtype: Any, batch: int
    ) -> None:
        self._network, self._losses, self._signalled = network, losses, tuple(signalled)
        self._dtype, self._batch = np.dtype(dtype), batch
        self._inputs = {name: (batch, network.nodes[name].size) for name in network.inputs}
        self._targets = {name: (batch, network.nodes[name].size) for name in losses}
        self._labels = any(loss.labels for loss in losses.values())

    def inputs(self, given: Any) -> dict[str, Array]:
        """`{input node: (1, batch, size)}`; raises `DataError`."""
        found = self._recognised(given, self._inputs)
        if found is None:
            timed = self._timed("input", given, dict.fromkeys(self._inputs, "numbers or tokens"))
            found, _ = read_inputs(self._network, timed, self._dtype, (1, self._batch))
        return found

    def targets(self, given: Any, mask: Any) -> dict[str, Target]:
        """By output node; raises `DataError`."""
        found = None if self._labels or mask is not None else self._recognised(given, self._targets)
        if found is not None:
            return {name: Target(array, None, self._losses[name]) for name, array in found.items()}
        kinds: dict[str, Kind] = {name: "labels" if loss.labels else "numbers" for name, loss in self._losses.items()}
        timed = self._timed("target", given, kinds, UNMASKED)
        weights = self._mask(mask)
        return read_targets(self._network, self._losses, timed, weights, (1, self._batch), self._dtype)

    def signals(self, given: Any) -> dict[str, Array]:
        """`{node: (1, batch, size)}` of the nodes on which learning signals are given; raises `DataError`."""
        if given is None and not self._signalled:
            return {}
        timed = self._timed("signal", given, dict.fromkeys(self._signalled, "numbers"))
        return read_signals(self._network, self._signalled, timed, self._dtype, (1, self._batch))

    def credit(self, targets: Any, mask: Any, signals: Any) -> tuple[dict[str, Target], dict[str, Array]]:
        """What credit is asked of, as `read_credit` says; raises `DataError`."""
        kinds: dict[str, Kind] = {name: "labels" if loss.labels else "numbers" for name, loss in self._losses.items()}
        nodes: dict[str, Kind] = dict.fromkeys((*self._losses, *self._signalled), "numbers")
        goals, own = self._some("target", targets, kinds), self._some("signal", signals, nodes)
        timed = goals, self._mask(mask), own
        return read_credit(self._network, self._losses, self._signalled, timed, (1, self._batch), self._dtype)

    def _some(self, what: str, given: Any, kinds: Mapping[str, Kind]) -> dict[str, Array]:
        """Arrays of some of these nodes by name, with an axis of time."""
        if given is None:
            return {}
        if isinstance(given, Mapping):
            names = cast("Mapping[str, Any]", given)
            check_names(f"{what}s", names, kinds, whole=False)
            kinds = {name: kind for name, kind in kinds.items() if name in names}
        return self._timed(what, given, kinds, UNMASKED)

    def into(self, slots: StepSlots, inputs: Any, targets: Any, mask: Any, signals: Any) -> None:
        """Read what a step is given into arrays; raises `DataError`. Numbers that are not finite may be let through.

        Without targets, only the inputs are read.
        """
        if not slots.inputs.copied(inputs):
            slots.inputs.fill(self.inputs(inputs))
        if targets is None:
            return
        if mask is None and not self._labels and slots.targets.copied(targets):
            slots.weigh_evenly()
        else:
            goals = self.targets(targets, mask)
            slots.targets.fill({name: goal.values for name, goal in goals.items()})
            slots.weigh(goals)
        if signals is not None or self._signalled:
            shared = self._dtype.type(1 / self._batch)
            slots.signals.fill({name: array * shared for name, array in self.signals(signals).items()})

    def _recognised(self, given: Any, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Array] | None:
        """Arrays `(batch, size)` of finite numbers of the program's dtype, with an axis of time; or `None`."""
        if type(given) is np.ndarray and len(shapes) == 1:
            given = dict.fromkeys(shapes, given)
        if type(given) is not dict or len(cast("dict[Any, Any]", given)) != len(shapes):
            return None
        found: dict[str, Array] = {}
        for name, shape in shapes.items():
            array = cast("dict[Any, Any]", given).get(name)
            if type(array) is not np.ndarray or array.dtype != self._dtype or array.shape != shape:
                return None
            found[name] = array[None]
        return found if math.isfinite(squares(found.values())) else None

    def _timed(self, what: str, given: Any, kinds: Mapping[str, Kind], *unmasked: str) -> dict[str, Array]:
        """Arrays by name, with an axis of time."""
        if not isinstance(given, Mapping):
            if given is not None and len(kinds) != 1:
                raise DataError(
                    f"{what}s: expected a mapping from names to arrays, got {type(given).__name__}.",
                    f"Expected: {', '.join(map(repr, kinds))}." if kinds else "None is expected.",
                )
            given = {} if given is None else dict.fromkeys(kinds, given)
        arrays = cast("Mapping[str, Any]", given)
        check_names(f"{what}s", arrays, kinds)
        nodes = self._network.nodes
        return {
            name: self._with_time(
                f"{what} {name!r}", array_of(f"{what} {name!r}", arrays[name], *unmasked), nodes[name], kind
            )
            for name, kind in kinds.items()
        }

    def _with_time(self, what: str, array: Array, node: Node, kind: Kind) -> Array:
        batch, one = self._batch, self._batch == 1  # of one sample, its axis may be left out
        units: list[tuple[int, ...]] = [(node.size,), node.shape]
        fitting = [(batch, *shape) for shape in units]
        if one:
            fitting += [*units, ()] if node.size == 1 else units
        if kind != "labels" and (array.shape in fitting or (array.shape[:1] == (1,) and array.shape[1:] in fitting)):
            return array.reshape(1, batch, node.size)
        whole = kind == "labels" or (kind != "numbers" and array.dtype.kind in "iu")
        if whole and array.shape in ((batch,), (1, batch), *([()] if one else [])):
            return array.reshape(1, batch)
        expected = f"({batch},)" if kind == "labels" else f"({batch}, {node.size})"
        axes = "(batch,)" if kind == "labels" else "(batch, size)"
        raise DataError(
            f"{what}: expected shape {expected}, got {array.shape}.", f"A stream takes one time step per call, {axes}."
        )

    def _mask(self, given: Any) -> Any:
        """Weights `(1,)` or `(1, batch)`, for all outputs or by output."""
        if isinstance(given, Mapping):
            arrays = cast("Mapping[Any, Any]", given)
            return {name: self._weights(f"mask of {name!r}", array) for name, array in arrays.items()}
        return self._weights("mask", given)

    def _weights(self, what: str, given: Any) -> Array | None:
        if given is None:
            return None
        array = array_of(what, given)
        if array.shape not in ((), (1,), (self._batch,), (1, self._batch)):
            raise DataError(f"{what}: expected one number, or shape ({self._batch},), got {array.shape}.")
        return array.reshape(1) if array.size == 1 else array.reshape(1, self._batch)

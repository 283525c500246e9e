"""How one block is executed: arrays checked, forward, losses, influence, gradients; and what a state is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forwardgrad.arrays import check_names, finite, numeric
from forwardgrad.backends import Devices, Engine, ShardedArray, State, engine
from forwardgrad.backends.engine import Ahead
from forwardgrad.compiler import Plan
from forwardgrad.compiler.keys import influence_key
from forwardgrad.errors import DataError
from forwardgrad.layouts.draws import COUNT, DRAW, PERIOD
from forwardgrad.ops import Array
from forwardgrad.ops import losses as loss_table
from forwardgrad.ops.losses import Loss
from forwardgrad.program import numerics
from forwardgrad.program.border import (
    Given,
    Target,
    read_inputs,
    read_params,
    read_signals,
    read_targets,
    shape_without_inputs,
)
from forwardgrad.support.attributes import is_whole, show


@dataclass(frozen=True)
class Step:
    """What a block gives.

    Args:
        loss: sum over the block's steps.
        grads: the block's gradient of each trainable parameter, shaped like it.
        outputs: per node with a loss, its values, `(time, batch, size)`.
        by_inputs: where the program was compiled with `by_inputs`, the gradient by each input, `(time, batch, size)`,
            through paths inside the block.
        state_norm, grad_norm: the Euclidean norms of the state after the block, influence and values, and of the
            gradients; infinite where squares overflow.
    """

    loss: float
    grads: dict[str, Array]
    outputs: dict[str, Array]
    state_norm: float = 0.0
    grad_norm: float = 0.0
    by_inputs: dict[str, Array] = field(default_factory=dict[str, Array])


class Execution:
    """A plan with the engine that executes it, and the losses of its outputs.

    Args:
        plan: the derived algorithm.
        losses: the loss of each output node.
        dtype: of all arrays.
        backend: the name of the engine.
        devices: that it runs on; `None`: one.
    """

    def __init__(
        self,
        plan: Plan,
        losses: Mapping[str, Loss],
        dtype: np.dtype[Any],
        backend: str,
        devices: Devices | None = None,
    ) -> None:
        self.plan, self.losses, self.dtype, self.backend, self.devices = plan, losses, dtype, backend, devices
        self.engine: Engine = engine(backend, plan, dtype, devices)
        self._numbers = tuple(
            influence_key(plan, name, DRAW) for name, traces in self.engine.traces.items() if DRAW in traces.shapes()
        )
        counts = (influence_key(plan, name, COUNT) for name in self.engine.traces if self._numbers)
        self.counters = frozenset((*self._numbers, *counts)) & self.engine.shapes(1).keys()
        self._draws = itertools.count()
        self._steppers = dict[int, Ahead]()

    @property
    def signalled(self) -> tuple[str, ...]:
        """The nodes on which the user gives learning signals."""
        return tuple(dict.fromkeys(place.node for place in self.plan.product.places if place.signal == "given"))

    def start(self, batch: int, draw: int | None) -> State:
        """The state before t = 0. By default random layouts take the next number of a draw."""
        state = self.engine.start(batch)
        if self._numbers:
            number = next(self._draws) % PERIOD if draw is None else draw  # one call of C: threads get one each
            for key in self._numbers:
                state[key][...] = number
        return state

    def stepper(self, batch: int) -> Ahead:
        """The function that runs one step of a batch of this size; made once, for all streams."""
        if batch not in self._steppers:
            self._steppers[batch] = self.engine.stepper(tuple(self.losses), batch)
        return self._steppers[batch]

    def read_state(self, given: Any) -> State:
        """A state, checked and in the program's dtype."""
        shapes = self.engine.shapes(1)
        check_names("state", given, shapes)
        state: State = {
            key: given[key] if self.engine.keeps(given[key]) else numeric(f"state {key!r}", given[key], self.dtype)
            for key in shapes
        }
        shapes = self.engine.shapes(batch_of(state) or 1)
        for key, array in state.items():
            _check_shape(key, array, shapes[key])
        with np.errstate(over="ignore", invalid="ignore"):
            whole = numerics.finite(state.values())
        for key, array in state.items() if not whole else ():
            finite(f"state {key!r}", array, "index", "The run has diverged, or the state was damaged.")
        return state

    def run(
        self, params: Any, inputs: Any, state: State | None, steps: int | None, batch: int | None
    ) -> dict[str, Array]:
        """The values of all nodes, `{node: (time, batch, size)}`, from the start or a state."""
        weights = read_params(self.plan.parameters, params, self.dtype)
        known = batch if state is None else batch_of(state)
        values, shape = read_inputs(self.plan.network, inputs, self.dtype, (steps, known))
        if shape is None:
            if steps is None:
                raise DataError("run: this graph has no inputs, so nothing says how long to run.", "Pass steps=100.")
            shape = steps, known or 1
        if state is None:
            state = self.engine.start(shape[1])
        tape = self.engine.forward(weights, state, values, shape)
        return {name: tape.values(name).copy() for name in self.plan.network.nodes}

    def advance(self, params: Any, state: State, inputs: Any) -> tuple[State, dict[str, Array]]:
        """The state after a block, and the values of outputs in it, without their losses."""
        weights = read_params(self.plan.parameters, params, self.dtype)
        values, shape = read_inputs(self.plan.network, inputs, self.dtype, (None, batch_of(state)))
        if shape is None:
            raise DataError("advance: this graph has no inputs, so nothing says how long to run.", "Use step.")
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the next block tells of it
            tape = self.engine.forward(weights, state, values, shape)
            after = self.engine.advance(tape, state, False)
        return after, {name: tape.values(name).copy() for name in self.losses}

    def reset(self, state: State, where: Array) -> State:
        """The state with the samples of these truth values, `(batch,)`, started afresh."""
        fresh = self.engine.start(len(where)) | {key: state[key] for key in self.counters}
        found: dict[str, Any] = {}
        for key, array in state.items():
            chosen = where.reshape(1, -1, *(1,) * (array.ndim - 2))
            sharded = isinstance(array, ShardedArray)
            found[key] = array.replaced(chosen, fresh[key]) if sharded else np.where(chosen, fresh[key], array)
        return found

    def step(
        self,
        params: Any,
        state: State,
        inputs: Any,
        targets: Any,
        mask: Any,
        signals: Any,
        *,
        fresh: bool = False,
        last: bool = False,
        at: int = 0,
    ) -> tuple[State, Step]:
        """A block. A fresh state holds no influence; after the last block none is needed; `at` steps lie before it."""
        plan, dtype = self.plan, self.dtype
        weights = read_params(plan.parameters, params, dtype)
        values, shape = read_inputs(plan.network, inputs, dtype, (None, batch_of(state)))
        shape = shape or shape_without_inputs(targets, self.losses)
        goals = read_targets(plan.network, self.losses, targets, mask, shape, dtype)
        given = Given(weights, values, goals, read_signals(plan.network, self.signalled, signals, dtype, shape))
        if batch_of(state) not in (None, shape[1]):
            raise DataError(f"step: the state is of batch {batch_of(state)}, the inputs are of batch {shape[1]}.")

        def again(t: int, before: State | None) -> numerics.Passed:
            began = before is None
            return self._pass(given.step(t), state if began else before, (1, shape[1]), fresh and began, False)

        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what comes of it is told in our words
            block = self._pass(given, state, shape, fresh, last)
            if not block.sound:
                raise numerics.locate(plan.network.order, block, shape[0], again).later(at)
            norms = (
                numerics.norm(self._measured(block.after).values(), block.size),
                numerics.norm(block.grads.values(), block.slope),
            )
        by_inputs = {name: block.by_inputs.get(name, np.zeros_like(values[name])) for name in plan.probed}
        return block.after, Step(block.loss, block.grads, block.outputs, *norms, by_inputs)

    def _measured(self, state: State) -> State:
        """A state without the counters of draws, which measure nothing."""
        return {key: array for key, array in state.items() if key not in self.counters} if self.counters else state

    def _pass(self, given: Given, state: State, shape: tuple[int, int], fresh: bool, last: bool) -> numerics.Passed:
        engine = self.engine
        tape = engine.forward(given.params, state, given.inputs, shape)
        outputs = {name: tape.values(name).copy() for name in self.losses}
        loss, seeds = self.evaluate(outputs, given.targets)
        after = engine.advance(tape, state, fresh) if not last or engine.lossy else None
        grads, by_inputs = engine.gradients(tape, state, after, seeds, given.signals, fresh)
        size, slope = (numerics.squares(arrays.values()) for arrays in (self._measured(after or {}), grads))
        return numerics.Passed(tape, loss, outputs, seeds, grads, after or {}, by_inputs, size, slope)

    def evaluate(self, outputs: Mapping[str, Array], goals: Mapping[str, Target]) -> tuple[float, dict[str, Array]]:
        """The loss, and its derivative by each output."""
        total, seeds = 0.0, dict[str, Array]()
        for name, loss in self.losses.items():
            value, seeds[name] = loss_table.evaluate(loss, outputs[name], goals[name].values, goals[name].weight)
            total += value
        return total, seeds


def batch_of(state: State) -> int | None:
    """The batch size that a state is of; `None` where it holds nothing."""
    for array in state.values():
        return array.shape[1] if array.ndim > 1 else None
    return None


def read_draw(what: str, given: Any) -> int | None:
    """The number of a draw, if one is given; raises `DataError`."""
    if given is None:
        return None
    if not is_whole(given) or not 0 <= given < PERIOD:
        raise DataError(f"{what}: draw must be a whole number from 0 to {PERIOD - 1:,}, got {show(given)}.")
    return int(given)


def _check_shape(key: str, array: Array, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise DataError(
            f"state {key!r}: expected shape {expected}, got {array.shape}.",
            "A state belongs to the program and batch size it was started with.",
        )

"""How one block is executed: arrays checked, forward, losses, influence, gradients; and what a state is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from forwardgrad.arrays import check_names, finite, numeric
from forwardgrad.backends import Devices, Engine, ShardedArray, State, engine
from forwardgrad.backends.engine import Ahead, WholeSteps
from forwardgrad.compiler import Plan
from forwardgrad.compiler.keys import influence_key
from forwardgrad.errors import DataError, NonFiniteError
from forwardgrad.layouts.draws import COUNT, DRAW, PERIOD
from forwardgrad.learning.joined import settings
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.ops import Array
from forwardgrad.ops import losses as loss_table
from forwardgrad.ops.losses import Loss
from forwardgrad.program import numerics
from forwardgrad.program.border import (
    Given,
    Target,
    read_credit,
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


@dataclass(frozen=True, eq=False)
class Prediction:
    """A block that has been run, of which credit can be asked. Made by `Program.predict`.

    It holds the arrays of one block, and copies of the parameters and inputs that it was made with.

    Args:
        owner: what executed it.
        outputs: per node with a loss, its values, `(time, batch, size)`; what is written into them changes nothing.
        block: what was computed.
        given: from what.
        state: before the block.
        shape: `(time, batch)`.
    """

    owner: Execution = field(repr=False)
    outputs: dict[str, Array]
    block: numerics.Passed = field(repr=False)
    given: Given = field(repr=False)
    state: State = field(repr=False)
    shape: tuple[int, int]


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

    def whole_steps(
        self, optimizer: Optimizer | None, clip: float | None, batch: int
    ) -> Callable[[], WholeSteps] | None:
        """What makes steps that are one call each, if the engine has them for these losses and this optimizer."""
        losses = {node: loss.name for node, loss in self.losses.items() if loss_table.SHIPPED.get(loss.name) is loss}
        config = settings(optimizer)
        if len(losses) < len(self.losses) or not self.plan.entries or self.plan.per_sample:
            return None
        if optimizer is not None and config is None:
            return None
        return self.engine.whole_steps(losses, config, clip, batch, self.counters)

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

    def predict(self, params: Any, state: State, inputs: Any, steps: int | None) -> Prediction:
        """A block up to where its losses are read: outputs, and the state after it."""
        weights = {name: array.copy() for name, array in read_params(self.plan.parameters, params, self.dtype).items()}
        values, shape = read_inputs(self.plan.network, inputs, self.dtype, (steps, batch_of(state)))
        if shape is None and steps is None:
            raise DataError("predict: this graph has no inputs, so nothing says how long to run.", "Pass steps=100.")
        shape = shape or (steps or 1, batch_of(state) or 1)
        self._check_batch("predict", state, shape)
        signals = {name: np.zeros((*shape, self.plan.network.nodes[name].size), self.dtype) for name in self.signalled}
        # What the caller may write into until credit is asked is copied.
        given = Given(weights, {name: array.copy() for name, array in values.items()}, {}, signals)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            tape = self.engine.forward(given.params, state, given.inputs, shape)
            outputs = {name: tape.values(name).copy() for name in self.losses}
            after = self.engine.advance(tape, state, False)
            size = numerics.squares(self.measured(after).values())
            block = numerics.Passed(tape, 0.0, outputs, {}, {}, after, {}, size, 0.0)
            if not (block.sound and numerics.finite(outputs.values())):
                raise self._located(block, given, state, shape)
        return Prediction(self, {name: array.copy() for name, array in outputs.items()}, block, given, state, shape)

    def credit(self, prediction: Prediction, targets: Any, mask: Any, signals: Any) -> Step:
        """What a block gives, of one loss or of learning signals."""
        goals, own = read_credit(
            self.plan.network, self.losses, self.signalled, (targets, mask, signals), prediction.shape, self.dtype
        )
        given, block = replace(prediction.given, targets=goals, signals=own), prediction.block
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            evaluated = self.evaluate(block.outputs, goals)
            found = self._credited(block.tape, block.outputs, evaluated, prediction.state, block.after, own, False)
            return self._step(found, given, prediction.state, prediction.shape)

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
        self._check_batch("step", state, shape)
        return self.run_block(given, state, shape, fresh=fresh, last=last, at=at)

    def run_block(
        self,
        given: Given,
        state: State,
        shape: tuple[int, int],
        *,
        fresh: bool = False,
        last: bool = False,
        at: int = 0,
    ) -> tuple[State, Step]:
        """A block of arrays that are checked."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what comes of it is told in our words
            block = self._pass(given, state, shape, fresh, last)
            return block.after, self._step(block, given, state, shape, fresh, at)

    @staticmethod
    def _check_batch(what: str, state: State, shape: tuple[int, int]) -> None:
        if batch_of(state) not in (None, shape[1]):
            raise DataError(f"{what}: the state is of batch {batch_of(state)}, the inputs are of batch {shape[1]}.")

    def _step(
        self,
        block: numerics.Passed,
        given: Given,
        state: State,
        shape: tuple[int, int],
        fresh: bool = False,
        at: int = 0,
    ) -> Step:
        """What a block gives, if all of it is finite."""
        if not block.sound:
            raise self._located(block, given, state, shape, fresh).later(at)
        norms = (
            numerics.norm(self.measured(block.after).values(), block.size),
            numerics.norm(block.grads.values(), block.slope),
        )
        by_inputs = {name: block.by_inputs.get(name, np.zeros_like(given.inputs[name])) for name in self.plan.probed}
        return Step(block.loss, block.grads, block.outputs, *norms, by_inputs)

    def _located(
        self, block: numerics.Passed, given: Given, state: State, shape: tuple[int, int], fresh: bool = False
    ) -> NonFiniteError:
        """The error that names what in a block was not finite first."""

        def again(t: int, before: State | None) -> numerics.Passed:
            began = before is None
            return self._pass(given.step(t), state if began else before, (1, shape[1]), fresh and began, False)

        return numerics.locate(self.plan.network.order, block, shape[0], again)

    def measured(self, state: State) -> State:
        """A state without the counters of draws, which measure nothing."""
        return {key: array for key, array in state.items() if key not in self.counters} if self.counters else state

    def _pass(self, given: Given, state: State, shape: tuple[int, int], fresh: bool, last: bool) -> numerics.Passed:
        engine = self.engine
        tape = engine.forward(given.params, state, given.inputs, shape)
        outputs = {name: tape.values(name).copy() for name in self.losses}
        evaluated = self.evaluate(outputs, given.targets)
        after = engine.advance(tape, state, fresh) if not last or engine.lossy else None
        return self._credited(tape, outputs, evaluated, state, after, given.signals, fresh)

    def _credited(
        self,
        tape: Any,
        outputs: dict[str, Array],
        evaluated: tuple[float, dict[str, Array]],
        state: State,
        after: State | None,
        signals: Mapping[str, Array],
        fresh: bool,
    ) -> numerics.Passed:
        """A block with the gradients of what was evaluated."""
        loss, seeds = evaluated
        grads, by_inputs = self.engine.gradients(tape, state, after, seeds, self.shared(signals), fresh)
        size, slope = (numerics.squares(arrays.values()) for arrays in (self.measured(after or {}), grads))
        return numerics.Passed(tape, loss, outputs, seeds, grads, after or {}, by_inputs, size, slope)

    def shared(self, signals: Mapping[str, Array]) -> Mapping[str, Array]:
        """Learning signals, which are those of single samples, as the derivative of the mean over the batch."""
        if self.plan.per_sample:
            return signals
        return {name: array * self.dtype.type(1 / array.shape[1]) for name, array in signals.items()}

    def evaluate(self, outputs: Mapping[str, Array], goals: Mapping[str, Target]) -> tuple[float, dict[str, Array]]:
        """The loss, and its derivative by each output: of the mean over the batch, or of each sample's own."""
        total, seeds = 0.0, dict[str, Array]()
        for name, y in outputs.items():
            if (goal := goals.get(name)) is None:
                seeds[name] = np.zeros_like(y)
                continue
            found = loss_table.evaluate(goal.loss, y, goal.values, goal.weight, self.plan.per_sample)
            value, seeds[name] = found
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

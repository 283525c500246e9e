"""A stream: a program that takes one time step per call, and keeps parameters, optimizer and state of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from forwardgrad.arrays import check_names, finite, numeric, truths
from forwardgrad.backends import State
from forwardgrad.errors import DataError, NonFiniteError
from forwardgrad.layouts.draws import PERIOD
from forwardgrad.learning.joined import Weights, updates
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.ops import Array
from forwardgrad.program import budget, numerics
from forwardgrad.program.border import Target
from forwardgrad.program.execution import Execution
from forwardgrad.program.moment import MomentReader


class StreamStep(NamedTuple):
    """What one step of a stream gives.

    Args:
        loss: the sum over the outputs of the weighted mean over the batch; NaN where no targets were given.
        outputs: the value of each node with a loss, `(batch, size)`, from before the update.
    """

    loss: float
    outputs: dict[str, Array]


class Held(NamedTuple):
    """What a step replaces, all of it at once, so that an interrupt leaves the old or the new.

    Args:
        weights: parameters, and what the optimizer remembers.
        state: activations and influence.
        outputs: `(batch, size)` of the last step, by output node.
        grads: of the last step that had targets.
        seen: how many steps there were.
        draw: for random layouts, the number of the signs; `None` takes the next from the counter of the program.
    """

    weights: Weights
    state: State
    outputs: dict[str, Array]
    grads: dict[str, Array]
    seen: int
    draw: int | None


class Stream:
    """A program that learns from one time step per call. Made by `Program.stream`.

    It does what a `Learner` does with blocks of one step, at less cost per call: parameters, optimizer and shapes are
    checked once. It keeps copies of what it is given, and hands out copies. A step that raises an error leaves the
    stream as it was. A stream can be copied and pickled; it is not to be used by several threads at a time.

    Attributes:
        batch: number of samples.
        optimizer: changes the parameters after each step that has targets; `None` leaves them as they are.

    >>> import forwardgrad as fg, numpy as np
    >>> program = fg.compile(fg.load("elman"), rule="eprop")
    >>> stream = program.stream(program.init(), batch=2, optimizer=fg.Adam(0.01))
    >>> loss, outputs = stream.step(np.ones((2, 1)), np.zeros((2, 1)))   # predicts, then learns
    >>> stream.step(np.ones((2, 1))).outputs["y"].shape   # predicts
    (2, 1)
    >>> stream.reset(np.array([True, False]))   # the first sample starts afresh
    >>> stream.seen, stream.params["x->h"].shape
    (2, (32, 1))
    """

    def __init__(
        self,
        execution: Execution,
        weights: Mapping[str, Array],
        batch: int,
        optimizer: Optimizer | None,
        begun: tuple[State | None, Mapping[str, Any] | None, int | None],
        again: Callable[..., Stream],
    ) -> None:
        plan, self._execution, self._again = execution.plan, execution, again
        self.batch, self.optimizer = batch, optimizer
        self._read = MomentReader(plan.network, execution.losses, execution.signalled, execution.dtype, batch)
        self._ahead = execution.stepper(batch)
        trained = (*plan.entries, *plan.followers)
        self._updates = updates(optimizer, trained)
        state, memory, draw = begun
        if memory is not None:
            memory = _read_memory(optimizer, {name: weights[name] for name in trained}, memory)
        first = self._updates.begin({name: array.copy() for name, array in weights.items()}, memory)
        state = execution.start(batch, draw) if state is None else {key: array.copy() for key, array in state.items()}
        self._held = Held(first, state, {}, {}, 0, draw)

    def step(self, inputs: Any = None, targets: Any = None, mask: Any = None, signals: Any = None) -> StreamStep:
        """Take one time step: predict, and learn if there are targets.

        The outputs are predicted with the parameters as they are. With targets, the loss and its gradient are those of
        `Program.step` with a block of one step, and the optimizer then updates the parameters. Without, nothing is
        learned; the state goes on, influence too, as it does where a mask is zero.

        Args:
            inputs: `{input node: (batch, size)}`, or the array alone if there is one input. An axis of time of length 1
                before them, and the shape of a node in place of its size, are accepted; with one sample `(size,)`, and
                a number for a single unit. Whole numbers `(batch,)` are tokens. Nothing, for a graph without inputs.
            targets: `{output node: (batch, size)}`, or the array alone, as for inputs; labels are `(batch,)`.
            mask: weights of the loss, a number or `(batch,)`, for all outputs or as `{output node: mask}`.
            signals: `{node: (batch, size)}`, for rules with `feedback="signal"`, as in `Program.step`.

        Returns:
            The loss and the outputs. Later steps do not change them.

        Raises:
            DataError: if an array does not fit.
            NonFiniteError: if loss, gradients, state or updated parameters are not finite, or the norm of an influence
                overflows, as in a `Learner`; the step is counted from 0 at the beginning of the stream.
            MemoryBudgetError: if the system refuses memory.
        """
        try:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what comes of it is told in our words
                values = self._read.inputs(inputs)
                if targets is not None:
                    return self._learned(values, self._read.targets(targets, mask), self._read.signals(signals))
                if mask is not None or signals is not None:
                    raise DataError("stream: mask and signals come with targets, and there are none.")
                return self._predicted(values)
        except MemoryError:
            with budget.told("stream"):
                raise

    def _learned(self, values: dict[str, Array], goals: dict[str, Target], signals: dict[str, Array]) -> StreamStep:
        held = self._held
        outputs, after, back = self._ahead(held.weights.params, held.state, values)
        loss, seeds = self._execution.evaluate(outputs, goals)
        grads = back(seeds, signals)
        gathered = self._updates.gathered(grads)
        slope = numerics.squares(gathered)
        if not math.isfinite(loss + slope + numerics.squares(after.values())):
            targets = {name: goal.values for name, goal in goals.items()}
            mask = {name: goal.weight for name, goal in goals.items() if goal.weight is not None}
            loss, outputs, after, grads = self._examined(values, targets, mask, signals or None)
            gathered = self._updates.gathered(grads)
        return self._moved_on(self._updated(grads, gathered, math.isfinite(slope)), after, outputs, loss, grads)

    def _predicted(self, values: dict[str, Array]) -> StreamStep:
        weights = self._held.weights
        outputs, after, _ = self._ahead(weights.params, self._held.state, values)
        if not math.isfinite(numerics.squares(after.values()) + numerics.squares(outputs.values())):
            losses, nodes, shape = self._execution.losses, self._execution.plan.network.nodes, (1, self.batch)
            targets = {name: np.zeros(shape if losses[name].labels else a.shape, int) for name, a in outputs.items()}
            signals = {name: np.zeros((*shape, nodes[name].size)) for name in self._execution.signalled}
            _, outputs, after, _ = self._examined(values, targets, np.zeros(shape), signals or None)
        return self._moved_on(weights, after, outputs, math.nan, self._held.grads)

    def _examined(
        self, values: Any, targets: Any, mask: Any, signals: Any
    ) -> tuple[float, dict[str, Array], State, dict[str, Array]]:
        """What `Program.step` gives in place of numbers that are not finite, or the error by which it names the first.

        Numbers whose squares overflow are looked at here, too; they are errors in an influence alone.
        """
        held = self._held
        try:
            after, step = self._execution.step(held.weights.params, held.state, values, targets, mask, signals)
        except NonFiniteError as error:
            raise error.later(held.seen) from None
        if (found := numerics.exploded(after, held.seen)) is not None:
            raise found
        return step.loss, step.outputs, after, step.grads

    def _updated(self, grads: dict[str, Array], gathered: Any, sound: bool) -> Weights:
        """The weights after the update, which are finite; what is remembered may not be where squares overflow."""
        held, ours = self._held, self._updates
        weights = ours.updated(held.weights, grads, gathered)
        if not math.isfinite(numerics.squares(ours.changed(weights))):
            numerics.refuse_update("parameter", weights.params, held.seen)
        if not sound:
            numerics.refuse_update("memory of the optimizer", ours.remembered(weights), held.seen)
        return weights

    def _moved_on(
        self, weights: Weights, after: State, outputs: dict[str, Array], loss: float, grads: dict[str, Array]
    ) -> StreamStep:
        held = self._held
        mine = {name: array[0] for name, array in outputs.items()}
        given = {name: array.copy() for name, array in mine.items()}
        self._held = Held(weights, after, mine, grads, held.seen + 1, held.draw)
        return StreamStep(loss, given)

    @property
    def params(self) -> dict[str, Array]:
        """All parameters, copied: `{name: array}`."""
        return _copied(self._held.weights.params)

    @property
    def optimizer_state(self) -> dict[str, Array]:
        """What the optimizer remembers, copied, in the form of `optimizer.start(params)`."""
        return _copied(self._updates.remembered(self._held.weights))

    @property
    def state(self) -> State:
        """Activations and influence after the last step, copied, in the form of `Program.start`."""
        return _copied(self._held.state)

    @property
    def outputs(self) -> dict[str, Array]:
        """The outputs of the last step, copied: `{output node: (batch, size)}`. Empty before the first step."""
        return _copied(self._held.outputs)

    @property
    def grads(self) -> dict[str, Array]:
        """The gradients of the last step that had targets, copied. Empty before it."""
        return _copied(self._held.grads)

    @property
    def seen(self) -> int:
        """How many steps the stream has taken."""
        return self._held.seen

    def reset(self, samples: Any = None) -> None:
        """Start samples afresh, activations and influence. Parameters and optimizer stay as they are.

        Args:
            samples: `(batch,)` truth values: which samples; by default all. Random layouts then draw other signs, if
                all samples start afresh.

        Raises:
            DataError: if these are not such truth values.
        """
        held = self._held
        if samples is not None:
            chosen = truths("reset: samples", samples, (self.batch,))
            self._held = held._replace(state=self._execution.reset(held.state, chosen))
            return
        draw = None if held.draw is None else (held.draw + 1) % PERIOD
        self._held = held._replace(state=self._execution.start(self.batch, draw), draw=draw)

    def __repr__(self) -> str:
        return f"Stream(batch={self.batch}, optimizer={self.optimizer!r}, seen={self.seen:,})"

    def __reduce__(self) -> tuple[Any, ...]:
        settings = {"batch": self.batch, "optimizer": self.optimizer, "state": self.state, "draw": self._held.draw}
        remembered = None if self.optimizer is None else self.optimizer_state
        rest = {"outputs": self.outputs, "grads": self.grads, "seen": self.seen}
        return partial(self._again, **settings, optimizer_state=remembered), (self.params,), rest

    def __setstate__(self, rest: dict[str, Any]) -> None:
        self._held = self._held._replace(**rest)


def _copied(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in arrays.items()}


def _read_memory(optimizer: Optimizer | None, trained: Mapping[str, Array], given: Any) -> dict[str, Array]:
    """What an optimizer remembers, checked against what it starts with."""
    if optimizer is None:
        raise DataError("stream: an optimizer_state needs its optimizer.")
    found, started = dict[str, Array](), optimizer.start(trained)
    check_names("optimizer_state", given, started)
    for key, like in started.items():
        what = f"optimizer_state {key!r}"
        found[key] = finite(what, numeric(what, given[key], like.dtype), "index").copy()
        if found[key].shape != like.shape:
            raise DataError(f"{what}: expected shape {like.shape}, got {found[key].shape}.")
    return found

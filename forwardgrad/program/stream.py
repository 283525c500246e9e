"""A stream: a program that takes one time step per call, and keeps parameters, optimizer and state of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from forwardgrad.arrays import check_names, finite, numeric, truths
from forwardgrad.backends import State
from forwardgrad.backends.engine import Back
from forwardgrad.errors import DataError, NonFiniteError
from forwardgrad.layouts.draws import PERIOD
from forwardgrad.learning.joined import Weights, updates
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.ops import Array
from forwardgrad.program import budget, numerics
from forwardgrad.program.border import Given, Target
from forwardgrad.program.execution import Execution
from forwardgrad.program.held import Held, Holder, StreamStep, copied
from forwardgrad.program.moment import MomentReader


class Open(NamedTuple):
    """A step of which credit can still be asked.

    Args:
        held: what the stream held before it.
        values: `(1, batch, size)` by input node.
        outputs: the same by output node.
        back: gives the gradients.
    """

    held: Held
    values: dict[str, Array]
    outputs: dict[str, Array]
    back: Back


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
        make = execution.whole_steps(optimizer, batch)
        self._holder = Holder(Held(first, state, {}, {}, 0, draw), self._updates, self._read, make)
        self._open: Open | None = None

    def predict(self, inputs: Any = None) -> dict[str, Array]:
        """Take one time step of which nothing is learned yet: `credit` asks for gradients, `update` learns from them.

        `step` is all of it: `predict`, `credit` and `update`.

        Args:
            inputs: as for `step`.

        Returns:
            The outputs, `{output node: (batch, size)}`.

        Raises:
            DataError, NonFiniteError, MemoryBudgetError: as in `step`.

        >>> import forwardgrad as fg, numpy as np
        >>> program = fg.compile(fg.load("elman"), loss={"y": "signal"})
        >>> stream = program.stream(program.init(), batch=2, optimizer=fg.SGD(0.01))
        >>> y = stream.predict(np.ones((2, 1)))["y"]
        >>> grads = stream.credit(signals={"y": y - 1})
        >>> stream.update(grads)
        """
        with self._told():
            # Callers may write into their arrays, and updates into the weights, before credit is asked.
            values = {name: array.copy() for name, array in self._read.inputs(inputs).items()}
            weights = replace(self._held.weights, params=self.params)
            step, self._open = self._predicted(self._held._replace(weights=weights), values)
            return step.outputs

    def credit(self, targets: Any = None, mask: Any = None, signals: Any = None) -> dict[str, Array]:
        """The gradient of the step that was predicted last, as by `Program.credit`; it may be asked several times.

        Args:
            targets: as for `step`, of all outputs or of some.
            mask: as for `step`.
            signals: `{output node: (batch, size)}`, as in `Program.credit`.

        Returns:
            The gradient of each trained parameter.

        Raises:
            DataError: if an array does not fit, or no step was predicted last.
            NonFiniteError, MemoryBudgetError: as in `step`.
        """
        if (asked := self._open) is None:
            raise DataError("stream: there is no predicted step to ask credit of.", "Call predict before credit.")
        with self._told():
            goals, own = self._read.credit(targets, mask, signals)
            loss, seeds = self._execution.evaluate(asked.outputs, goals)
            grads = asked.back(seeds, self._execution.shared(own))
            if math.isfinite(loss + numerics.squares(grads.values())):
                return grads
            return self._examined(asked.held, asked.values, goals, own)[3]

    def update(self, grads: Mapping[str, Any]) -> None:
        """Let the optimizer change the parameters by a gradient, as `step` does by that of its loss.

        Args:
            grads: an array for each trained parameter, shaped like it: what `credit` gave, or what was made of that.

        Raises:
            DataError: if the stream has no optimizer, or an array does not fit.
            NonFiniteError: if updated parameters would not be finite.
        """
        if self.optimizer is None:
            raise DataError("stream: it has no optimizer to update with.", "Pass optimizer= to Program.stream.")
        weights, plan = self._held.weights, self._execution.plan
        trained = {name: weights.params[name] for name in (*plan.entries, *plan.followers)}
        check_names("grads", grads, trained)
        read = {name: numeric(f"gradient {name!r}", grads[name], self._execution.dtype) for name in trained}
        for name, array in read.items():
            if array.shape != trained[name].shape:
                hint = "Sum or average it over the batch." if array.shape[1:] == trained[name].shape else ""
                expected = f"expected shape {trained[name].shape}, got {array.shape}."
                raise DataError(f"gradient {name!r}: {expected}", hint)
            finite(f"gradient {name!r}", array, "index")
        with self._told():
            gathered = self._updates.gathered(read)
            sound = math.isfinite(numerics.squares(gathered))
            self._held = self._held._replace(weights=self._updated(read, gathered, sound))

    @contextmanager
    def _told(self) -> Generator[None]:
        try:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what comes of it is told in our words
                yield
        except MemoryError:
            with budget.told("stream"):
                raise

    @property
    def _held(self) -> Held:
        return self._holder.held

    @_held.setter
    def _held(self, held: Held) -> None:
        self._holder.held = held

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
        if mask is None and (taken := self._holder.stepped(inputs, targets, signals)) is not None:
            self._open = None
            return taken
        with self._told():
            values = self._read.inputs(inputs)
            self._open = None
            if targets is not None:
                return self._learned(values, self._read.targets(targets, mask), self._read.signals(signals))
            if mask is not None or signals is not None:
                raise DataError("stream: mask and signals come with targets, and there are none.")
            return self._predicted(self._held, values)[0]

    def _learned(self, values: dict[str, Array], goals: dict[str, Target], signals: dict[str, Array]) -> StreamStep:
        held = self._held
        outputs, after, back = self._ahead(held.weights.params, held.state, values)
        loss, seeds = self._execution.evaluate(outputs, goals)
        grads = back(seeds, self._execution.shared(signals))
        gathered = self._updates.gathered(grads)
        slope = numerics.squares(gathered)
        if not math.isfinite(loss + slope + numerics.squares(after.values())):
            loss, outputs, after, grads = self._examined(held, values, goals, signals)
            gathered = self._updates.gathered(grads)
        return self._moved_on(self._updated(grads, gathered, math.isfinite(slope)), after, outputs, loss, grads)

    def _predicted(self, held: Held, values: dict[str, Array]) -> tuple[StreamStep, Open]:
        outputs, after, back = self._ahead(held.weights.params, held.state, values)
        if not math.isfinite(numerics.squares(after.values()) + numerics.squares(outputs.values())):
            nodes = self._execution.plan.network.nodes
            signals = {name: np.zeros((1, self.batch, nodes[name].size)) for name in self._execution.signalled}
            _, outputs, after, _ = self._examined(held, values, {}, signals)
        step = self._moved_on(self._held.weights, after, outputs, math.nan, self._held.grads)
        return step, Open(held, values, outputs, back)

    def _examined(
        self, held: Held, values: dict[str, Array], goals: dict[str, Target], signals: dict[str, Array]
    ) -> tuple[float, dict[str, Array], State, dict[str, Array]]:
        """What `Program.step` gives in place of numbers that are not finite, or the error by which it names the first.

        Numbers whose squares overflow are looked at here, too; they are errors in an influence alone.
        """
        given = Given(held.weights.params, values, goals, signals)
        try:
            after, step = self._execution.run_block(given, held.state, (1, self.batch))
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
        return copied(self._held.weights.params)

    @property
    def optimizer_state(self) -> dict[str, Array]:
        """What the optimizer remembers, copied, in the form of `optimizer.start(params)`."""
        return copied(self._updates.remembered(self._held.weights))

    @property
    def state(self) -> State:
        """Activations and influence after the last step, copied, in the form of `Program.start`."""
        return copied(self._held.state)

    @property
    def outputs(self) -> dict[str, Array]:
        """The outputs of the last step, copied: `{output node: (batch, size)}`. Empty before the first step."""
        return copied(self._held.outputs)

    @property
    def grads(self) -> dict[str, Array]:
        """The gradients of the last step that had targets, copied. Empty before it."""
        return copied(self._held.grads)

    @property
    def seen(self) -> int:
        """How many steps the stream has taken."""
        return self._holder.seen

    def reset(self, samples: Any = None) -> None:
        """Start samples afresh, activations and influence. Parameters and optimizer stay as they are.

        Args:
            samples: `(batch,)` truth values: which samples; by default all. Random layouts then draw other signs, if
                all samples start afresh.

        Raises:
            DataError: if these are not such truth values.
        """
        held, self._open = self._held, None
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

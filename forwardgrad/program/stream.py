"""A stream: a program that takes one time step per call, and keeps parameters, optimizer and state of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from forwardgrad.arrays import check_names, finite, numeric, truths
from forwardgrad.backends import State
from forwardgrad.errors import DataError
from forwardgrad.layouts.draws import PERIOD
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.ops import Array
from forwardgrad.program.execution import Execution
from forwardgrad.program.held import copied
from forwardgrad.program.moment import MomentReader
from forwardgrad.program.single_steps import Open, SingleSteps, told


class StreamStep(NamedTuple):
    """What one step of a stream gives.

    Args:
        loss: the sum over the outputs of the weighted mean over the batch; NaN where no targets were given.
        outputs: the value of each node with a loss, `(batch, size)`, from before the update.
    """

    loss: float
    outputs: dict[str, Array]


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
        self._steps = SingleSteps(execution, batch, optimizer)
        state, memory, draw = begun
        if memory is not None:
            memory = _read_memory(optimizer, {name: weights[name] for name in self._steps.trained}, memory)
        state = execution.start(batch, draw) if state is None else copied(state)
        self._steps.begin(copied(weights), memory, state, 0, draw)
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
        with told("stream"):  # callers may write into their arrays before credit is asked
            self._open = self._steps.predict(copied(self._read.inputs(inputs)), open=True)
            return self.outputs

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
        with told("stream"):
            return self._steps.credit(asked, *self._read.credit(targets, mask, signals))

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
        params = self._steps.held.weights.params
        trained = {name: params[name] for name in self._steps.trained}
        check_names("grads", grads, trained)
        read = {name: numeric(f"gradient {name!r}", grads[name], self._execution.dtype) for name in trained}
        for name, array in read.items():
            if array.shape != trained[name].shape:
                hint = "Sum or average it over the batch." if array.shape[1:] == trained[name].shape else ""
                expected = f"expected shape {trained[name].shape}, got {array.shape}."
                raise DataError(f"gradient {name!r}: {expected}", hint)
            finite(f"gradient {name!r}", array, "index")
        with told("stream"):
            self._steps.update(read)

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
        steps, read, learning = self._steps, self._read, targets is not None
        if not learning and (mask is not None or signals is not None):
            read.inputs(inputs)  # what is wrong with these is told first
            raise DataError("stream: mask and signals come with targets, and there are none.")
        if (slots := steps.slots()) is not None:
            read.into(slots, inputs, targets, mask, signals)
            loss = steps.learn_at_once() if learning else math.nan
            if loss == loss or (not learning and steps.predict_at_once()):  # all is finite
                self._open = None
                return StreamStep(loss, steps.outputs())
        with told("stream"):
            values, loss = read.inputs(inputs), math.nan
            if learning:
                loss = steps.learn_in_parts(values, read.targets(targets, mask), read.signals(signals))
            else:
                steps.predict(values, open=False)
            self._open = None
            return StreamStep(loss, steps.outputs())

    @property
    def params(self) -> dict[str, Array]:
        """All parameters, copied: `{name: array}`."""
        return copied(self._steps.held.weights.params)

    @property
    def optimizer_state(self) -> dict[str, Array]:
        """What the optimizer remembers, copied, in the form of `optimizer.start(params)`."""
        return copied(self._steps.updates.remembered(self._steps.held.weights))

    @property
    def state(self) -> State:
        """Activations and influence after the last step, copied, in the form of `Program.start`."""
        return copied(self._steps.held.state)

    @property
    def outputs(self) -> dict[str, Array]:
        """The outputs of the last step, copied: `{output node: (batch, size)}`. Empty before the first step."""
        return copied(self._steps.held.outputs)

    @property
    def grads(self) -> dict[str, Array]:
        """The gradients of the last step that had targets, copied. Empty before it."""
        return copied(self._steps.held.grads)

    @property
    def seen(self) -> int:
        """How many steps the stream has taken."""
        return self._steps.seen

    def reset(self, samples: Any = None) -> None:
        """Start samples afresh, activations and influence. Parameters and optimizer stay as they are.

        Args:
            samples: `(batch,)` truth values: which samples; by default all. Random layouts then draw other signs, if
                all samples start afresh.

        Raises:
            DataError: if these are not such truth values.
        """
        held, self._open = self._steps.held, None
        if samples is not None:
            chosen = truths("reset: samples", samples, (self.batch,))
            self._steps.held = held._replace(state=self._execution.reset(held.state, chosen))
            return
        draw = None if held.draw is None else (held.draw + 1) % PERIOD
        self._steps.held = held._replace(state=self._execution.start(self.batch, draw), draw=draw)

    def __repr__(self) -> str:
        return f"Stream(batch={self.batch}, optimizer={self.optimizer!r}, seen={self.seen:,})"

    def __reduce__(self) -> tuple[Any, ...]:
        settings = {
            "batch": self.batch,
            "optimizer": self.optimizer,
            "state": self.state,
            "draw": self._steps.held.draw,
        }
        remembered = None if self.optimizer is None else self.optimizer_state
        rest = {"outputs": self.outputs, "grads": self.grads, "seen": self.seen}
        return partial(self._again, **settings, optimizer_state=remembered), (self.params,), rest

    def __setstate__(self, rest: dict[str, Any]) -> None:
        self._steps.held = self._steps.held._replace(**rest)


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

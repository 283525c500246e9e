"""What does a user hold after compiling? A `Program`: immutable, stateless; parameters and state go in and come out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.arrays import count, truths
from forwardgrad.backends import Devices, State
from forwardgrad.compiler import Decision, Plan
from forwardgrad.errors import DataError
from forwardgrad.explain.derivation import Derived
from forwardgrad.graph import Network
from forwardgrad.graph import draw as draw_parameter
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.learning.transforms import as_optimizer
from forwardgrad.ops import Array
from forwardgrad.ops.losses import Loss
from forwardgrad.program import budget
from forwardgrad.program.border import read_params
from forwardgrad.program.derived import derive
from forwardgrad.program.described import Described
from forwardgrad.program.execution import Execution, Prediction, Step, batch_of, read_draw
from forwardgrad.program.pricing import refuse_too_large
from forwardgrad.program.sequence import Sequences
from forwardgrad.program.single_steps import SingleSteps
from forwardgrad.program.stream import Stream
from forwardgrad.rules.table import Rule


class Program(Described, Sequences):
    """A declared graph compiled to an online learning algorithm. Made by `forwardgrad.compile`.

    It can be copied and pickled. Loading compiles it again; register ops, losses and layouts of your own before. Copies
    count their draws from 0 again.

    Attributes:
        graph: the declared graph (a frozen copy).
        network: the graph validated, with every default filled in.
        losses: the loss of each output node.
        rules: what was derived for each trained parameter (`Derived`), by name.
        chosen: the rule of each trainable parameter, also of those that their rule leaves untrained.
        plan: the derived algorithm, as the compiler hands it to a backend.
        dtype: of all arrays.
        devices: the grid of devices that it runs on; `None`: one.
        decisions: what the compiler decided and why.
    """

    def __init__(
        self,
        graph: nx.MultiDiGraph[str],
        plan: Plan,
        losses: Mapping[str, Loss],
        rules: Mapping[str, Rule],
        dtype: Any,
        backend: str = "numpy",
        devices: Devices | None = None,
    ) -> None:
        self.graph = graph
        self.network: Network = plan.network
        self.losses = MappingProxyType(dict(losses))
        self.dtype = np.dtype(dtype)
        self.decisions: tuple[Decision, ...] = plan.decisions
        self.plan = plan
        self.backend, self.devices = backend, devices
        self._execution = Execution(plan, self.losses, self.dtype, backend, devices)
        self._engine = self._execution.engine
        self.chosen: Mapping[str, Rule] = MappingProxyType(dict(rules))
        self.rules: Mapping[str, Derived] = MappingProxyType(derive(self._execution, self.chosen))

    def init(self, seed: int = 0) -> dict[str, Array]:
        """Initial parameters, as the graph's `init` and `bias` attributes say.

        Args:
            seed: a whole number; each parameter draws from a stream of its own.

        Returns:
            `{name: array}`, trainable and frozen parameters.

        Raises:
            MemoryBudgetError: if they do not fit in what is free.
        """
        entries = sum(prod(parameter.shape) for parameter in self.plan.parameters.values())
        budget.room(f"init: {entries:,} parameters", 8 * entries)  # all are drawn in double precision
        return {name: draw_parameter(p, seed).astype(self.dtype) for name, p in self.plan.parameters.items()}

    def start(self, batch: int = 1, max_memory: int | str | None = None, *, draw: int | None = None) -> State:
        """The state before t = 0: initial values, and no influence.

        Args:
            batch: number of samples.
            max_memory: bytes that state and a block of one step may take, as a number or a text such as `"2GiB"`; by
                default 80 % of what is free, where the machine tells: the least that memory, limits of resources and
                control groups leave.
            draw: for random layouts (`uoro`, `kronecker`): the number of the signs to draw, from 0 to 2^23 - 1. The
                same number gives the same signs. By default each start takes the next one from a counter of the
                program, so that noise averages out over sequences.

        Raises:
            DataError: if the batch or the draw is not such a number.
            MemoryBudgetError: if they would take more, before anything is allocated.
        """
        number = read_draw("start", draw)
        self.fits(count("start: batch", batch), 1, max_memory)
        return self._execution.start(batch, number)

    def fits(
        self,
        batch: int,
        block: int,
        max_memory: int | str | None = None,
        *,
        held: State | None = None,
        last: bool = False,
        what: str = "start",
    ) -> None:
        """Refuse a block that costs more memory than it may.

        Args:
            batch, max_memory: as for `start`.
            block: steps of the block.
            held: the state before it, where there is one already.
            last: whether no block comes after it.
            what: names the call in the error.

        Raises:
            MemoryBudgetError: as for `start`.
        """
        refuse_too_large(self._execution, self.rules, self.chosen, (batch, block, last), max_memory, held, what)

    @budget.told("step")
    def step(
        self,
        params: Mapping[str, Any],
        inputs: Mapping[str, Any],
        targets: Mapping[str, Any],
        mask: Any = None,
        signals: Mapping[str, Any] | None = None,
        *,
        state: Mapping[str, Any],
    ) -> tuple[State, Step]:
        """Run one block: any number of steps with fixed weights. `predict` and `credit` are its two halves.

        Args:
            params: `{name: array}`.
            inputs: `{input node: (time, batch, size)}`.
            targets: `{output node: (time, batch, size)}`, or `(time, batch)` labels.
            mask: weights of the loss, `(time,)` or `(time, batch)`, for all outputs or as `{output node: mask}`.
            signals: `{node: (time, batch, size)}`, for rules with `feedback="signal"`: what stands in place of the
                derivative of a sample's loss by the node. As of losses, the mean over the batch is taken.
            state: from `start`, an earlier `step`, `predict` or `reset`.

        Returns:
            The state after the block, and the block's loss, gradients and outputs.

        Raises:
            DataError: if an array does not fit.
            NonFiniteError: if loss, gradients or the state after the block are not finite, naming the first node or
                parameter at which, and the step.
            MemoryBudgetError: if the system refuses memory. Nothing is priced before: `fits` does.
        """
        return self._execution.step(params, self._execution.read_state(state), inputs, targets, mask, signals)

    @budget.told("predict")
    def predict(
        self,
        params: Mapping[str, Any],
        inputs: Mapping[str, Any],
        *,
        state: Mapping[str, Any],
        steps: int | None = None,
    ) -> tuple[State, Prediction]:
        """Run one block of which nothing is asked yet; `credit` asks, once the targets or learning signals are known.

        In between, an action can be drawn, a target chosen, a loss computed elsewhere; the next block can be predicted,
        too. The prediction holds the arrays of its block, and the state from before, which must not be written into.

        Args:
            params: `{name: array}`.
            inputs: `{input node: (time, batch, size)}`.
            state: from `start`, `step`, `predict` or `reset`.
            steps: for a graph without inputs, how long to run it.

        Returns:
            The state after the block, values and influence, and a `Prediction` with the `outputs`.

        Raises:
            DataError: if an array does not fit.
            NonFiniteError, MemoryBudgetError: as in `step`.

        >>> import forwardgrad as fg, numpy as np
        >>> program = fg.compile(fg.load("elman"), loss={"y": "mse"})
        >>> params, inputs = program.init(), {"x": np.ones((5, 2, 1))}
        >>> state, prediction = program.predict(params, inputs, state=program.start(2))
        >>> prediction.outputs["y"].shape
        (5, 2, 1)
        >>> error = prediction.outputs["y"] - 0.5   # half the derivative of its square
        >>> step = program.credit(prediction, signals={"y": 2 * error})
        >>> _, wanted = program.step(params, inputs, {"y": np.full((5, 2, 1), 0.5)}, state=program.start(2))
        >>> np.allclose(step.grads["h->h"], wanted.grads["h->h"])
        True
        """
        steps = None if steps is None else count("predict: steps", steps)
        prediction = self._execution.predict(params, self._execution.read_state(state), inputs, steps)
        return dict(prediction.block.after), prediction

    @budget.told("credit")
    def credit(
        self,
        prediction: Prediction,
        targets: Mapping[str, Any] | None = None,
        mask: Any = None,
        signals: Mapping[str, Any] | None = None,
    ) -> Step:
        """The gradient of a block that was predicted, of a loss or along learning signals from outside.

        It changes nothing, and may be asked several times of one prediction: once for each objective that needs a
        gradient of its own, such as policy, value and entropy. All of them meet the same influence. An output that is
        given neither a target nor a signal has no part in the objective.

        Args:
            prediction: from `predict`.
            targets: `{output node: ...}` as in `step`, of all outputs or of some.
            mask: as in `step`, for those outputs, and for signals on them.
            signals: `{output node: (time, batch, size)}`: the derivative of each sample's objective by the output, in
                place of the output's loss. As of losses, the mean over the batch is taken. Each node needs a loss,
                which may be `"signal"`; and for rules with `feedback="signal"`, it is one of their nodes.

        Returns:
            What `step` gives. `Step.loss` counts the product of signal and output where a signal is given.

        Raises:
            DataError: if an array does not fit, or nothing is given.
            NonFiniteError, MemoryBudgetError: as in `step`.
        """
        if not isinstance(prediction, Prediction):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(
                f"credit: needs what predict gave, got {type(prediction).__name__}.",
                "Write state, prediction = program.predict(...), and program.credit(prediction, ...).",
            )
        if prediction.owner is not self._execution:
            raise DataError("credit: the prediction is of another program.")
        return self._execution.credit(prediction, targets, mask, signals)

    def stream(
        self,
        params: Mapping[str, Any],
        *,
        batch: int | None = None,
        optimizer: Any = None,
        state: Mapping[str, Any] | None = None,
        optimizer_state: Mapping[str, Any] | None = None,
        draw: int | None = None,
        max_memory: int | str | None = None,
    ) -> Stream:
        """Learn or predict one time step per call, as data arrive.

        Args:
            params: `{name: array}`; they are copied.
            batch: number of samples; by default that of `state`, or 1.
            optimizer: as for a `Learner`; `None` leaves the parameters as they are.
            state: a state to go on from, such as that of a `Learner`; by default the start.
            optimizer_state: what the optimizer remembers, in the form of `optimizer.start(params)`.
            draw: for random layouts, the number of the signs, as in `start`. Each `reset` takes the next one.
            max_memory: as in `start`.

        Returns:
            A `Stream`. Its results are those of `step` with blocks of one step, each followed by an update.

        Raises:
            DataError: if an argument does not fit.
            MemoryBudgetError: as in `start`.

        >>> import forwardgrad as fg, numpy as np
        >>> program = fg.compile(fg.load("elman"), rule="rtrl")
        >>> stream = program.stream(program.init(), optimizer=fg.SGD(0.05))
        >>> x = np.sin(np.arange(501))
        >>> losses = [stream.step(x[t], x[t + 1]).loss for t in range(500)]   # one unit: a number is a sample
        >>> sum(losses[:50]) > 10 * sum(losses[-50:])
        True
        >>> stream.step(x[500]).outputs["y"].shape   # no target: nothing is learned
        (1, 1)
        """
        weights, known = read_params(self.plan.parameters, params, self.dtype), None
        if state is not None:
            state = self._execution.read_state(state)
            known = batch_of(state)
        samples = known or 1 if batch is None else count("stream: batch", batch)
        if known not in (None, samples):
            raise DataError(f"stream: the state is of batch {known}, and batch is {samples}.")
        number = read_draw("stream", draw)
        changing = None if optimizer is None else as_optimizer(optimizer, "stream")
        self.fits(samples, 1, max_memory, held=state, what="stream")
        return Stream(self._execution, weights, samples, changing, (state, optimizer_state, number), again=self.stream)

    def single_steps(self, batch: int, optimizer: Optimizer, clip: float | None) -> SingleSteps | None:
        """What a learner takes blocks of one step with, from arrays that are checked.

        Args:
            batch: number of samples.
            optimizer: changes the parameters.
            clip: largest joint norm of the gradients that it gets, or `None`.

        Returns:
            `None` where a block gives more than a step of a stream, or runs on many devices.
        """
        if self.devices is not None or self.plan.probed or self.plan.per_sample:
            return None
        return SingleSteps(self._execution, batch, optimizer, clip)

    def reset(self, state: Mapping[str, Any], where: Any) -> State:
        """The state with some samples started afresh: activations and influence.

        Random layouts go on counting what they have drawn, for these samples too.

        Args:
            state: a state; it is not changed.
            where: `(batch,)` truth values: the samples to start afresh.

        Raises:
            DataError: if a shape does not fit.
        """
        state = self._execution.read_state(state)
        batch = batch_of(state)
        if batch is None:
            return {}
        chosen = truths("reset: where", where, (batch,))
        self.fits(batch, 1, held=state, what="reset")
        return self._execution.reset(state, chosen)

    @budget.told("run")
    def run(
        self,
        params: Mapping[str, Any],
        inputs: Mapping[str, Any],
        *,
        state: Mapping[str, Any] | None = None,
        steps: int | None = None,
        batch: int | None = None,
    ) -> dict[str, Array]:
        """Run the declared graph forward only.

        Args:
            params: `{name: array}`.
            inputs: `{input node: (time, batch, size)}`.
            state: a state to go on from; by default the start.
            steps, batch: for a graph without inputs, how long to run it and with how many samples.

        Returns:
            `{node: (time, batch, size)}` for every node.

        Raises:
            DataError: if an array does not fit.
        """
        steps = None if steps is None else count("run: steps", steps)
        batch = None if batch is None else count("run: batch", batch)
        state = None if state is None else self._execution.read_state(state)
        return self._execution.run(params, inputs, state, steps, batch)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Program:
        graph = copy.deepcopy(self.graph, memo)
        return Program(graph, self.plan, self.losses, self.chosen, self.dtype, self.backend, self.devices)

    __copy__ = __deepcopy__

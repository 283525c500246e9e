"""How does a network learn from a stream? Blocks in, updates at block ends; everything can be saved and resumed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from forwardgrad.errors import DataError, FileError, NonFiniteError, NonFiniteWarning
from forwardgrad.layouts.draws import PERIOD
from forwardgrad.learning import checkpoint
from forwardgrad.learning.carried import Carried, Carrier
from forwardgrad.learning.checkpoint import Checkpoint
from forwardgrad.learning.optimizers import Optimizer, clip_by_norm
from forwardgrad.learning.transforms import as_optimizer
from forwardgrad.ops import Array, losses
from forwardgrad.program import Program, Step, numerics
from forwardgrad.program.blocks import Block
from forwardgrad.program.border import Target, read_params, read_targets
from forwardgrad.program.held import copied
from forwardgrad.program.single_steps import told

Progress = Callable[["Update"], Any]
"""Called after every update; `fit` ends where it returns `"stop"`."""

STOP = "stop"
"""What a callback returns to end learning: not `True`, which some functions return for reasons of their own."""

Policy = Literal["raise", "skip", "reset"]

POLICIES = ("raise", "skip", "reset")
"""What a learner may do with a block in which something is not finite."""


@dataclass(frozen=True)
class Update:
    """What one block of learning gave.

    Args:
        step: loss, gradients and outputs of the block, and their norms: before clipping and before the update. The
            gradients are sums over the block's steps. The optimiser gets these divided by `steps`, and `clip` limits
            the norm of what it gets.
        steps: length of the block.
        seen: steps of the stream so far, this block included.
        answers: how many answers it asks for, on average over samples and outputs: a weight of 1 in the mask is one,
            and without a mask every step is.
        skipped: why nothing was learned from the block, whose loss and norms are NaN then; or `None`.
    """

    step: Step
    steps: int
    seen: int
    answers: float
    skipped: NonFiniteError | None = None

    def without_arrays(self) -> Update:
        """The same without gradients and outputs."""
        step = Step(self.step.loss, {}, {}, self.step.state_norm, self.step.grad_norm)
        return Update(step, self.steps, self.seen, self.answers, self.skipped)

    @property
    def loss(self) -> float:
        """Mean loss per answer that the block asks for, which is one per step without a mask; NaN if it asks none."""
        return self.step.loss / self.answers if self.answers else math.nan


class Learner(Carrier):
    """A program with parameters, optimiser and state, learning online.

    An update takes the gradient of the block's mean loss per step, so that a learning rate means the same at every
    block length; steps that a mask leaves out count, too. A `TrialLearner` takes the mean over those that count, and
    updates at the ends of trials. Influence carried over an update mixes Jacobians of old and
    new weights, as in every forward rule.

    Args:
        program: the compiled program.
        params: `{name: array}`; they are copied.
        optimizer: `SGD`, `Adam` or an object like these; or a pair of functions `(init, update)`, as optax makes them.
        clip: largest joint norm of a block's gradients, or `None`.
        on_nonfinite: what to do with a block in which a value, an influence, a gradient or an updated parameter is not
            finite, or the norm of an influence explodes (its square overflows). `"raise"`: a `NonFiniteError`.
            `"skip"`: warn, learn nothing from the block, and go on from the state before it. `"reset"`: the same, and
            all samples start afresh, since what has exploded does not come back by itself.

    Whatever the policy, the learner is as the last good block left it.

    Random layouts (`uoro`, `kronecker`) draw other signs in every episode, numbered by `episodes`: how often all
    samples have started afresh. So noise averages out over episodes, and two learners that are built alike learn alike.

    Raises:
        DataError: if the parameters do not fit the program, the limit `clip` is not positive, or `on_nonfinite` is
            none of these words.

    >>> import forwardgrad as fg, networkx as nx, numpy as np
    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=1)
    >>> g.add_node("y", op="linear", size=1)
    >>> _ = g.add_edge("x", "y", weight="dense")
    >>> program = fg.compile(g, loss={"y": "mse"})
    >>> learner = Learner(program, program.init(), fg.SGD(0.3))
    >>> x = np.random.default_rng(0).normal(size=(200, 1, 1))
    >>> updates = learner.fit([({"x": x}, {"y": 2 * x})], block=4)
    >>> learner.params["x->y"].round(3), learner.seen
    (array([[2.]]), 200)
    """

    def __init__(
        self,
        program: Program,
        params: Mapping[str, Any],
        optimizer: Optimizer | tuple[Any, Any],
        *,
        clip: float | None = None,
        on_nonfinite: Policy = "raise",
    ) -> None:
        optimizer = as_optimizer(optimizer)
        if program.plan.per_sample:
            raise DataError("learner: the program's gradients are per sample.", "Compile it without per_sample=True.")
        if on_nonfinite not in POLICIES:
            raise DataError(f"learner: on_nonfinite must be {', '.join(POLICIES)}, got {on_nonfinite!r}.")
        self.program, self.optimizer, self.on_nonfinite = program, optimizer, on_nonfinite
        self.clip = None if clip is None else _limit(clip)
        weights = copied(read_params(program.plan.parameters, params, program.dtype))
        trained = {name: weights[name] for name in (*program.rules, *program.plan.followers)}
        super().__init__(Carried(weights, optimizer.start(trained), None, 0, 0))
        self._longest = 1  # steps of a block that memory was found for

    def fit(self, stream: Iterable[Any], *, block: int | None = None, progress: Progress | None = None) -> list[Update]:
        """Learn from a stream; call it again to go on from where it ended.

        Args:
            stream: pieces `(inputs, targets)` or `(inputs, targets, mask)`, arrays as in `Program.step`, all of one
                batch size. They may be made as they are asked for, without end in sight. Their arrays may be filled
                again once the next piece is asked for.
            block: steps per update; a longer piece is cut. `None`: a piece is a block.
            progress: called after every update; learning ends where it returns `"stop"`. For several functions see
                `learning.callbacks.together`.

        Returns:
            The losses and norms: an update without its arrays for every block, in order.

        Raises:
            DataError: if an array does not fit.
            MemoryBudgetError: if state and block would take more memory than is free, as in `Program.start`.
            NonFiniteError: if something is not finite, and `on_nonfinite` is `"raise"`.

        What the stream raises passes unchanged. In each of these cases the learner stays as the last good block left
        it.
        """
        return [update.without_arrays() for update in self.updates(stream, block=block, progress=progress)]

    def updates(
        self, stream: Iterable[Any], *, block: int | None = None, progress: Progress | None = None
    ) -> Iterator[Update]:
        """Like `fit`, one update at a time: for streams without end."""
        single = block in (None, 1)  # the last steps of a longer piece are taken as the blocks before them
        for piece in self.program.blocks(stream, block=block):
            try:
                update = self._learned(piece, single)
            except NonFiniteError as error:
                if self.on_nonfinite == "raise":
                    raise
                update = self._skipped(piece, error)
            ended = progress is not None and ends(progress(update))
            yield update
            if ended:
                return

    def _learned(self, piece: Block, single: bool) -> Update:
        update = self._stepped(piece) if single and piece.steps == 1 else None
        return self._in_block(piece) if update is None else update

    def _stepped(self, piece: Block) -> Update | None:
        """Learn from a block of one step as a stream does; `None` where that cannot be done."""
        with told("step"):
            ahead = self._ahead(piece.batch)
            if ahead is None:
                return None
            steps, weights = ahead.steps, piece.mask
            goals = {
                name: Target(piece.targets[name], weights.get(name), loss) for name, loss in self.program.losses.items()
            }
            loss = steps.learn(piece.inputs, goals, piece.signals)
            self._now = ahead  # now, and only now, if it was not yet
            outputs = {name: array[None] for name, array in steps.outputs().items()}
            step = Step(loss, dict(steps.grads()), outputs, *steps.norms())
        return Update(step, 1, steps.seen, self._answers(1, weights))

    def _in_block(self, piece: Block) -> Update:
        """Learn from a block of any length."""
        now, self._steps = self._carried(), None
        if now.state is None or piece.steps > self._longest:
            self.program.fits(piece.batch, piece.steps, held=now.state, what="learner")
        before = now.state
        if before is None:
            before = self.program.start(piece.batch, draw=now.episodes % PERIOD)
        last = now.seen + piece.steps - 1
        try:
            state, step = self.program.step(
                now.params, piece.inputs, piece.targets, piece.mask, piece.signals, state=before
            )
        except NonFiniteError as error:
            raise error.later(now.seen) from None
        grads = {name: g / piece.steps for name, g in step.grads.items()}
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused
            found = None if math.isfinite(step.state_norm) else numerics.exploded(state, last)
            if found is not None:
                raise found
            params, optimizer_state = self._updated(grads, step.grad_norm, last)
        # Nothing has failed: now, and only now, the learner moves on.
        episodes = now.episodes + (now.state is None)
        self._now = Carried(params, optimizer_state, state, now.seen + piece.steps, episodes)
        self._longest = max(self._longest, piece.steps)
        return Update(step, piece.steps, self.seen, self._answers(piece.steps, piece.mask))

    def _updated(self, grads: dict[str, Array], norm: float, last: int) -> tuple[dict[str, Array], dict[str, Array]]:
        """Parameters and optimizer state after an update by gradients; the learner stays as it is."""
        if self.clip is not None:
            grads = clip_by_norm(grads, self.clip)
        params, optimizer_state = self.optimizer.update(self.params, grads, self.optimizer_state)
        numerics.refuse_update("parameter", params, last)
        if not math.isfinite(norm):  # squares are what optimizers remember
            numerics.refuse_update("memory of the optimizer", optimizer_state, last)
        return params, optimizer_state

    def _skipped(self, piece: Block, error: NonFiniteError) -> Update:
        warnings.warn(NonFiniteWarning(f"nothing is learned from this block. {error}"), stacklevel=3)
        self.seen += piece.steps
        if self.on_nonfinite == "reset":
            self.state = None
        answers = self._answers(piece.steps, piece.mask)
        return Update(Step(math.nan, {}, {}, math.nan, math.nan), piece.steps, self.seen, answers, error)

    def _answers(self, steps: int, masks: Mapping[str, Array]) -> float:
        """How many answers masks ask for, on average over samples and outputs."""
        asked = [
            float(masks[name].sum()) / masks[name].shape[1] if name in masks else steps for name in self.program.losses
        ]
        return sum(asked) / len(asked)

    def predict(self, inputs: Mapping[str, Any], *, go_on: bool = False) -> dict[str, Array]:
        """The values of the outputs, weights frozen. The learner stays as it is.

        Args:
            inputs: `{input node: (time, batch, size)}`.
            go_on: whether to begin with the learner's own state, as the end of its stream left it, and not afresh.

        Returns:
            `{output node: (time, batch, size)}`.

        Raises:
            DataError: if an array does not fit.
        """
        values = self.program.run(self.params, inputs, state=self.state if go_on else None)
        return {name: values[name] for name in self.program.losses}

    def evaluate(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], mask: Any = None, *, go_on: bool = False
    ) -> float:
        """The mean loss per answer, weights frozen: that of an update, of a sequence. The learner stays as it is.

        Args:
            inputs, go_on: as in `predict`.
            targets, mask: as in `Program.step`.

        Raises:
            DataError: if an array does not fit.
        """
        program, outputs = self.program, self.predict(inputs, go_on=go_on)
        shape = next(iter(outputs.values())).shape[:2]
        goals = read_targets(program.network, program.losses, targets, mask, shape, program.dtype)
        loss = sum(
            losses.evaluate(program.losses[name], outputs[name], goal.values, goal.weight)[0]
            for name, goal in goals.items()
        )
        answers = self._answers(shape[0], {n: goal.weight for n, goal in goals.items() if goal.weight is not None})
        return loss / answers if answers else math.nan

    def reset(self, where: Any = None) -> None:
        """Start samples afresh, activations and influence: those where `where` `(batch,)` is true, or all.

        Random layouts then draw other signs.
        """
        if self.state is not None:
            self.state = None if where is None else self.program.reset(self.state, where)

    def save(
        self,
        path: Any,
        notes: Mapping[str, Any] | None = None,
        kept: Mapping[str, Mapping[str, Array]] | None = None,
    ) -> None:
        """Write parameters, optimiser, activations and influence to one file, whole or not at all.

        Args:
            path: where to.
            notes: what else the file shall hold, as plain data for JSON; `checkpoint.read(path).notes` gives it back.
            kept: groups of arrays that it shall hold, too, by name; `checkpoint.read(path).kept` gives them back.

        Raises:
            FileError: if it cannot be written. A path rule or loss of the user's own is stored by its name only: `load`
                then needs the program.
        """
        checkpoint.write(
            path,
            Checkpoint(
                program=checkpoint.describe(self.program),
                optimizer=self.optimizer.config(),
                clip=self.clip,
                on_nonfinite=self.on_nonfinite,
                seen=self.seen,
                episodes=self.episodes,
                params=self.params,
                optimizer_state=self.optimizer_state,
                state=self.state,
                notes=notes or {},
                kept=kept or {},
            ),
        )

    @classmethod
    def load(
        cls,
        path: Any,
        program: Program | None = None,
        *,
        optimizer: Any = None,
        devices: int | Mapping[str, int] | None = None,
    ) -> Learner:
        """Read a learner back; it goes on bit for bit as if it had never stopped.

        Args:
            path: a file written by `save`.
            program: the program it belongs to; needed where the program uses a path rule or a loss object that has no
                text. It is compiled from the file otherwise.
            optimizer: the optimiser it was saved with; needed where that is one of the user's own.
            devices: over how many devices it goes on under the backend `jax`, as for `compile`. By default it goes on
                under the backend it was saved with, on one device.

        Raises:
            FileError: if the file cannot be read, is no checkpoint, is damaged, or belongs to another program.
            DataError: if there are fewer devices, or a program is given too.
        """
        saved = checkpoint.read(path)
        program = checkpoint.match(path, saved.program, program, devices)
        own = None if optimizer is None else as_optimizer(optimizer)
        optimizer = checkpoint.optimizer(path, saved.optimizer, own)
        try:
            policy = cast(Policy, saved.on_nonfinite)
            learner = cls(program, saved.params, optimizer, clip=saved.clip, on_nonfinite=policy)
            fresh = None if saved.state is None else program.start(_batch(saved.state), draw=0)
        except DataError as error:
            raise FileError(f"checkpoint {str(path)!r}: {error}") from error
        checkpoint.check(path, "parameters", saved.params, learner.params)
        # An optimiser that took another's place in mid-run keeps what that one remembered.
        checkpoint.check(path, "optimizer", saved.optimizer_state, learner.optimizer_state, more=True)
        checkpoint.check(path, "state", saved.state or {}, fresh or {})
        learner.optimizer_state = dict(saved.optimizer_state)
        learner.state = None if saved.state is None else dict(saved.state)
        learner.seen, learner.episodes = saved.seen, saved.episodes
        return learner


def ends(answer: Any) -> bool:
    """Whether what a callback returned ends learning."""
    return isinstance(answer, str) and answer == STOP


def _limit(clip: Any) -> float:
    clip_by_norm({}, clip)  # it knows what is legal
    return float(clip)


def _batch(state: Mapping[str, Array]) -> int:
    return next((array.shape[1] for array in state.values() if array.ndim > 1), 1)

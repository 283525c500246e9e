"""`TrialLearner`: trials that start afresh, a loss that is a mean over what counts, and updates at their ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import numpy as np

from forwardgrad.errors import DataError, FileError, NonFiniteError, did_you_mean
from forwardgrad.layouts.draws import PERIOD
from forwardgrad.learning import checkpoint
from forwardgrad.learning.learner import Learner, Policy, Progress, Update, ends
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.learning.regularizers import MeanActivity, RunningMean, WeightNorm
from forwardgrad.ops import Array, losses
from forwardgrad.program import Program, State, Step, numerics
from forwardgrad.program.blocks import Block
from forwardgrad.program.border import read_targets
from forwardgrad.support.attributes import is_whole, show

NOTE = "trials"
"""Under which name a checkpoint notes the settings of a trial learner."""


@dataclass
class _Sums:
    """What the blocks of an update add up to."""

    loss: float = 0.0
    grads: dict[str, Array] = field(default_factory=dict[str, Array])
    outputs: list[dict[str, Array]] = field(default_factory=list[dict[str, Array]])
    state_norm: float = 0.0

    def add(self, step: Step) -> None:
        """A block more."""
        self.loss += step.loss
        self.grads = {name: g + self.grads[name] if self.grads else g for name, g in step.grads.items()}
        self.outputs.append(step.outputs)
        self.state_norm = step.state_norm

    def step(self, loss: float) -> Step:
        """All of them as one, of this loss."""
        outputs = {name: np.concatenate([each[name] for each in self.outputs]) for name in self.outputs[0]}
        arrays = list(self.grads.values())
        return Step(loss, self.grads, outputs, self.state_norm, numerics.norm(arrays, numerics.squares(arrays)))


class TrialLearner(Learner):
    """A learner of trials: each piece of a stream is one, begins from the start state, and ends with an update.

    The loss of a trial is, for each output, the mean over all steps of all samples at which a target counts, weighted
    by the mask: an answer that is asked for at the end weighs the same in a trial of any length. The losses of several
    outputs are added, and to them regularizers. With fixed weights the gradient of a trial does not depend on the
    length of its blocks, but for that of `means`:

    The mean activity of a node is that over the steps of the trial up to the end of each block. If the trial is one
    block, the gradient is that of the regularizer, along the paths of the rule. If there are several, the learning
    signal in block k is `strength (m_k - target) / (steps * batch)` with m_k the mean from the beginning of the trial
    to the end of block k, in place of the mean of the whole trial, which is not known yet.

    Args:
        program: the compiled program.
        params: `{name: array}`; they are copied.
        optimizer: as for a `Learner`.
        every: steps per update; `None`: one at the end of a trial. The gradients of the updates in a trial add up to
            the trial's gradient, where weights are fixed.
        means: regularizers of mean activity, by node, each with the loss `signal`; `regularizers.with_means` adds such.
            Nothing is given as targets of these nodes.
        norms: regularizers of weights.
        clip: largest joint norm of the gradient of an update, or `None`.
        on_nonfinite: as for a `Learner`; `"skip"` and `"reset"` both leave out the rest of the trial.

    An error or an interrupt leaves the learner as its last update left it. `state` is `None` at all times: the next
    trial starts afresh.

    Raises:
        DataError: if an argument does not fit.

    >>> import forwardgrad as fg, numpy as np
    >>> from forwardgrad.learning.regularizers import MeanActivity, with_means
    >>> graph, extra = with_means(fg.load("elman"), "h")
    >>> program = fg.compile(graph, {"y": "mse"} | extra, rule="eprop")
    >>> learner = TrialLearner(program, program.init(), fg.Adam(0.01), means={"h.mean": MeanActivity(0.1)})
    >>> x, late = np.random.default_rng(0).normal(size=(20, 8, 1)), np.arange(20) > 17
    >>> updates = learner.fit([({"x": x}, {"y": x}, late)] * 50, block=5)
    >>> len(updates), updates[-1].loss < updates[0].loss
    (50, True)
    """

    def __init__(
        self,
        program: Program,
        params: Mapping[str, Any],
        optimizer: Optimizer | tuple[Any, Any],
        *,
        every: int | None = None,
        means: Mapping[str, MeanActivity] | None = None,
        norms: Iterable[WeightNorm] = (),
        clip: float | None = None,
        on_nonfinite: Policy = "raise",
    ) -> None:
        super().__init__(program, params, optimizer, clip=clip, on_nonfinite=on_nonfinite)
        self._settle(every, dict(means or {}), tuple(norms))

    def _settle(self, every: int | None, means: dict[str, MeanActivity], norms: tuple[WeightNorm, ...]) -> None:
        if every is not None and (not is_whole(every) or every < 1):
            raise DataError(f"trials: every must be a whole number of steps >= 1, or None, got {show(every)}.")
        program = self.program
        for node in means:
            if node not in program.losses:
                raise DataError(
                    f"mean activity of {node!r}: no such node has a loss.",
                    did_you_mean(node, program.losses),
                    "regularizers.with_means(graph, node) adds a copy of a node, and its loss.",
                )
            if program.losses[node] != losses.SIGNAL:
                raise DataError(
                    f"mean activity of {node!r}: its loss is {program.losses[node].name}, and must be 'signal'."
                )
        self.every, self.means, self.norms = every, means, norms
        self._answered = {name: loss for name, loss in program.losses.items() if name not in means}
        if not self._answered:
            raise DataError("trials: all nodes with a loss are regularized; no output is left.")
        self._normed = [norm.names(program.rules) for norm in norms]

    def updates(
        self, stream: Iterable[Any], *, block: int | None = None, progress: Progress | None = None
    ) -> Iterator[Update]:
        """Like `fit`, one update at a time.

        Args:
            stream: trials `(inputs, targets)` or `(inputs, targets, mask)`, as in `Learner.fit`.
            block: steps run at once, which memory depends on, and no update; `None`: as many as an update has.
            progress: called after every update; learning ends where it returns `"stop"`.
        """
        if block is not None and (not is_whole(block) or block < 1):
            raise DataError(f"trials: block must be a whole number of steps >= 1, or None, got {show(block)}.")
        for trial in self.program.blocks(self._completed(stream), block=None):
            for update in self._trial(trial, block):
                ended = progress is not None and ends(progress(update))
                yield update
                if ended:
                    return

    def _completed(self, stream: Iterable[Any]) -> Iterable[Any]:
        """The stream, with targets of the regularized nodes, and masks by output."""
        if isinstance(stream, Mapping) or not isinstance(stream, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            return cast("Any", stream)  # refused, in the words for all streams
        return (self._complete(piece) for piece in stream)

    def _complete(self, piece: Any) -> Any:
        if not self.means or not isinstance(piece, tuple | list) or len(cast("list[Any]", piece)) < 2:
            return cast("Any", piece)
        inputs, targets, *rest = cast("list[Any]", piece)
        if rest and rest[0] is not None and not isinstance(rest[0], Mapping):
            rest[0] = dict.fromkeys(self._answered, rest[0])
        if isinstance(targets, Mapping) and isinstance(inputs, Mapping):
            shapes = [np.shape(array)[:2] for array in cast("Mapping[str, Any]", inputs or targets).values()]
            sizes = {node: self.program.network.nodes[node].size for node in self.means if node not in targets}
            empty = {node: np.broadcast_to(np.zeros(()), (*shapes[0], size)) for node, size in sizes.items() if shapes}
            targets = {**cast("Mapping[str, Any]", targets), **empty}
        return (inputs, targets, *rest)

    def _trial(self, trial: Block, block: int | None) -> Iterator[Update]:
        masks = {name: self._share(name, trial) for name in self.program.losses}
        whole = (trial.inputs, trial.targets, masks, trial.signals)
        every = self.every or trial.steps
        longest = min(every, trial.steps, block or trial.steps)
        if self.episodes == 0 or longest > self._longest:
            self.program.fits(trial.batch, longest, what="learner")
        means = {node: RunningMean(regularizer) for node, regularizer in self.means.items()}
        state: State = self.program.start(trial.batch, draw=self.episodes % PERIOD)
        for at in range(0, trial.steps, every):
            part = tuple({name: array[at : at + every] for name, array in group.items()} for group in whole)
            blocks = list(self.program.blocks([part], block=block))
            try:
                state, update = self._part(blocks, state, means, (at, trial.steps))
            except NonFiniteError as error:
                if self.on_nonfinite == "raise":
                    raise
                yield self._skipped(replace(trial, steps=trial.steps - at), error)
                return
            self._longest = max(self._longest, longest)
            yield update

    def _share(self, name: str, trial: Block) -> Array:
        """By how much each step of each sample counts in the loss of a node: `(time, batch)`, of sum `batch`."""
        weight = trial.mask.get(name)
        if weight is None:
            weight = np.ones((trial.steps, trial.batch), self.program.dtype)
        total = float(weight.sum(dtype=np.float64))
        strength = self.means[name].strength if name in self.means else 1.0
        return weight * (strength * trial.batch / total if total else 0.0)

    def _part(
        self, blocks: list[Block], state: State, means: dict[str, RunningMean], place: tuple[int, int]
    ) -> tuple[State, Update]:
        """Learn from the steps of an update, which begin at a place: a step of a trial of some length."""
        (at, total), sums, products = place, _Sums(), 0.0
        steps, done = sum(piece.steps for piece in blocks), 0
        for piece in blocks:
            length = None if piece.inputs else piece.steps
            try:
                state, found = self.program.predict(self.params, piece.inputs, state=state, steps=length)
                signals = {node: mean.signal(found.outputs[node], piece.mask[node]) for node, mean in means.items()}
                targets = {name: piece.targets[name] for name in self._answered}
                step = self.program.credit(found, targets, piece.mask, {**piece.signals, **signals})
            except NonFiniteError as error:
                raise error.later(self.seen + done) from None
            if not math.isfinite(step.state_norm):
                with np.errstate(over="ignore", invalid="ignore"):  # squares are what is looked at
                    exploded = numerics.exploded(state, self.seen + done)
                if exploded is not None:
                    raise exploded
            for node, signal in signals.items():
                counted = np.einsum("tbj,tbj,tb->", signal, found.outputs[node], piece.mask[node])
                products += float(counted) / piece.batch
            sums.add(step)
            done += piece.steps
        share = steps / total
        loss = sums.loss - products + share * sum(mean.loss * mean.regularizer.strength for mean in means.values())
        for norm, names in zip(self.norms, self._normed, strict=True):
            loss += share * norm.loss(self.params, names)
            for name in names:
                sums.grads[name] = sums.grads[name] + (share * norm.strength) * self.params[name]
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused
            step = sums.step(loss)
            params, optimizer_state = self._updated(step.grads, step.grad_norm, self.seen + steps - 1)
        now = self._carried()
        seen, episodes = now.seen + steps, now.episodes + (at == 0)
        self._now = now._replace(params=params, optimizer_state=optimizer_state, seen=seen, episodes=episodes)
        return state, Update(step, steps, self.seen, 1.0)

    def evaluate(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], mask: Any = None, *, go_on: bool = False
    ) -> float:
        """The loss of a trial without regularizers, weights frozen: for each output the mean over what counts.

        Args:
            inputs, targets, mask: as in `Learner.evaluate`.
            go_on: of no effect, since every trial starts afresh.

        Raises:
            DataError: if an array does not fit.
        """
        outputs = self.predict(inputs)
        shape = next(iter(outputs.values())).shape[:2]
        goals = read_targets(self.program.network, self._answered, targets, mask, shape, self.program.dtype)
        total = 0.0
        for name, goal in goals.items():
            asked = shape[0] if goal.weight is None else float(goal.weight.sum()) / shape[1]
            loss = losses.evaluate(self._answered[name], outputs[name], goal.values, goal.weight)[0]
            total += loss / asked if asked else math.nan
        return total

    def save(
        self,
        path: Any,
        notes: Mapping[str, Any] | None = None,
        kept: Mapping[str, Mapping[str, Array]] | None = None,
    ) -> None:
        """Write the learner to one file, as `Learner.save` does, with its regularizers."""
        settings = {
            "every": self.every,
            "means": {node: asdict(regularizer) for node, regularizer in self.means.items()},
            "norms": [asdict(norm) for norm in self.norms],
        }
        super().save(path, {**(notes or {}), NOTE: settings}, kept)

    @classmethod
    def load(
        cls,
        path: Any,
        program: Program | None = None,
        *,
        optimizer: Any = None,
        devices: int | Mapping[str, int] | None = None,
    ) -> TrialLearner:
        """Read a trial learner back; it goes on bit for bit as if it had never stopped.

        Args:
            path, program, optimizer, devices: as for `Learner.load`.

        Raises:
            FileError: as `Learner.load`, or if the file is one of another learner.
        """
        learner = cast(TrialLearner, super().load(path, program, optimizer=optimizer, devices=devices))
        try:
            noted: Any = checkpoint.read(path).notes[NOTE]
            means = {node: MeanActivity(**each) for node, each in noted["means"].items()}
            learner._settle(noted["every"], means, tuple(WeightNorm(**each) for each in noted["norms"]))
        except (KeyError, TypeError, AttributeError, DataError) as error:
            raise FileError(
                f"checkpoint {str(path)!r}: says nothing that can be read of trials: {error}.", "Use Learner.load."
            ) from error
        return learner

"""A training run: it learns block by block, can be saved between two of them, and is scored at its end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import forwardgrad
from forwardgrad.errors import DataError
from forwardgrad.learning.learner import Learner, Update
from forwardgrad.learning.optimizers import Adam
from forwardgrad.learning.trials import TrialLearner
from forwardgrad.program import Program, State
from forwardgrad.training.parts import Part, errors, score, scored
from forwardgrad.training.settings import Settings, ends
from forwardgrad.training.tasks import Task

FORMAT = 2
"""Version of what a saved learner says of the run that it is from."""


@dataclass(frozen=True)
class Trained:
    """What training gave.

    Args:
        learner: parameters, optimiser and state at the end, or after the best pass where there is a validation part.
        curve: per pass, the score of the predictions made while learning: NMSE or accuracy.
        validation: per pass, the score on the validation part; empty without one.
        train: score over the training part, weights frozen, from the start state.
        test: score over the test part, weights frozen; of a series going on from the trained state.
        prediction: of the test part, `(time, sequences, size)`.
        seconds: spent on training, over all parts of an interrupted run.
        identity: of the run, as `Run.identity` gives it.
    """

    learner: Learner
    curve: tuple[float, ...]
    validation: tuple[float, ...]
    train: float
    test: float
    prediction: Any
    seconds: float
    identity: Mapping[str, Any]


class Best(NamedTuple):
    """The best pass by the validation part, counted from 0, and what the learner was after it."""

    at: int
    params: Mapping[str, NDArray[Any]]
    state: State | None


class Place(NamedTuple):
    """Where in its data a run is: pass, batch of the pass, step of the batch; each counted from 0."""

    at: int
    batch: int
    step: int


class Run:
    """Online learning on the training part of a task, pass after pass.

    It may be saved between two blocks, and a run that was read back goes on bit for bit.

    Args:
        program: with one input and one output.
        task: what to predict.
        settings: how to train.

    Raises:
        GraphError: if the program has other inputs or outputs.
        DataError: if a single series is to be learned from in trials.
    """

    def __init__(self, program: Program, task: Task, settings: Settings) -> None:
        self.task, self.settings = task, settings
        self.source, self.output = ends(program, self.task)
        if settings.trials and task.sequences is None:
            raise DataError(f"data {task.name!r} is a single series, and trials are sequences that each start afresh.")
        trials: dict[str, Any] = {"every": settings.every} if settings.trials else {}
        self.learner: Learner = (TrialLearner if settings.trials else Learner)(
            program, program.init(settings.seed), Adam(settings.learning_rate), clip=settings.clip, **trials
        )
        self.curve: list[float] = []
        self.validation: list[float] = []
        self.best: Best | None = None
        self.squares = 0.0  # of the errors of the current pass, or its right labels
        self.seconds = 0.0  # spent on learning
        self._ends = np.cumsum([sum(steps for _, steps in self.batches(each)) for each in range(settings.passes)])

    @property
    def total(self) -> int:
        """Steps of all passes."""
        return int(self._ends[-1])

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to learn: all passes are done, or the validation score stopped to improve."""
        if self.learner.seen >= self.total:
            return True
        return self.best is not None and len(self.validation) - 1 - self.best.at >= self.settings.patience

    def batches(self, at: int) -> list[tuple[NDArray[np.intp], int]]:
        """The batches of a pass: which sequences, in an order drawn for each pass, and how many steps."""
        part, size = self.task.train, self.settings.batch
        order = np.random.default_rng([self.settings.seed, at]).permutation(len(part))
        parts = [order[first : first + size] for first in range(0, len(order), size)]
        return [(which, int(part.lengths[which].max())) for which in parts]

    def place(self, seen: int) -> Place | None:
        """Where a run is after this many steps; `None` where it cannot be between two blocks."""
        if seen >= self.total:
            return Place(len(self._ends), 0, 0) if seen == self.total else None
        at = int(np.searchsorted(self._ends, seen, side="right"))
        left = seen - (int(self._ends[at - 1]) if at else 0)
        for number, (_, steps) in enumerate(self.batches(at)):
            if left < steps:
                return None if left % self._whole(steps) else Place(at, number, left)
            left -= steps
        return None

    def _whole(self, steps: int) -> int:
        """After how many steps of a batch the run can be saved: those of a block, or of a trial."""
        return steps if self.settings.trials else self.settings.block

    def updates(self) -> Iterator[Update]:
        """Learn to the end from wherever the run is, one block at a time."""
        while not self.ended:
            place = self.place(self.learner.seen)
            assert place is not None
            if place.batch == place.step == 0:
                self.squares = 0.0
            batches = self.batches(place.at)
            for which, _ in batches[place.batch :]:
                yield from self._learned(self.task.train.of(which), place.step, which is batches[-1][0])
                place = place._replace(step=0)

    def _learned(self, part: Part, at: int, last: bool) -> Iterator[Update]:
        """Learn from some sequences side by side, from a step on; the last ones of a pass end it."""
        learner, block, steps = self.learner, self.settings.block, len(part.inputs)
        if at == 0:
            learner.reset()
        began = time.perf_counter()
        piece = ({self.source: part.inputs[at:]}, {self.output: part.targets[at:]})
        if part.weight is not None:
            piece = (*piece, part.weight[at:])
        updates = learner.updates([piece], block=block)
        for together in [list(updates)] if self.settings.trials else ([update] for update in updates):
            for update in together:
                now = slice(at, at + update.steps)
                weight = None if part.weight is None else part.weight[now]
                done = Part(part.inputs[now], part.targets[now], weight, part.lengths)
                self.squares += errors(update.step.outputs[self.output], done)
                at += update.steps
            if at == steps and last:
                self._end_pass()
            learner.optimizer = Adam(self.settings.rate(learner.seen, self.total))
            self.seconds += time.perf_counter() - began
            yield from together
            began = time.perf_counter()

    def _end_pass(self) -> None:
        """Note the score of a pass and, where there is a validation part, what the best pass made of the learner."""
        self.curve.append(scored(self.squares, self.task.train))
        if self.task.validation is None:
            return
        found = score(self.outputs(self.task.validation, go_on=True), self.task.validation)
        sign = 1 if self.task.metric == "accuracy" else -1
        self.validation.append(found)
        if self.best is None or sign * found > sign * self.validation[self.best.at]:
            self.best = Best(len(self.validation) - 1, dict(self.learner.params), _copy(self.learner.state))

    def outputs(self, part: Part, *, go_on: bool = False) -> NDArray[Any]:
        """Predictions of a part, weights frozen: `(time, sequences, size)`.

        Args:
            part: of the task.
            go_on: whether the part of a series goes on where the learner is.
        """
        if self.task.sequences is None:
            return self.learner.predict({self.source: part.inputs}, go_on=go_on)[self.output]
        found = np.zeros((*part.targets.shape[:2], self.task.recipe.size))
        for first in range(0, len(part), self.settings.batch):
            which = np.arange(first, min(first + self.settings.batch, len(part)))
            some = self.learner.predict({self.source: part.of(which).inputs})[self.output]
            found[: len(some), which] = some
        return found

    def identity(self) -> dict[str, Any]:
        """What the run depends on beside its program, as plain data: settings, a digest of the series, versions."""
        return {
            "format": FORMAT,
            "settings": {**asdict(self.settings), "train_samples": self.task.learned},
            "data": self.task.sha256,
            "recipe": self.task.recipe.plain(),
            "versions": {"forwardgrad": forwardgrad.__version__, "numpy": np.__version__},
        }

    def save(self, path: Path) -> None:
        """Write all that is needed to go on, to one file, whole or not at all.

        Raises:
            FileError: if it cannot be written.
        """
        position = {"curve": self.curve, "squares": self.squares, "seconds": self.seconds}
        position |= {"validation": self.validation, "best": None if self.best is None else self.best.at}
        kept = {} if self.best is None else {"params": self.best.params, "state": self.best.state}
        arrays = {name: group for name, group in kept.items() if group is not None}
        self.learner.save(path, {**self.identity(), **position}, arrays)

    def score(self) -> Trained:
        """Test with frozen weights: those of the best pass, where there is a validation part.

        Raises:
            DataError: if a prediction is not finite: training has diverged.
        """
        learner, task = self.learner, self.task
        if self.best is not None:
            learner.params, learner.state = dict(self.best.params), _copy(self.best.state)
        seen = self.outputs(task.train)
        if task.sequences is None and task.validation is not None:  # seen again, and not learned from
            prediction = self.outputs(task.test.after(task.validation), go_on=True)[len(task.validation.inputs) :]
        else:
            prediction = self.outputs(task.test, go_on=True)
        if not (np.isfinite(seen).all() and np.isfinite(prediction).all()):
            raise DataError("the predictions are not finite: training has diverged.", "Try a lower learning rate.")
        return Trained(
            learner,
            tuple(self.curve),
            tuple(self.validation),
            score(seen, task.train),
            score(prediction, task.test),
            prediction,
            self.seconds,
            self.identity(),
        )


def _copy(state: State | None) -> State | None:
    """The state of a learner; one of trials has none between them."""
    return None if state is None else dict(state)

"""A training run: it learns block by block, can be saved between two of them, and is scored at its end."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from forwardgrad import data
from forwardgrad.data import OneStep
from forwardgrad.errors import DataError
from forwardgrad.learning.learner import Learner, Update
from forwardgrad.learning.optimizers import Adam
from forwardgrad.program import Program
from forwardgrad.training.settings import Settings, ends

FORMAT = 1
"""Version of what a saved learner says of the run that it is from."""


@dataclass(frozen=True)
class Trained:
    """What training gave.

    Args:
        learner: parameters, optimiser and state at the end.
        curve: per pass, the NMSE of the predictions made while learning.
        train: NMSE over the training part, weights frozen, from the start state.
        test: NMSE over the test part, weights frozen, going on from the trained state.
        prediction: of the test part, `(time, 1, 1)`.
        seconds: spent on training, over all parts of an interrupted run.
        identity: of the run, as `Run.identity` gives it.
    """

    learner: Learner
    curve: tuple[float, ...]
    train: float
    test: float
    prediction: Any
    seconds: float
    identity: Mapping[str, Any]


class Run:
    """Online learning on the training part of a task, pass after pass.

    It may be saved between two blocks, and a run that was read back goes on bit for bit.

    Args:
        program: with a one-dimensional input and output.
        task: what to predict.
        settings: how to train.

    Raises:
        GraphError: if the program has other inputs or outputs.
    """

    def __init__(self, program: Program, task: OneStep, settings: Settings) -> None:
        self.source, self.output = ends(program)
        self.task, self.settings = task, settings
        self.learner = Learner(program, program.init(settings.seed), Adam(settings.learning_rate), clip=settings.clip)
        self.curve: list[float] = []
        self.squares = 0.0  # of the errors of the current pass
        self.seconds = 0.0  # spent on learning

    @property
    def length(self) -> int:
        """Steps of a pass."""
        return len(self.task.train_inputs)

    @property
    def total(self) -> int:
        """Steps of all passes."""
        return self.settings.passes * self.length

    def updates(self) -> Iterator[Update]:
        """Learn to the end from wherever the run is, one block at a time."""
        x, y = self.task.train_inputs, self.task.train_targets
        learner, block = self.learner, self.settings.block
        while learner.seen < self.total:
            at = learner.seen % self.length
            if at == 0:
                learner.reset()
                self.squares = 0.0
            began = time.perf_counter()
            for update in learner.updates([({self.source: x[at:]}, {self.output: y[at:]})], block=block):
                self.squares += float(np.sum((update.step.outputs[self.output] - y[at : at + update.steps]) ** 2))
                at += update.steps
                if at == self.length:
                    self.curve.append(self.squares / self.length / float(np.var(y)))
                left = 0.5 * (1 + np.cos(np.pi * update.seen / self.total))
                learner.optimizer = Adam(self.settings.learning_rate * max(left, 1e-3))
                self.seconds += time.perf_counter() - began
                yield update
                began = time.perf_counter()

    def identity(self) -> dict[str, Any]:
        """What the run depends on beside its program, as plain data: settings, a digest of the series, versions."""
        return {
            "format": FORMAT,
            "settings": {**asdict(self.settings), "train_samples": self.task.train},
            "data": digest(self.task),
            "versions": {"forwardgrad": version("forwardgrad"), "numpy": np.__version__},
        }

    def save(self, path: Path) -> None:
        """Write all that is needed to go on, to one file, whole or not at all.

        Raises:
            FileError: if it cannot be written.
        """
        position = {"curve": self.curve, "squares": self.squares, "seconds": self.seconds}
        self.learner.save(path, {**self.identity(), **position})

    def score(self) -> Trained:
        """Test with frozen weights.

        Raises:
            DataError: if a prediction is not finite: training has diverged.
        """
        learner, task = self.learner, self.task
        seen = learner.program.run(learner.params, {self.source: task.train_inputs})[self.output]
        prediction = learner.program.run(learner.params, {self.source: task.test_inputs}, learner.state)[self.output]
        if not (np.isfinite(seen).all() and np.isfinite(prediction).all()):
            raise DataError("the predictions are not finite: training has diverged.", "Try a lower learning rate.")
        return Trained(
            learner,
            tuple(self.curve),
            data.nmse(seen, task.train_targets),
            data.nmse(prediction, task.test_targets),
            prediction,
            self.seconds,
            self.identity(),
        )


def digest(task: OneStep) -> str:
    """The SHA-256 of the values of a task's series, as float64 in little-endian order."""
    return hashlib.sha256(np.ascontiguousarray(task.series.values, dtype="<f8").tobytes()).hexdigest()

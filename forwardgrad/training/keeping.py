"""Learning under watch: a run is saved every so often, and when a signal asks the process to end."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forwardgrad.errors import DataError, FileError
from forwardgrad.learning.learner import Update
from forwardgrad.program import Program
from forwardgrad.training.run import Run, Trained
from forwardgrad.training.settings import Settings
from forwardgrad.training.stopping import Signals, Stopped
from forwardgrad.training.tasks import Task

UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Every:
    """How often a run is saved: after a number of steps or of seconds, at the end of the block."""

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def read(cls, text: str) -> Every:
        """From a text: `5000` steps, `30s`, `10m`, `1.5h`.

        Raises:
            DataError: if it says something else.

        >>> Every.read("5000"), Every.read("10m")
        (Every(steps=5000, seconds=None), Every(steps=None, seconds=600.0))
        """
        found = re.fullmatch(r"([0-9]{1,9})|([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh])", text)
        steps = int(found[1]) if found and found[1] else None
        seconds = float(found[2]) * UNITS[found[3]] if found and found[2] else None
        if not (steps or seconds):
            raise DataError(
                f"cannot save a checkpoint every {text[:100]!r}.",
                "Give a number of steps, such as 5000, or a time in seconds, minutes or hours: 30s, 10m, 1.5h.",
            )
        return cls(steps, seconds)


class Keeper:
    """Saves a run to a file: every so often, at the end of learning, and when a signal asks the process to end.

    Args:
        path: where to.
        every: how often; `None`: not on the way.
        saved: how many steps of the run the file holds already, or `None` without a file.
        agreed: `agreed(ends, saves)` says of each whether any process of the run wants it; by default there is one.
    """

    def __init__(
        self,
        path: Path,
        every: Every | None = None,
        saved: int | None = None,
        agreed: Callable[[bool, bool], tuple[bool, ...]] = lambda *flags: flags,
    ) -> None:
        self.path, self.every, self.saved, self.agreed = path, every or Every(), saved, agreed
        self._when = time.monotonic()

    def learn(self, run: Run, progress: Callable[[Update], None]) -> None:
        """Let a run learn to its end, and save it between blocks.

        Raises:
            Stopped: after a signal, at the end of the block, when the run is saved; after a second one at once.
            FileError: if the run cannot be saved.
        """
        with Signals() as signals:
            for update in run.updates():
                ends, saves = self.agreed(signals.received is not None, self._due(run))
                if ends or saves:
                    self.save(run)
                    ends, _ = self.agreed(signals.received is not None, False)  # one may have come meanwhile
                if ends:
                    signals.check()
                    raise Stopped(signal.SIGTERM)  # another process was asked to
                progress(update)
            self.save(run)  # what comes next may fail, or be interrupted: that must not cost the learning

    def save(self, run: Run) -> None:
        """Write the file, whole or not at all.

        Raises:
            FileError: if it cannot be written; an older file stays.
        """
        seen = run.learner.seen
        if seen == self.saved:
            return
        try:
            run.save(self.path)
        except FileError as error:
            left = "nothing of it is saved" if self.saved is None else f"it stays saved up to step {self.saved:,}"
            raise FileError(str(error), f"The run was at step {seen:,}; {left}.") from error
        self.saved, self._when = seen, time.monotonic()

    def _due(self, run: Run) -> bool:
        steps, seconds = self.every.steps, self.every.seconds
        if steps is not None:
            return run.learner.seen // steps > (self.saved or 0) // steps
        return seconds is not None and time.monotonic() - self._when >= seconds


def train(
    program: Program,
    task: Task,
    settings: Settings,
    progress: Callable[[Update], None],
    *,
    run: Run | None = None,
    keeper: Keeper | None = None,
) -> Trained:
    """Train online on the training part of a task, then test with frozen weights.

    Args:
        program: with one input and one output.
        task: what to predict.
        settings: how to train.
        progress: called after every update.
        run: of this program, task and settings, to go on with; left out, a new one.
        keeper: saves the run now and then, and when a signal asks the process to end. Left out, nothing is saved, and
            signals do what they always do.

    Raises:
        GraphError: if the program has other inputs or outputs.
        DataError: if a gradient or a prediction is not finite: training has diverged.
        FileError: if the run cannot be saved.
        Stopped: if a signal came: the run is saved.
    """
    run = Run(program, task, settings) if run is None else run
    if keeper is not None:
        keeper.learn(run, progress)
    else:
        for update in run.updates():
            progress(update)
    return run.score()

"""Short runs that are stopped and resumed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import kill_loop
import pytest
from test_training import TRAIN, series

import forwardgrad as fg
from forwardgrad import data, training
from forwardgrad.training import Keeper, Settings, Task, Trained

ROOT = Path(__file__).parents[2]


posix = pytest.mark.skipif(sys.platform == "win32", reason="locks and signals of POSIX")


SETTINGS = Settings(passes=3, block=7, learning_rate=0.01)


def task(train: int = TRAIN, **changes: Any) -> Task:
    return Task.of(data.one_step(series(**changes), train=train))


def stop_after(updates: int, *signals: int) -> Any:
    """A progress that sends signals after so many updates."""
    left = [updates]

    def progress(update: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            for number in signals or (signal.SIGTERM,):
                signal.raise_signal(number)

    return progress


def nothing(update: Any) -> None:
    pass


def same(one: Trained, two: Trained) -> bool:
    scores = [(each.curve, each.train, each.test, each.identity) for each in (one, two)]
    return (
        scores[0] == scores[1]
        and kill_loop.digest(one.learner) == kill_loop.digest(two.learner)
        and one.learner.optimizer == two.learner.optimizer
        and one.prediction.tobytes() == two.prediction.tobytes()
    )


def resumed(place: Path, compiled: fg.Program, progress: Any = nothing, settings: Settings = SETTINGS) -> Trained:
    run = training.begin(place, compiled, task(), settings, resume=True)
    assert run is not None
    keeper = Keeper(place / "checkpoint.npz", saved=run.learner.seen)
    return training.train(compiled, task(), settings, progress, run=run, keeper=keeper)

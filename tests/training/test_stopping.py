"""Can a training run be stopped, killed, resumed, and kept apart from others, with nothing lost and nothing altered?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import interrupt_train
import kill_train
import pytest
from test_training import net, program

import forwardgrad as fg
from forwardgrad import training
from forwardgrad.errors import DataError
from forwardgrad.learning import checkpoint
from forwardgrad.training import Every, Keeper, Run, Settings, Signals, Stopped, Trained
from forwardgrad.training import run as run_module
from tests.training.runs import ROOT, SETTINGS, nothing, posix, resumed, same, stop_after, task

WATCHED = (signal.SIGINT, signal.SIGTERM)


# Going on.


KRONECKER = {"*->a": "kf-rtrl", "*": "rtrl"}


@pytest.mark.parametrize("rule", ["rtrl", "eprop-deep", "tbptt", "snap(1)", "uoro", KRONECKER, "eprop-random"], ids=str)
def test_a_resumed_run_is_the_uninterrupted_one(rule, tmp_path):
    """If it failed, parameters, curve or scores would depend on where a run was stopped."""
    compiled = fg.compile(net(), loss={"y": "mse"}, rule=rule, dtype="float32", dead="ignore")
    whole = training.train(compiled, task(), SETTINGS, nothing)
    keeper = Keeper(tmp_path / "checkpoint.npz")
    with pytest.raises(Stopped):
        training.train(compiled, task(), SETTINGS, stop_after(1), keeper=keeper)
    for updates in (1, 6, 1, 2, 9):  # 9 blocks a pass, the last one shorter: within a pass, and at its very end
        with pytest.raises(Stopped) as caught:
            resumed(tmp_path, compiled, stop_after(updates))
        assert caught.value.signal == signal.SIGTERM
    assert same(resumed(tmp_path, compiled), whole)
    assert same(resumed(tmp_path, compiled), whole)  # learned to the end, and killed before its results were there


def test_seconds_are_those_of_all_parts(tmp_path, monkeypatch):
    """If it failed, a run that was stopped late would report a training of seconds."""
    clock = iter(range(10**6))
    monkeypatch.setattr(run_module.time, "perf_counter", lambda: next(clock))
    with pytest.raises(Stopped):
        training.train(program(), task(), SETTINGS, stop_after(5), keeper=Keeper(tmp_path / "checkpoint.npz"))
    assert resumed(tmp_path, program()).seconds == 27  # a second for each of 3 times 9 blocks


def test_a_checkpoint_is_written_as_often_as_asked(tmp_path, monkeypatch):
    """If it failed, a machine that goes down would cost more than the user has agreed to."""
    seen: list[int] = []
    save = Run.save

    def noted(self: Run, path: Path) -> None:
        seen.append(self.learner.seen)
        save(self, path)

    monkeypatch.setattr(Run, "save", noted)
    path = tmp_path / "checkpoint.npz"
    training.train(program(), task(), Settings(passes=2, block=7), nothing, keeper=Keeper(path, Every(steps=20)))
    assert seen == [21, 42, 66, 80, 101, 118]  # at the end of the block, and at the end of learning
    seen.clear()
    training.train(program(), task(), Settings(passes=1, block=7), nothing, keeper=Keeper(path))
    assert seen == [59]
    seen.clear()
    clock = iter(range(10**6))
    monkeypatch.setattr(training.keeping.time, "monotonic", lambda: next(clock))
    training.train(program(), task(), Settings(passes=1, block=7), nothing, keeper=Keeper(path, Every(seconds=3)))
    assert seen == [21, 42, 59]  # a second for every look at the clock, and one for every save


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("1", Every(1)),
        ("5000", Every(5000)),
        ("30s", Every(None, 30)),
        ("10m", Every(None, 600)),
        ("1.5h", Every(None, 5400)),
    ],
)
def test_how_often_can_be_said(text, every):
    """If it failed, minutes would be read as steps."""
    assert Every.read(text) == every


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "1.5", "10 m", "10min", "m", "1e3", "nan", "٣", "9" * 99])
def test_how_often_is_refused_in_words(text):
    """If it failed, a slip would end in a traceback, or in no checkpoint at all."""
    with pytest.raises(DataError, match=r"cannot save a checkpoint every") as caught:
        Every.read(text)
    assert "30s, 10m, 1.5h" in str(caught.value)


# Signals.


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", 0)])
def test_a_signal_ends_the_block_and_saves(number, tmp_path):
    """If it failed, Ctrl-C would cost the run, leave it within a block, or change what a program does on Ctrl-C."""
    before = {each: signal.getsignal(each) for each in WATCHED}
    path = tmp_path / "checkpoint.npz"
    with pytest.raises(Stopped) as caught:
        training.train(program(), task(), SETTINGS, stop_after(4, number), keeper=Keeper(path))
    assert caught.value.signal == number
    assert checkpoint.read(path).seen == 35  # the block that was running is the last one
    assert {each: signal.getsignal(each) for each in WATCHED} == before


@posix
def test_a_second_signal_ends_at_once(tmp_path):
    """If it failed, a user could not get out of a block that takes an hour."""
    path, reached = tmp_path / "checkpoint.npz", []
    before = {each: signal.getsignal(each) for each in WATCHED}

    def progress(update: Any) -> None:
        stop_after(1, signal.SIGINT, signal.SIGTERM)(update)
        reached.append(update)

    with pytest.raises(Stopped) as caught:
        training.train(program(), task(), SETTINGS, progress, keeper=Keeper(path))
    assert (caught.value.signal, reached, path.exists()) == (signal.SIGTERM, [], False)
    assert {each: signal.getsignal(each) for each in WATCHED} == before


@posix
def test_handlers_come_back_after_an_error(tmp_path):
    """If it failed, a diverged run would leave a program that no longer ends on Ctrl-C."""
    before = {each: signal.getsignal(each) for each in WATCHED}
    with pytest.raises(ZeroDivisionError):
        training.train(program(), task(), SETTINGS, lambda update: 1 // 0, keeper=Keeper(tmp_path / "checkpoint.npz"))
    assert {each: signal.getsignal(each) for each in WATCHED} == before


@posix
def test_what_is_ignored_or_handled_by_the_caller_stays_so():
    """If it failed, a run under nohup would end with its terminal, or a program's own handler would be silenced."""
    heard: list[int] = []
    before = [signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGTERM, lambda *_: heard.append(1))]
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
            signals.check()
        assert heard == [1]
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGTERM, before[1])


@posix
def test_another_thread_trains_and_changes_no_handler(tmp_path):
    """If it failed, training in a thread would raise, since only the main thread may set handlers."""
    before, trained = signal.getsignal(signal.SIGINT), list[Trained]()

    def work() -> None:
        keeper = Keeper(tmp_path / "checkpoint.npz")
        trained.append(training.train(program(), task(), SETTINGS, watch, keeper=keeper))

    def watch(update: Any) -> None:
        assert signal.getsignal(signal.SIGINT) == before

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert same(trained[0], training.train(program(), task(), SETTINGS, nothing))


# Kills and interrupts at random moments, in processes of their own.


def script(module: Any, place: Path, times: int) -> dict[str, Any]:
    command = [sys.executable, module.__file__, str(place), str(times)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def unharmed(found: dict[str, Any], *what: str) -> bool:
    return all(found[each] == 0 for each in what) and found["finished"] > 0


@posix
@pytest.mark.parametrize("kills", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_kills(kills, tmp_path):
    """If it failed, a machine that goes down would cost a run or its checkpoint, change its end, or mix two runs."""
    assert unharmed(script(kill_train, tmp_path, kills), "lost", "altered")


@posix
@pytest.mark.parametrize("interrupts", [30, pytest.param(2000, marks=pytest.mark.slow)])
def test_interrupts(interrupts, tmp_path):
    """If it failed, there would be a moment at which Ctrl-C leaves half a result, a lock, or a handler of ours."""
    found = script(interrupt_train, tmp_path, interrupts)
    assert unharmed(found, "wrong code", "handlers", "left", "lost", "altered"), found

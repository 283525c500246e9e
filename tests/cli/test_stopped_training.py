"""`forwardgrad train`, stopped and resumed: is nothing lost, and are runs kept apart?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli.running import JOB, answer, files, no_reader, read_terminal, results, stopping

from forwardgrad import Program, training
from forwardgrad.cli import train


@no_reader
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_train_stops_and_goes_on(number, code, place, run, monkeypatch):
    """If it failed, Ctrl-C or a batch system would cost the run, or the line that helps would not be a command."""
    (place / "a b").mkdir()
    os.rename("small.toml", "a b/it's.toml")
    job = (
        "train",
        "a b/it's.toml",
        *JOB[:-1],
        "out $1",
        "--rule",
        "eprop",
        "--loss",
        "y=mse",
        "--learning-rate",
        "1e-2",
    )
    assert run(*job[:-6], *job[-6:-4], "--loss", "y=mse", *job[-2:], "--out", "whole")[0] == 0
    with monkeypatch.context() as patch:
        stopping(patch, number)
        found, out, [line] = run(*job)
    assert (found, out) == (code, [])
    assert line.startswith(f"stopped by {signal.Signals(number).name}; saved at step 48; to go on: ")
    assert files(place / "out $1") == ["checkpoint.npz"]
    command = line.partition("to go on: ")[2]
    assert "--resume" in command
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("test NMSE: ")
    assert results(place / "out $1") == results(place / "whole")


@no_reader
def test_train_stopped_answers_programs(place, run, monkeypatch):
    """If it failed, a program could not tell a stopped run from a finished one, nor go on with it."""
    with monkeypatch.context() as patch:
        stopping(patch, signal.SIGTERM)
        code, out, err = run("train", "small.toml", *JOB, "--json")
    stopped = answer(out)["stopped"]
    assert (code, len(err)) == (143, 1)
    assert (stopped["signal"], stopped["step"]) == ("SIGTERM", 48)
    assert Path(stopped["checkpoint"]) == Path("out/checkpoint.npz")
    assert stopped["resume"] in err[0]
    code, out, err = run("train", "small.toml", *JOB, "--json", "--resume")
    assert (code, err, answer(out)["stopped"]) == (0, [], None)
    again, known, err = run("train", "small.toml", *JOB, "--json", "--resume")
    assert (again, answer(known)) == (0, answer(out))
    assert err == ["finished already: 'out' holds the results."]


@no_reader
def test_train_ends_at_once_on_a_second_signal(place, run, monkeypatch):
    """If it failed, a user could not get out, or would be told to go on from a step that was not saved."""
    stopping(monkeypatch, signal.SIGINT, signal.SIGINT)
    code, out, err = run("train", "small.toml", *JOB)
    assert (code, out, err) == (130, [], ["stopped by SIGINT; nothing is saved."])
    assert files(place / "out") == []
    code, out, err = run("train", "small.toml", *JOB, "--checkpoint-every", 1)
    assert (code, out) == (130, [])
    assert err[0].startswith("stopped by SIGINT; saved at step 32; to go on: ")
    assert "--checkpoint-every 1" in err[0]


@no_reader
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_the_report_costs_no_learning(number, place, run, monkeypatch):
    """If it failed, an interrupt a second before the end would cost an hour, or leave half of the results."""
    assert run("train", "small.toml", *JOB[:-1], "whole")[0] == 0
    true = training.results.render.graph

    def graph(*given: Any, **options: Any) -> Any:
        signal.raise_signal(number)
        return true(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(training.results.render, "graph", graph)
        code, out, err = run("train", "small.toml", *JOB)
    assert (code, out) == (128 + number, [])
    assert "saved at step 79; to go on: " in err[-1]
    assert files(place / "out") == ["checkpoint.npz"]
    monkeypatch.setattr(Program, "step", lambda *_: pytest.fail("learned again"))
    assert run("train", "small.toml", *JOB, "--resume")[0] == 0
    assert results(place / "out") == results(place / "whole")


@no_reader
def test_the_bar_begins_where_the_run_is(place, run, monkeypatch):
    """If it failed, the bar of a resumed run would begin at nothing and never reach its end."""
    bars: list[Any] = []

    class Bar(train.tqdm):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            bars.append((options["initial"], options["total"], self))

        def update(self, n: float | None = 1) -> bool | None:
            self.counted = getattr(self, "counted", 0) + (n or 0)
            return super().update(n)

    with monkeypatch.context() as patch:
        stopping(patch, signal.SIGTERM, after=7)
        assert run("train", "small.toml", *JOB, "--passes", 2)[0] == 143
    monkeypatch.setattr(train, "tqdm", Bar)
    assert run("train", "small.toml", *JOB, "--passes", 2, "--resume")[0] == 0
    [(initial, total, bar)] = bars
    assert (initial, total, initial + bar.counted) == (79 + 32, 158, 158)


@no_reader
def test_train_refuses_to_mix_runs(place, run, monkeypatch):
    """If it failed, a run would be resumed with other data or settings, or lost to one that starts again."""
    none = run("train", "small.toml", *JOB, "--resume")
    assert none[0] == 2
    assert none[2][0] == "error: nothing to resume: there is no folder 'out'."
    assert not (place / "out").exists()
    (place / "out").mkdir()
    assert "holds no checkpoint" in run("train", "small.toml", *JOB, "--resume")[2][0]
    with monkeypatch.context() as patch:
        stopping(patch, signal.SIGTERM)
        assert run("train", "small.toml", *JOB)[0] == 143
    kept = (place / "out" / "checkpoint.npz").read_bytes()
    wave, small = (place / "wave.csv").read_text(), (place / "small.toml").read_text()
    for name, text, what in (
        ("wave.csv", "0.25\n" + wave, "data"),
        ("small.toml", small.replace("size = 3", "size = 4"), "graph"),
    ):
        (place / name).write_text(text)
        code, _, err = run("train", "small.toml", *JOB, "--resume")
        assert code == 2
        assert err[0].endswith(f"what differs: {what}.")
        (place / "wave.csv").write_text(wave)
        (place / "small.toml").write_text(small)
    code, _, err = run("train", "small.toml", *JOB, "--resume", "--block", 8)
    assert (code, err[1]) == (2, "  block: 16 there, 8 given.")
    code, _, err = run("train", "small.toml", *JOB)
    assert (code, err[0]) == (2, "error: folder 'out' holds an interrupted run, at step 48.")
    assert files(place / "out") == ["checkpoint.npz"]
    assert (place / "out" / "checkpoint.npz").read_bytes() == kept
    assert run("train", "small.toml", *JOB, "--restart", "--block", 8)[0] == 0
    assert "checkpoint.npz" not in files(place / "out")


@no_reader
def test_a_terminal_that_goes_away(place):
    """If it failed, a lost connection would cost the run."""
    import pty
    import termios

    here, there = pty.openpty()
    termios.tcsetwinsize(there, (24, 90))
    command = [sys.executable, "-m", "forwardgrad", "train", "small.toml", *map(str, JOB), "--passes", "100000"]
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there, start_new_session=True) as process:
        os.close(there)
        said = b""
        while b" of 100000" not in said and process.poll() is None:
            said += read_terminal(here)
        os.close(here)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert files(place / "out") == ["checkpoint.npz"]


def test_checkpoint_every_says_what_it_takes(place, run):
    """If it failed, `10min` would be an error without an example."""
    code, _, err = run("train", "small.toml", *JOB, "--checkpoint-every", "10min")
    assert (code, err[0]) == (2, "error: cannot save a checkpoint every '10min'.")
    assert "30s, 10m, 1.5h" in err[1]
    assert not (place / "out").exists()

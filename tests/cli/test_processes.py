"""Several processes that train together: is it the same run, and does the end of one end all, with nothing lost?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.running import JOB, no_reader, python

from forwardgrad import ProcessError
from forwardgrad.cli import launching
from forwardgrad.learning import checkpoint

QUICK = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
"""What is run once need not be fast."""


def children(pid: int) -> list[int]:
    """The processes that a process has started, in order."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def started(*words: Any) -> Iterator[subprocess.Popen[str]]:
    """A command that is still running."""
    command = [sys.executable, "-m", "forwardgrad", *map(str, words)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **QUICK}
    ) as running:
        try:
            yield running
        finally:
            running.terminate()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds a process in /proc")
def test_a_killed_process_ends_the_run_and_its_checkpoint_goes_on_anywhere(place: Path) -> None:
    """A run of two processes, one of them killed; then one of NumPy goes on, and ends where one alone would."""
    pytest.importorskip("jax")
    job = ["train", "small.toml", *JOB[:4], "--passes", 60, "--rule", "rtrl", "--block", 20]
    assert python(*job, "--out", "whole").returncode == 0
    together = [*job, "--out", "out", "--backend", "jax", "--processes", 2, "--devices", "influence=2"]
    path = place / "out" / "checkpoint.npz"
    with started(*together, "--checkpoint-every", 20) as running:
        deadline = time.monotonic() + 120
        while not path.exists():
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        _, second = children(running.pid)
        os.kill(second, signal.SIGKILL)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 2, err
    assert "error: process 1 of 2 was ended by SIGKILL; the others were stopped." in err
    seen = checkpoint.read(path).seen
    assert seen > 0
    assert not list((place / "out").glob(".*.tmp"))
    done = python(*job, "--out", "out", "--resume")
    assert done.returncode == 0, done.stderr
    found, wanted = (json.loads((place / name / "report.json").read_text()) for name in ("out", "whole"))
    assert np.allclose(found["curve"], wanted["curve"], rtol=1e-9, atol=0)
    assert found["nmse"]["test"] == pytest.approx(wanted["nmse"]["test"], rel=1e-9)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--processes", 2), "the backend 'numpy' runs in one"),
        (("--processes", 2, "--backend", "jax", "--devices", 3), "3 devices are not a multiple of 2 processes"),
        (("--process", 0), "are given together"),
        (("--processes", 2, "--process", 0), "are given together"),
        (("--coordinator", "localhost:1"), "are given together"),
        (("--processes", 2, "--process", 2, "--coordinator", "localhost:1", "--backend", "jax"), "2 is none of 2"),
        (("--processes", 2, "--process", 1, "--coordinator", "here", "--backend", "jax"), "expected HOST:PORT"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(place: Path, run: Any, words: Sequence[Any], said: str) -> None:
    """Each process would wait for others that never come."""
    if "jax" in words:
        pytest.importorskip("jax")
    code, _, err = run("train", "small.toml", *JOB, *words)
    assert code == 2
    assert said in "\n".join(err)


@no_reader
def test_a_process_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run would hang, or end with the words of a library about a connection."""
    fake = "import os, sys, time; i = sys.argv[-1]; print('it is broken', file=sys.stderr); sys.exit(3 * int(i))"
    true = subprocess.Popen

    def process(command: Sequence[str], **options: Any) -> Any:
        return true([sys.executable, "-c", fake, command[-1]], **options)

    monkeypatch.setattr(launching.subprocess, "Popen", process)
    with pytest.raises(ProcessError, match=r"process 1 of 2 failed with exit code 3(.|\n)*it is broken"):
        launching.launch(["train"], 2)

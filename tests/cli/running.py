"""What tests of commands share: a small graph, the arguments of a short job, and how commands are run and stopped."""

from __future__ import annotations

import builtins
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forwardgrad import Program
from forwardgrad.render import engines

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason='curves need pip install "forwardgrad[plot]"'
)


needs_engine = pytest.mark.skipif(not engines.available(), reason="no engine that lays out pictures is installed")


no_reader = pytest.mark.skipif(sys.platform == "win32", reason="terminals and pipes of POSIX")


SMALL = """
[graph]
format = 1
title = "A small leaky layer"
loss = { y = "mse" }
[nodes.x]
op = "input"
size = 1
[nodes.h]
op = "tanh"
size = 3
bias = true
[nodes.y]
op = "linear"
size = 1
[[edges]]
from = "x"
to = "h"
weight = "dense"
[[edges]]
from = "h"
to = "h"
weight = "dense"
delay = 1
[[edges]]
from = "h"
to = "y"
weight = "dense"
"""


JOB = ("--data", "wave.csv", "--train-samples", 80, "--passes", 1, "--out", "out")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def answer(lines: list[str]) -> Any:
    """The JSON that stdout holds, and nothing else; NaN is no JSON."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    return json.loads("\n".join(lines), parse_constant=refuse)


def forget(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Let these packages seem not to be installed."""
    true = builtins.__import__

    def importer(name: str, *rest: Any) -> Any:
        if name.split(".")[0] in modules:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return true(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importer)
    for name in [name for name in sys.modules if name.split(".")[0] in modules]:
        monkeypatch.delitem(sys.modules, name)
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


def results(place: Path) -> dict[str, Any]:
    """What a run left, without the time it took."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in place.iterdir()}
    return found | {"report.json": json.loads(found["report.json"]) | {"seconds": 0}}


def stopping(monkeypatch: pytest.MonkeyPatch, *numbers: int, after: int = 3) -> None:
    """Let a signal come in the middle of a block, each time that so many were learned from."""
    true, left = Program.step, [after]

    def step(self: Program, *given: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            left[0] = after
            for number in numbers:
                signal.raise_signal(number)
        return true(self, *given, **more)

    monkeypatch.setattr(Program, "step", step)


def python(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forwardgrad", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


def read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that the other end is closed
        return b""

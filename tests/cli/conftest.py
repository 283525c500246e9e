"""A folder to work in, and a command that is run there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.running import SMALL

from forwardgrad import cli
from forwardgrad.cli import terminal


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a series `wave.csv` of 120 samples and a graph `small.toml`."""
    monkeypatch.chdir(tmp_path)
    wave = np.sin(0.4 * np.arange(120)) + 0.1 * np.random.default_rng(0).normal(size=120)
    (tmp_path / "wave.csv").write_text("\n".join(map(str, wave)))
    (tmp_path / "small.toml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`run(*arguments)` gives exit code, lines of stdout and lines of stderr."""
    monkeypatch.setenv(terminal.TRACEBACK, "1")  # an error that nobody foresaw is not to be one line

    def command(*arguments: Any) -> tuple[int, list[str], list[str]]:
        capsys.readouterr()
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return command

"""What do all tests share? Hypothesis profiles, and texts to compare with (`--update-golden` writes them anew)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks import checked_lower, unwritten
from cli.running import SMALL
from hypothesis import settings

from forwardgrad import cli
from forwardgrad.backends import lowered
from forwardgrad.cli import terminal
from forwardgrad.layouts import table
from forwardgrad.ops import losses, registry
from forwardgrad.support import reuse

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as `nohup` starts it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

os.environ.setdefault("FORWARDGRAD_CFLAGS", "-O1")  # what the backend `c` runs once need not be fast

GOLDEN = Path(__file__).parent / "golden"

settings.register_profile("dev", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=2000)
if settings.get_current_profile_name() == "default":  # under CI, Hypothesis has chosen its own by now
    settings.load_profile("dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the texts in tests/golden/ anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(text, name)` compares a text with the file `tests/golden/name`."""
    update: bool = request.config.getoption("--update-golden")

    def check(text: str, name: str) -> None:
        path = GOLDEN / name
        if update:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            return
        if not path.exists():
            pytest.fail(f"tests/golden/{name} is missing; write it with: pytest {request.node.nodeid} --update-golden")
        expected = path.read_text(encoding="utf-8")
        assert text == expected, f"differs from tests/golden/{name}; if that is wanted, run pytest --update-golden"

    return check


@pytest.fixture
def tables_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers, other tests do not find."""
    for module in (registry, losses, table):
        monkeypatch.setattr(module, "_table", dict(module._table))  # pyright: ignore[reportPrivateUsage]


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


@pytest.fixture(autouse=True, scope="session")
def _every_array_program_is_well_formed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowered, "lower", checked_lower)
        yield


@pytest.fixture(autouse=True, scope="session")
def _nothing_is_read_before_it_is_written() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reuse, "empty", unwritten)
        yield

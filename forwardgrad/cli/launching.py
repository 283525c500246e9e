"""A command that several processes of one machine run together: they are started, watched, and ended together."""

from __future__ import annotations

import math
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from forwardgrad.errors import ProcessError

GRACE = 5.0
"""Seconds in which the others may end by themselves once one process has ended."""

KILLED = -9
"""What SIGKILL leaves as an exit code; Windows has no such signal."""

FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP")


def launch(words: Sequence[str], count: int) -> int:
    """Run a command in several processes.

    Args:
        words: of the command, without those that say which process it is.
        count: how many processes.

    Returns:
        The exit code of the first one, which alone writes to the terminal.

    Raises:
        ProcessError: if another one ended before its time, in whatever way.
    """
    place = f"127.0.0.1:{_free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / str(index) for index in range(count)]
        running: list[subprocess.Popen[Any]] = []
        with _Forwarding(running) as forwarding:
            try:
                for index, log in enumerate(logs):
                    command = [sys.executable, "-m", "forwardgrad", *words]
                    command += ["--coordinator", place, "--process", str(index)]
                    with open(log, "wb") as file:
                        out: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": file} if index else {}
                        running.append(subprocess.Popen(command, start_new_session=True, **out))
                return _watched(running, logs, forwarding)
            finally:
                for process in running:
                    with suppress(ProcessLookupError):
                        process.kill()
                    process.wait()


class _Forwarding:
    """Within the block, each signal that asks this process to end is sent on to the others, once."""

    def __init__(self, running: Sequence[subprocess.Popen[Any]]) -> None:
        self.running, self.received = running, False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Forwarding:
        for name in FORWARDED:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received = True
        for process in self.running:
            with suppress(ProcessLookupError):
                process.send_signal(number)


def _watched(running: Sequence[subprocess.Popen[Any]], logs: Sequence[Path], forwarding: _Forwarding) -> int:
    """Wait until all have ended, or until the others have had time to end after the first that did."""
    failed: int | None = None
    deadline = math.inf
    while time.monotonic() < deadline:
        codes = [process.poll() for process in running]
        if None not in codes:
            break
        if deadline == math.inf and any(code is not None for code in codes):
            failed = _culprit(codes)
            deadline = time.monotonic() + GRACE
        time.sleep(0.05)
    codes = [process.poll() for process in running]
    killed = next((index for index, code in enumerate(codes) if code == KILLED), None)
    failed = killed if killed is not None else _culprit(codes) if failed is None else failed
    code = codes[0]
    if forwarding.received or failed is None or (failed == 0 and code is not None and code > 0):
        return 1 if code is None else 128 - code if code < 0 else code
    raise ProcessError(
        f"process {failed} of {len(running)} {_end(codes[failed])}; the others were stopped.", *_said(logs[failed])
    )


def _culprit(codes: Sequence[int | None]) -> int | None:
    """Which process did not end well; sooner one that a signal ended than one that says so itself."""
    bad = [index for index, code in enumerate(codes) if code]
    return min(bad, key=lambda index: (codes[index] or 0) > 0, default=None)


def _end(code: int | None) -> str:
    assert code is not None
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"


def _said(log: Path) -> list[str]:
    """The last lines that a process has written."""
    return log.read_text(errors="replace").strip().splitlines()[-5:]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]

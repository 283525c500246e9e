"""Signals that ask a process to end (SIGINT, SIGTERM, SIGHUP): noted, and raised as `Stopped` at a safe place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, what `kill` and batch systems send, and a terminal that was closed. Windows knows some of them."""

_whole: set[CodeType] = set()


def uninterrupted(function: Callable[P, T]) -> Callable[P, T]:
    """A function that `Signals` never interrupts, however many signals come: what it does is done whole."""
    _whole.add(function.__code__)
    return function


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end.

    Args:
        signal: which one.
    """

    def __init__(self, signal: signal.Signals) -> None:
        super().__init__(f"stopped by {signal.name}")
        self.signal = signal


class Signals:
    """Within `with Signals()`, the first signal is only noted; a second one raises `Stopped` wherever it comes.

    A signal that was noted raises `Stopped` in `check`, or when the block ends. The handlers from before are put back.

    A signal that is ignored, as SIGHUP is under nohup, stays ignored. A handler of the caller's own stays in charge.
    Threads other than the main thread get no signals from Python: nothing is changed there.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @uninterrupted
    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
                before = signal.getsignal(number)
                if before in (signal.SIG_DFL, signal.default_int_handler) or _ours(before):
                    self._before[number] = before
                    signal.signal(number, self._handle)
        return self

    @uninterrupted
    def __exit__(self, kind: Any, *_: Any) -> None:
        for number, before in reversed(self._before.items()):  # SIGINT last: it may raise as soon as it is put back
            signal.signal(number, before)
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raise `Stopped` if a signal came."""
        if self.received is not None:
            raise Stopped(self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received is not None, signal.Signals(number)
        while frame is not None:
            again = again and frame.f_code not in _whole
            frame = frame.f_back
        if again:
            raise Stopped(self.received)


def _ours(handler: Any) -> bool:
    return isinstance(getattr(handler, "__self__", None), Signals)

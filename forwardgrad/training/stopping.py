"""Signals that ask a process to end (SIGINT, SIGTERM, SIGHUP): raised as `Stopped`, now or at the next safe place."""

from __future__ import annotations

import math
import signal
import threading
from types import FrameType
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, what `kill` and batch systems send, and a terminal that was closed. Windows knows some of them."""


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end.

    Args:
        signal: which one.
    """

    def __init__(self, signal: signal.Signals) -> None:
        super().__init__(f"stopped by {signal.name}")
        self.signal = signal


class Signals:
    """Within `with Signals(patience)`, so many signals are only noted; the next one raises `Stopped` wherever it comes.

    A noted signal raises `Stopped` when the block ends, at the latest. The handlers from before are put back then.

    A signal that is ignored, as SIGHUP under nohup, stays ignored. A handler of the caller's own stays in charge.
    Threads other than the main thread get no signals from Python: nothing is changed there.

    Args:
        patience: how many signals are only noted. With `math.inf` they are forgotten when the block ends: for what
            must not be cut in two, and then is done.
    """

    def __init__(self, patience: float = 0) -> None:
        self.patience = patience
        self.received: list[signal.Signals] = []
        self._before: dict[signal.Signals, Any] = {}
        self._armed = False

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
                before = signal.getsignal(number)
                if before in (signal.SIG_DFL, signal.default_int_handler) or _ours(before):
                    self._before[number] = before
                    signal.signal(number, self._handle)
        self._armed = True  # from here on the block is entered for certain, and is left through __exit__
        if len(self.received) > self.patience:
            self.__exit__(None)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._armed = False
        for number, before in reversed(self._before.items()):  # SIGINT last: it may raise as soon as it is put back
            signal.signal(number, before)
        if kind is None and self.received and self.patience < math.inf:
            raise Stopped(self.received[0])

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received.append(signal.Signals(number))
        if self._armed and len(self.received) > self.patience:
            raise Stopped(self.received[-1])


def _ours(handler: Any) -> bool:
    return isinstance(getattr(handler, "__self__", None), Signals)

"""How do several processors compute one product? In pieces, of which each thread takes the next when it is free.

Which pieces there are depends on sizes alone, so the result has the same bits whatever number of threads computes it.
The thread that asks never waits for a piece that nobody has begun: on a busy machine, it computes most of them itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

import numpy as np

from forwardgrad.support.forking import in_child

Piece = Callable[[], Any]


class _Job:
    """Pieces that are left to take, and what one helper needs to know of them."""

    def __init__(self, pieces: list[Piece], failures: list[BaseException]) -> None:
        self.pieces, self.failures, self.helping = pieces, failures, Lock()
        self.handling: dict[str, Any] = {**np.geterr(), "call": np.geterrcall()}

    def help(self) -> None:
        """Take pieces as long as there are any, as the thread that asked would have NumPy report errors."""
        with self.helping, np.errstate(**self.handling):
            try:
                _take(self.pieces)
            except BaseException as failure:  # which the thread that asked raises
                self.failures.append(failure)


def _take(pieces: list[Piece]) -> None:
    while pieces:
        try:
            piece = pieces.pop()
        except IndexError:  # another thread was faster
            return
        piece()


def _await(jobs: list[_Job]) -> None:
    """Wait until helpers have computed what they have taken; an interrupt waits for that, too."""
    interrupt: BaseException | None = None
    for job in jobs:
        waiting = True
        while waiting:
            try:
                with job.helping:
                    waiting = False
            except BaseException as failure:
                interrupt = failure
    if interrupt is not None:
        raise interrupt


class Helpers:
    """Threads that wait for pieces to compute. They start when they are first needed, and again in a child process."""

    def __init__(self) -> None:
        self._renew()
        in_child(self._renew)

    def _renew(self) -> None:
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._started = 0

    def _run(self) -> None:
        while True:
            self._jobs.get().help()

    def _start(self, number: int) -> int:
        """As many threads as are there, of those that are wanted."""
        while self._started < number:
            self._started += 1
            try:
                Thread(target=self._run, daemon=True, name="forwardgrad products").start()
            except RuntimeError:  # the system gives no more, or Python ends
                self._started -= 1
                break
        return min(self._started, number)

    def compute(self, pieces: list[Piece], threads: int) -> None:
        """Compute all pieces, with other threads where processors are free.

        Args:
            pieces: functions that may be called in any order and at the same time. The list is emptied.
            threads: the largest number of threads that take part, this one among them.

        Raises:
            BaseException: what a piece raises; then some of the others are not computed.
        """
        failures: list[BaseException] = []
        helpers = self._start(min(threads, processors(), len(pieces)) - 1)
        jobs = [_Job(pieces, failures) for _ in range(helpers)]
        try:
            for job in jobs:
                self._jobs.put(job)
            _take(pieces)
        finally:
            pieces.clear()
            _await(jobs)
        if failures:
            raise failures[0]


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

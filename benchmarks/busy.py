"""What does a busy machine cost? A gradient on an idle one, and beside one spinning process per processor."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from benchmarks.cases import CASES, Case, GradientCase
from benchmarks.contestants import MissingPeerError, peer
from benchmarks.ours import ours
from benchmarks.tasks import make
from benchmarks.timing import seconds, warm

NAMES = ("eprop-lstm-128", "eprop-lif-256", "rtrl-rnn-128")
PEER = "jax BPTT"
GOAL = 2.5
"""The most that ours is to take on a busy machine, in times of what it takes on an idle one."""

LEAST = 1.0
"""Seconds of a measurement at the least: many turns of the system's scheduler."""

_SPIN = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    pass
"""
"""A process that spins until its standard input is closed, which the system does when its parent dies of anything."""


@dataclass(frozen=True)
class Busy:
    """How long a contestant takes.

    Args:
        case: its name.
        title: what is computed.
        contestant: who computes it.
        idle, busy: seconds, one a round.
    """

    case: str
    title: str
    contestant: str
    idle: tuple[float, ...]
    busy: tuple[float, ...]

    @property
    def factor(self) -> float:
        """The median beside spinning processes over that without."""
        return statistics.median(self.busy) / statistics.median(self.idle)

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "factor": self.factor}


@contextmanager
def spinning(processes: int) -> Iterator[None]:
    """Processes that do nothing, as fast as they can; they end with the context, and with this process."""
    with ExitStack() as stack:
        for _ in range(processes):
            child = subprocess.Popen(
                [sys.executable, "-c", _SPIN], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
            )
            stack.enter_context(child)  # waits for it
            stack.callback(child.kill)
        yield


def measured(cases: Sequence[Case], rounds: int, processors: int) -> list[Busy]:
    """Each case on an idle and on a busy machine, in turns; a row of a table is printed when it is done."""
    print(f"medians of {rounds} rounds, in ms; busy: beside {processors} spinning processes\n")
    print(f"| case | idle | busy | busy/idle | goal | {PEER}, idle | busy | busy/idle |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    found: list[Busy] = []
    for case in cases:
        assert isinstance(case, GradientCase)
        row = _case(case, rounds, processors)
        print(_row(row), flush=True)
        found += row
    return found


def chosen(fits: Callable[[str], bool]) -> list[Case]:
    """The cases whose name fits."""
    return [case for case in CASES if case.name in NAMES and fits(case.name)]


def _case(case: GradientCase, rounds: int, processors: int) -> list[Busy]:
    task = make(case.network, case.steps, case.batch)
    contestants = [ours(task, case.rule)]
    try:
        contestants.append(peer(PEER, task))
    except MissingPeerError as error:
        print(error, file=sys.stderr)
    for each in contestants:
        warm(each.run)
    idle: dict[str, list[float]] = {each.name: [] for each in contestants}
    busy: dict[str, list[float]] = {each.name: [] for each in contestants}
    for _ in tqdm(range(rounds), desc=case.name, leave=False):
        for each in contestants:
            idle[each.name].append(seconds(each.run, LEAST))
        with spinning(processors):
            for each in contestants:
                busy[each.name].append(seconds(each.run, LEAST))
    return [Busy(case.name, str(case), name, tuple(idle[name]), tuple(busy[name])) for name in idle]


def _row(row: Sequence[Busy]) -> str:
    cells = [row[0].title]
    for each in row:
        took = (f"{1e3 * statistics.median(values):,.0f}" for values in (each.idle, each.busy))
        cells += [*took, f"{each.factor:.2f}"]
        if each is row[0]:
            cells.append(f"{GOAL:g}" + ("" if each.factor <= GOAL else ", **missed**"))
    return f"| {' | '.join(cells)} |"

"""How are contestants timed? In one process, one after the other, round by round, so that all see the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

PAUSE = 0.05
"""Seconds before each measurement, in which threads that wait for work fall asleep and leave the next one alone."""

SHORT = 5.0
"""Seconds; what is shorter warms up twice: a compiler may run again when it sees the types of the state it returned."""

LEAST, MOST_CALLS = 0.1, 50
"""Seconds that a measurement takes at the least, by calling more often, up to a number of calls."""


@dataclass(frozen=True)
class Timing:
    """How long a contestant takes.

    Args:
        name: of the contestant.
        values: one a round.
        note: what a reader should know of it.
        unit: of the values: `s`, or `MiB` where memory is measured.
    """

    name: str
    values: tuple[float, ...]
    note: str = ""
    unit: str = "s"

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "median": self.median, "min": min(self.values), "max": max(self.values)}


def warm(run: Callable[[], Any]) -> Any:
    """Call it until it is compiled; returns what the first call returned."""
    began = time.perf_counter()
    found = run()
    if time.perf_counter() - began < SHORT:
        run()
    return found


def seconds(run: Callable[[], Any], least: float = LEAST) -> float:
    """How long a call takes: the mean of as many as fill some time."""
    time.sleep(PAUSE)
    calls, took, began = 0, 0.0, time.perf_counter()
    while took < least and calls < MOST_CALLS:
        run()
        calls, took = calls + 1, time.perf_counter() - began
    return took / calls


def alternate(
    runs: Mapping[str, Callable[[], Any]], rounds: int, budget: float, title: str
) -> dict[str, tuple[float, ...]]:
    """Time contestants round by round.

    Args:
        runs: what to call, by name; compiled already.
        rounds: how many.
        budget: seconds a contestant may take in all; a slower one leaves after fewer rounds, one at the least.
        title: of the progress bar.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    with tqdm(total=rounds * len(runs), desc=title, leave=False) as bar:
        for _ in range(rounds):
            for name, run in runs.items():
                took = found[name]
                if not took or sum(took) + min(took) <= budget:
                    bar.set_postfix_str(name)
                    took.append(seconds(run))
                bar.update()
    return {name: tuple(took) for name, took in found.items()}

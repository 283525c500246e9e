"""How does our time grow? With units, length, batch, block and layers, one at a time from a common point."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

from tqdm import tqdm

from benchmarks.flops import nominal
from benchmarks.networks import Network
from benchmarks.ours import automatic, compiled
from benchmarks.tasks import Task, make
from benchmarks.timing import Timing, seconds

ROUNDS = 3
LONGEST = 10.0
"""Seconds; an axis ends at a point that takes longer."""


@dataclass(frozen=True)
class Setting:
    """A network and how it is run; `block=None` is what `auto` chooses, at most a quarter of the sequence."""

    cell: str
    rule: str
    units: int
    steps: int
    batch: int
    block: int | None = None
    layers: int = 1

    @property
    def network(self) -> Network:
        """The network."""
        return Network(self.cell, 32, (self.units,) * self.layers, 8, "mse")


AXES = {
    "units": (16, 32, 64, 128, 256),
    "steps": (64, 256, 1024, 4096),
    "batch": (1, 4, 16, 64),
    "block": (1, 4, 16, 64, 256),
    "layers": (1, 2, 3),
}

SETTINGS = (Setting("lstm", "eprop", 64, 1024, 8), Setting("rnn", "rtrl", 64, 1024, 4))


@dataclass(frozen=True)
class Point:
    """One point of a curve.

    Args:
        at: where it stands on its axis.
        block: the steps per block it was run with.
        timing: how long it took.
        flops: the nominal operations.
    """

    at: int
    block: int
    timing: Timing
    flops: float

    @property
    def achieved(self) -> float:
        """Nominal operations a second."""
        return self.flops / self.timing.median


@dataclass(frozen=True)
class Curve:
    """The time along one axis.

    Args:
        title: network and rule.
        axis: what grows.
        points: as many as were quick enough.
        chosen: on the axis `block`, what `auto` chooses.
    """

    title: str
    axis: str
    points: tuple[Point, ...]
    chosen: int | None = None

    def data(self, rate: float) -> dict[str, Any]:
        """For JSON; `rate` is that of matrix products."""
        points = [
            {
                "at": point.at,
                "block": point.block,
                "seconds": point.timing.data(),
                "nominal_flops": point.flops,
                "fraction_of_matmul": point.achieved / rate,
            }
            for point in self.points
        ]
        return {"title": self.title, "axis": self.axis, "chosen": self.chosen, "points": points}


def measured(rounds: int, rate: float, quick: bool = False) -> list[Curve]:
    """All curves; each is printed when it is done."""
    found = []
    for setting in SETTINGS:
        base = replace(setting, steps=setting.steps // 4) if quick else setting
        title = f"{base.rule}, {base.cell.upper()}"
        print(f"{title}: {base.units} units, {base.steps:,} steps, batch {base.batch}, 1 layer, but for the axis")
        for axis, values in AXES.items():
            found.append(_curve(title, base, axis, values[:-1] if quick else values, rounds))
            print(_text(found[-1], rate), flush=True)
        print()
    return found


def _curve(title: str, base: Setting, axis: str, values: tuple[int, ...], rounds: int) -> Curve:
    points: list[Point] = []
    chosen = None
    for value in tqdm(values, desc=f"{title}, {axis}", leave=False):
        setting = replace(base, **{axis: value})
        task = make(setting.network, setting.steps, setting.batch)
        program = compiled(setting.network, setting.rule)
        auto = automatic(program, task)
        chosen = auto if axis == "block" else None
        block = setting.block or min(auto, max(1, task.steps // 4))
        taken = _times(program, task, block, rounds)
        flops = nominal(setting.network, setting.rule, setting.steps, setting.batch, block)
        points.append(Point(value, block, Timing(title, taken), flops))
        if statistics.median(taken) > LONGEST:
            break
    return Curve(title, axis, tuple(points), chosen)


def _times(program: Any, task: Task, block: int, rounds: int) -> tuple[float, ...]:
    def run() -> None:
        program.gradient(task.params, {"x": task.x}, {"y": task.target}, block=block)

    began = time.perf_counter()
    run()
    return tuple(seconds(run) for _ in range(rounds if time.perf_counter() - began < LONGEST else 1))


def _text(curve: Curve, rate: float) -> str:
    lines = [f"  {curve.axis}" + (f" (auto: {curve.chosen})" if curve.chosen else "")]
    for point in curve.points:
        lines.append(
            f"    {point.at:>6,}  {1e3 * point.timing.median:>10,.1f} ms  blocks of {point.block:<4}"
            f"{point.achieved / 1e9:>7.1f} GFLOP/s, {point.achieved / rate:>4.0%} of matrix products"
        )
    return "\n".join(lines)

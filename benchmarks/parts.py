"""Where does the time of a gradient go? The printed functions of a block, and the functions that they call."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.cases import CASES, GradientCase
from benchmarks.ours import automatic, compiled
from benchmarks.tasks import make

ROUNDS = 5
PARTS = ("forward", "slopes", "credit", "gradients", "advance")
"""The functions of printed source that a block calls, one after the other; they call no other of them."""


def measured(names: Callable[[str], bool]) -> list[dict[str, Any]]:
    """The parts of each case of ours that takes whole gradients; each is printed when it is done."""
    found = []
    for case in CASES:
        if isinstance(case, GradientCase) and names(case.name):
            found.append(_profile(case))
            parts = ", ".join(f"{part} {1e3 * seconds:.0f}" for part, seconds in found[-1]["parts"].items())
            print(f"{case.name:<20}{1e3 * found[-1]['seconds']:>6.0f} ms: {parts}", flush=True)
    return found


def _profile(case: GradientCase) -> dict[str, Any]:
    task = make(case.network, case.steps, case.batch)
    program = compiled(case.network, case.rule)
    block = min(automatic(program, task), max(1, task.steps // 4))
    taken: Counter[str] = Counter()
    functions = program._engine._parts  # pyright: ignore
    for part in PARTS:
        functions[part] = replace(functions[part], run=_timed(functions[part].run, part, taken))
    rounds: list[tuple[float, dict[str, float]]] = []
    for _ in range(ROUNDS + 1):
        taken.clear()
        began = time.perf_counter()
        program.gradient(task.params, {"x": task.x}, {"y": task.target}, block=block)
        rounds.append((time.perf_counter() - began, dict(taken)))
    parts = {part: statistics.median(found[part] for _, found in rounds[1:]) for part in PARTS}
    return {"case": case.name, "block": block, "seconds": statistics.median(s for s, _ in rounds[1:]), "parts": parts}


def _timed(function: Callable[..., Any], part: str, taken: Counter[str]) -> Callable[..., Any]:
    def timed(*given: Any) -> Any:
        began = time.perf_counter()
        made = function(*given)
        taken[part] += time.perf_counter() - began  # pyright: ignore
        return made

    return timed

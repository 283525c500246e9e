"""Where does the time of a gradient go? The functions of a block, as printed NumPy and as C."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.cases import CASES, GradientCase
from benchmarks.ours import blocks_of, compiled
from benchmarks.tasks import make

ROUNDS = 5
PARTS = ("forward", "slopes", "credit", "gradients", "advance")
"""The functions of printed source that a block calls, one after the other; they call no other of them."""


def measured(names: Callable[[str], bool]) -> list[dict[str, Any]]:
    """The parts of each case of ours that takes whole gradients; each is printed when it is done."""
    found = []
    for case in CASES:
        for backend in ("numpy", "c") if isinstance(case, GradientCase) and names(case.name) else ():
            assert isinstance(case, GradientCase)
            found.append(_profile(case, backend))
            parts = ", ".join(f"{part} {1e3 * seconds:.0f}" for part, seconds in found[-1]["parts"].items())
            print(f"{case.name:<20}{backend:<6}{1e3 * found[-1]['seconds']:>6.0f} ms: {parts}", flush=True)
    return found


def _profile(case: GradientCase, backend: str) -> dict[str, Any]:
    task = make(case.network, case.steps, case.batch)
    program = compiled(case.network, case.rule, backend=backend)
    block = blocks_of(task, case.rule)
    taken: Counter[str] = Counter()
    engine: Any = program._engine  # pyright: ignore
    if backend == "c":
        engine.compiled.run = _timed(engine.compiled.run, "", taken)
    else:
        for part in PARTS:
            engine._parts[part] = replace(engine._parts[part], run=_timed(engine._parts[part].run, part, taken))
    rounds: list[tuple[float, dict[str, float]]] = []
    for _ in range(ROUNDS + 1):
        taken.clear()
        began = time.perf_counter()
        program.gradient(task.params, {"x": task.x}, {"y": task.target}, block=block)
        rounds.append((time.perf_counter() - began, dict(taken)))
    parts = {part: statistics.median(found[part] for _, found in rounds[1:]) for part in PARTS}
    whole = statistics.median(seconds for seconds, _ in rounds[1:])
    return {"case": case.name, "backend": backend, "block": block, "seconds": whole, "parts": parts}


def _timed(function: Callable[..., Any], part: str, taken: Counter[str]) -> Callable[..., Any]:
    def timed(*given: Any) -> Any:
        began = time.perf_counter()
        made = function(*given)
        taken[part or given[0]] += time.perf_counter() - began  # pyright: ignore
        return made

    return timed

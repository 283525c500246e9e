"""How is a result told? As text when a case is done, and as JSON for all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.agreement import Check
from benchmarks.flops import Floor
from benchmarks.measure import Result, Verdict
from benchmarks.timing import Timing


def text(result: Result) -> str:
    """The checks, timings and goals of a case."""
    lines = [f"{result.name}: {result.title}"]
    lines += [f"  {_check(check)}" for check in result.checks]
    if result.timings:
        lines += _table(result.timings)
    elif not result.agreed:
        lines.append("  NOT TIMED: gradients that must agree do not.")
    lines += [f"  {_verdict(verdict)}" for verdict in result.verdicts]
    if result.floor is not None:
        lines.append(f"  {_floor(result.floor, result.timings)}")
    return "\n".join(lines)


def summary(results: Sequence[Result]) -> str:
    """A line a goal."""
    rows = [(result.name, _verdict(verdict)) for result in results for verdict in result.verdicts]
    rows += [(result.name, "gradients do not agree") for result in results if not result.agreed]
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {line}" for name, line in rows)


def write_json(path: Path, about: dict[str, Any], given: dict[str, Any], found: Any) -> None:
    """All of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": about, "options": given, "results": found}, indent=1) + "\n")


def _check(check: Check) -> str:
    word = "reported" if check.limit is None else "agrees" if check.passed else "DIFFERS"
    cosine = "" if check.cosine is None else f", cosine {check.cosine:.4f}"
    note = f" ({check.note})" if check.note else ""
    gradient = "" if check.error is None else f"gradient {check.error:.1e}, "
    return f"{word}: {check.name} and {check.against}{note}: {gradient}loss {check.loss_error:.1e}{cosine}"


def _table(timings: Sequence[Timing]) -> list[str]:
    width = max(len(timing.name) for timing in timings)
    first, unit = timings[0].median, timings[0].unit
    scale, unit = (1.0, unit) if unit != "s" else (1e6, "us") if first < 1e-3 else (1e3, "ms")
    lines = [f"  {'':<{width}}  {'median ' + unit:>11}  {'min':>9}  {'max':>9}  rounds  ours/it"]
    for timing in timings:
        median, low, high = (scale * x for x in (timing.median, min(timing.values), max(timing.values)))
        ratio = first / timing.median
        lines.append(
            f"  {timing.name:<{width}}  {median:>11,.1f}  {low:>9,.1f}  {high:>9,.1f}  {len(timing.values):>6}"
            f"  {ratio:>7.3f}  {timing.note}".rstrip()
        )
    return lines


def _floor(least: Floor, timings: Sequence[Timing]) -> str:
    """How far ours are from the least time."""
    times = [timing for timing in timings if timing.name.startswith("forwardgrad")]
    ours = ", ".join(f"{timing.name} takes {timing.median / least.seconds:.2f} times that" for timing in times)
    parts = f"{1e3 * least.products:.1f} ms at {least.rate / 1e9:.0f} GFLOP/s, {1e3 * least.memory:.1f} ms at "
    return f"floor: {1e3 * least.seconds:.1f} ms ({parts}{least.bandwidth / 1e9:.1f} GB/s); {ours}"


def _verdict(verdict: Verdict) -> str:
    word = "pass" if verdict.passed else "FAIL"
    who = "" if verdict.goal.ours == "forwardgrad" else f" {verdict.goal.ours}:"
    return f"{word}:{who} {verdict.ratio:.3f} of {verdict.against}, goal {verdict.goal.limit:g}"

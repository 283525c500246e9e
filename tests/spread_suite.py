"""The gradient suite on many devices: what `backends/test_devices.py` runs in one process, or in two at the same time.

Every case runs in blocks of one and of two steps and as a whole, and is compared with the oracle; random layouts, of
which it knows nothing, with the interpreter. `pinned` cases are few, and the same at every run. Results go to a file,
since the library that connects processes writes to standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from array_program.cases import named
from checks import compiled, error
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.backends import Devices, processes
from forwardgrad.backends.jax_engine import offer_cpus
from forwardgrad.testing import Problem
from forwardgrad.testing.comparing import chosen
from forwardgrad.testing.strategies import problems, rule_mappings

CASES: tuple[tuple[str, Any], ...] = (
    ("delays", "rtrl"),
    ("lstm", "eprop"),
    ("elman", "rtrl"),
    ("gru", "rtrl"),
    ("lif", "eprop-deep"),
    ("alif", "eprop"),
    ("leaky_stack", "hops(2) & near"),
    ("filtered", "eprop"),
    ("masked", "rtrl"),
    ("depth", "all; feedback=random, seed=3"),
    ("depth", "window(2)"),
    ("gru", "snap(2)"),
    ("elman", {"h->h": "kf-rtrl", "*": "rtrl"}),
    ("alif", "uoro"),
)

PINNED = 2
"""How many of these, and of the random graphs, are run each time."""


def random_problems(count: int) -> list[tuple[Problem, Any]]:
    """Random graphs with a rule for each parameter: the same ones at every run and in every process."""
    found: list[tuple[Problem, Any]] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        problem = data.draw(problems(least_steps=5, most_steps=5))
        found.append((problem, data.draw(rule_mappings(problem, signals=False))))

    draw()
    return found[-count:]  # the first one that is drawn is the least


def cases(pinned: bool, graphs: int) -> Iterator[tuple[str, Problem, Any]]:
    """Names, problems and rules."""
    for name, rule in CASES[:PINNED] if pinned else CASES:
        yield f"{name} under {rule}", named(name), rule
    for at, (problem, rules) in enumerate(random_problems(graphs)):
        yield f"random graph {at}", problem, rules


def reference(problem: Problem, rule: Any, block: int) -> tuple[float, Any]:
    """Loss and gradients as they should be."""
    interpreted = compiled(problem, rule, backend="interpreter")
    if any(each.lossy for each in interpreted.plan.rules.values()):
        arguments = problem.params, problem.inputs, problem.targets, problem.mask
        found: Any = interpreted.gradient(*arguments, block=block, draw=1)
    else:
        found = oracle.reverse(**problem.arguments, rule=chosen(interpreted))
    return found.loss, found.grads


def apart(problem: Problem, rule: Any, devices: Any) -> float:
    """The largest relative error of a gradient or a loss, over all blocks."""
    try:
        program = compiled(problem, rule, backend="jax", devices=devices)
    except fg.RuleError as refused:  # influence that is drawn is not split, but samples are
        if "random signs" not in str(refused):
            raise
        program = compiled(problem, rule, backend="jax", devices=Devices.read(devices).total)
    worst = 0.0
    for block in (1, 2, problem.steps):
        loss, grads = reference(problem, rule, block)
        found = program.gradient(problem.params, problem.inputs, problem.targets, problem.mask, block=block, draw=1)
        worst = max(worst, error(found.grads, grads), abs(found.loss - loss) / max(1.0, abs(loss)))
        if not np.isfinite(worst):
            return float("inf")
    return worst


def grids(pinned: bool, several: bool) -> list[Any]:
    """On which devices: one, four and eight, or in two processes on all that these have."""
    both, influence = {"batch": 2, "influence": 4}, {"influence": 8}
    if several:
        return [both] if pinned else [both, influence]
    return [both] if pinned else [1, {"batch": 2, "influence": 2}, both]


def main() -> None:
    """Run all cases, and write how far they are apart."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--pinned", action="store_true")
    parser.add_argument("--graphs", type=int, default=1)
    parser.add_argument("--coordinator")
    parser.add_argument("--process", type=int)
    asked = parser.parse_args()
    if asked.coordinator is None:
        offer_cpus(8)
    else:
        processes.join(asked.coordinator, 2, asked.process, 4)
    found: dict[str, float] = {}
    for name, problem, rule in cases(asked.pinned, asked.graphs):
        for devices in grids(asked.pinned, asked.coordinator is not None):
            found[f"{name} on {devices}"] = apart(problem, rule, devices)
            print(name, devices, found[f"{name} on {devices}"], file=sys.stderr, flush=True)
    asked.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()

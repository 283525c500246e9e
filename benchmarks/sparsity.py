"""What is gained where units are silent? Exact RTRL on event-based units, with and without a look for zeros.

Both programs are the same but for one word on the op of the events, and run in turn in one process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np

import forwardgrad as fg
from forwardgrad import cells, ops

UNITS, STEPS, WARM = 96, 40, 10
SETTINGS = ((0.3, 1.0), (0.3, 0.4), (0.3, 0.2), (0.5, 0.1))
"""Thresholds of the events, and widths of their surrogates: the smaller, the fewer units pass credit."""


def measured(units: int = UNITS, steps: int = STEPS) -> list[dict[str, Any]]:
    """A row for each setting and backend; each is printed when it is done."""
    spike = ops.get("spike")
    blind = replace(spike, name="blind_spike", ports=tuple(replace(port, vanishes=False) for port in spike.ports))
    found: list[dict[str, Any]] = []
    with ops.registered(blind):
        for threshold, width in SETTINGS:
            for backend in ("numpy", "c"):
                found.append(_row(units, steps, threshold, width, backend))
                row = found[-1]
                print(
                    f"EGRU of {units}, threshold {threshold}, width {width}: {backend:<5} "
                    f"{row['executed']:>4.0%} executed, "
                    f"{row['looking']:6.1f} ms a step, {row['blind']:6.1f} without a look: {row['ratio']:.2f}",
                    flush=True,
                )
    return found


def _row(units: int, steps: int, threshold: float, width: float, backend: str) -> dict[str, Any]:
    random = np.random.default_rng(0)
    inputs = {"x": 1.5 * random.normal(size=(steps, 1, 4))}
    targets = {"y": random.normal(size=(steps, 1, 2))}
    programs = {op: _program(units, threshold, width, backend, op) for op in ("spike", "blind_spike")}
    params = programs["spike"].init(1)
    states = {op: program.start() for op, program in programs.items()}
    times: dict[str, list[float]] = {op: [] for op in programs}
    grads: dict[str, Any] = {}
    for t in range(steps):
        now = slice(t, t + 1)
        for op, program in programs.items():
            run: Callable[..., Any] = program.step
            began = time.perf_counter()
            states[op], step = run(params, {"x": inputs["x"][now]}, {"y": targets["y"][now]}, state=states[op])
            times[op].append(time.perf_counter() - began)
            grads[op] = step.grads
    for name, grad in grads["spike"].items():
        np.testing.assert_allclose(grad, grads["blind_spike"][name], rtol=1e-10, atol=1e-13)
    looking, blind = (1e3 * statistics.median(times[op][WARM:]) for op in programs)
    return {
        **{"units": units, "threshold": threshold, "width": width, "backend": backend},
        **{"executed": programs["spike"].activity(params, inputs, targets).fraction},
        **{"looking": looking, "blind": blind, "ratio": looking / blind},
    }


def _program(units: int, threshold: float, width: float, backend: str, op: str) -> fg.Program:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=4)
    h = cells.egru(graph, "l", input="x", size=units, threshold=threshold, width=width, reset="after")
    cells.readout(graph, "y", input=h, size=2)
    graph.nodes["l.e"]["op"] = op
    return fg.compile(graph, loss={"y": "mse"}, rule="rtrl", backend=backend)

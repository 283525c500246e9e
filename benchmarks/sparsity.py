"""What is gained where units are silent? Exact RTRL on event-based and on rectified units, with and without a look for
zeros.

Both programs are the same but for one word on the op of events or of rectified units. They run in turn in one process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import numpy as np

import forwardgrad as fg
from forwardgrad import cells, ops

UNITS, STEPS, WARM = 96, 60, 8


@dataclass(frozen=True)
class Units:
    """A recurrent layer.

    Args:
        op: of the nodes at which units are silent.
        settings: what says how many are: threshold and width of events, or the bias of rectified units.
    """

    op: str
    settings: Mapping[str, Any]

    def graph(self, size: int, op: str) -> nx.MultiDiGraph[str]:
        """The layer with a linear readout, and another op in place of its own."""
        graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        graph.add_node("x", op="input", size=4)
        if self.op == "spike":
            h = cells.egru(graph, "l", input="x", size=size, reset="after", **self.settings)
            graph.nodes["l.e"]["op"] = op
        else:
            h = "h"
            graph.add_node(h, op=op, size=size, **self.settings)
            graph.add_edge("x", h, weight="dense")
            graph.add_edge(h, h, weight="dense", delay=1)
        cells.readout(graph, "y", input=h, size=2)
        return graph

    def __str__(self) -> str:
        words = {"spike": "EGRU", "relu": "RNN of rectified units"}
        return f"{words[self.op]}, {', '.join(f'{name} {value:g}' for name, value in self.settings.items())}"


LAYERS = (
    *(Units("spike", {"threshold": t, "width": w}) for t, w in ((0.3, 1.0), (0.3, 0.4), (0.3, 0.2), (0.5, 0.1))),
    *(Units("relu", {"bias": bias}) for bias in (3.0, 0.0, -0.5)),
)


def measured(names: Callable[[str], bool], size: int = UNITS, steps: int = STEPS) -> list[dict[str, Any]]:
    """A row for each backend and each layer whose name is wanted; each is printed when it is done."""
    found: list[dict[str, Any]] = []
    with ops.registered(*(_blind(ops.get(name)) for name in ("spike", "relu"))):
        for layer in (layer for layer in LAYERS if names(str(layer))):
            for backend in ("numpy", "c"):
                row = _row(layer, size, steps, backend)
                found.append(row)
                print(
                    f"{layer!s:<40} {backend:<5} {row['executed']:>4.0%} executed, {row['looking']:6.1f} ms a step, "
                    f"{row['blind']:6.1f} without a look: {row['ratio']:.2f}",
                    flush=True,
                )
    return found


def _blind(op: ops.Op) -> ops.Op:
    return replace(op, name=f"blind_{op.name}", ports=tuple(replace(port, vanishes=False) for port in op.ports))


def _row(layer: Units, size: int, steps: int, backend: str) -> dict[str, Any]:
    random = np.random.default_rng(0)
    inputs = {"x": 1.5 * random.normal(size=(steps, 1, 4))}
    targets = {"y": random.normal(size=(steps, 1, 2))}
    programs = {
        word: fg.compile(layer.graph(size, op), loss={"y": "mse"}, rule="rtrl", backend=backend)
        for word, op in (("looking", layer.op), ("blind", f"blind_{layer.op}"))
    }
    params = programs["blind"].init(1)
    states = {word: program.start() for word, program in programs.items()}
    times: dict[str, list[float]] = {word: [] for word in programs}
    for t in range(steps):
        x, y = {"x": inputs["x"][t : t + 1]}, {"y": targets["y"][t : t + 1]}
        grads: list[dict[str, Any]] = []
        for word, program in programs.items():
            began = time.perf_counter()
            states[word], step = program.step(params, x, y, state=states[word])
            times[word].append(time.perf_counter() - began)
            grads.append(step.grads)
        for name, grad in grads[0].items():
            np.testing.assert_allclose(grad, grads[1][name], rtol=1e-10, atol=1e-13)
    ratios = [one / other for one, other in zip(times["looking"][WARM:], times["blind"][WARM:], strict=True)]
    medians = {word: 1e3 * statistics.median(taken[WARM:]) for word, taken in times.items()}
    return {
        **{"layer": str(layer), "units": size, "backend": backend},
        "executed": programs["looking"].activity(params, inputs, targets).fraction,
        **medians,
        "ratio": statistics.median(ratios),  # of steps that followed each other, which see the same machine
    }

"""Trace patterning online: columns at once, columns in stages, and LSTM layers under several rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np

import forwardgrad as fg
from experiments.drawing import curve, legend
from experiments.experiment import Experiment, Published, grid
from experiments.networks import layers
from experiments.results import Results
from experiments.tables import HEADS, cells, table
from experiments.training import compiled, quietly
from forwardgrad.learning.freezing import frozen
from forwardgrad.learning.growth import add_stage, grown
from forwardgrad.learning.tasks import trace_patterning
from forwardgrad.program import Program

TASK = {"stimuli": 4, "patterns": 3, "distractors": 2, "gap": (6, 12), "pause": (15, 25)}
METHODS: Mapping[str, str] = {
    "constructive": "stages of columns of LSTM, each frozen when the next is added",
    "columnar": "as many columns of LSTM, all learning from the beginning",
    "rtrl": "LSTM, exact gradient",
    "eprop": "LSTM",
    "tbptt": "LSTM, exact within blocks",
    "immediate": "LSTM",
}


def _stage(graph: nx.MultiDiGraph[str], number: int, features: list[str], columns: int) -> nx.MultiDiGraph[str]:
    return add_stage(graph, f"s{number}", ["x", *features], columns, "y")


def _size(program: Program) -> int:
    return sum(derived.bytes for derived in program.rules.values())


def _learned(
    seed: int, method: str, steps: int, streams: int, columns: int, stages: int, units: int, block: int, rate: float
) -> dict[str, Any]:
    task = trace_patterning(streams, seed, steps=steps, **TASK)  # pyright: ignore[reportArgumentType]
    mean = next(known.value for known in task.references if known.kind == "MSE")
    growing, losses, features = method in ("constructive", "columnar"), list[float](), list[str]()
    parts = stages if method == "constructive" else 1
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=task.inputs.shape[2])
    graph.add_node("y", op="linear", size=1, bias=True)
    learner: fg.Learner | None = None
    most = 0
    for part in range(parts):
        if growing:
            graph = _stage(graph, part + 1, features, columns * stages // parts)
        else:
            graph = layers(task.inputs.shape[2], units, 1, cell="lstm")
        program = compiled(graph, "mse", "rtrl" if growing else method)
        most = max(most, _size(program))
        learner = fg.Learner(program, program.init(seed), fg.Adam(rate)) if learner is None else grown(learner, program)
        now = slice(part * steps // parts, (part + 1) * steps // parts)
        updates = learner.fit([({"x": task.inputs[now]}, {"y": task.targets[now]})], block=block)
        losses += [update.loss / mean for update in updates]
        if part + 1 < parts:
            features.append(f"s{part + 1}.norm.h")
            graph = frozen(graph, [name for name in program.rules if not name.endswith(("->y", "y.bias"))])
    points = np.array_split(np.array(losses), min(25, len(losses)))
    last = np.array(losses)[-max(1, len(losses) // 5) :]
    return {"nmse": last.mean(), "bytes": most, "curve": [point.mean() for point in points]}


def run(*, seed: int, method: str, **settings: Any) -> dict[str, Any]:
    """Learn from one stream of data, side by side in several samples; the error over its last fifth, and the curve."""
    sizes = {name: value for name, value in settings.items() if name not in ("optimizer", "dtype", "task")}
    found = quietly(lambda: _learned(seed, method, **sizes))
    return {"nmse": None, "bytes": None, "curve": []} if found is None else found


PUBLISHED = Published("curves on the full task, by TD", "Javed et al. 2023, arXiv 2302.05326; JMLR 24, 23-0367", "yes")


def page(found: Results) -> str:
    rows: list[list[str]] = []
    for method, words in METHODS.items():
        runs = found.chosen(method=method)
        price = f"{runs[0].found['bytes']:,}" if runs else "not run"
        rows.append([f"`{method}`", words, price, found.spread("nmse", method=method).text(3), *cells(PUBLISHED)])
    return f"""Some patterns of stimuli announce another one, some steps later; the target is the discounted return of
that one. NMSE over the last fifth of the stream, errors before each update; predicting the mean scores 1. The
comparison is our own, on a smaller task. Bytes are those of the traces of one sample, at the most. Stages share the
steps, so that each column of `constructive` learns for a fifth of them.

{table(["method", "what it is", "bytes per sample", "NMSE", *HEADS], rows)}
"""


def gist(found: Results) -> tuple[str, str]:
    ours = ", ".join(
        f"`{method}` {found.median('nmse', method=method):.3f}" for method in ("rtrl", "columnar", "constructive")
    )
    return "curves on the full task", f"NMSE: {ours}"


def draw(found: Results, figure: Any) -> None:
    axes = figure.subplots()
    for method in METHODS:
        curves = [run.found["curve"] for run in found.chosen(method=method) if run.found["curve"]]
        at = (np.arange(len(curves[0])) + 0.5) / len(curves[0]) * found.fixed["steps"] if curves else ()
        curve(axes, at, curves, method)
    axes.set(xlabel="steps", ylabel="NMSE while learning", ylim=(0, 1.2))
    legend(figure)


EXPERIMENT = Experiment(
    name="columns",
    title="Trace patterning: columns and layers",
    minutes=15,
    fixed={
        "steps": 20000,
        "streams": 4,
        "columns": 4,
        "stages": 5,
        "units": 10,
        "block": 5,
        "rate": 0.005,
        "task": "stimuli 4, patterns 3, distractors 2, gap 6 to 12, pause 15 to 25",
        "optimizer": "Adam, an update after every block",
        "dtype": "float32",
    },
    settings=grid(method=list(METHODS)),
    seeds=5,
    run=run,
    page=page,
    gist=gist,
    draw=draw,
    quick={"steps": 200},
)

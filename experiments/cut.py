"""Which dropped edge costs what along a stack, before and after training, and does training route around it?"""

from __future__ import annotations

from typing import Any

import numpy as np

import forwardgrad as fg
from experiments import flips
from experiments.experiment import NOTHING, Experiment
from experiments.networks import layers
from experiments.results import Results
from experiments.tables import HEADS, cells, table
from experiments.training import Arrays, compiled, cosine, gradient, measured, quietly, sequences
from forwardgrad.learning.transforms import Clipped

DEPTH = 4
LAGS = (2, 4)
EDGES = (
    *(f"l.{layer}.h->l.{layer}.a" for layer in range(1, DEPTH + 1)),
    *(f"l.{layer}.h->l.{layer}.h" for layer in range(1, DEPTH + 1)),
    *(f"l.{layer}.h->l.{layer + 1}.a" for layer in range(1, DEPTH)),
    *(f"l.{layer}.h->l.y" for layer in range(1, DEPTH + 1)),
)
"""Explicit recurrence, leaks, edges to the next layer, and skips to the readout."""
WHOLE = "none"


def _rule(edge: str) -> str:
    return "rtrl" if edge == WHOLE else f"cut(['{edge}'])"


def _error(found: Arrays, whole: Arrays) -> float:
    """Relative error of a gradient; what is not trained is zero."""
    off = sum(float(np.sum((found.get(name, 0) - grad) ** 2)) for name, grad in whole.items())
    return (off / sum(float(np.sum(grad**2)) for grad in whole.values())) ** 0.5


def run(
    *,
    seed: int,
    edge: str,
    updates: int,
    units: int,
    batch: int,
    steps: int,
    rate: float,
    leak: float,
    skips: str,
    **_: Any,
) -> dict[str, Any]:
    """Learn without the credit of an edge, or with all; errors and cosines of cut gradients before and after."""
    graph = layers(2, units, 1, depth=DEPTH, leak=leak, skips=skips)
    program = compiled(graph, "bernoulli", _rule(edge))
    first = program.init(seed)
    data, optimizer = flips.batches(updates, batch, steps, LAGS, seed), Clipped(fg.Adam(rate), norm=1.0)
    learned = quietly(lambda: sequences(program, first, optimizer, data)[0])
    if learned is None:
        return {"loss": None}
    large = flips.batch(64, steps, LAGS, (seed, 10**7))
    exact = measured(graph, "bernoulli", "rtrl")
    found: dict[str, Any] = {"loss": flips.loss(program, learned, LAGS, seed)}
    for each in EDGES if edge == WHOLE else (edge,):
        without = measured(graph, "bernoulli", _rule(each))
        for at, params in (("start", first), ("end", learned)):
            cut, whole = gradient(without, params, large), gradient(exact, params, large)
            found[f"{each} {at}"] = {"error": _error(cut, whole), "cosine": cosine(cut, whole)}
    return found


def _numbers(found: Results, edge: str, of: str, at: str, number: str) -> list[float]:
    return [run.found[f"{edge} {at}"][number] for run in found.chosen(edge=of) if f"{edge} {at}" in run.found]


def _text(values: list[float]) -> str:
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else "not run"


def _routed(found: Results) -> tuple[int, int]:
    """At how many edges training with the cut ends with a smaller error than exact training, of how many."""
    pairs = [[_numbers(found, edge, of, "end", "error") for of in (edge, WHOLE)] for edge in EDGES]
    known = [(np.median(cut), np.median(whole)) for cut, whole in pairs if cut and whole]
    return sum(bool(cut < whole) for cut, whole in known), len(known)


def page(found: Results) -> str:
    rows = [
        [
            f"`{edge}`",
            _text(_numbers(found, edge, WHOLE, "start", "error")),
            _text(_numbers(found, edge, WHOLE, "end", "error")),
            _text(_numbers(found, edge, edge, "end", "error")),
            found.spread("loss", edge=edge).text(3),
            *cells(NOTHING),
        ]
        for edge in EDGES
    ]
    rows.append(["*none cut*", "0", "0", "", found.spread("loss", edge=WHOLE).text(3), *cells(NOTHING)])
    routed, edges = _routed(found)
    heads = ["edge cut", "error, first weights", "error, trained exactly", "error, trained with the cut", "final loss"]
    return f"""A stack of {DEPTH} layers of leaky units, all of which the readout sees, learns the add task with lags
{LAGS[0]} and {LAGS[1]}. The rule is `cut(['u->v'])`: exact but for one edge, across which no credit flows. The error
is that of the gradient of all parameters, relative to the exact one, on the same weights.
If training routed credit around the cut,
the error of the network that was trained with it would be smaller than that of the network that was trained exactly.

{table([*heads, *HEADS], rows)}

That is so, by the median, at {routed} of {edges} edges.
"""


def draw(found: Results, figure: Any) -> None:
    axes = figure.subplots()
    at = np.arange(len(EDGES))
    kinds = (("first weights", WHOLE, "start"), ("trained exactly", WHOLE, "end"), ("trained with the cut", "", "end"))
    for number, (name, of, when) in enumerate(kinds):
        values = [_numbers(found, edge, of or edge, when, "error") for edge in EDGES]
        axes.bar(at + (number - 1) * 0.27, [np.median(v) if v else 0 for v in values], 0.25, label=name)
    axes.set_xticks(at, [edge.replace("l.", "") for edge in EDGES], rotation=60)
    axes.set(ylabel="relative error of the gradient", title="What the cut of one edge costs")
    axes.legend()


EXPERIMENT = Experiment(
    name="cut",
    title="Which dropped edge costs what",
    minutes=10,
    fixed={
        "updates": 1000,
        "units": 16,
        "batch": 16,
        "steps": 31,
        "rate": 0.003,
        "leak": 0.5,
        "skips": "auto_compressing",
        "optimizer": "Adam, gradients clipped to norm 1, an update after every sequence",
        "dtype": "float32 to learn, float64 for errors",
    },
    settings=[{"edge": edge} for edge in (WHOLE, *EDGES)],
    seeds=5,
    run=run,
    page=page,
    draw=draw,
    quick={"updates": 10},
)

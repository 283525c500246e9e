"""Which dropped edge costs what along a stack, before and after training, and does training route around it?"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments import flips
from experiments.drawing import bars, legend
from experiments.experiment import NOTHING, Experiment
from experiments.networks import layers
from experiments.results import Results, Spread
from experiments.tables import HEADS, cells, table
from experiments.training import Arrays, cosine

DEPTH = 4
LAGS = (2, 4)
LAYERS = range(1, DEPTH + 1)
KINDS = {
    "explicit recurrence": [f"l.{layer}.h->l.{layer}.a" for layer in LAYERS],
    "leak": [f"l.{layer}.h->l.{layer}.h" for layer in LAYERS],
    "to the next layer": [f"l.{layer}.h->l.{layer + 1}.a" for layer in LAYERS[:-1]],
    "to the readout": [f"l.{layer}.h->l.y" for layer in LAYERS],
}
EDGES = tuple(edge for edges in KINDS.values() for edge in edges)
WHOLE = "none"


def _rule(edge: str) -> str:
    return "rtrl" if edge == WHOLE else f"cut(['{edge}'])"


def _error(found: Arrays, whole: Arrays) -> float:
    """Relative error of a gradient; what is not trained is zero."""
    off = sum(float(np.sum((found.get(name, 0) - grad) ** 2)) for name, grad in whole.items())
    return (off / sum(float(np.sum(grad**2)) for grad in whole.values())) ** 0.5


def run(
    *, seed: int, edge: str, units: int, leak: float, skips: str, optimizer: str, dtype: str, **how: Any
) -> dict[str, Any]:
    """Learn without the credit of an edge, or with all; errors and cosines of cut gradients before and after."""
    graph = layers(2, units, 1, depth=DEPTH, leak=leak, skips=skips)
    learned = flips.learn(graph, _rule(edge), LAGS, seed, **how)
    if learned is None:
        return {"loss": None}
    found: dict[str, Any] = {"loss": learned.loss}
    cuts = {_rule(each): each for each in (EDGES if edge == WHOLE else (edge,))}
    for rule, at, cut, whole in learned.gradients(cuts):
        found[f"{cuts[rule]} {at}"] = {"error": _error(cut, whole), "cosine": cosine(cut, whole)}
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


def _verdict(found: Results) -> str:
    """Which kinds of edges cost most, and what that does to the loss."""

    def most_expensive(at: str) -> str:
        costs = {
            kind: np.mean([np.median(_numbers(found, edge, WHOLE, at, "error") or [np.nan]) for edge in edges])
            for kind, edges in KINDS.items()
        }
        kind = max(costs, key=lambda each: np.nan_to_num(costs[each]))
        return f"those of kind *{kind}* (mean error {costs[kind]:.2f})"

    whole = found.median("loss", edge=WHOLE)
    losses = [found.median("loss", edge=edge) - whole for edge in EDGES]
    most = max((each for each in losses if each == each), default=float("nan"))
    return f"""On first weights the most expensive cuts are {most_expensive("start")}, after exact training
{most_expensive("end")}. None of this is seen in the loss: with any one edge cut it ends within {most:.3f} nats of
that without a cut: what is left of the gradient is enough."""


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

That is so, by the median, at {routed} of {edges} edges. {_verdict(found)}
"""


def gist(found: Results) -> tuple[str, str]:
    routed, edges = _routed(found)
    return "none", f"training with a cut makes its error smaller at {routed} of {edges} edges"


def draw(found: Results, figure: Any) -> None:
    kinds = (("first weights", WHOLE, "start"), ("trained exactly", WHOLE, "end"), ("trained with the cut", "", "end"))
    panels = figure.subplots(1, len(KINDS), sharey=True, width_ratios=[len(edges) for edges in KINDS.values()])
    for axes, (kind, edges) in zip(panels, KINDS.items(), strict=True):
        at = np.arange(len(edges))
        for (name, of, when), hatch, shift in zip(kinds, ("", "//", ".."), (-0.27, 0, 0.27), strict=True):
            spreads = [Spread([*_numbers(found, edge, of or edge, when, "error")]) for edge in edges]
            bars(axes, at + shift, spreads, 0.25, name, hatch=hatch)
        axes.set_xticks(at, [edge.replace("l.", "").replace("->", "\n→ ") for edge in edges], fontsize="small")
        axes.set(title=kind)
    panels[0].set_ylabel("relative error of the gradient")
    legend(figure)


EXPERIMENT = Experiment(
    name="cut",
    title="Which dropped edge costs what",
    minutes=10,
    fixed={
        "updates": 1000,
        "units": 16,
        "leak": 0.5,
        "skips": "auto_compressing",
        **flips.FIXED,
        "dtype": "float32 to learn, float64 for errors",
    },
    settings=[{"edge": edge} for edge in (WHOLE, *EDGES)],
    seeds=5,
    run=run,
    page=page,
    gist=gist,
    draw=draw,
    quick={"updates": 10},
)

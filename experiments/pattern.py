"""Pattern generation of Bellec et al.: spiking units, a target of four sinusoids, and the loss by rule."""

from __future__ import annotations

from typing import Any

import numpy as np

import forwardgrad as fg
from experiments.experiment import Experiment, Published, grid
from experiments.results import Results
from experiments.tables import HEADS, cells, table
from experiments.training import compiled, quietly, sequences
from forwardgrad.learning.tasks import pattern_generation

RATES = (0.0001, 0.0005)
RULES = ("rtrl", "eprop", "eprop-random", "eprop-adaptive", "immediate", "reservoir")


def run(*, seed: int, rule: str, updates: int, rate: float, decay: float, steps: int, **_: Any) -> dict[str, Any]:
    """Learn one pattern from one frozen input; the error over the variance of the target, on the way and in the end."""
    task = pattern_generation(1, seed, steps=steps)
    program = compiled(fg.load("pattern_generation"), "mse", rule)
    optimizer = fg.Adam(rate, weight_decay=decay if rule == "eprop-adaptive" else 0.0)
    given = ({"x": task.inputs}, {"y": task.targets}, None)
    learned = quietly(lambda: sequences(program, program.init(seed), optimizer, (given for _ in range(updates)))[1])
    if learned is None:
        return {"nmse": None, "curve": []}
    scores = np.array(learned) / float(np.var(task.targets))
    points = np.array_split(scores, min(40, len(scores)))
    return {"nmse": scores[-10:].mean(), "curve": [part.mean() for part in points]}


PUBLISHED = Published(
    "a learning curve only", "Bellec et al. 2020, doi 10.1038/s41467-020-17236-y, and its tutorial", "yes"
)


def page(found: Results) -> str:
    rows = [
        [f"`{rule}`", *(found.spread("nmse", rule=rule, rate=rate).text(3) for rate in RATES), *cells(PUBLISHED)]
        for rule in RULES
    ]
    return f"""100 integrate-and-fire units that get 100 frozen trains of spikes learn to produce a sum of four
sinusoids of one second. The network is `pattern_generation`. NMSE over the last ten updates; predicting the mean
scores 1. The published code descends by plain gradients, with a regulariser of firing rates; without it units fall
silent under plain gradients of that size here, so the optimiser is Adam, at two rates.

{table(["rule", *(f"NMSE, rate {rate:g}" for rate in RATES), *HEADS], rows)}
"""


def draw(found: Results, figure: Any) -> None:
    for axes, rate in zip(figure.subplots(1, len(RATES), sharey=True), RATES, strict=True):
        for rule in RULES:
            curves = [run.found["curve"] for run in found.chosen(rule=rule, rate=rate) if run.found["curve"]]
            if curves:
                at = (np.arange(len(curves[0])) + 0.5) / len(curves[0]) * found.fixed["updates"]
                (line,) = axes.semilogy(at, np.median(np.array(curves), axis=0), label=rule)
                low, high = np.array(curves).min(axis=0), np.array(curves).max(axis=0)
                axes.fill_between(at, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
        axes.set(xlabel="updates", title=f"rate {rate:g}", ylim=(0.01, 10))
    figure.axes[0].set_ylabel("NMSE")
    figure.axes[0].legend()


EXPERIMENT = Experiment(
    name="pattern",
    title="Pattern generation with spiking units",
    minutes=15,
    fixed={
        "updates": 1000,
        "steps": 1000,
        "decay": 0.01,
        "optimizer": "Adam, an update after each presentation",
        "dtype": "float32",
    },
    settings=grid(rate=list(RATES), rule=list(RULES)),
    seeds=5,
    run=run,
    page=page,
    draw=draw,
    quick={"updates": 4},
)

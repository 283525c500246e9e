"""The add task of Marschall, Cho & Savin: which rungs of memory does each rule reach?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import forwardgrad as fg
from experiments import flips
from experiments.drawing import curve, legend, levels
from experiments.experiment import Experiment, Published, grid
from experiments.networks import layers
from experiments.results import Results, Spread
from experiments.tables import HEADS, cells, listed, table
from experiments.training import compiled, quietly, stream
from forwardgrad.learning.tasks import delayed_add
from forwardgrad.learning.transforms import Clipped

RULES = ("rtrl", "kf-rtrl", "uoro", "snap(1)", "eprop", "rflo", "dsf(0.5)", "immediate", "reservoir")
CASES = {"leaky": ((2, 4), 0.5), "vanilla": ((5, 9), 0.0)}
"""Lags and leak: units that keep half of their state, or nothing."""


def _steps(lags: tuple[int, int], steps: int, batch: int, seed: Any) -> Iterator[tuple[Any, Any, Any]]:
    task = delayed_add(batch, seed, steps=steps + lags[1], lags=lags)
    for x, y in zip(task.inputs[lags[1] :], task.targets[lags[1] :], strict=True):
        yield x, y[:, :1], False


def run(
    *, seed: int, case: str, rule: str, steps: int, units: int, batch: int, rate: float, test: int, **_: Any
) -> dict[str, Any]:
    """Learn online under a rule; the loss on other streams with frozen weights, and the curve on the way."""
    lags, leak = CASES[case]
    program = compiled(layers(2, units, 1, leak=leak), "bernoulli", rule)
    learned = quietly(
        lambda: stream(
            program, program.init(seed), Clipped(fg.Adam(rate), norm=1.0), _steps(lags, steps, batch, (0, seed))
        )
    )
    if learned is None:
        return {"loss": None, "curve": []}
    params, losses = learned
    x, y = zip(*((x, y) for x, y, _ in _steps(lags, test, 64, (1, seed))), strict=True)
    logits, goal = program.run(params, {"x": np.stack(x)})["y"][20:], np.stack(y)[20:]
    points = np.array_split(np.array(losses), min(25, len(losses)))
    return {"loss": float(np.mean(np.logaddexp(0, logits) - goal * logits)), "curve": [part.mean() for part in points]}


KNOWN = ("without memory", "with the first flip", "with both flips")
SOURCE = "Marschall, Cho & Savin 2020, JMLR 21(135)"
PUBLISHED = Published("curves only", f"{SOURCE}, figures", "yes")


def _worse(found: Results, case: str) -> list[str]:
    """The rules under which training all weights ends above training the readout alone."""
    alone = found.median("loss", case=case, rule="reservoir")
    return [rule for rule in RULES if found.median("loss", case=case, rule=rule) > alone]


def _texts(found: Results, case: str, rule: str) -> tuple[str, str]:
    """The loss in the end, and the least on the way."""
    curves = [run.found["curve"] for run in found.chosen(case=case, rule=rule)]
    least = Spread([min(curve, default=None) for curve in curves])
    return found.spread("loss", case=case, rule=rule).text(), least.text()


def page(found: Results) -> str:
    rows = [
        [f"`{rule}`", *(text for case in CASES for text in _texts(found, case, rule)), *cells(PUBLISHED)]
        for rule in RULES
    ]
    known = [
        [f"*best {name}*", *[f"{level:.4f}"] * 4, text, f"{SOURCE}, figures; here computed from the task", "yes"]
        for name, level, text in zip(KNOWN, flips.LEVELS, ("0.66", "none", "0.45"), strict=True)
    ]
    tasks = [f"lags {lags[0]} and {lags[1]}, leak {leak:g}" for lags, leak in CASES.values()]
    heads = ["rule", *(f"{what}, {task}" for task in tasks for what in ("in the end", "least on the way")), *HEADS]
    return f"""The task asks for y(t) = 0.5 + 0.5 x(t - a) - 0.25 x(t - b), where x are fair coin flips. Its loss
has known levels, one for each flip that is remembered. Loss in nats: in the end, on streams that were not learned
from; and the least of 25 means over the steps of learning, each of which varies by about 0.01, since the rate stays as
it is, and a rule that is not exact may lead away again from what was reached.

{table(heads, [*known, *rows])}

Under these rules a network of which all weights learn ends above one whose readout alone learns (`reservoir`), by the
median: with the leak {listed(_worse(found, "leaky"))}; without {listed(_worse(found, "vanilla"))}. Without a leak
`eprop` has nothing to carry, and is `immediate`.
"""


def gist(found: Results) -> tuple[str, str]:
    ours = " and ".join(f"{found.median('loss', case=case, rule='rtrl'):.3f}" for case in CASES)
    return "curves; levels .6616, .5192, .4545", f"`rtrl` ends at {ours}"


def draw(found: Results, figure: Any) -> None:
    for axes, (case, (lags, leak)) in zip(figure.subplots(1, 2, sharey=True), CASES.items(), strict=True):
        for rule in RULES:
            curves = [run.found["curve"] for run in found.chosen(case=case, rule=rule) if run.found["curve"]]
            at = (np.arange(len(curves[0])) + 0.5) / len(curves[0]) * found.fixed["steps"] if curves else ()
            curve(axes, at, curves, rule)
        levels(axes, flips.LEVELS)
        axes.set(title=f"lags {lags[0]} and {lags[1]}, leak {leak:g}", xlabel="steps", ylim=(0.43, 0.72))
    figure.axes[0].set_ylabel("loss while learning (nats)")
    legend(figure, columns=9)


EXPERIMENT = Experiment(
    name="delayed_add",
    title="Delayed add: rungs of memory",
    minutes=15,
    fixed={
        "steps": 10000,
        "units": 32,
        "batch": 8,
        "rate": 0.003,
        "test": 500,
        "optimizer": "Adam, gradients clipped to norm 1, an update after every step",
        "dtype": "float32",
    },
    settings=grid(case=list(CASES), rule=list(RULES)),
    seeds=5,
    run=run,
    page=page,
    gist=gist,
    draw=draw,
    quick={"steps": 60, "test": 60},
)

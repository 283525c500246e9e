"""Pattern generation of Bellec et al.: spiking units, a target of four sinusoids, and the loss by rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

import forwardgrad as fg
from experiments.drawing import curve, legend, levels
from experiments.experiment import Experiment, Published, grid
from experiments.results import Results
from experiments.tables import HEADS, cells, listed, table
from experiments.training import compiled, quietly
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.learning.regularizers import MeanActivity, with_means
from forwardgrad.learning.tasks import pattern_generation
from forwardgrad.learning.trials import TrialLearner

RULES = ("rtrl", "eprop", "eprop-random", "eprop-adaptive", "immediate", "reservoir")
METHODS: Mapping[str, Callable[..., Optimizer]] = {"sgd": partial(fg.SGD, 5.374e-5), "adam": partial(fg.Adam, 1e-4)}
"""Plain gradients at the published rate, and Adam.

There, 1e-4 times the gradient of half the sum of squared errors, by weights whose products are scaled by 1 - leak. Here
the error is a mean over 1,000 steps, and the scale is in the weights: 1e-4 * 1000 / 2 * (1 - exp(-1 / 30))^2.
"""
RATE = MeanActivity(target=0.01, strength=0.6)
"""10 Hz. There, 300 times half the squares of deviations is added to that half of a sum over 1,000 steps."""


def run(*, seed: int, rule: str, method: str, updates: int, decay: float, steps: int, **_: Any) -> dict[str, Any]:
    """Learn one pattern from one frozen input; the error over the variance of the target, on the way and in the end."""
    task = pattern_generation(1, seed, steps=steps)
    graph, rates = with_means(fg.load("pattern_generation"), "l1.z")
    program = compiled(graph, "mse", "tbptt" if rule == "rtrl" else rule, more=rates)  # the same in one block
    optimizer = METHODS[method](weight_decay=decay if rule == "eprop-adaptive" else 0.0)
    learner = TrialLearner(program, program.init(seed), optimizer, means=dict.fromkeys(rates, RATE))
    scores, hertz = list[float](), list[float]()

    def learn() -> bool:
        for update in learner.updates(({"x": task.inputs}, {"y": task.targets}) for _ in range(updates)):
            scores.append(task.mse(update.step.outputs["y"]) / float(np.var(task.targets)))
            hertz.append(1000 * float(update.step.outputs["l1.z.mean"].mean()))
        return True

    if quietly(learn) is None:
        return {"nmse": None, "hertz": None, "curve": []}
    points = np.array_split(np.array(scores), min(40, len(scores)))
    return {"nmse": np.mean(scores[-10:]), "hertz": np.mean(hertz[-10:]), "curve": [part.mean() for part in points]}


PUBLISHED = Published(
    "a learning curve only", "Bellec et al. 2020, doi 10.1038/s41467-020-17236-y, and its tutorial", "yes"
)


def page(found: Results) -> str:
    rows = [
        [
            f"`{rule}`",
            *(found.spread("nmse", rule=rule, method=method).text(3) for method in METHODS),
            *(found.spread("hertz", rule=rule, method=method).text(0) for method in METHODS),
            *cells(PUBLISHED),
        ]
        for rule in RULES
    ]
    heads = [*(f"NMSE, {NAMES[method]}" for method in METHODS), *(f"Hz, {NAMES[method]}" for method in METHODS)]
    return f"""100 integrate-and-fire units that get 100 frozen trains of spikes learn to produce a sum of four
sinusoids of one second. The network is `pattern_generation`, and a regulariser holds firing rates at 10 Hz, with the
weight of the published code. That code descends by plain gradients under random feedback; its rate is that of the
column of plain gradients. NMSE and rates are means over the last ten updates; predicting the mean scores 1.

{table(["rule", *heads, *HEADS], rows)}

{_verdict(found)}
"""


NAMES = {"sgd": "plain gradients", "adam": "Adam"}


def _verdict(found: Results) -> str:
    """What the table says."""
    failed = [rule for rule in RULES if found.median("nmse", rule=rule, method="sgd") > 0.9]
    low = [rule for rule in RULES if found.median("nmse", rule=rule, method="adam") < 0.01]
    return f"""By the median, the error stays above 0.9 with plain gradients under {listed(failed)}, and falls below
0.01 with Adam under {listed(low)}. So which rules learn the pattern is a question of the optimiser, too: with plain
gradients the feedback matters (`eprop` and `eprop-random` differ in nothing else), while paths through other units,
which `rtrl` adds to those of `eprop`, matter little under either."""


def gist(found: Results) -> tuple[str, str]:
    ours = " and ".join(f"{found.median('nmse', rule='eprop', method=method):.3f}" for method in ("sgd", "adam"))
    return "a learning curve", f"`eprop`: NMSE {ours} (plain gradients, Adam)"


def draw(found: Results, figure: Any) -> None:
    for axes, method in zip(figure.subplots(1, len(METHODS), sharey=True), METHODS, strict=True):
        for rule in RULES:
            curves = [run.found["curve"] for run in found.chosen(rule=rule, method=method) if run.found["curve"]]
            at = (np.arange(len(curves[0])) + 0.5) / len(curves[0]) * found.fixed["updates"] if curves else ()
            curve(axes, at, curves, rule)
        axes.set(xlabel="updates", title=NAMES[method], yscale="log")
        levels(axes, [1.0])
    figure.axes[0].set_ylabel("NMSE")
    legend(figure)


EXPERIMENT = Experiment(
    name="pattern",
    title="Pattern generation with spiking units",
    minutes=15,
    fixed={
        "updates": 1000,
        "steps": 1000,
        "decay": 0.01,
        "firing": "10 Hz, strength 0.6",
        "optimizer": "plain gradients with rate 5.374e-5, or Adam with rate 1e-4, an update after each presentation; "
        "decay of weights where adaptive",
        "dtype": "float32",
    },
    settings=grid(method=list(METHODS), rule=list(RULES)),
    seeds=5,
    run=run,
    page=page,
    gist=gist,
    draw=draw,
    quick={"updates": 4},
)

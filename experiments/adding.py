"""The adding problem: one update at the end of a sequence, by rule, or FPTT in parts of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import forwardgrad as fg
from experiments.experiment import NOTHING, Experiment, Published
from experiments.networks import layers
from experiments.results import Results
from experiments.tables import HEADS, cells, table
from experiments.training import compiled, quietly, sequences
from forwardgrad.learning.fptt import FPTT
from forwardgrad.learning.tasks import adding_problem
from forwardgrad.learning.transforms import Clipped

LENGTHS = (100, 500)
METHODS: Mapping[str, str] = {
    "rtrl": "exact gradient, an update at the end",
    "parts": "exact within a part, an update after each of the parts, Adam alone",
    "fptt": "the same with FPTT, alpha 0.1",
}
CHANCE = 1 / 6


def run(
    *, seed: int, length: int, method: str, batches: int, units: int, batch: int, parts: int, rate: float, **_: Any
) -> dict[str, Any]:
    """Learn from fresh sequences; the squared error on others, in the end and on the way."""
    program = compiled(layers(2, units, 1, cell="lstm"), "mse", "tbptt" if method in ("parts", "fptt") else method)
    test, curve = adding_problem(500, (seed, 10**6), steps=length), list[float]()
    every, adam = max(1, batches // 20), Clipped(fg.Adam(rate), norm=1.0)

    def look(number: int, params: Mapping[str, Any]) -> None:
        if number and number % every == 0:
            curve.append(test.mse(program.run(dict(params), {"x": test.inputs})["y"]))

    def drawn(number: int) -> Any:
        return adding_problem(batch, (seed, number), steps=length)

    def at_ends() -> None:
        tasks = (drawn(number) for number in range(batches))
        given = (({"x": task.inputs}, {"y": task.targets}, task.mask) for task in tasks)
        sequences(program, program.init(seed), adam, given, look)

    def in_parts() -> None:
        learner = fg.Learner(program, program.init(seed), FPTT(adam, 0.1 if method == "fptt" else 0.0))
        mask, steps = np.zeros((length, batch)), length // parts
        for part in range(1, parts + 1):
            mask[part * steps - 1] = steps * part / parts  # a Learner divides by the length of a block
        for number in range(batches):
            task = drawn(number)
            learner.fit([({"x": task.inputs}, {"y": task.targets}, mask)], block=steps)
            learner.reset()
            look(number + 1, learner.params)

    quietly(in_parts if method in ("parts", "fptt") else at_ends)
    finished = len(curve) >= batches // every
    return {"mse": curve[-1] if finished else None, "least": min(curve, default=None), "curve": curve}


SOURCE = "Kag & Saligrama 2021, PMLR 139:5189-5200"
THEIRS: Mapping[tuple[int, str], Published] = {
    (500, "fptt"): Published("MSE .0007", f"{SOURCE}, second-hand", "yes"),
    (500, "rtrl"): Published("at chance, .167 (BPTT)", f"{SOURCE}, second-hand", "yes"),
}


def page(found: Results) -> str:
    rows = [
        [
            str(length),
            f"`{method}`",
            METHODS[method],
            found.spread("mse", length=length, method=method).text(),
            *cells(THEIRS.get((length, method), NOTHING)),
        ]
        for length in LENGTHS
        for method in METHODS
        if {"length": length, "method": method} in SETTINGS
    ]
    return f"""Two of many random numbers are marked, and their sum is asked for in the last step. Squared error on 500
other sequences; the best answer without memory has {CHANCE:.4f}. The learned sequences are a fraction of those of the
papers. In parts, each part asks for the sum with a weight that grows, as in `examples/fptt_adding.py`.

{table(["length", "method", "what it is", "squared error", *HEADS], rows)}
"""


def draw(found: Results, figure: Any) -> None:
    for axes, length in zip(figure.subplots(1, len(LENGTHS), sharey=True), LENGTHS, strict=True):
        for method in METHODS:
            curves = [run.found["curve"] for run in found.chosen(length=length, method=method)]
            curves = [curve for curve in curves if len(curve) == max(map(len, curves))]
            if curves:
                at = (np.arange(len(curves[0])) + 1) / len(curves[0]) * found.fixed["batches"]
                axes.semilogy(at, np.median(np.array(curves), axis=0), label=method)
        axes.axhline(CHANCE, color="0.4", linestyle="--", linewidth=1)
        axes.set(title=f"length {length}", xlabel="batches of sequences")
    figure.axes[0].set_ylabel("squared error")
    figure.axes[0].legend()


SETTINGS = [
    *({"length": 500, "method": method} for method in ("rtrl", "parts", "fptt")),
    *({"length": 100, "method": method} for method in METHODS),
]

EXPERIMENT = Experiment(
    name="adding",
    title="The adding problem, and FPTT",
    minutes=60,
    fixed={
        "batches": 1500,
        "units": 128,
        "batch": 32,
        "parts": 10,
        "rate": 0.003,
        "optimizer": "Adam, gradients clipped to norm 1",
        "dtype": "float32",
    },
    settings=SETTINGS,
    seeds=3,
    run=run,
    page=page,
    draw=draw,
    quick={"batches": 2, "units": 16},
)

"""The adding problem: one update at the end of a sequence, by rule, or FPTT in parts of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import forwardgrad as fg
from experiments.drawing import curve, legend, levels
from experiments.experiment import NOTHING, Experiment, Published, grid
from experiments.networks import Graph, layers
from experiments.results import Results
from experiments.tables import HEADS, cells, table
from experiments.training import compiled, quietly, sequences
from forwardgrad.learning.fptt import FPTT
from forwardgrad.learning.tasks import adding_problem
from forwardgrad.learning.transforms import Clipped

LENGTHS = (100, 500, 1000)
METHODS: Mapping[str, str] = {
    "rtrl": "exact gradient, an update at the end",
    "parts": "exact within a part, an update after each of the parts, Adam alone",
    "fptt": "the same with FPTT, alpha 0.1, and the regulariser of the code",
    "fptt-paper": "the same with FPTT, alpha 0.1, and the regulariser of the paper",
    "fptt-weak": "the same with FPTT, alpha 0.01, and the regulariser of the code",
}
REGULARIZERS = {"parts": (0.0, 0.0), "fptt": (0.1, 0.0), "fptt-paper": (0.1, 0.5), "fptt-weak": (0.01, 0.0)}
"""`alpha` and `rho` of `FPTT`."""
CHANCE = 1 / 6
LOOKS = 10


def network(units: int, length: int) -> Graph:
    """A layer of LSTM units whose memories last from a step to a sequence at first, and a linear readout.

    The biases of forget gates are log(t), with t evenly spaced up to the length, and those of input gates minus that:
    Tallec & Ollivier 2018, arXiv 1804.11188, section 2.2, without drawing.
    """
    bias = np.log(np.linspace(1.01, length - 1, units))
    return layers(2, units, 1, cell="lstm", forget_bias=bias, input_bias=-bias)


def run(
    *, seed: int, length: int, method: str, batches: int, units: int, batch: int, parts: int, rate: float, **_: Any
) -> dict[str, Any]:
    """Learn from fresh sequences; the squared error on others, in the end and on the way."""
    program = compiled(network(units, length), "mse", "tbptt")  # all of a sequence in one block is the exact gradient
    test, curve = adding_problem(200, (seed, 10**6), steps=length), list[float]()
    every, adam = max(1, batches // LOOKS), Clipped(fg.Adam(rate), norm=1.0)

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
        alpha, rho = REGULARIZERS[method]
        learner = fg.Learner(program, program.init(seed), FPTT(adam, alpha, rho=rho))
        mask, steps = np.zeros((length, batch)), length // parts
        for part in range(1, parts + 1):
            mask[part * steps - 1] = steps * part / parts  # a Learner divides by the length of a block
        for number in range(batches):
            task = drawn(number)
            learner.fit([({"x": task.inputs}, {"y": task.targets}, mask)], block=steps)
            learner.reset()
            look(number + 1, learner.params)

    quietly(in_parts if method in REGULARIZERS else at_ends)
    finished = len(curve) >= batches // every
    return {"mse": curve[-1] if finished else None, "least": min(curve, default=None), "curve": curve}


SOURCE = "Kag & Saligrama 2021, PMLR 139:5189-5200"
THEIRS: Mapping[tuple[int, str], Published] = {
    (500, "fptt"): Published("MSE .0007", f"{SOURCE}, second-hand", "yes"),
    (500, "rtrl"): Published("at chance, .167 (BPTT)", f"{SOURCE}, second-hand", "yes"),
    (500, "fptt-paper"): Published("MSE .0007", f"{SOURCE}, second-hand", "yes"),
    (1000, "fptt"): Published("MSE .0027", f"{SOURCE}, second-hand", "yes"),
    (1000, "fptt-paper"): Published("MSE .0027", f"{SOURCE}, second-hand", "yes"),
    (1000, "rtrl"): Published("at chance, .167 (BPTT)", f"{SOURCE}, second-hand", "yes"),
}


def page(found: Results) -> str:
    rows = [
        [
            str(length),
            f"`{method}`",
            METHODS[method],
            *(found.spread(number, length=length, method=method).text() for number in ("mse", "least")),
            *cells(THEIRS.get((length, method), NOTHING)),
        ]
        for length in LENGTHS
        for method in METHODS
    ]
    seen = found.fixed["batches"] * found.fixed["batch"]
    return f"""Two of many random numbers are marked, and their sum is asked for in the last step. Squared error on 200
other sequences; the best answer without memory has {CHANCE:.4f}. In parts, each part asks for the sum with a weight
that grows, as in `examples/fptt_adding.py`.

{table(["length", "method", "what it is", "squared error, in the end", "least on the way", *HEADS], rows)}

Runs are shorter than the published ones: {seen:,} sequences, where the published command takes 10,000 batches of 128,
at a rate of 0.001. Forget gates begin with biases that keep memories for up to the length of a sequence, where the
published code has none. In the version of that code that we read (github.com/anilkagak2/FPTT, `train.py`, function
`add_task_train_online`), the adding problem is learned in parts without the regulariser: what it runs is `parts`, not
`fptt`. The rate stays as it is to the end, so the last errors go up and down.
The regulariser holds weights near their running mean, and delays the end of the plateau at chance; how long depends on
its form. In the paper half of the multiplier is subtracted (`rho=0.5`), in the code by default all of it.
"""


def gist(found: Results) -> tuple[str, str]:
    ours = " and ".join(f"{found.median('mse', length=length, method='fptt-paper'):.4f}" for length in LENGTHS[1:])
    return "FPTT .0007 and .0027 (500, 1000 steps)", f"{ours}, after a hundredth of the sequences"


def draw(found: Results, figure: Any) -> None:
    shown = [length for length in LENGTHS if found.chosen(length=length)] or LENGTHS[:1]
    for axes, length in zip(figure.subplots(1, len(shown), sharey=True, squeeze=False)[0], shown, strict=True):
        for method in METHODS:
            curves = [run.found["curve"] for run in found.chosen(length=length, method=method)]
            curves = [each for each in curves if len(each) == max(map(len, curves))]
            at = (np.arange(len(curves[0])) + 1) / len(curves[0]) * found.fixed["batches"] if curves else ()
            curve(axes, at, curves, method)
        levels(axes, [CHANCE])
        axes.set(title=f"length {length}", xlabel="batches of sequences", yscale="log")
    figure.axes[0].set_ylabel("squared error")
    legend(figure)


EXPERIMENT = Experiment(
    name="adding",
    title="The adding problem, and FPTT",
    minutes=60,
    fixed={
        "batches": 400,
        "units": 128,
        "batch": 32,
        "parts": 10,
        "rate": 0.003,
        "optimizer": "Adam, gradients clipped to norm 1",
        "dtype": "float32",
    },
    settings=grid(length=list(LENGTHS), method=list(METHODS)),
    seeds=3,
    run=run,
    page=page,
    gist=gist,
    draw=draw,
    quick={"batches": 2, "units": 16},
)

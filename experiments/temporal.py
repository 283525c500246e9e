"""Which tasks need credit through time at all? The distance of `immediate` and `reservoir` from the exact gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

import forwardgrad as fg
from experiments.drawing import bars, legend, look
from experiments.experiment import NOTHING, Experiment, grid
from experiments.networks import layers
from experiments.results import Results
from experiments.tables import HEADS, cells, listed, table
from experiments.training import Batch, compiled, quietly, sequences
from forwardgrad.learning import tasks
from forwardgrad.learning.tasks import Labelled, Valued
from forwardgrad.learning.transforms import Clipped

Task = Callable[..., Labelled | Valued]
TASKS: Mapping[str, Task] = {
    "recall": partial(tasks.recall, shortest=10, longest=25),
    "memory_chain": tasks.memory_chain,
    "delayed_xor": partial(tasks.delayed_xor, gap=5, delay=5),
    "temporal_order": partial(tasks.temporal_order, steps=20),
    "cued_count": partial(tasks.cued_count, steps=5, modulo=6),
    "copy_memory": partial(tasks.copy_memory, delay=5, length=5),
    "embedded_reber": tasks.embedded_reber,
    "adding_problem": partial(tasks.adding_problem, steps=30),
    "delayed_add": partial(tasks.delayed_add, steps=40),
    "trace_patterning": partial(tasks.trace_patterning, steps=200, gap=(4, 8), pause=(20, 30)),
}
"""Smaller than published where that would take too long."""
RULES = ("rtrl", "eprop", "immediate", "reservoir")


def _arrays(task: Labelled | Valued) -> Batch:
    return {"x": task.inputs}, {"y": task.targets}, task.mask


def _fresh(task: Task, name: str, updates: int, batch: int, seed: int) -> Iterator[Batch]:
    """New sequences for every update; those of trace patterning are of one call, which draws what counts."""
    if name != "trace_patterning":
        return (_arrays(task(batch, (seed, number))) for number in range(updates))
    whole = task(40 * batch, seed)
    parts = [slice(start, start + batch) for start in range(0, 40 * batch, batch)]
    several = [({"x": whole.inputs[:, p]}, {"y": whole.targets[:, p]}, whole.mask[:, p]) for p in parts]
    return (several[number % len(several)] for number in range(updates))


def _test(task: Task, name: str, samples: int, batch: int, seed: int) -> Labelled | Valued:
    if name != "trace_patterning":
        return task(samples, (seed, 10**6))
    whole = task(40 * batch + samples, seed)
    assert isinstance(whole, Valued)
    rest = slice(40 * batch, None)
    return Valued(
        whole.inputs[:, rest], whole.targets[:, rest], whole.mask[:, rest], whole.lengths[rest], whole.references
    )


def run(
    *, seed: int, task: str, rule: str, updates: int, units: int, batch: int, rate: float, **_: Any
) -> dict[str, Any]:
    """Learn, and score other sequences: accuracy, or one minus the NMSE."""
    make = TASKS[task]
    test = _test(make, task, 200, batch, seed)
    outputs = int(test.targets.max()) + 1 if isinstance(test, Labelled) else test.targets.shape[-1]
    if task == "cued_count":
        outputs = 6
    loss = "cross_entropy" if isinstance(test, Labelled) else "mse"
    graph = layers(test.inputs.shape[-1], units, outputs, cell="lstm")
    program = compiled(graph, loss, rule)
    data, optimizer = _fresh(make, task, updates, batch, seed), Clipped(fg.Adam(rate), norm=1.0)
    learned = quietly(lambda: sequences(program, program.init(seed), optimizer, data)[0])
    if learned is None:
        return {"score": None}
    answers = program.run(learned, {"x": test.inputs})["y"].astype(np.float64)
    if isinstance(test, Labelled):
        return {"score": test.accuracy(answers)}
    return {"score": 1 - test.mse(answers) / _variance(test)}


def _variance(task: Valued) -> float:
    return float(np.var(task.targets[task.mask > 0]))


def _chance(name: str) -> float:
    """The score without memory."""
    for reference in TASKS[name](4, 0).references:
        if reference.kind == "accuracy":
            return reference.value
    return 0.0


def _share(found: Results, name: str, rule: str) -> float:
    """The gain over the score without memory, relative to that of the exact gradient; NaN where that gains nothing."""
    chance = _chance(name)
    gained = found.median("score", task=name, rule="rtrl") - chance
    return (found.median("score", task=name, rule=rule) - chance) / gained if gained > 0.02 else float("nan")


def _without_credit(found: Results) -> dict[str, float]:
    """By task, the larger share of the two rules that bring no credit through time."""
    return {name: max(_share(found, name, rule) for rule in RULES[2:]) for name in TASKS}


def page(found: Results) -> str:
    rows: list[list[str]] = []
    for name in TASKS:
        shares = [f"{share:.2f}" if share == share else "" for share in (_share(found, name, r) for r in RULES[1:])]
        scores = [found.spread("score", task=name, rule=rule).text(2) for rule in RULES]
        rows.append([f"`{name}`", f"{_chance(name):.2f}", *scores, *shares, *cells(NOTHING)])
    free = [name for name, share in _without_credit(found).items() if share >= 0.9]
    needed = [name for name, share in _without_credit(found).items() if share < 0.5]
    heads = ["task", "without memory", *(f"`{rule}`" for rule in RULES), *(f"share of `{rule}`" for rule in RULES[1:])]
    return f"""A layer of LSTM units learns each task from fresh sequences, an update after each batch. The score is the
accuracy, or 1 - NMSE; the share is how much a rule gains over the best score without memory, relative to what the exact
gradient gains. A share near 1 says that the task, so set, does not need credit through time; one near 0 that it does.

{table([*heads, *HEADS], rows)}

`immediate` or `reservoir` gains at least nine tenths of what the exact gradient gains on {listed(free)}, and less than
half on {listed(needed)}. Where no share is given, the exact gradient gains nothing in that many updates.
"""


def gist(found: Results) -> tuple[str, str]:
    free = sum(share >= 0.9 for share in _without_credit(found).values())
    return "none", f"{free} of {len(TASKS)} tasks are learned without credit through time"


def draw(found: Results, figure: Any) -> None:
    axes = figure.subplots()
    at = np.arange(len(TASKS))
    for rule, hatch, shift in zip(RULES, ("", "//", "..", ""), (-0.3, -0.1, 0.1, 0.3), strict=True):
        spreads = [found.spread("score", task=name, rule=rule) for name in TASKS]
        bars(axes, at + shift, spreads, 0.19, rule, color=look(rule)["color"], hatch=hatch)
    axes.plot(at, [_chance(name) for name in TASKS], "_", color="gold", markersize=32, label="without memory")
    axes.set_xticks(at, [name.replace("_", "\n") for name in TASKS], fontsize="small")
    axes.set(ylabel="accuracy, or 1 - NMSE", ylim=(0, 1.03))
    legend(figure)


EXPERIMENT = Experiment(
    name="temporal",
    title="Which tasks need credit through time?",
    minutes=25,
    fixed={
        "updates": 1000,
        "units": 32,
        "batch": 32,
        "rate": 0.003,
        "optimizer": "Adam, gradients clipped to norm 1, an update after every batch of sequences",
        "dtype": "float32",
    },
    settings=grid(task=list(TASKS), rule=list(RULES)),
    seeds=5,
    run=run,
    page=page,
    gist=gist,
    draw=draw,
    quick={"updates": 4},
)

"""Classic tasks for LSTMs, learned online: an update after every step, or at the one step with an answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import forwardgrad as fg
from experiments.experiment import NOTHING, Experiment, Published, grid
from experiments.networks import Graph, layers
from experiments.results import Results
from experiments.tables import HEADS, cells, listed, table
from experiments.training import compiled, quietly, sequences
from forwardgrad.learning import schedules
from forwardgrad.learning.tasks import Labelled, Valued, adding_problem, embedded_reber, temporal_order
from forwardgrad.learning.transforms import Clipped, Scheduled
from forwardgrad.program import Program

RULES = ("rtrl", "eprop", "immediate", "reservoir")
Params = Mapping[str, Any]
Strings = Callable[[np.random.Generator], NDArray[np.intp]]

LARGEST, SHOWN = 100, 10
"""Of a^n b^n: the largest n of the test, and of learning."""


def reber(random: np.random.Generator) -> NDArray[np.intp]:
    """A string of the embedded Reber grammar, as channels."""
    task = embedded_reber(1, random)
    return np.append(task.inputs[: task.lengths[0], 0].argmax(axis=1), task.targets[task.lengths[0] - 1, 0])


def counted(random: np.random.Generator) -> NDArray[np.intp]:
    """S, a^n, b^n and S again, as 0, 1 and 2."""
    return _counted(int(random.integers(1, SHOWN + 1)))


def _counted(n: int) -> NDArray[np.intp]:
    return np.array([0, *([1] * n), *([2] * n), 0])


def network(
    inputs: int, units: int, outputs: int, *, forget: bool = True, output_bias: float = 0.0, **options: Any
) -> Graph:
    """A layer of LSTM units and a readout.

    Args:
        inputs, units, outputs: sizes.
        forget: whether there are forget gates, whose biases start at 1; without them a cell keeps what it holds, as in
            Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735.
        output_bias: where the biases of output gates start.
        options: of the cell.
    """
    graph = layers(inputs, units, outputs, cell="lstm", **options)
    graph.nodes["l.1.o"]["bias"] = output_bias
    if not forget:
        graph.remove_nodes_from(["l.1.f", "l.1.kept"])
        graph.add_edge("l.1.c", "l.1.c", value=1.0, delay=1)
    return graph


def _online(
    program: Program, params: Params, optimizer: Any, draw: Strings, count: int, every: int, afresh: bool, seed: int
) -> Iterator[tuple[int, Params]]:
    """Learn the next symbol, step by step; the number of strings and the parameters, every so many strings."""
    random, eye = np.random.default_rng((seed, 1)), np.eye(program.network.nodes["x"].size)
    stream = program.stream(dict(params), batch=1, optimizer=optimizer)
    last: list[NDArray[np.intp]] = []
    for number in range(1, count + 1):
        string = draw(random)
        if afresh:
            stream.reset()
        elif last:
            string = np.concatenate([last.pop(), string])
        for symbol, following in itertools.pairwise(string):
            stream.step(eye[symbol][None], np.array([following]))
        last.append(string[-1:])
        if number % every == 0:
            yield number, stream.params


def _outer(program: Program, params: Params, strings: list[NDArray[np.intp]], together: bool) -> float:
    """How often the repeated symbol is told, the last but one of a string of Reber."""
    eye, outputs = np.eye(7), list[Any]()
    if together:
        whole = program.run(dict(params), {"x": eye[np.concatenate(strings)][:, None]})["y"][:, 0]
        outputs = np.split(whole, np.cumsum([len(string) for string in strings])[:-1])
    else:
        outputs = [program.run(dict(params), {"x": eye[string][:, None]})["y"][:, 0] for string in strings]
    return float(np.mean([y[-3].argmax() == s[-2] for y, s in zip(outputs, strings, strict=True)]))


def _reached(program: Program, params: Params) -> float:
    """Up to which n all strings a^n b^n are told: after the first b every symbol, before it no impossible one."""
    for n in range(1, LARGEST + 1):
        string = _counted(n)
        told = program.run(dict(params), {"x": np.eye(3)[string[:-1]][:, None]})["y"][:, 0].argmax(axis=1)
        if told[0] != 1 or (told[1 : n + 1] == 0).any() or (told[n + 1 :] != string[n + 2 :]).any():
            return n - 1.0
    return float(LARGEST)


def _symbols(
    task: str, rule: str, seed: int, strings: int, units: int, rate: float, clip: float, **cell: Any
) -> dict[str, Any]:
    size, draw = (3, counted) if task == "anbn" else (7, reber)
    program = compiled(network(size, units, size, **cell), "cross_entropy", rule)
    random = np.random.default_rng((seed, 2))
    others = [reber(random) for _ in range(60 if task == "continual_reber" else 200)]
    optimizer, continual = Clipped(fg.Adam(rate), norm=clip), task == "continual_reber"
    curve: list[float] = []
    solved: int | None = None
    every = max(1, strings // 20)
    for number, params in _online(program, program.init(seed), optimizer, draw, strings, every, not continual, seed):
        curve.append(_reached(program, params) if task == "anbn" else _outer(program, params, others, continual))
        if solved is None and curve[-1] >= (SHOWN if task == "anbn" else 1):
            solved = number
    return {"score": curve[-1], "best": max(curve), "solved": solved, "curve": curve}


def _answers(
    task: str, rule: str, seed: int, updates: int, units: int, rate: float, clip: float, **cell: Any
) -> dict[str, Any]:
    make = _adding if task == "adding" else _order
    test: Any = make(512, (seed, 10**6))
    labelled = isinstance(test, Labelled)
    graph = network(test.inputs.shape[-1], units, 4 if labelled else 1, **cell)
    program = compiled(graph, "cross_entropy" if labelled else "mse", rule)
    curve: list[float] = []
    every = max(1, updates // 20)

    def look(number: int, params: Params) -> None:
        if number and number % every == 0:
            outputs = program.run(dict(params), {"x": test.inputs})["y"]
            curve.append(test.accuracy(outputs) if labelled else test.mse(outputs))

    tasks: Iterator[Any] = (make(32, (seed, number)) for number in range(updates))
    data = (({"x": each.inputs}, {"y": each.targets}, each.mask) for each in tasks)
    halving = Scheduled(fg.Adam(rate), schedules.StepDecay(1500, 0.5)) if task == "adding" else fg.Adam(rate)
    sequences(program, program.init(seed), Clipped(halving, norm=clip), data, look)
    solved = next(((k + 1) * every * 32 for k, a in enumerate(curve) if labelled and a >= 0.999), None)
    return {"score": curve[-1], "best": (max if labelled else min)(curve), "solved": solved, "curve": curve}


def _order(sequences: int, seed: Any) -> Labelled:
    return temporal_order(sequences, seed, steps=50)


def _adding(sequences: int, seed: Any) -> Valued:
    return adding_problem(sequences, seed, steps=100)


FORGETFUL = "temporal_order, forget gates"
"""The same task for another cell than that of the source."""

CLOSED = {"input_bias": -1.0, "output_bias": -1.0}
"""Gates that begin nearly closed."""

TASKS: Mapping[str, Mapping[str, Any]] = {
    "adding": {"updates": 8000, "units": 8, "rate": 0.005, "clip": 1.0},
    "temporal_order": {"updates": 1500, "units": 4, "rate": 0.02, "clip": 1.0, "forget": False, "input_bias": -1.0},
    FORGETFUL: {"updates": 1500, "units": 4, "rate": 0.02, "clip": 1.0, "input_bias": -1.0},
    "embedded_reber": {"strings": 8000, "units": 8, "rate": 0.01, "clip": 5.0, "forget": False, **CLOSED},
    "continual_reber": {"strings": 12000, "units": 12, "rate": 0.01, "clip": 5.0, **CLOSED},
    "anbn": {"strings": 4000, "units": 2, "rate": 0.01, "clip": 1.0, "input_bias": -1.0, "peepholes": True},
}
"""Sizes, rates, limits of norms and cells, as there."""


def run(*, seed: int, task: str, rule: str, share: float, **_: Any) -> dict[str, Any]:
    """Learn one task under a rule; the score in the end, the best on the way, and when it was solved."""
    options = dict(TASKS[task])
    for name in ("updates", "strings"):
        if name in options:
            options[name] = max(1, int(share * options[name]))
    if "strings" in options:
        found = quietly(lambda: _symbols(task, rule, seed, **options))
    else:
        found = quietly(lambda: _answers(task, rule, seed, **options))
    return {"score": None, "best": None, "solved": None, "curve": []} if found is None else found


SCORES = {
    "adding": ("squared error, length 100", 4),
    "temporal_order": ("accuracy, length 50", 3),
    FORGETFUL: ("accuracy, length 50", 3),
    "embedded_reber": ("share of repeated symbols", 3),
    "continual_reber": ("share of repeated symbols, one endless stream", 3),
    "anbn": ("all n up to this one, of 100, learned up to 10", 0),
}
SOURCE = "github.com/cybertronai/schmidhuber-problems"
PUBLISHED: Mapping[str, Published] = {
    "adding": Published("BPTT: .0007 after 8,000 updates", f"{SOURCE}, `adding-problem`", "no"),
    "temporal_order": Published("BPTT: 1.000 in 5 of 5 seeds", f"{SOURCE}, `temporal-order-3bit`", "no"),
    FORGETFUL: NOTHING,
    "embedded_reber": Published(
        "BPTT: solved after 4,800 strings, mean; 8,440 in the paper of LSTM",
        f"{SOURCE}, `embedded-reber`; Hochreiter & Schmidhuber 1997, as quoted there",
        "no; yes",
    ),
    "continual_reber": Published("BPTT: .997 after 12,000 strings", f"{SOURCE}, `continual-embedded-reber`", "no"),
    "anbn": Published("BPTT: 65, median of seeds 100", f"{SOURCE}, `anbn-anbncn`", "no"),
}


SOLVED = [task for task in SCORES if task not in ("adding", FORGETFUL)]
"""Tasks that the source solves."""


def _count(found: Results, task: str, rule: str) -> str:
    """In how many seeds it is solved."""
    runs = found.chosen(task=task, rule=rule)
    return f"{sum(run.found['solved'] is not None for run in runs)} of {len(runs)}"


def _solved(found: Results, task: str, rule: str) -> str:
    runs = found.chosen(task=task, rule=rule)
    counts = [run.found["solved"] for run in runs if run.found["solved"] is not None]
    after = f", after {np.median(counts):,.0f}" if counts else ""
    return _count(found, task, rule) + after if runs else "not run"


def _verdict(found: Results) -> str:
    """Which rules solve which tasks in all of their seeds."""
    words: list[str] = []
    for rule in RULES:
        runs = {task: found.chosen(task=task, rule=rule) for task in SOLVED}
        solved = [t for t, each in runs.items() if each and all(run.found["solved"] is not None for run in each)]
        words.append(f"under `{rule}` {'all' if len(solved) == len(runs) else listed(solved)}")
    return f"Tasks that are solved in all seeds, of these four: {'; '.join(words)}."


def page(found: Results) -> str:
    rows: list[list[str]] = []
    for task, (score, digits) in SCORES.items():
        for rule in RULES:
            ours = [found.spread(number, task=task, rule=rule).text(digits) for number in ("score", "best")]
            solved = "" if task == "adding" else _solved(found, task, rule)
            rows.append(
                [f"`{task}`", f"`{rule}`", score, *ours, solved, *cells(PUBLISHED[task] if rule == "rtrl" else NOTHING)]
            )
    heads = ["task", "rule", "score", "in the end", "best", "solved, after sequences", *HEADS]
    sizes = "; ".join(f"{task}: {', '.join(f'{k} {v}' for k, v in each.items())}" for task, each in TASKS.items())
    return f"""A layer of LSTM units. Kind of cell, initial biases of gates, sizes and rates are those of the source;
initial weights are our own, and all squashing functions are `tanh`. Symbols of strings are told one step ahead, with
an update after every step of a single stream, where the source updates after a string, or after six of them. Sequences
with one answer come in batches of 32. A string task counts as solved at the first of 20 looks at which all repeated
symbols of other strings are told; `anbn`, if all n up to {SHOWN} are; `temporal_order`, at an accuracy of .999.

{table(heads, rows)}

{_verdict(found)}

Without forget gates, as in the source of `temporal_order`, a cell keeps what it holds over the 20 to 50 steps until the
answer; with forget gates, whose biases begin at 1, that fades at first. There the task is solved under `rtrl` in
{_count(found, FORGETFUL, "rtrl")} seeds and under `eprop` in {_count(found, FORGETFUL, "eprop")}.

Sizes and cells: {sizes}.
"""


def gist(found: Results) -> tuple[str, str]:
    solved = ", ".join(f"`{task}` {_count(found, task, 'rtrl')}" for task in SOLVED)
    return (
        "BPTT solves four tasks; adding .0007",
        f"`rtrl`: {solved}; adding {found.median('score', task='adding', rule='rtrl'):.4f}",
    )


EXPERIMENT = Experiment(
    name="classics",
    title="Classic tasks, learned online",
    minutes=40,
    fixed={
        "share": 1.0,
        "cells": "as in the source",
        "optimizer": "Adam, gradients clipped by their norm; the rate of adding halves every 1,500 updates",
        "dtype": "float32",
    },
    settings=grid(task=list(TASKS), rule=list(RULES)),
    seeds=5,
    run=run,
    page=page,
    gist=gist,
    quick={"share": 0.002},
)

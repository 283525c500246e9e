"""MemoryChain: an actor-critic must act by a bit that it saw when the episode began, under three rules."""

from __future__ import annotations

from typing import Any

import numpy as np

import forwardgrad as fg
from experiments.drawing import curve, legend
from experiments.experiment import NOTHING, Experiment, Published
from experiments.results import Results
from experiments.tables import HEADS, cells, table
from experiments.training import backend, quietly
from forwardgrad import rl

LENGTHS = (4, 8, 16, 32, 64)
RULES = ("rtrl", "rflo", "immediate")
VARIANTS = ({"recall": True, "tau": 5}, {"recall": False, "tau": 5}, {"recall": False, "tau": 64})
"""Whether the network sees its last action and reward, and the longest time constant with which units start."""

SOURCE = "Lemmel & Grosu 2025, arXiv 2311.04830, Table 2"
PUBLISHED = {
    "rtrl": dict(zip(LENGTHS, ("1", ".90", ".61", ".56", ".61"), strict=True)),
    "rflo": dict(zip(LENGTHS, ("1", "1", "1", ".77", ".32"), strict=True)),
}


def run(
    *,
    seed: int,
    length: int,
    rule: str,
    recall: bool,
    tau: int,
    steps: int,
    batch: int,
    rate: float,
    epsilon: float,
    discount: float,
    trace: float,
    entropy: float,
    **_: Any,
) -> dict[str, Any]:
    """Learn for a number of steps; the mean return of the best evaluation's weights, over further episodes."""
    graph = rl.fitted(fg.load("actor_critic"), lambda: rl.MemoryChain(length), recall=recall)
    keep = 1 - 1 / np.geomspace(min(2.0, tau / 4), tau, graph.nodes["k"]["size"])
    graph.nodes["k"]["bias"] = np.log(keep / (1 - keep))
    program = fg.compile(graph, rule=rule, per_sample=True, dtype="float32", backend=backend())
    td = rl.TDSettings(discount=discount, trace=trace, entropy=entropy)
    settings = rl.RunSettings(steps, max(steps // 20, 1), batch, rate, epsilon, td, recall=recall, seed=seed)
    learned = quietly(lambda: rl.learn(program, lambda: rl.MemoryChain(length), settings))
    if learned is None:
        return {"score": None, "curve": []}
    return {"score": learned.score, "curve": [each.evaluation for each in learned.curve]}


def page(found: Results) -> str:
    rows = [
        [
            f"{length}",
            f"`{rule}`",
            *(found.spread("score", length=length, rule=rule, **seen).text(2) for seen in VARIANTS),
            *cells(
                Published(PUBLISHED[rule][length], SOURCE, "yes; the table is known second-hand")
                if rule in PUBLISHED
                else NOTHING
            ),
        ]
        for length in LENGTHS
        for rule in RULES
    ]
    return f"""The first two observations show a bit, and the last action must name it: the return is 1 for the right
bit and -1 for the wrong one, so that chance scores 0. The environment is `forwardgrad.rl.MemoryChain`, as in bsuite,
and the network `actor_critic`: 32 units with trained time constants, which start evenly spaced up to 5 or 64 steps.
Scores are means over 1000 episodes or a few more, with drawn actions and the weights of the best of 20 evaluations.
Settings were tuned for length 16 under `rflo`, and are the same for all.

{table(["length", "rule", *map(_named, VARIANTS), *HEADS], rows)}

As published, the network sees its last action and reward, and time constants start between 1 and 5. A high return says
less of a rule than it seems. There are two courses of an episode, and the state of an untrained layer still tells them
apart in the last step; then `immediate`, which brings no credit through time, can learn to read it, as from a
reservoir. An agent that sees its last action can besides hold the bit there, by repeating in each step what it did in
the last. Where a score falls short of the published one, learning has not found such a solution in
{found.fixed["steps"]:,} steps with these settings; the best of a few seeds and the worst are often 1 and
near 0, so a median of few says little.
"""


def _named(variant: dict[str, Any]) -> str:
    return f"last action {'seen' if variant['recall'] else 'not seen'}, up to {variant['tau']} steps"


def gist(found: Results) -> tuple[str, str]:
    runs = found.chosen(length=16, rule="rflo", **VARIANTS[0])
    ours = ", ".join(f"{run.found['score']:.3f}" for run in runs)
    return "length 16, RFLO: 1", f"{ours}, seed by seed"


def draw(found: Results, figure: Any) -> None:
    shown = [variant for variant in VARIANTS if found.chosen(**variant)] or VARIANTS[:1]
    panels = figure.subplots(len(shown), len(LENGTHS), sharex=True, sharey=True, squeeze=False)
    for row, variant in zip(panels, shown, strict=True):
        for axes, length in zip(row, LENGTHS, strict=True):
            for rule in RULES:
                curves = [run.found["curve"] for run in found.chosen(rule=rule, length=length, **variant)]
                curves = [each for each in curves if each]
                at = found.fixed["steps"] * np.arange(1, len(curves[0]) + 1) / len(curves[0]) if curves else ()
                curve(axes, at, curves, rule)
            axes.set(
                ylim=(-0.3, 1.05), xlim=(0, found.fixed["steps"]), xticks=found.fixed["steps"] * np.array([0.25, 0.75])
            )
            axes.set_title(f"length {length}", fontsize="medium")
        row[0].set_ylabel(f"mean return\n{_named(variant)}", fontsize="small")
    for axes in panels[-1]:
        axes.set_xlabel("steps")
    legend(figure)


EXPERIMENT = Experiment(
    name="memory_chain",
    title="MemoryChain: reinforcement learning with a memory",
    minutes=150,
    fixed={
        "steps": 20_000,
        "batch": 32,
        "rate": 0.003,
        "epsilon": 1e-4,
        "discount": 0.99,
        "trace": 0.9,
        "entropy": 0.001,
        "optimizer": "Adam, an update after each step, learning rate along a cosine to 0",
        "dtype": "float32",
    },
    settings=[
        {"length": length, **variant, "rule": rule} for length in LENGTHS for variant in VARIANTS for rule in RULES
    ],
    seeds=5,
    run=run,
    page=page,
    gist=gist,
    draw=draw,
    quick={"steps": 40},
)

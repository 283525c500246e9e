"""What does credit lose in a stack? Cosine and final loss against its depth."""

from __future__ import annotations

from typing import Any

import forwardgrad as fg
from experiments import flips
from experiments.experiment import NOTHING, Experiment, grid
from experiments.networks import layers
from experiments.results import Results
from experiments.tables import HEADS, cells, table
from experiments.training import compiled, cosine, gradient, measured, quietly, sequences
from forwardgrad.learning.transforms import Clipped

DEPTHS = (1, 2, 4, 8, 12)
RULES = ("rtrl", "eprop-deep", "ostl", "hops(2)", "eprop", "immediate", "reservoir")
LAGS = (2, 4)


def run(
    *,
    seed: int,
    depth: int,
    rule: str,
    updates: int,
    units: int,
    batch: int,
    steps: int,
    rate: float,
    leak: float,
    skips: str,
    **_: Any,
) -> dict[str, Any]:
    """Learn under a rule; under `rtrl`, take the cosines of all rules before and after."""
    graph = layers(2, units, 1, depth=depth, leak=leak, skips=skips)
    program = compiled(graph, "bernoulli", rule)
    first = program.init(seed)
    data, optimizer = flips.batches(updates, batch, steps, LAGS, seed), Clipped(fg.Adam(rate), norm=1.0)
    learned = quietly(lambda: sequences(program, first, optimizer, data)[0])
    if learned is None:
        return {"loss": None}
    found: dict[str, Any] = {"loss": flips.loss(program, learned, LAGS, seed)}
    if rule == "rtrl":
        large = flips.batch(64, steps, LAGS, (seed, 10**7))
        exact = measured(graph, "bernoulli", "rtrl")
        lowest = [name for name in exact.rules if name.startswith("x->") or "l.1." in name.split("->")[-1]]
        for at, params in (("start", first), ("end", learned)):
            whole = gradient(exact, params, large)
            for other in RULES[1:-1]:
                grads = gradient(measured(graph, "bernoulli", other), params, large)
                found[f"{other} {at}"] = cosine(grads, whole)
                found[f"{other} {at}, lowest layer"] = cosine(grads, whole, lowest)
    return found


def page(found: Results) -> str:
    parts: list[str] = []
    for at, what in (("start", "with first weights"), ("end", "after training by the exact gradient")):
        for layer, words in ((", lowest layer", "parameters of the lowest layer"), ("", "all parameters")):
            rows = [
                [
                    f"`{rule}`",
                    *(found.spread(f"{rule} {at}{layer}", depth=depth, rule="rtrl").text(2) for depth in DEPTHS),
                    *cells(NOTHING),
                ]
                for rule in RULES[1:-1]
            ]
            heads = ["rule", *(f"depth {depth}" for depth in DEPTHS), *HEADS]
            parts.append(f"Cosine with the exact gradient {what}, {words}:\n\n{table(heads, rows)}\n")
    rows = [
        [f"`{rule}`", *(found.spread("loss", depth=depth, rule=rule).text(3) for depth in DEPTHS), *cells(NOTHING)]
        for rule in RULES
    ]
    parts.append(f"Final loss:\n\n{table(['rule', *(f'depth {depth}' for depth in DEPTHS), *HEADS], rows)}\n")
    return f"""Layers of leaky units on top of each other learn the add task with lags {LAGS[0]} and {LAGS[1]}, whose
levels are 0.6616, 0.5192 and 0.4545. The readout sees the top layer alone.

{chr(10).join(parts)}"""


def draw(found: Results, figure: Any) -> None:
    left, middle, right = figure.subplots(1, 3)
    for rule in RULES:
        for axes, at in ((left, "start"), (middle, "end")):
            if rule in RULES[1:-1]:
                values = [found.median(f"{rule} {at}, lowest layer", depth=depth, rule="rtrl") for depth in DEPTHS]
                axes.plot(DEPTHS, values, marker="o", label=rule)
        losses = [found.median("loss", depth=depth, rule=rule) for depth in DEPTHS]
        right.plot(DEPTHS, losses, marker="o", label=rule, color="black" if rule == "rtrl" else None)
    left.set(title="lowest layer, first weights", ylabel="cosine with the exact gradient", xlabel="depth")
    middle.set(title="lowest layer, trained", xlabel="depth")
    right.set(title="all layers trained by the rule", ylabel="final loss (nats)", xlabel="depth")
    left.legend(fontsize="small")
    right.legend(fontsize="small")


EXPERIMENT = Experiment(
    name="depth",
    title="Credit against depth",
    minutes=20,
    fixed={
        "updates": 1000,
        "units": 16,
        "batch": 16,
        "steps": 31,
        "rate": 0.003,
        "leak": 0.5,
        "skips": "none",
        "optimizer": "Adam, gradients clipped to norm 1, an update after every sequence",
        "dtype": "float32 to learn, float64 for cosines",
    },
    settings=grid(depth=list(DEPTHS[::-1]), rule=list(RULES)),
    seeds=5,
    run=run,
    page=page,
    draw=draw,
    quick={"updates": 10},
)

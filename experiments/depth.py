"""What does credit lose in a stack? Cosine and final loss against its depth."""

from __future__ import annotations

from typing import Any

from experiments import flips
from experiments.drawing import legend, levels, points
from experiments.experiment import NOTHING, Experiment, grid
from experiments.networks import layers
from experiments.results import Results
from experiments.tables import HEADS, cells, listed, table
from experiments.training import cosine

DEPTHS = (1, 2, 4, 8, 12)
RULES = ("rtrl", "eprop-deep", "ostl", "hops(2)", "eprop", "immediate", "reservoir")
PATHS = RULES[1:-1]
"""Rules whose cosines are taken."""
LAGS = (2, 4)


def run(
    *, seed: int, depth: int, rule: str, units: int, leak: float, skips: str, optimizer: str, dtype: str, **how: Any
) -> dict[str, Any]:
    """Learn under a rule; under `rtrl`, take the cosines of all rules before and after."""
    learned = flips.learn(layers(2, units, 1, depth=depth, leak=leak, skips=skips), rule, LAGS, seed, **how)
    if learned is None:
        return {"loss": None}
    found: dict[str, Any] = {"loss": learned.loss}
    for other, at, grads, whole in learned.gradients(PATHS if rule == "rtrl" else ()):
        lowest = [name for name in whole if name.startswith("x->") or "l.1." in name.split("->")[-1]]
        found[f"{other} {at}"] = cosine(grads, whole)
        found[f"{other} {at}, lowest layer"] = cosine(grads, whole, lowest)
    return found


NEAR = 0.01
"""Nats by which losses may differ to be called near."""


def _verdict(found: Results) -> str:
    """What becomes of the rules in the deepest stack."""
    deepest = DEPTHS[-1]
    losses = {rule: found.median("loss", depth=deepest, rule=rule) for rule in RULES}
    near = [rule for rule in RULES[1:] if losses[rule] < losses["rtrl"] + NEAR]
    lost = [rule for rule in RULES[1:] if losses[rule] > flips.LEVELS[0] - NEAR]
    trained = [found.median(f"{rule} end, lowest layer", depth=deepest, rule="rtrl") for rule in PATHS]
    return f"""At depth {deepest}, by the median, the loss comes within {NEAR:g} of that of `rtrl` under
{listed(near)}, and stays within {NEAR:g} of what is possible without
memory under {listed(lost)}. In the lowest layer of the trained stack
cosines lie between {min(trained):.2f} and {max(trained):.2f} there, also those of rules that learn: a stack may
learn although the gradient of its lower layers points elsewhere. Neither does it help to keep more paths: `eprop-deep`
keeps all that `eprop` keeps, and ends at {losses["eprop-deep"]:.3f} where `eprop` ends at {losses["eprop"]:.3f}.
"""


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
    parts.append(_verdict(found))
    return f"""Layers of leaky units on top of each other learn the add task with lags {LAGS[0]} and {LAGS[1]}, whose
best losses are {flips.KNOWN}. The readout sees the top layer alone.

{chr(10).join(parts)}"""


def gist(found: Results) -> tuple[str, str]:
    ends = ", ".join(
        f"`{rule}` {found.median('loss', depth=DEPTHS[-1], rule=rule):.3f}" for rule in ("rtrl", "ostl", "eprop")
    )
    return "none", f"loss at depth {DEPTHS[-1]}: {ends}"


def draw(found: Results, figure: Any) -> None:
    panels = figure.subplots(1, 3)
    for axes, at in zip(panels, ("start", "end"), strict=False):
        for rule in PATHS:
            spreads = [found.spread(f"{rule} {at}, lowest layer", depth=depth, rule="rtrl") for depth in DEPTHS]
            points(axes, DEPTHS, spreads, rule)
        axes.axhline(0, color="0.5", linewidth=0.8)
    for rule in RULES:
        points(panels[2], DEPTHS, [found.spread("loss", depth=depth, rule=rule) for depth in DEPTHS], rule)
    levels(panels[2], flips.LEVELS)
    panels[0].set(title="lowest layer, first weights", ylabel="cosine with the exact gradient", ylim=(-1.05, 1.05))
    panels[1].set(title="lowest layer, trained exactly", ylabel="cosine with the exact gradient", ylim=(-1.05, 1.05))
    panels[2].set(title="all layers trained by the rule", ylabel="final loss (nats)")
    for axes in panels:
        axes.set(xlabel="depth", xticks=DEPTHS)
    legend(figure)


EXPERIMENT = Experiment(
    name="depth",
    title="Credit against depth",
    minutes=20,
    fixed={
        "updates": 1000,
        "units": 16,
        "leak": 0.5,
        "skips": "none",
        **flips.FIXED,
        "dtype": "float32 to learn, float64 for cosines",
    },
    settings=grid(depth=list(DEPTHS[::-1]), rule=list(RULES)),
    seeds=5,
    run=run,
    page=page,
    gist=gist,
    draw=draw,
    quick={"updates": 10},
)

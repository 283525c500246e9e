"""How many explicit edges must a path of credit cross? Cosine and final loss against the m of `hops(m)`."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments import flips
from experiments.drawing import legend, levels, points
from experiments.experiment import NOTHING, Experiment, grid
from experiments.networks import layers
from experiments.results import Results
from experiments.tables import HEADS, cells, table
from experiments.training import Arrays, cosine

CASES = {"leaky": ((2, 4), 0.5), "vanilla": ((5, 9), 0.0)}
"""Lags and leak, as in `delayed_add`."""
NEAR = 0.01
"""Nats by which a loss may be above another one to be called near."""
HOPS = (1, 2, 3, 4, 6, 8, 10, 12)
RULES = ("immediate", *(f"hops({m})" for m in HOPS), "rtrl")
AT = {"start": 0.0, "middle": 0.1, "end": 1.0}
"""Where along the training by the exact gradient cosines are taken, as shares of the updates."""
WORDS = {"start": "first weights", "middle": "after a tenth", "end": "trained"}


def _norm(grads: Arrays) -> float:
    return sum(float(np.sum(np.square(grad))) for grad in grads.values()) ** 0.5


def run(*, seed: int, case: str, rule: str, units: int, optimizer: str, dtype: str, **how: Any) -> dict[str, Any]:
    """Learn under a rule; under `rtrl`, take the cosines of all rules on the way."""
    lags, leak = CASES[case]
    learned = flips.learn(layers(2, units, 1, leak=leak), rule, lags, seed, moments=AT, **how)
    if learned is None:
        return {"loss": None}
    found: dict[str, Any] = {"loss": learned.loss}
    for other, at, grads, whole in learned.gradients(RULES[:-1] if rule == "rtrl" else ()):
        found[f"{other} {at}"] = cosine(grads, whole)
        found[f"{other} {at}, norm"] = _norm(grads) / _norm(whole)
    return found


def _enough(found: Results, case: str) -> str:
    """The least m whose median loss comes near that of the exact gradient."""
    exact = found.median("loss", case=case, rule="rtrl")
    near = [m for m in HOPS if found.median("loss", case=case, rule=f"hops({m})") < exact + NEAR]
    return f"m = {near[0]}" if near else "no m"


def page(found: Results) -> str:
    parts: list[str] = []
    for case, (lags, leak) in CASES.items():
        rows = [
            [
                f"`{rule}`",
                *("1" if rule == "rtrl" else found.spread(f"{rule} {at}", case=case, rule="rtrl").text(3) for at in AT),
                "1" if rule == "rtrl" else found.spread(f"{rule} end, norm", case=case, rule="rtrl").text(2),
                found.spread("loss", case=case, rule=rule).text(),
                *cells(NOTHING),
            ]
            for rule in RULES
        ]
        heads = ["rule", *(f"cosine, {at}" for at in AT), "norm, end", "final loss", *HEADS]
        parts.append(f"Lags {lags[0]} and {lags[1]}, leak {leak:g}:\n\n{table(heads, rows)}\n")
    return f"""`hops(m)` keeps paths that cross at most m - 1 explicit edges: the m-order e-prop of Martin-Sanchez et
al., in our reading. No curve of cosine or loss against m is known to us. The task is the add task; its best
losses are {flips.KNOWN}. Cosines are taken at three points of a training by the exact gradient,
norms relative to that of the exact one. A sum over fewer paths need not be nearer than one over still fewer: paths
cancel. With a leak, the paths over many steps cross all numbers of edges, and where the sum is cut among them, what is
left can be many times as large as the whole.

{chr(10).join(parts)}
By the median, the loss comes within {NEAR:g} of that of `rtrl` from {_enough(found, "leaky")} on with the leak, and
from {_enough(found, "vanilla")} on without.
"""


def gist(found: Results) -> tuple[str, str]:
    return (
        "none",
        f"the loss is that of `rtrl` from {_enough(found, 'leaky')} on (leak), {_enough(found, 'vanilla')} (none)",
    )


def draw(found: Results, figure: Any) -> None:
    rows = figure.subplots(2, len(CASES), sharex=True, sharey="row")
    for (upper, lower), (case, (lags, leak)) in zip(rows.T, CASES.items(), strict=True):
        for (at, words), marker in zip(WORDS.items(), "osD", strict=True):
            spreads = [found.spread(f"hops({m}) {at}", case=case, rule="rtrl") for m in HOPS]
            points(upper, HOPS, spreads, f"cosine, {words}", marker=marker, markersize=4, linewidth=1.3)
        style = {"color": "#1b6e3c", "marker": "h", "markersize": 5, "linewidth": 1.3}
        points(
            lower, HOPS, [found.spread("loss", case=case, rule=f"hops({m})") for m in HOPS], "loss, hops(m)", **style
        )
        for rule, line in (("rtrl", "-"), ("immediate", ":")):
            spread = found.spread("loss", case=case, rule=rule)
            if spread.known:
                lower.axhline(spread.median, color="0.3", linestyle=line, label=f"loss, {rule}")
        upper.set(title=f"lags {lags[0]} and {lags[1]}, leak {leak:g}", ylabel="cosine with the exact gradient")
        upper.axhline(0, color="0.5", linewidth=0.8)
        lower.set(xlabel="m of hops(m)", ylabel="final loss (nats)", xticks=HOPS)
        levels(lower, flips.LEVELS)
    legend(figure)


EXPERIMENT = Experiment(
    name="hops",
    title="How many hops does credit need?",
    minutes=15,
    fixed={
        "updates": 2000,
        "units": 32,
        **flips.FIXED,
        "dtype": "float32 to learn, float64 for cosines",
    },
    settings=grid(rule=list(RULES[::-1]), case=list(CASES)),
    seeds=5,
    height=6,
    run=run,
    page=page,
    gist=gist,
    draw=draw,
    quick={"updates": 20},
)

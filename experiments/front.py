"""Price and quality of rules: bytes of influence per sample, against cosine and against final loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import forwardgrad as fg
from experiments import flips
from experiments.drawing import legend, levels, points
from experiments.experiment import NOTHING, Experiment, grid
from experiments.networks import layers
from experiments.results import Results
from experiments.tables import HEADS, cells, listed, table
from experiments.training import compiled, cosine, gradient, measured, quietly, stream
from forwardgrad.learning.tasks import delayed_add
from forwardgrad.learning.transforms import Clipped

LAGS = (2, 4)
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "leaky tanh": {"cell": "leaky_tanh", "units": 24, "leak": 0.5},
    "lstm": {"cell": "lstm", "units": 12},
    "gru": {"cell": "gru", "units": 14},
}
"""Two layers each, of about the same price under `rtrl`."""
RULES = (
    "rtrl",
    "hops(2)",
    "eprop-deep",
    "ostl",
    "eprop",
    "eprop-random",
    "eprop-adaptive",
    "rflo",
    "window(4)",
    "snap(1)",
    "snap(2)",
    "uoro",
    "kf-rtrl",
    "dsf(0.5)",
    "immediate",
    "reservoir",
)
ONE_STEP = ("snap", "uoro", "kf-rtrl")
"""Beginnings of rules whose gradient depends on the length of blocks: they get blocks of one step, as published."""


def run(
    *, seed: int, network: str, rule: str, steps: int, batch: int, rate: float, length: int, **_: Any
) -> dict[str, Any]:
    """Bytes, the cosine with the exact gradient on the first weights, and the loss after learning online."""
    options = dict(NETWORKS[network])
    graph = layers(2, options.pop("units"), 1, depth=2, **options)
    program = compiled(graph, "bernoulli", rule)
    first = program.init(seed)
    sequence = flips.batch(batch, length, LAGS, (seed, 10**7))
    block = 1 if rule.startswith(ONE_STEP) else None
    exact = gradient(measured(graph, "bernoulli", "rtrl"), first, sequence)
    found: dict[str, Any] = {
        "bytes": sum(derived.bytes for derived in program.rules.values()),
        "cosine": cosine(gradient(measured(graph, "bernoulli", rule), first, sequence, block=block), exact),
    }
    task = delayed_add(batch, (0, seed), steps=steps + LAGS[1], lags=LAGS)
    shown = zip(task.inputs[LAGS[1] :], task.targets[LAGS[1] :, :, :1], np.zeros(steps, bool), strict=True)
    learned = quietly(lambda: stream(program, first, Clipped(fg.Adam(rate), norm=1.0), shown)[0])
    found["loss"] = None if learned is None else flips.loss(program, learned, LAGS, seed)
    return found


def _front(found: Results, network: str) -> list[str]:
    """The rules that no other rule beats by price and by median loss, from cheap to expensive."""
    known = [(rule, found.chosen(network=network, rule=rule)) for rule in RULES]
    priced = sorted(
        (runs[0].found["bytes"], found.median("loss", network=network, rule=rule), rule) for rule, runs in known if runs
    )
    best, front = float("inf"), list[str]()
    for _, loss, rule in priced:
        if loss < best:
            best = loss
            front.append(rule)
    return front


def _always(found: Results) -> str:
    """The rules that are on the front of every network."""
    fronts = [set(_front(found, network)) for network in NETWORKS]
    return listed([rule for rule in RULES if all(rule in front for front in fronts)])


def _agreement(found: Results, network: str) -> float:
    """The rank correlation over rules between cosines on first weights and final losses; NaN where there are few."""
    pairs = [[found.median(number, network=network, rule=rule) for number in ("cosine", "loss")] for rule in RULES]
    known = np.array([pair for pair in pairs if not np.isnan(pair).any()])
    if len(known) < 3:
        return float("nan")
    cosines, losses = known.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable").T
    return float(np.corrcoef(cosines, losses)[0, 1])


def _verdict(found: Results) -> str:
    """What the three networks have in common."""
    agreements = ", ".join(f"{_agreement(found, network):.2f} for {network}" for network in NETWORKS)
    free = ", ".join(f"{found.median('loss', network=name, rule='immediate'):.3f} ({name})" for name in NETWORKS)
    return f"""On the front of all three networks are {_always(found)}. Over rules, the rank correlation between
cosine on first weights and final loss is {agreements}; at -1 the cosine would tell the order of
rules. `snap(2)` is `rtrl` on dense recurrence, at its price, and `hops(2)` costs about as much or more. `immediate`,
which stores nothing, ends at {free}: where the state that it reads holds the flips by itself, credit for one step is
enough for lags this short."""


def page(found: Results) -> str:
    parts: list[str] = []
    for network in NETWORKS:
        rows: list[list[str]] = []
        for rule in RULES:
            one = found.chosen(network=network, rule=rule)
            price = f"{one[0].found['bytes']:,}" if one else "not run"
            quality = [found.spread(n, network=network, rule=rule).text(d) for n, d in (("cosine", 2), ("loss", 3))]
            rows.append([f"`{rule}`", price, *quality, *cells(NOTHING)])
        heads = ["rule", "bytes per sample", "cosine, first weights", "final loss", *HEADS]
        parts.append(
            f"{network}, two layers of {NETWORKS[network]['units']}:\n\n{table(heads, rows)}\n\n"
            f"By both bytes and median loss, no rule beats {listed(_front(found, network))}.\n"
        )
    return f"""The add task with lags {LAGS[0]} and {LAGS[1]} (best losses {flips.KNOWN}), learned online. Bytes are
those of the influence that is stored between steps, for one sample in single precision. `snap`, `uoro` and `kf-rtrl`
have blocks of one step, as published. The rules that are left out would be the same as others here: `ottt` and
`ostl-feedforward` as `eprop`, `bptt` as `rtrl`, and `tbptt` in blocks of a step as `immediate`.

{chr(10).join(parts)}
{_verdict(found)}
"""


def gist(found: Results) -> tuple[str, str]:
    return "none", f"on the front of all networks: {_always(found)}"


def draw(found: Results, figure: Any) -> None:
    for (upper, lower), network in zip(
        figure.subplots(2, len(NETWORKS), sharex=True, sharey="row").T, NETWORKS, strict=True
    ):
        for axes, number in ((upper, "cosine"), (lower, "loss")):
            for rule in RULES:
                runs = found.chosen(network=network, rule=rule)
                if runs:
                    points(axes, [runs[0].found["bytes"]], [found.spread(number, network=network, rule=rule)], rule)
            axes.set_xscale("symlog", linthresh=3000, linscale=0.4)
        front = [(found.chosen(network=network, rule=rule)[0], rule) for rule in _front(found, network)]
        best = [found.median("loss", network=network, rule=rule) for _, rule in front]
        lower.step([run.found["bytes"] for run, _ in front], best, where="post", color="0.6", linewidth=1, zorder=0)
        levels(lower, flips.LEVELS)
        upper.set(title=network)
        lower.set(xlabel="bytes of influence per sample", xlim=(-500, 5e5), xticks=(0, 1e4, 1e5))
    figure.axes[0].set_ylabel("cosine, first weights")
    figure.axes[len(NETWORKS)].set_ylabel("final loss (nats)")
    legend(figure)


EXPERIMENT = Experiment(
    name="front",
    title="Price and quality",
    minutes=50,
    fixed={
        "steps": 3000,
        "batch": 8,
        "length": 60,
        "rate": 0.003,
        "optimizer": "Adam, gradients clipped to norm 1, an update after every step",
        "dtype": "float32 to learn, float64 for cosines",
    },
    settings=grid(rule=list(RULES), network=list(NETWORKS)),
    seeds=5,
    height=6.5,
    run=run,
    page=page,
    gist=gist,
    draw=draw,
    quick={"steps": 20, "length": 8},
)

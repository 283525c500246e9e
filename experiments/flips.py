"""The add task in sequences: batches to learn from, the loss on others, learning by a rule, and gradients compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import forwardgrad as fg
from experiments.networks import Graph
from experiments.training import Arrays, Batch, compiled, gradient, measured, quietly, sequences
from forwardgrad.learning.tasks import delayed_add
from forwardgrad.learning.transforms import Clipped
from forwardgrad.program import Program

Lags = tuple[int, int]

LEVELS = (0.6616, 0.5192, 0.4545)
"""Least cross-entropy without memory, with the first flip, and with both; two are in the references of the task."""

KNOWN = "0.6616 without memory, 0.5192 with the first flip and 0.4545 with both"
"""The same in words."""

FIXED: Mapping[str, Any] = {
    "batch": 16,
    "steps": 31,
    "rate": 0.003,
    "optimizer": "Adam, gradients clipped to norm 1, an update after every sequence",
}
"""How `learn` learns in all experiments on this task."""


def batch(samples: int, steps: int, lags: Lags, seed: Any) -> Batch:
    """Sequences of so many steps with answers, behind those in which nothing is asked."""
    task = delayed_add(samples, seed, steps=steps + lags[1], lags=lags)
    return {"x": task.inputs}, {"y": task.targets[..., :1]}, task.mask


def batches(count: int, samples: int, steps: int, lags: Lags, seed: int) -> Iterator[Batch]:
    """Fresh sequences, drawn as they are asked for."""
    return (batch(samples, steps, lags, (seed, number)) for number in range(count))


def loss(program: Program, params: Mapping[str, Any], lags: Lags, seed: int) -> float:
    """Cross-entropy per answer on sequences never seen, in nats."""
    inputs, targets, mask = batch(256, 60, lags, (seed, 10**6))
    logits = program.run(dict(params), inputs)["y"].astype(np.float64)
    each = np.logaddexp(0, logits) - targets["y"] * logits
    return float(each[mask > 0].mean())


@dataclass(frozen=True)
class Learned:
    """A network before and after learning.

    Args:
        graph, lags, steps, seed: what learned, from which sequences.
        loss: on sequences never seen, in the end.
        params: the parameters by the name of a moment, such as `start` and `end`.
    """

    graph: Graph
    lags: Lags
    steps: int
    seed: int
    loss: float
    params: dict[str, Arrays] = field(default_factory=dict[str, Arrays])

    def gradients(self, rules: Iterable[str]) -> Iterator[tuple[str, str, Arrays, Arrays]]:
        """Rule, moment, gradient by the rule and exact gradient, of all parameters, on 64 further sequences."""
        large = batch(64, self.steps, self.lags, (self.seed, 10**7))
        exact = measured(self.graph, "bernoulli", "rtrl")
        whole = {at: gradient(exact, params, large) for at, params in self.params.items()}
        for rule in rules:
            program = measured(self.graph, "bernoulli", rule)
            for at, params in self.params.items():
                yield rule, at, gradient(program, params, large), whole[at]


def learn(
    graph: Graph,
    rule: str,
    lags: Lags,
    seed: int,
    *,
    updates: int,
    batch: int,
    steps: int,
    rate: float,
    moments: Mapping[str, float] | None = None,
) -> Learned | None:
    """Learn the task under a rule, sequence by sequence.

    Args:
        graph: the network.
        rule: by which it learns.
        lags: of the task.
        seed: of parameters and sequences.
        updates, batch, steps, rate: settings, as in `FIXED`.
        moments: when parameters are kept, as shares of the updates; by default at the start and at the end.

    Returns:
        What was learned; `None` if numbers overflowed.
    """
    program, kept = compiled(graph, "bernoulli", rule), dict[str, Arrays]()
    when = {"start": 0.0, "end": 1.0} if moments is None else moments

    def after(number: int, params: Arrays) -> None:
        kept.update((name, params) for name, share in when.items() if number == int(share * updates))

    data, optimizer = batches(updates, batch, steps, lags, seed), Clipped(fg.Adam(rate), norm=1.0)
    learned = quietly(lambda: sequences(program, program.init(seed), optimizer, data, after)[0])
    return None if learned is None else Learned(graph, lags, steps, seed, loss(program, learned, lags, seed), kept)

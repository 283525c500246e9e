"""The add task in sequences: batches to learn from, and the loss on others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from experiments.training import Batch
from forwardgrad.learning.tasks import delayed_add
from forwardgrad.program import Program

Lags = tuple[int, int]


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

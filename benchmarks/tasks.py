"""What does every contestant of a case get? The same parameters, inputs and targets, as arrays of one precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import forwardgrad as fg
from benchmarks.networks import Network, declare

SPIKING_INPUT = 0.04
"""How likely an input of a spiking network is to spike in a step."""


@dataclass(frozen=True)
class Task:
    """A network with data: the gradient of its loss is what is asked for.

    The loss is the sum over time of the mean over the batch, as everywhere in forwardgrad.

    Args:
        network: the network.
        x: inputs, `(time, batch, inputs)`.
        target: `(time, batch)` labels, or `(time, batch, outputs)`.
        params: parameters under the names of our graph.
    """

    network: Network
    x: np.ndarray
    target: np.ndarray
    params: Mapping[str, np.ndarray]

    @property
    def steps(self) -> int:
        """Length of the sequence."""
        return self.x.shape[0]

    @property
    def batch(self) -> int:
        """Number of samples."""
        return self.x.shape[1]

    @property
    def double(self) -> bool:
        """Whether it is to be computed in double precision."""
        return self.x.dtype == np.float64


@dataclass(frozen=True)
class Gradient:
    """What a contestant found.

    Args:
        loss: the loss.
        grads: the gradient under the names of our graph.
    """

    loss: float
    grads: Mapping[str, Any]


def make(network: Network, steps: int, batch: int, dtype: str = "float32", seed: int = 0) -> Task:
    """Draw a task; a longer one of the same seed has other data, not more."""
    draw = np.random.default_rng(seed)
    shape = steps, batch, network.inputs
    x = draw.random(shape) < SPIKING_INPUT if network.spikes else draw.normal(size=shape)
    if network.loss == "cross_entropy":
        target = draw.integers(network.outputs, size=(steps, batch))
    else:
        target = draw.normal(size=(steps, batch, network.outputs)).astype(dtype)
    params = fg.compile(declare(network), loss={"y": network.loss}, rule="eprop", dtype=dtype).init(seed)
    return Task(network, x.astype(dtype), target, params)

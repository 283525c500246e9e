"""Series to predict one step ahead, several lanes side by side: Hénon, Mackey-Glass, Lorenz, and the laser.

As in the code published with sketched RTRL (github.com/sonaradarcn/sketched-rtrl, `skrtrl/tasks.py`), so that scores
can be compared; random numbers are drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad import data

Series = NDArray[np.float64]

FIRST = 64
"""Values left out at the beginning."""


def henon(length: int, lanes: int, random: np.random.Generator) -> Series:
    """x(t+1) = 1 - 1.4 x(t)^2 + 0.3 x(t-1), from starts of 0.1, 0.11, ...; `(length, lanes)`. Nothing is drawn."""
    x, y, found = 0.1 + 0.01 * np.arange(lanes), np.zeros(lanes), np.empty((length, lanes))
    for step in range(length):
        found[step] = x
        x, y = 1 - 1.4 * x**2 + y, 0.3 * x
    return found


def mackey_glass(length: int, lanes: int, random: np.random.Generator) -> Series:
    """x(t+1) = x(t) + 0.2 x(t-16) / (1 + x(t-16)^10) - 0.1 x(t), with a random history.

    The delay is 17 steps as their code counts it.
    """
    past = list(1.2 + 0.2 * random.random((18, lanes)))
    for _ in range(length):
        past.append(past[-1] + 0.2 * past[-17] / (1 + past[-17] ** 10) - 0.1 * past[-1])
    return np.array(past[18:])


def lorenz(length: int, lanes: int, random: np.random.Generator) -> Series:
    """The first coordinate of the Lorenz system (10, 28, 8/3), every second of Euler steps of 0.01."""
    x = 1 + 0.1 * random.normal(size=(lanes, 3))
    found = np.empty((2 * length, lanes))
    for step in range(-100, 2 * length):
        if step >= 0:
            found[step] = x[:, 0]
        a, b, c = x.T
        x = x + 0.01 * np.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c], axis=1)
    return found[::2]


def laser(length: int, lanes: int, random: np.random.Generator) -> Series:
    """The first 1,000 values of the Santa Fe laser, again and again, each lane beginning elsewhere."""
    values = data.laser().values[:1000]
    starts = random.integers(1000) + np.arange(lanes) * (1000 // lanes)
    return values[(np.arange(length)[:, None] + starts) % 1000]


SYSTEMS: Mapping[str, Callable[[int, int, np.random.Generator], Series]] = {
    "mackey_glass": mackey_glass,
    "lorenz": lorenz,
    "henon": henon,
    "laser": laser,
}


def steps(system: str, count: int, lanes: int, seed: Any) -> tuple[Series, Series]:
    """Inputs and targets, `(count, lanes, 1)` each, of mean 0 and variance 1, so that squared errors are NMSEs.

    Mean and deviation are those of the whole lane, except for the laser: there those of the first values, at most
    2,000. The laser comes back to its beginning after 1,000 steps.
    """
    length = 1000 if system == "laser" else max(count, 20000)
    values = SYSTEMS[system](length + 1 + FIRST, lanes, np.random.default_rng(seed))
    known = values[FIRST : min(FIRST + 2000, len(values) - 1)] if system == "laser" else values
    scaled = (values - known.mean(axis=0)) / known.std(axis=0)
    at = FIRST + np.arange(count) % length
    return scaled[at][..., None], scaled[at + 1][..., None]

"""How does a learning rate change while a network learns? Small functions of the number of the update.

Each gives a factor on the learning rate that the optimizer was made with. A plain function of yours does as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forwardgrad.errors import DataError
from forwardgrad.support.attributes import is_whole

Schedule = Callable[[int], float]
"""`schedule(n)` is the factor on the learning rate of update `n`, counted from 0; greater than 0."""


def _check(schedule: str, **settings: Any) -> None:
    for name, value in settings.items():
        if name == "updates":
            legal, wanted = is_whole(value) and value >= 1, "a whole number >= 1"
        else:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            legal = number and 0 < value and (value <= 1 or name == "factor") and math.isfinite(value)
            wanted = "a finite number > 0" if name == "factor" else "a number > 0 and at most 1"
        if not legal:
            raise DataError(f"schedule {schedule!r}: {name!r} must be {wanted}, got {value!r}.")


@dataclass(frozen=True)
class Constant:
    """The same factor for every update.

    >>> Constant()(100)
    1.0
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        _check("constant", factor=self.factor)

    def __call__(self, update: int) -> float:
        """The factor of an update."""
        return self.factor


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 down to `final`, which then stays: max(final, (1 + cos(pi n / updates)) / 2).

    Source: Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5, without restarts.

    Args:
        updates: until `final` is reached; a whole number >= 1.
        final: > 0 and at most 1.

    >>> [round(Cosine(4)(n), 3) for n in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.001, 0.001]
    """

    updates: int
    final: float = 1e-3

    def __post_init__(self) -> None:
        _check("cosine", updates=self.updates)
        _check("cosine", final=self.final)

    def __call__(self, update: int) -> float:
        """The factor of an update."""
        return max(self.final, 0.5 * (1 + math.cos(math.pi * min(update / self.updates, 1.0))))


@dataclass(frozen=True)
class StepDecay:
    """A factor that is multiplied by `decay` after every `updates` updates: decay^floor(n / updates).

    Args:
        updates: between two changes; a whole number >= 1.
        decay: > 0 and at most 1.

    >>> [StepDecay(2, 0.1)(n) for n in range(4)]
    [1.0, 1.0, 0.1, 0.1]
    """

    updates: int
    decay: float = 0.1

    def __post_init__(self) -> None:
        _check("step decay", updates=self.updates)
        _check("step decay", decay=self.decay)

    def __call__(self, update: int) -> float:
        """The factor of an update."""
        return self.decay ** (update // self.updates)


@dataclass(frozen=True)
class Warmup:
    """A rise in equal steps, (n + 1) / updates, and then another schedule, which counts from 0 again.

    Source: Goyal et al. 2017, arXiv 1706.02677, section 2.2.

    Args:
        updates: of the rise; a whole number >= 1.
        then: the schedule after the rise.

    >>> [Warmup(2, Cosine(4))(n) for n in range(5)]
    [0.5, 1.0, 1.0, 0.8535533905932737, 0.5]
    """

    updates: int
    then: Schedule = Constant()

    def __post_init__(self) -> None:
        _check("warm-up", updates=self.updates)

    def __call__(self, update: int) -> float:
        """The factor of an update."""
        return (update + 1) / self.updates if update < self.updates else self.then(update - self.updates)

"""Sequences as arrays side by side, what scale they have, and how predictions of them are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import DataError


@dataclass(frozen=True)
class Part:
    """Sequences side by side, the shorter ones filled up with zeros.

    Args:
        inputs: `(time, sequences, channels)`.
        targets: `(time, sequences, size)`, or `(time, sequences)` of labels.
        weight: `(time, sequences)`, 1 where an answer is asked for and 0 elsewhere; `None`: it is everywhere.
        lengths: the steps of each sequence.
    """

    inputs: NDArray[np.float64]
    targets: NDArray[Any]
    weight: NDArray[np.float64] | None
    lengths: NDArray[np.intp]

    def __len__(self) -> int:
        """How many sequences there are."""
        return len(self.lengths)

    @property
    def samples(self) -> int:
        """The steps of all sequences."""
        return int(self.lengths.sum())

    def of(self, which: NDArray[np.intp]) -> Part:
        """Some of the sequences, as long as the longest of them."""
        steps = slice(0, int(self.lengths[which].max()))
        weight = None if self.weight is None else self.weight[steps, which]
        return Part(self.inputs[steps, which], self.targets[steps, which], weight, self.lengths[which])

    def after(self, other: Part) -> Part:
        """One sequence, behind another one."""
        return Part(
            np.concatenate([other.inputs, self.inputs]),
            np.concatenate([other.targets, self.targets]),
            None,
            self.lengths + other.lengths,
        )


@dataclass(frozen=True)
class Scale:
    """What was measured, from what a network sees: `seen * deviation + mean`, by channel.

    Args:
        mean, deviation: `(channels,)`.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, what: str, names: Sequence[str], values: NDArray[np.float64]) -> Scale:
        """That of samples `(samples, channels)`, which then have mean 0 and (population) deviation 1.

        A channel that is constant in these samples keeps its unit: it is shifted only.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # told below, in our words
            mean, deviation = values.mean(axis=0), values.std(axis=0)
        for name, each in zip(names, deviation, strict=True):
            if not np.isfinite(each):
                raise DataError(f"{what}: {name!r} has numbers too large to be standardised.", "Scale them before.")
        return cls(mean, np.where(deviation <= 1e-12 * abs(mean), 1.0, deviation))

    def seen(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """What a network sees of what was measured."""
        return (values - self.mean) / self.deviation

    def measured(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """What a network's output says in the units of the data."""
        return np.asarray(values, np.float64) * self.deviation + self.mean


def padded(
    inputs: Sequence[NDArray[np.float64]], targets: Sequence[NDArray[Any]], asked: Sequence[NDArray[np.float64]] | None
) -> Part:
    """Sequences of unequal length side by side; no answer is asked for behind their ends."""
    lengths = np.array([len(x) for x in inputs], np.intp)
    longest = int(lengths.max(initial=0))
    weight = None if asked is None else _side_by_side(asked, longest)
    if weight is None and (lengths < longest).any():
        weight = (np.arange(longest)[:, None] < lengths).astype(np.float64)
    return Part(_side_by_side(inputs, longest), _side_by_side(targets, longest), weight, lengths)


def _side_by_side(given: Sequence[NDArray[Any]], steps: int) -> NDArray[Any]:
    found = np.zeros((steps, len(given), *given[0].shape[1:]), given[0].dtype)
    for number, each in enumerate(given):
        found[: len(each), number] = each
    return found


# Scores.


def errors(outputs: NDArray[Any], part: Part) -> float:
    """The sum over all answers of squared errors, or of right labels."""
    if part.targets.ndim == 2:
        right = outputs.argmax(axis=2) == part.targets
        return float(right.sum() if part.weight is None else (right * part.weight).sum())
    squares = np.square(np.asarray(outputs - part.targets, np.float64))
    return float(np.sum(squares) if part.weight is None else (squares * part.weight[..., None]).sum())


def scored(total: float, part: Part) -> float:
    """NMSE or accuracy, given the sum of errors or of right labels over a part.

    Raises:
        DataError: if its targets are constant.
    """
    answers = part.targets.shape[0] * part.targets.shape[1] if part.weight is None else float(part.weight.sum())
    if part.targets.ndim == 2:
        return total / answers
    spread = variance(part)
    if not 0 < spread < np.inf:
        raise DataError(f"NMSE: the variance must be positive, got {spread:g}.", "A constant target has no NMSE.")
    return total / (answers * part.targets.shape[2]) / spread


def variance(part: Part) -> float:
    """The (population) variance of the numbers asked for, on average over channels."""
    rows = part.targets if part.weight is None else part.targets[part.weight > 0]
    return float(np.mean([np.var(rows[..., channel], dtype=np.float64) for channel in range(rows.shape[-1])]))


def score(outputs: NDArray[Any], part: Part) -> float:
    """NMSE or accuracy of the predictions of a part, `(time, sequences, size)`."""
    return scored(errors(outputs, part), part)

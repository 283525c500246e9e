"""What a task gives: inputs, targets, where an answer is asked for, and which scores are known of it beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import DataError


@dataclass(frozen=True)
class Reference:
    """A score on a task that is known without training anything.

    Args:
        value: the score, expected over all sequences that a task may draw.
        name: of who reaches it, such as `without memory`: the best answers of a network that sees the present step
            alone.
        kind: what is scored: `accuracy`, `MSE` (mean squared error per number asked for), `NMSE` (MSE over the variance
            of the targets) or `cross entropy` (in nats per answer).

    >>> print(Reference(0.25, "without memory", "accuracy"))
    without memory: accuracy 0.25
    """

    value: float
    name: str
    kind: Literal["accuracy", "MSE", "NMSE", "cross entropy"]

    def __str__(self) -> str:
        return f"{self.name}: {self.kind} {self.value:.4g}"


@dataclass(frozen=True)
class Labelled:
    """Sequences with labels, maybe of unequal length; they all begin at the first step.

    Args:
        inputs: `(steps, sequences, size)`; zero after a sequence has ended.
        targets: `(steps, sequences)`: a label at every step.
        mask: `(steps, sequences)`: 1 where the label is asked for, else 0.
        lengths: `(sequences,)`: how many steps each sequence has.
        references: scores that are known without training.
    """

    inputs: NDArray[np.float64]
    targets: NDArray[np.intp]
    mask: NDArray[np.float64]
    lengths: NDArray[np.intp]
    references: tuple[Reference, ...]

    @property
    def labels(self) -> NDArray[np.intp]:
        """The label of the last step of each sequence, `(sequences,)`."""
        return self.targets[self.lengths - 1, np.arange(len(self.lengths))]

    def accuracy(self, outputs: Any) -> float:
        """The share of asked labels for which the largest output is the right one.

        Args:
            outputs: `(steps, sequences, classes)`.

        Raises:
            DataError: if the shapes do not fit.
        """
        outputs = np.asarray(outputs)
        if outputs.shape[:-1] != self.targets.shape:
            raise DataError(f"outputs of shape {outputs.shape}, expected {(*self.targets.shape, 'classes')}.")
        asked = self.mask > 0
        return float(np.mean(outputs.argmax(axis=-1)[asked] == self.targets[asked]))


@dataclass(frozen=True)
class Valued:
    """Sequences with real-valued targets, maybe of unequal length; they all begin at the first step.

    Args:
        inputs: `(steps, sequences, size)`; zero after a sequence has ended.
        targets: `(steps, sequences, outputs)`.
        mask: `(steps, sequences)`: 1 where the target is asked for, else 0.
        lengths: `(sequences,)`: how many steps each sequence has.
        references: scores that are known without training.
    """

    inputs: NDArray[np.float64]
    targets: NDArray[np.float64]
    mask: NDArray[np.float64]
    lengths: NDArray[np.intp]
    references: tuple[Reference, ...]

    def mse(self, outputs: Any) -> float:
        """The mean squared error of the numbers that are asked for.

        Args:
            outputs: `(steps, sequences, outputs)`.

        Raises:
            DataError: if the shapes do not fit.
        """
        outputs = np.asarray(outputs)
        if outputs.shape != self.targets.shape:
            raise DataError(f"outputs of shape {outputs.shape}, expected {self.targets.shape}.")
        asked = self.mask > 0
        return float(np.mean(np.square(outputs[asked] - self.targets[asked])))


def answered_at_end(
    inputs: NDArray[np.float64],
    labels: NDArray[np.intp],
    chance: Reference,
    *,
    lengths: NDArray[np.intp] | None = None,
    query: int = 1,
) -> Labelled:
    """One label for each sequence, which is asked for in its last steps.

    Args:
        inputs: `(steps, sequences, size)`.
        labels: `(sequences,)`.
        chance: what is known.
        lengths: `(sequences,)`; by default all steps.
        query: how many of the last steps.
    """
    steps: int = inputs.shape[0]
    ends = np.full(len(labels), steps, np.intp) if lengths is None else lengths
    step = np.arange(steps)[:, None]
    asked = (step >= ends - query) & (step < ends)
    return Labelled(inputs, np.tile(labels, (steps, 1)), asked.astype(np.float64), ends, (chance,))

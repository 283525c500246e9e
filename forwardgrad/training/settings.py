"""Settings of a training run, and the checks that are made before it begins."""

from __future__ import annotations

from dataclasses import dataclass

from forwardgrad import data
from forwardgrad.data import OneStep
from forwardgrad.errors import DataError, GraphError
from forwardgrad.learning.optimizers import Adam, clip_by_norm
from forwardgrad.program import Program
from forwardgrad.support.attributes import is_whole

LAGS = 16
"""Past samples that the linear autoregression sees, with which a network is compared."""


@dataclass(frozen=True)
class Settings:
    """How to train.

    Args:
        passes: over the training part; each begins with fresh activations and influence.
        block: steps per update.
        learning_rate: of Adam at the beginning; it falls to zero along half a cosine.
        clip: largest norm of a block's gradients.
        seed: of the initial parameters.

    Raises:
        DataError: if one of them is out of range.
    """

    passes: int = 10
    block: int = 16
    learning_rate: float = 0.006
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("passes", 1), ("block", 1), ("seed", 0)):
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise DataError(f"{name} must be a whole number >= {least}, got {value!r}.")
        Adam(self.learning_rate)
        clip_by_norm({}, self.clip)


def ends(program: Program) -> tuple[str, str]:
    """The one-dimensional input and output of a program.

    Raises:
        GraphError: if it has not exactly one of each, or its loss is one on labels.
    """
    nodes, inputs, outputs = program.network.nodes, program.network.inputs, list(program.losses)
    for what, names in (("input", inputs), ("output with a loss", outputs)):
        if len(names) != 1 or nodes[names[0]].size != 1:
            sizes = ", ".join(f"{name!r} of size {nodes[name].size}" for name in names) or "none"
            raise GraphError(f"training on a series needs exactly one {what}, of size 1; the graph has {sizes}.")
    if program.losses[outputs[0]].labels:
        raise GraphError(f"loss on {outputs[0]!r}: predicting a series needs a loss on numbers, such as mse.")
    return inputs[0], outputs[0]


def baselines(task: OneStep) -> dict[str, float]:
    """Test NMSE of the baselines of a task, by name: computed before training, so that it need not fail after it.

    Raises:
        DataError: if the task is too small for them, or its test part is constant.
    """
    if task.train <= 2 * LAGS:
        raise DataError(
            f"series {task.series.name!r}: {task.train} samples are too few to learn from.",
            f"The linear autoregression of {LAGS} lags that stands beside the result needs {2 * LAGS + 1}.",
        )
    return data.baselines(task, LAGS)

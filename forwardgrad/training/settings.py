"""Settings of a training run, and the checks that are made before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from forwardgrad import data
from forwardgrad.data import OneStep
from forwardgrad.errors import DataError, GraphError
from forwardgrad.learning.optimizers import Adam, clip_by_norm
from forwardgrad.program import Program
from forwardgrad.support.attributes import is_whole
from forwardgrad.training.parts import Part, score
from forwardgrad.training.tasks import Task

LAGS = 16
"""Past samples that the linear autoregression sees, with which a network is compared."""

SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class Settings:
    """How to train.

    Args:
        passes: over the training part; each begins with fresh activations and influence.
        block: steps per update.
        learning_rate: of Adam at the beginning.
        clip: largest norm of a block's gradients.
        seed: of the initial parameters, and of the order of sequences.
        batch: sequences learned from side by side, where there are several.
        schedule: of the learning rate: `cosine`, it falls to zero along half a cosine; or `constant`.
        patience: how many passes without a better validation score end training, where there is a validation part.
        trials: whether sequences are trials: an update after each batch of them, by the mean loss of all answers that
            they ask for. A block is then what runs at once, and no update.
        every: steps per update in a trial; `None`: one at its end.

    Raises:
        DataError: if one of them is out of range.
    """

    passes: int = 10
    block: int = 16
    learning_rate: float = 0.006
    clip: float = 1.0
    seed: int = 0
    batch: int = 16
    schedule: Literal["cosine", "constant"] = "cosine"
    patience: int = 5
    trials: bool = False
    every: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("passes", 1), ("block", 1), ("seed", 0), ("batch", 1), ("patience", 1)):
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise DataError(f"{name} must be a whole number >= {least}, got {value!r}.")
        if self.schedule not in SCHEDULES:
            raise DataError(f"schedule must be {' or '.join(SCHEDULES)}, got {self.schedule!r}.")
        if self.every is not None and not self.trials:
            raise DataError("steps per update are those of trials.", "Without trials, a block is what an update has.")
        if self.every is not None and (not is_whole(self.every) or self.every < 1):
            raise DataError(f"every must be a whole number of steps >= 1, or None, got {self.every!r}.")
        Adam(self.learning_rate)
        clip_by_norm({}, self.clip)

    def rate(self, seen: int, total: int) -> float:
        """The learning rate after `seen` of `total` steps."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * max(0.5 * (1 + np.cos(np.pi * seen / total)), 1e-3)


def ends(program: Program, task: Task) -> tuple[str, str]:
    """The input and the output of a program.

    Args:
        program: with one of each.
        task: what they must fit.

    Raises:
        GraphError: if it has not exactly one of each, or they do not fit.
    """
    nodes, inputs, outputs = program.network.nodes, program.network.inputs, list(program.losses)
    wanted = (task.train.inputs.shape[2], task.recipe.size)
    for what, names, size in (("input", inputs, wanted[0]), ("output with a loss", outputs, wanted[1])):
        if len(names) != 1 or nodes[names[0]].size != size:
            sizes = ", ".join(f"{name!r} of size {nodes[name].size}" for name in names) or "none"
            raise GraphError(
                f"training on {task.name!r} needs exactly one {what}, of size {size}; the graph has {sizes}.",
                f"Set its size in the graph's file: size = {size}." if len(names) == 1 else "",
            )
    labels, (output,) = task.recipe.kind == "classification", outputs
    loss = program.losses[output]
    if loss.labels != labels:
        raise GraphError(
            f"loss on {output!r}: {loss.name} is one on {'labels' if loss.labels else 'numbers'}, and the targets are "
            f"{'labels' if labels else 'numbers'}: --loss {output}={'cross_entropy' if labels else 'mse'}."
        )
    return inputs[0], output


def baselines(task: Task) -> dict[str, float]:
    """Test scores of the baselines of a task, by name: computed before training, so that it need not fail after it.

    After them come the scores that are known of a synthetic task: of what it draws from, not of its test part.

    A forecast is compared with persistence and, where it is of one series that is long enough, with linear
    autoregression; a regression with least squares on the present inputs; a classification with the commonest label.

    Raises:
        DataError: if the test part is constant.
    """
    known = {f"{each.name} (analytic)": each.value for each in task.references if each.kind == task.metric}
    return {**_measured(task), **known}


def _measured(task: Task) -> dict[str, float]:
    if task.recipe.kind == "forecast":
        if task.sequences is None and task.recipe.size == 1 and task.learned > 2 * LAGS:
            return data.baselines(_one_step(task), LAGS)
        return {"persistence": score(task.test.inputs, task.test)}
    if task.recipe.kind == "regression":
        return {"least squares on the inputs": score(_least_squares(task.train, task.test), task.test)}
    asked = task.train.targets if task.train.weight is None else task.train.targets[task.train.weight > 0]
    often = np.bincount(asked.ravel(), minlength=task.recipe.size)
    commonest = np.broadcast_to(often, (*task.test.targets.shape, task.recipe.size))
    return {"the commonest label": score(commonest, task.test)}


def _one_step(task: Task) -> OneStep:
    """The forecast of one series; the validation part may be learned from, too."""
    learned = task.train if task.validation is None else task.validation.after(task.train)
    (mean,), (deviation,) = task.recipe.inputs.mean, task.recipe.inputs.deviation
    series = data.Series(task.name, np.empty(0), task.source)
    parts = learned.inputs, learned.targets, task.test.inputs, task.test.targets
    return OneStep(series, task.learned, mean, deviation, *parts)


def _least_squares(train: Part, test: Part) -> np.ndarray:
    """Targets predicted by weights on the inputs of the same step, and a constant."""
    known, new = (np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=2) for x in (train.inputs, test.inputs))
    asked = np.ones(train.targets.shape[:2], bool) if train.weight is None else train.weight > 0
    return new @ np.linalg.lstsq(known[asked], train.targets[asked], rcond=None)[0]

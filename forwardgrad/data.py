"""Which series can be learned from, what is a one-step prediction task, and how hard is it?

A series is a name, its values `(T,)` and where they come from. A task splits it once in time. Baselines see what a
network sees: fitted on the training part, they predict the test part from true past values.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import DataError, FileError, MissingExtraError, did_you_mean
from forwardgrad.support import tables

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """A measured series.

    Args:
        name: what it is called in reports.
        values: `(T,)`, float64.
        source: where it comes from, as a citation or a path.
        first: how many samples, from the first on, are learned from unless another number is asked for.
    """

    name: str
    values: Floats
    source: str
    first: int = 8000


@dataclass(frozen=True)
class OneStep:
    """One-step prediction: inputs x(t), targets x(t + 1), split once in time.

    With samples s(0), ..., s(T - 1), of which the first `train` may be learned from, everything is standardised to
    `(s - mean) / deviation`, mean and (population) deviation being those of s(0), ..., s(train - 1):

    | part  | inputs                        | targets                   |
    | ----- | ----------------------------- | ------------------------- |
    | train | s(0), ..., s(train - 2)       | s(1), ..., s(train - 1)   |
    | test  | s(train - 1), ..., s(T - 2)   | s(train), ..., s(T - 1)   |

    The test inputs follow the training inputs without a gap, so that a network may go on from its trained state.

    Args:
        series: the series, unscaled.
        train: how many samples may be learned from.
        mean, deviation: of those samples.
        train_inputs, train_targets: `(train - 1, 1, 1)`: time, batch, size.
        test_inputs, test_targets: `(T - train, 1, 1)`.
    """

    series: Series
    train: int
    mean: float
    deviation: float
    train_inputs: Floats
    train_targets: Floats
    test_inputs: Floats
    test_targets: Floats


def one_step(series: Series, train: int | None = None) -> OneStep:
    """Make a one-step prediction task of a series.

    Args:
        series: of at least `train + 1` samples.
        train: how many samples, from the first on, may be learned from, at least 2; `series.first` unless given.

    Raises:
        DataError: if the split leaves nothing to learn from or to test on, or the training part is constant.

    >>> task = one_step(Series("ramp", np.arange(5.0), "made up"), train=3)
    >>> task.mean, task.train_inputs.ravel().round(3), (task.test_targets.ravel() * task.deviation + task.mean)
    (1.0, array([-1.225,  0.   ]), array([3., 4.]))
    """
    total, train = len(series.values), series.first if train is None else train
    if not 2 <= train < total:
        raise DataError(
            f"series {series.name!r}: cannot learn from {train} of its {total} samples and test on the rest.",
            f"'train' must lie between 2 and {total - 1}."
            if total > 2
            else "One-step prediction needs at least 3 samples.",
        )
    with np.errstate(over="ignore", invalid="ignore"):  # told below, in our words
        mean, deviation = float(np.mean(series.values[:train])), float(np.std(series.values[:train]))
    if not np.isfinite(deviation) or deviation <= 1e-12 * abs(mean):
        raise DataError(
            f"series {series.name!r}: its first {train} samples have standard deviation {deviation:g}.",
            "A constant or overflowing series cannot be standardised.",
        )
    scaled = ((series.values - mean) / deviation).reshape(-1, 1, 1)
    return OneStep(
        series=series,
        train=train,
        mean=mean,
        deviation=deviation,
        train_inputs=scaled[: train - 1],
        train_targets=scaled[1:train],
        test_inputs=scaled[train - 1 : -1],
        test_targets=scaled[train:],
    )


def nmse(prediction: NDArray[Any], target: NDArray[Any], variance: float | None = None) -> float:
    """Normalised mean squared error: mean((prediction - target)^2) / variance.

    Args:
        prediction: any shape.
        target: the same shape.
        variance: the divisor; left out, the (population) variance of `target` itself, so that predicting the mean of
            the target scores 1. Every figure printed by forwardgrad uses the variance of the part it is about.

    Raises:
        DataError: if the shapes differ, nothing is given or the variance is not positive.

    >>> nmse(np.array([1.0, 1.0]), np.array([0.0, 2.0]))
    1.0
    """
    if prediction.shape != target.shape or not target.size:
        raise DataError(f"NMSE: prediction has shape {prediction.shape}, target {target.shape}.")
    divisor = float(np.var(target, dtype=np.float64)) if variance is None else float(variance)
    if not 0 < divisor < np.inf:
        raise DataError(f"NMSE: the variance must be positive, got {divisor:g}.", "A constant target has no NMSE.")
    return float(np.mean(np.square(np.asarray(prediction - target, dtype=np.float64)))) / divisor


def persistence(task: OneStep) -> Floats:
    """The test targets as predicted by "as now": x(t + 1) = x(t); `(T - train, 1, 1)`."""
    return task.test_inputs.copy()


def linear_autoregression(task: OneStep, lags: int = 16, *, intercept: bool = True) -> Floats:
    """The test targets as predicted by x(t + 1) = c + a(0) x(t) + ... + a(lags - 1) x(t - lags + 1).

    Fitted by least squares on all training targets that have `lags` samples before them, s(lags), ..., s(train - 1).
    Each test target is predicted from the true samples before it, which for the first ones are training samples.

    Args:
        task: the task.
        lags: how many past samples are seen, >= 1.
        intercept: whether there is a constant `c`.

    Returns:
        The predictions, `(T - train, 1, 1)`, on the standardised scale.

    Raises:
        DataError: if the training part has fewer targets than there are coefficients.
    """
    coefficients = lags + intercept
    if lags < 1 or task.train - lags < coefficients:
        raise DataError(
            f"linear autoregression: {lags} lags need at least {max(1, 2 * lags + intercept)} training samples, "
            f"got {task.train}.",
            "Give fewer lags (at least 1).",
        )
    scaled = np.concatenate([task.train_inputs, task.test_inputs, task.test_targets[-1:]]).ravel()
    # Row t holds s(t), ..., s(t + lags - 1); its target is s(t + lags).
    past = np.lib.stride_tricks.sliding_window_view(scaled[:-1], lags)
    if intercept:
        past = np.concatenate([past, np.ones((len(past), 1))], axis=1)
    learned = task.train - lags
    weights = np.linalg.lstsq(past[:learned], scaled[lags : task.train], rcond=None)[0]
    return np.asarray(past[learned:] @ weights, dtype=np.float64).reshape(-1, 1, 1)


def baselines(task: OneStep, lags: int = 16) -> dict[str, float]:
    """Test NMSE of persistence and of linear autoregression with intercept, by name."""
    return {
        "persistence": nmse(persistence(task), task.test_targets),
        f"linear autoregression ({lags} lags)": nmse(linear_autoregression(task, lags), task.test_targets),
    }


def laser() -> Series:
    """The Santa Fe laser series: intensity of a far-infrared laser in a chaotic state, 10,093 samples from 0 to 255.

    Raises:
        MissingExtraError: without the extra `data`.
    """
    try:
        load: Any = importlib.import_module("reservoirpy.datasets").santafe_laser
    except (ImportError, AttributeError) as error:
        raise MissingExtraError("data 'laser' needs reservoirpy: pip install \"forwardgrad[data]\"") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # its loader leaves closing the file to the collector
        values = np.asarray(load(), dtype=np.float64).reshape(-1)
    return Series(
        "laser",
        values,
        "Huebner, Abraham & Weiss 1989 (doi 10.1103/PhysRevA.40.6354); data set A of the Santa Fe competition, "
        "Weigend & Gershenfeld 1994; as distributed with reservoirpy",
    )


def laser_1000() -> Series:
    """The same series with the parts of the competition: its first 1,000 samples, and the 9,093 that go on from there.

    Raises:
        MissingExtraError: without the extra `data`.
    """
    return replace(laser(), name="laser_1000", first=1000)


_table: Mapping[str, Callable[[], Series]] = {"laser": laser, "laser_1000": laser_1000}


def names() -> list[str]:
    """The names of all known series, sorted."""
    return sorted(_table)


def get(name: str | os.PathLike[str], others: Iterable[str] = ()) -> Series:
    """A series by name, or read from a file of one column.

    Args:
        name: a known name, or the path of a file that `read` takes.
        others: names of other data that a user may have meant.

    Raises:
        DataError: if there is no series of that name.
        FileError: if a file cannot be read, or holds anything but one column of finite numbers.
        MissingExtraError: if the series comes with an extra that is not installed.
    """
    if isinstance(name, str) and name in _table:
        return _table[name]()
    path = Path(name)
    if path.suffix.lower() in tables.SUFFIXES:
        return read(path)
    raise DataError(
        f"unknown data {str(name)!r}.",
        did_you_mean(name, [*_table, *others]),
        f"Or give a file: {', '.join(f'*{suffix}' for suffix in tables.SUFFIXES)}.",
    )


def read(path: str | os.PathLike[str]) -> Series:
    """Read a series from a text or a `.npy` file; nothing in it is executed.

    A text file holds one number a line, as `support.tables` reads it: with or without a heading, and comments.

    Raises:
        FileError: naming the file, and the line where there is one.
    """
    found = tables.read(Path(path))
    several = f"{len(found.columns)} columns" if isinstance(found, tables.Table) else "arrays by name"
    if not isinstance(found, tables.Table) or len(found.columns) != 1:
        raise FileError(f"cannot read {str(path)!r}: it holds {several}.", "A series is one column of numbers.")
    ((name, values),) = found.columns.items()
    if not len(values):
        raise FileError(f"cannot read {str(path)!r}: it holds no numbers.", "A series is one column of numbers.")
    if values.dtype.kind == "U":
        raise FileError(f"cannot read {str(path)!r}: a series is one column of numbers; {found.word(name)}.")
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise FileError(
            f"cannot use {str(path)!r}: sample {wrong[0]} (counted from 0) is {values[wrong[0]]}.",
            "Fill gaps before reading; a series is made of finite numbers.",
        )
    return Series(found.path.stem, values, str(path))

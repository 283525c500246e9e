"""Is a series learned from where it may be, tested where it must be, and scored as it is said to be?"""

from __future__ import annotations

import importlib.util
import json
import math
from typing import Any

import numpy as np
import pytest
from nets import FOR_SERIES, declare, small, vanilla

import forwardgrad as fg
from forwardgrad import Learner, Program, data, training
from forwardgrad.data import OneStep, Series
from forwardgrad.errors import DataError, FileError, GraphError
from forwardgrad.learning.optimizers import Adam
from forwardgrad.training import Settings, Task, Trained, curve, folder

TRAIN = 60


def series(length: int = 90) -> Series:
    """A noisy oscillation."""
    t = np.arange(length)
    return Series("wave", np.sin(0.4 * t) + 0.1 * np.random.default_rng(0).normal(size=length) + 5, "made up")


def net(**options: Any) -> Any:
    """One leaky tanh layer with a dense loop, one input, one output."""
    return declare(
        {
            "x": {"op": "input", "size": 1},
            "a": {"op": "tanh", "size": 4, "bias": True},
            "h": {"op": "linear"},
            "y": {"op": "linear", "size": 1, "bias": True},
        },
        ("x", "a", {"weight": "dense"}),
        ("h", "a", {"weight": "dense", "delay": 1}),
        ("h", "h", {"value": 0.5, "delay": 1}),
        ("a", "h", {"value": 0.5}),
        ("h", "y", {"weight": "dense", **options}),
    )


def program(rule: str = "eprop-deep", dtype: str = "float64") -> Program:
    return fg.compile(net(), loss={"y": "mse"}, rule=rule, dtype=dtype)


def job(values: Any = None, settings: Settings | None = None, **options: Any) -> tuple[OneStep, Trained]:
    given = series() if values is None else Series("wave", values, "made up")
    task = data.one_step(given, train=TRAIN)
    settings = settings or Settings(passes=3, block=7, learning_rate=0.01)
    return task, training.train(program(**options), Task.of(task), settings, lambda update: None)


# Boundaries.


def test_later_samples_are_never_learned_from():
    """If it failed, the test part would leak into training: the score would mean nothing."""
    values = series().values
    poisoned = values.copy()
    poisoned[TRAIN:] = 1e6 * np.arange(len(values) - TRAIN)
    (_, one), (_, two) = job(values), job(poisoned)
    assert one.curve == two.curve
    assert one.train == two.train
    for name, array in one.learner.params.items():
        np.testing.assert_array_equal(two.learner.params[name], array)
    for name, array in (one.learner.state or {}).items():
        np.testing.assert_array_equal((two.learner.state or {})[name], array)
    assert one.test != two.test


def test_the_last_training_sample_is_learned_from():
    """If it failed, samples that may be learned from would be left out."""
    values = series().values
    other = values.copy()
    other[[TRAIN - 2, TRAIN - 1]] = other[[TRAIN - 1, TRAIN - 2]]  # same mean and deviation
    (_, one), (_, two) = job(values), job(other)
    assert any(np.any(one.learner.params[name] != two.learner.params[name]) for name in one.learner.params)


def test_training_is_updates_by_hand():
    """If it failed, passes, resets or the learning rate would not be those that the report states."""
    settings = Settings(passes=2, block=25, learning_rate=0.02, clip=0.1, seed=4)
    task, trained = job(settings=settings)
    compiled = program()
    by_hand = Learner(compiled, compiled.init(4), Adam(0.02), clip=0.1)
    length, curve = TRAIN - 1, []
    for _ in range(2):
        by_hand.reset()
        squares = []
        for at in range(0, length, 25):
            left = 0.5 * (1 + math.cos(math.pi * by_hand.seen / (2 * length)))
            by_hand.optimizer = Adam(0.02 * max(left, 1e-3))
            cut = slice(at, at + 25)
            x, y = task.train_inputs[cut], task.train_targets[cut]
            [update] = list(by_hand.updates([({"x": x}, {"y": y})]))
            squares.extend((update.step.outputs["y"] - y).ravel() ** 2)
        curve.append(np.mean(squares) / np.var(task.train_targets))
    assert trained.learner.seen == by_hand.seen == 2 * length
    np.testing.assert_allclose(trained.curve, curve, rtol=1e-12)
    for name, array in by_hand.params.items():
        np.testing.assert_allclose(trained.learner.params[name], array, rtol=1e-12)


def test_the_test_goes_on_from_the_trained_state_with_frozen_weights():
    """If it failed, the test would begin without a past, or learn while it is being scored."""
    values = series(400).values
    task, trained = job(values)
    learner = trained.learner
    assert learner.seen == 3 * (TRAIN - 1)
    # By hand, in float64: h after training, then one step after the other.
    p, h = learner.params, (learner.state or {})['value["h"]'][0, 0]
    for x, predicted in zip(task.test_inputs[:, 0, 0], trained.prediction[:, 0, 0], strict=True):
        h = 0.5 * h + 0.5 * np.tanh(p["x->a"][:, 0] * x + p["h->a"] @ h + p["a.bias"])
        assert (p["h->y"] @ h + p["y.bias"])[0] == pytest.approx(predicted, rel=1e-10)
    afresh = learner.program.run(p, {"x": task.test_inputs})["y"]
    assert np.abs(afresh[0] - trained.prediction[0]).max() > 1e-3


def test_scores_by_hand():
    """If it failed, the numbers that are printed would not be mean squared error over variance."""
    task, trained = job()
    target = series().values[TRAIN:]
    predicted = trained.prediction.ravel() * task.deviation + task.mean
    assert trained.test == pytest.approx(np.mean((predicted - target) ** 2) / np.var(target), rel=1e-9)
    past = series().values[: TRAIN - 1]
    x = ((past - np.mean(series().values[:TRAIN])) / np.std(series().values[:TRAIN])).reshape(-1, 1, 1)
    seen = trained.learner.program.run(trained.learner.params, {"x": x})["y"].ravel() * task.deviation + task.mean
    learned = series().values[1:TRAIN]
    assert trained.train == pytest.approx(np.mean((seen - learned) ** 2) / np.var(learned), rel=1e-9)
    levels = training.baselines(Task.of(task))
    now = series().values[TRAIN - 1 : -1]
    assert levels["persistence"] == pytest.approx(np.mean((now - target) ** 2) / np.var(target), rel=1e-9)


def test_a_seed_repeats_a_run():
    """If it failed, a reported number could not be reproduced."""
    assert job()[1].test == job()[1].test
    assert job()[1].test != job(settings=Settings(passes=3, block=7, learning_rate=0.01, seed=1))[1].test


def test_progress_counts_every_step():
    """If it failed, the bar would stop short of its end, or run over it."""
    steps = []
    task = Task.of(data.one_step(series(), train=TRAIN))
    settings = Settings(passes=2, block=16)
    training.train(program(), task, settings, lambda update: steps.append(update.steps))
    assert sum(steps) == 2 * (TRAIN - 1)


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "eprop-deep", "immediate"])
@pytest.mark.parametrize("name", FOR_SERIES)
def test_every_shipped_graph_learns_under_every_rule(name, rule):
    """If it failed, the command would not serve a graph or a rule that it offers."""
    compiled = fg.compile(small(name, 8), rule=rule, dtype="float32")
    task = Task.of(data.one_step(series(200), train=150))
    trained = training.train(compiled, task, Settings(passes=3, block=8, learning_rate=0.01), lambda update: None)
    assert trained.curve[-1] < trained.curve[0]


# What can go wrong.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"passes": 0}, "passes must be a whole number >= 1, got 0"),
        ({"passes": 1.5}, "passes must be a whole number"),
        ({"block": 0}, "block must be"),
        ({"seed": -1}, "seed must be a whole number >= 0"),
        ({"learning_rate": -1.0}, "'learning_rate' must be a finite number greater than 0"),
        ({"learning_rate": float("nan")}, "'learning_rate'"),
        ({"clip": 0.0}, "the limit must be a finite number greater than 0"),
    ],
    ids=str,
)
def test_settings_are_checked_at_once(change, words):
    """If it failed, a wrong setting would come to light after a folder was made, or after training."""
    with pytest.raises(DataError, match=words):
        Settings(**change)


def test_a_graph_must_have_one_input_and_one_output():
    """If it failed, another graph would end in an error about arrays that the user never made."""
    task = Task.of(data.one_step(series(), train=TRAIN))
    with pytest.raises(GraphError, match=r"exactly one input, of size 1; the graph has 'x' of size 2"):
        training.ends(fg.compile(vanilla(), loss={"y": "mse"}), task)
    two = net()
    two.add_node("x2", op="input", size=1)
    two.add_edge("x2", "a", weight="dense")
    with pytest.raises(GraphError, match=r"exactly one input.*'x' of size 1, 'x2' of size 1"):
        training.ends(fg.compile(two, loss={"y": "mse"}), task)
    with pytest.raises(GraphError, match=r"exactly one output with a loss.*'h' of size 4"):
        training.ends(fg.compile(net(), loss={"y": "mse", "h": "mse"}), task)
    with pytest.raises(GraphError, match="the targets are numbers: --loss y=mse"):
        training.ends(fg.compile(net(), loss={"y": "cross_entropy"}), task)


def test_too_little_for_autoregression_leaves_it_out():
    """If it failed, a short series could not be learned at all, or minutes of training would end in an error."""
    few, enough = (Task.of(data.one_step(series(), train=train)) for train in (32, 33))
    assert list(training.baselines(few)) == ["persistence"]
    assert list(training.baselines(enough)) == ["persistence", "linear autoregression (16 lags)"]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("learning_rate", [1e30, 1e308])
def test_divergence_is_told(learning_rate):
    """If it failed, a run that diverged would report NaN, which no JSON reader takes."""
    with pytest.raises(DataError, match="diverged"):
        job(settings=Settings(learning_rate=learning_rate), dtype="float32")


def test_a_folder_is_prepared_or_refused(tmp_path):
    """If it failed, a place that cannot be written to would be found out after the training."""
    training.prepare(tmp_path / "a" / "b")
    training.prepare(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileError, match="cannot write to folder"):
            training.prepare(path)
    (tmp_path / "a" / "curve.png").mkdir()
    with pytest.raises(FileError, match=r"curve\.png.*is a folder"):
        training.prepare(tmp_path / "a")


def test_a_folder_without_permission(tmp_path, monkeypatch):
    """If it failed, a folder of another user's would be found out after the training."""

    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folder.tempfile, "TemporaryFile", refuse)
    with pytest.raises(FileError, match="Permission denied"):
        training.prepare(tmp_path)


# The report.


def test_the_report_is_complete_and_plain():
    """If it failed, a run could not be understood or repeated from its report."""
    task, trained = job()
    settings = Settings(passes=3, block=7, learning_rate=0.01)
    levels = training.baselines(Task.of(task))
    about = {"graph": "net", "rule": "r"}
    found = training.report(trained.learner.program, Task.of(task), settings, trained, levels, about)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["nmse"] == {"train": trained.train, "test": trained.test, **levels}
    assert found["settings"] == {"passes": 3, "block": 7, "learning_rate": 0.01, "clip": 1.0, "seed": 0} | {
        "batch": 16,
        "schedule": "cosine",
        "patience": 5,
        "trials": False,
        "every": None,
    }
    assert (found["data"]["samples"], found["data"]["train"]) == (90, TRAIN)
    assert found["curve"] == list(trained.curve)
    assert (found["dtype"], found["loss"]) == ("float64", {"y": "mse"})
    assert found["parameters"].keys() == trained.learner.program.rules.keys()
    assert found["parameters"]["h->a"]["dropped"] == ["h->a"]
    assert found["parameters"]["h->y"]["exact"]


@pytest.mark.parametrize(
    ("scores", "levels"),
    [([0.3, 0.1], [0.9, 0.2]), ([1.05, 1.06], [1.1, 1.07]), ([2.0, 0.5], [1.0, 1e-28]), ([0.0], [0.0]), ([1e7], [1.0])],
)
def test_the_curve_has_an_axis_that_can_be_read(scores, levels):
    """If it failed, a perfect baseline would squeeze the curve flat, or an axis would bear no number."""
    low, high = curve._limits(scores, levels)
    assert low < min(max(score, 1e-12) for score in scores)
    assert high > max(scores)
    assert high / low >= 4 * (1 - 1e-12)
    assert low >= min(max(score, 1e-10) for score in scores) / 200


# The main job.


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("reservoirpy") is None, reason="needs the extra data")
def test_the_main_job():
    """If it failed, the library would not do what its first page promises: learn the laser series online."""
    compiled = fg.compile(fg.load("leaky_stack"), rule="eprop-deep", dtype="float32")
    task = Task.of(data.one_step(data.get("laser")))
    trained = training.train(compiled, task, Settings(), lambda update: None)
    levels = training.baselines(task)
    assert trained.test <= 0.10
    assert trained.test < levels["linear autoregression (16 lags)"] < levels["persistence"]

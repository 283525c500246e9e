"""Is what a file holds learned, validated and tested as it is said: forecasts, numbers, labels, many sequences?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad import cells, training
from forwardgrad.errors import DataError, FileError, GraphError
from forwardgrad.learning.optimizers import Adam
from forwardgrad.learning.trials import TrialLearner
from forwardgrad.support import tables
from forwardgrad.training import Run, Served, Settings, tasks
from forwardgrad.training.sequences import Choice, sequences
from forwardgrad.training.tasks import Task


def program(channels: int, size: int, loss: str = "mse") -> fg.Program:
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=channels)
    cells.readout(graph, "y", input=cells.elman(graph, "h", input="x", size=4), size=size)
    return fg.compile(graph, {"y": loss}, "eprop")


def task(tmp_path: Path, choice: Choice | None = None, *, options: dict[str, Any] | None = None, **arrays: Any) -> Task:
    np.savez(tmp_path / "data.npz", **arrays)
    return tasks.make(sequences(tables.read(tmp_path / "data.npz"), choice or Choice()), **(options or {}))


def labelled(count: int = 12, seed: int = 0) -> dict[str, Any]:
    """Sequences of unequal length that rise or fall."""
    random = np.random.default_rng(seed)
    y = np.arange(count) % 2
    x = np.cumsum(random.normal(size=(count, 9, 2)), axis=1) * 0.1 + np.where(y, 1, -1)[:, None, None]
    return {"x": x, "y": np.where(y, "rise", "fall"), "lengths": random.integers(3, 10, count)}


SETTINGS = Settings(passes=3, block=4, learning_rate=0.02, batch=4)


def test_parts_of_a_series_follow_one_another(tmp_path):
    """If this fails, a sample is learned from and tested on, or is in no part."""
    x = np.arange(20.0)[:, None]
    found = task(tmp_path, x=x, options={"split": 12, "validation": 0.25})
    assert found.validation is not None
    measured = [
        found.recipe.inputs.measured(part.inputs[:, 0]).ravel() for part in (found.train, found.validation, found.test)
    ]
    wanted = [
        found.recipe.inputs.measured(part.targets[:, 0]).ravel() for part in (found.train, found.validation, found.test)
    ]
    np.testing.assert_allclose(np.concatenate(measured), np.arange(19), atol=1e-12)
    np.testing.assert_allclose(np.concatenate(wanted), np.arange(1, 20), atol=1e-12)
    assert [len(each) for each in measured] == [8, 3, 8]
    np.testing.assert_allclose(found.recipe.inputs.mean, np.arange(9).mean())  # of what is learned from, alone


def test_numbers_by_step(tmp_path):
    """If this fails, a regression learns other steps than it was given, or on another scale."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(50, 2)), random.normal(size=(50, 3)) * 7 + 2
    found = task(tmp_path, x=x, y=y)
    assert (found.recipe.kind, found.recipe.size, len(found.train.inputs), len(found.test.inputs)) == (
        "regression",
        3,
        40,
        10,
    )
    assert found.recipe.targets is not None
    np.testing.assert_allclose(found.recipe.targets.measured(found.test.targets[:, 0]), y[40:])
    np.testing.assert_allclose(found.recipe.inputs.measured(found.train.inputs[:, 0]), x[:40])
    levels = training.baselines(found)
    known = np.c_[x[:40], np.ones(40)]
    predicted = np.c_[x[40:], np.ones(10)] @ np.linalg.lstsq(known, y[:40], rcond=None)[0]
    scale = y[:40].std(axis=0)
    error = np.mean(((predicted - y[40:]) / scale) ** 2) / np.mean(np.var(y[40:] / scale, axis=0))
    assert levels["least squares on the inputs"] == pytest.approx(error)


def test_labels_of_sequences_are_asked_for_at_their_ends(tmp_path):
    """If this fails, padding is learned from, or a label is that of another sequence."""
    given = labelled()
    found = task(tmp_path, **given)
    assert (found.recipe.kind, found.recipe.classes, found.recipe.whole) == ("classification", ("fall", "rise"), True)
    assert found.sequences == 12
    assert len(found.train) == 10
    for part in (found.train, found.test):
        assert part.weight is not None
        np.testing.assert_array_equal(part.weight.sum(axis=0), 1)
        for number, length in enumerate(part.lengths):
            assert part.weight[length - 1, number] == 1
            assert np.all(part.inputs[length:, number] == 0)
            first = found.recipe.inputs.measured(part.inputs[0, number])
            [place] = np.flatnonzero(np.isclose(given["x"][:, 0], first).all(axis=1))
            assert found.recipe.classes[part.targets[length - 1, number]] == given["y"][place]
            assert given["lengths"][place] == length


def test_answers_that_are_missing_are_not_asked_for(tmp_path):
    """If this fails, a gap among the targets is learned as a number or as a label, or a table with gaps is refused."""
    x, y = np.arange(30.0), np.where(np.arange(30) % 3 == 0, np.arange(30) * 1.5, np.nan)
    found = task(tmp_path, x=x, y=y)
    assert found.train.weight is not None
    assert found.recipe.targets is not None
    np.testing.assert_array_equal(found.train.weight[:, 0], np.arange(24) % 3 == 0)
    np.testing.assert_allclose(found.recipe.targets.mean, np.nanmean(y[:24]))
    assert np.isfinite(found.train.targets).all()
    trained = training.train(program(1, 1), found, SETTINGS, lambda update: None)
    scaled = (y[24:] - found.recipe.targets.mean) / found.recipe.targets.deviation
    wanted = np.nanmean((trained.prediction[:, 0, 0] - scaled) ** 2) / np.nanvar(scaled)
    assert trained.test == pytest.approx(wanted)
    with pytest.raises(DataError, match="A constant target has no NMSE"):
        training.baselines(task(tmp_path, x=x[:26], y=y[:26], options={"split": 24}))
    words = np.where(np.arange(30) % 3 == 0, np.where(np.arange(30) % 2, "b", "a"), "")
    named = task(tmp_path, x=x, y=words)
    assert named.recipe.classes == ("a", "b")
    assert named.train.weight is not None
    assert named.train.weight.sum() == 8
    for where in (slice(0, 24), slice(24, 30)):
        gone = words.copy()
        gone[where] = ""
        with pytest.raises(DataError, match=r"asks for no answer|there is nothing to tell apart"):
            task(tmp_path, x=x, y=gone)


def test_numbers_that_are_labels(tmp_path):
    """If this fails, 10 comes before 2, or 1.0 is another label than 1."""
    x = np.zeros((30, 2)) + np.arange(30)[:, None]
    found = task(tmp_path, x=x, y=np.array([1.0, 2.0, 10.0] * 10))
    assert found.recipe.classes == ("1", "2", "10")
    np.testing.assert_array_equal(found.train.targets[:6, 0], [0, 1, 2, 0, 1, 2])
    assert task(tmp_path, x=x, y=np.array([1, 2, 10] * 10), options={"kind": "regression"}).recipe.classes == ()


def test_training_on_sequences_is_updates_by_hand(tmp_path):
    """If this fails, batches, resets, masks or the order of sequences are not what the settings say."""
    found = task(tmp_path, **labelled())
    trained = training.train(program(2, 2, "cross_entropy"), found, SETTINGS, lambda update: None)
    compiled = program(2, 2, "cross_entropy")
    by_hand = fg.Learner(compiled, compiled.init(0), Adam(0.02), clip=1.0)
    part, curve = found.train, list[float]()
    batches = [
        (at, which) for at in range(3) for which in np.split(np.random.default_rng([0, at]).permutation(10), [4, 8])
    ]
    total = sum(int(part.lengths[which].max()) for _, which in batches)
    assert part.weight is not None
    right = 0.0
    for number, (_, which) in enumerate(batches):
        by_hand.reset()
        longest = int(part.lengths[which].max())
        for first in range(0, longest, 4):
            now = slice(first, min(first + 4, longest))
            x, y, weight = part.inputs[now][:, which], part.targets[now][:, which], part.weight[now][:, which]
            [update] = list(by_hand.updates([({"x": x}, {"y": y}, weight)]))
            right += float(((update.step.outputs["y"].argmax(axis=2) == y) * weight).sum())
            left = 0.5 * (1 + np.cos(np.pi * update.seen / total))
            by_hand.optimizer = Adam(0.02 * max(left, 1e-3))
        if number % 3 == 2:
            curve.append(right / 10)
            right = 0.0
    assert trained.curve == tuple(curve)
    for name, array in by_hand.params.items():
        np.testing.assert_allclose(trained.learner.params[name], array, rtol=1e-12)


@pytest.mark.parametrize("every", [None, 3])
def test_training_in_trials_is_that_of_a_trial_learner(every, tmp_path):
    """If this fails, an update is not one per trial, or the loss is not the mean over the answers of a batch."""
    found = task(tmp_path, **labelled())
    settings = replace(SETTINGS, trials=True, every=every)
    trained = training.train(program(2, 2, "cross_entropy"), found, settings, lambda update: None)
    compiled = program(2, 2, "cross_entropy")
    by_hand, part, seen = TrialLearner(compiled, compiled.init(0), Adam(0.02), every=every, clip=1.0), found.train, 0
    batches = [which for at in range(3) for which in np.split(np.random.default_rng([0, at]).permutation(10), [4, 8])]
    total = sum(int(part.lengths[which].max()) for which in batches)
    assert part.weight is not None
    for which in batches:
        steps = int(part.lengths[which].max())
        trial = ({"x": part.inputs[:steps, which]}, {"y": part.targets[:steps, which]}, part.weight[:steps, which])
        assert len(list(by_hand.updates([trial]))) == (1 if every is None else -(-steps // every))
        seen += steps
        by_hand.optimizer = Adam(0.02 * max(0.5 * (1 + np.cos(np.pi * seen / total)), 1e-3))
    assert isinstance(trained.learner, TrialLearner)
    for name, array in by_hand.params.items():
        np.testing.assert_allclose(trained.learner.params[name], array, rtol=1e-12)
    blocks = training.train(program(2, 2, "cross_entropy"), found, replace(SETTINGS, block=5), lambda update: None)
    assert np.abs(blocks.learner.params["y.bias"] - trained.learner.params["y.bias"]).max() > 1e-3


def test_a_single_series_has_no_trials(tmp_path):
    """If this fails, each pass is taken for a trial without a word, and the test begins from rest."""
    found = task(tmp_path, x=np.sin(np.arange(40.0)))
    with pytest.raises(DataError, match="'data' is a single series, and trials are sequences"):
        Run(program(1, 1), found, replace(SETTINGS, trials=True))
    with pytest.raises(DataError, match="Without trials, a block is what an update has"):
        replace(SETTINGS, every=3)
    with pytest.raises(DataError, match="every must be a whole number of steps >= 1, or None, got 0"):
        replace(SETTINGS, trials=True, every=0)


def test_the_weights_of_the_best_pass_are_kept(tmp_path):
    """If this fails, training goes on to overfit, or the score is that of other weights."""
    found = task(tmp_path, **labelled(40), options={"validation": 0.25})
    assert found.validation is not None
    settings = replace(SETTINGS, passes=30, patience=2, schedule="constant", learning_rate=0.05)
    run, params = Run(program(2, 2, "cross_entropy"), found, settings), list[Any]()
    for _ in run.updates():
        if len(run.validation) > len(params):
            params.append(dict(run.learner.params))
    best = int(np.argmax(run.validation))
    assert len(run.validation) == best + 3 < 30
    trained = run.score()
    for name, array in params[best].items():
        np.testing.assert_array_equal(trained.learner.params[name], array)
    assert trained.validation == tuple(run.validation)


def test_after_validation_a_series_is_tested_from_where_it_ends(tmp_path):
    """If this fails, the test part begins with the activations of another moment."""
    x = np.sin(0.3 * np.arange(120))[:, None] + 0.1 * np.random.default_rng(0).normal(size=(120, 1))
    found = task(tmp_path, x=x, options={"validation": 0.2})
    compiled = program(1, 1)
    trained = training.train(compiled, found, replace(SETTINGS, passes=1), lambda update: None)
    assert found.validation is not None
    whole = np.concatenate([found.validation.inputs, found.test.inputs])
    outputs = compiled.run(trained.learner.params, {"x": whole}, state=trained.learner.state)["y"]
    np.testing.assert_array_equal(trained.prediction, outputs[len(found.validation.inputs) :])
    at_once = compiled.run(trained.learner.params, {"x": found.test.inputs}, state=trained.learner.state)["y"]
    assert np.abs(at_once[0] - trained.prediction[0]).max() > 1e-6


@pytest.mark.parametrize("trials", [{}, {"trials": True}, {"trials": True, "every": 2}], ids=["", "trials", "parts"])
@pytest.mark.parametrize("stop", [1, 5, 9, 14])
def test_an_interrupted_run_with_validation_goes_on(stop, trials, tmp_path):
    """If this fails, going on after an interrupt gives other weights, or forgets the best ones."""
    found = task(tmp_path, **labelled(16), options={"validation": 0.25})
    settings = replace(SETTINGS, passes=6, patience=3, **trials)
    whole = training.train(program(2, 2, "cross_entropy"), found, settings, lambda update: None)
    run = Run(program(2, 2, "cross_entropy"), found, settings)
    for number, _ in enumerate(run.updates(), start=1):
        if number == stop:
            run.save(tmp_path / "checkpoint.npz")
            break
    again = training.begin(tmp_path, program(2, 2, "cross_entropy"), found, settings, resume=True)
    assert again is not None
    assert again.learner.seen > 0
    done = training.train(again.learner.program, found, settings, lambda update: None, run=again)
    assert (done.curve, done.validation, done.test) == (whole.curve, whole.validation, whole.test)
    for name, array in whole.learner.params.items():
        np.testing.assert_array_equal(done.learner.params[name], array)


REFUSED = {
    "no sequence to test on": ({"x": np.zeros((1, 5, 2)), "y": np.zeros(1)}, {}, "That needs 2 sequences or more"),
    "a split that is too large": ({"x": np.arange(9.0)}, {"split": 9}, "between 2 and 8"),
    "nothing to validate on": ({"x": np.arange(9.0)}, {"split": 4, "validation": 0.1}, "validate on 0"),
    "a constant": ({"x": np.ones(9)}, {}, "is constant"),
    "one label": ({"x": np.arange(9.0), "y": np.array(["a"] * 9)}, {}, "all labels are 'a'"),
    "labels that are numbers": (
        {"x": np.arange(50.0), "y": np.arange(50) / 7},
        {"kind": "classification"},
        "50 labels",
    ),
    "words to regress": ({"x": np.arange(3.0), "y": np.array(list("abc"))}, {"kind": "regression"}, "are words"),
    "targets to forecast": ({"x": np.arange(3.0), "y": np.arange(3)}, {"kind": "forecast"}, "Leave out --targets"),
    "no targets": ({"x": np.arange(3.0)}, {"kind": "regression"}, "--targets NAME"),
    "several labels at a time": ({"x": np.arange(3.0), "y": np.eye(3)}, {"kind": "classification"}, "3 columns"),
    "one step": ({"x": np.zeros((4, 1, 2))}, {}, "has one step"),
    "too large": ({"x": np.array([1e308, -1e308, 1e308, 0, 1])}, {}, "too large to be standardised"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learned_is_refused(name, tmp_path):
    """If this fails, a score of nothing is printed, or a run fails when it is over."""
    arrays, options, words = REFUSED[name]
    with pytest.raises(DataError, match=words):
        task(tmp_path, **arrays, options=options)


def test_a_graph_must_fit(tmp_path):
    """If this fails, an error speaks of arrays where the graph is wrong."""
    found = task(tmp_path, **labelled())
    for compiled, words in (
        (program(3, 2, "cross_entropy"), "one input, of size 2; the graph has 'x' of size 3"),
        (program(2, 4, "cross_entropy"), "of size 2; the graph has 'y' of size 4"),
        (program(2, 2), "--loss y=cross_entropy"),
    ):
        with pytest.raises(GraphError, match=words):
            Run(compiled, found, SETTINGS)


# Put to use.


def served(tmp_path: Path, found: Task, compiled: fg.Program) -> Served:
    trained = training.train(compiled, found, SETTINGS, lambda update: None)
    trained.learner.save(tmp_path / "learner.npz", trained.identity)
    return Served.load(tmp_path)


def test_predictions_of_sequences(tmp_path):
    """If this fails, what is printed is not what the network says, or stands at another sequence."""
    given = labelled()
    found = task(tmp_path, **given)
    ours = served(tmp_path, found, program(2, 2, "cross_entropy"))
    columns, *rows = list(ours.predictions(ours.read(tmp_path / "data.npz", answered=False)))
    assert columns == ["sequence", "y", "p(fall)", "p(rise)"]
    assert [row[0] for row in rows] == [str(number) for number in range(12)]
    for number, row in enumerate(rows):
        x = ours.recipe.inputs.seen(given["x"][number, : given["lengths"][number]])
        y = ours.learner.program.run(ours.learner.params, {"x": x[:, None]})["y"][-1, 0]
        shares = np.exp(y) / np.exp(y).sum()
        assert row[1] == ("fall", "rise")[int(y.argmax())]
        np.testing.assert_allclose([float(each) for each in row[2:]], shares, atol=1e-6)
    right = np.mean([row[1] == label for row, label in zip(rows, given["y"], strict=True)])
    score, _ = ours.score(ours.read(tmp_path / "data.npz", answered=True))
    assert score == pytest.approx(right)


def test_a_forecast_is_in_the_units_of_the_data(tmp_path):
    """If this fails, a forecast is on the scale of the network, or of another row."""
    x = 50 + 9 * np.sin(0.3 * np.arange(80))
    found = task(tmp_path, x=x)
    ours = served(tmp_path, found, program(1, 1))
    read = ours.read(tmp_path / "data.npz", answered=True)
    columns, *rows = list(ours.predictions(read))
    assert columns == ["row", "next x"]
    assert len(rows) == 80
    seen = ((x - found.recipe.inputs.mean) / found.recipe.inputs.deviation)[:, None, None]
    predicted = ours.learner.program.run(ours.learner.params, {"x": seen})["y"].ravel()
    measured = predicted * found.recipe.inputs.deviation + found.recipe.inputs.mean
    np.testing.assert_allclose([float(row[1]) for row in rows], measured, rtol=1e-8)
    score, part = ours.score(read)
    assert part.samples == 79
    assert score == pytest.approx(np.mean((measured[:-1] - x[1:]) ** 2) / np.var(x[1:]))
    # Going on: the first prediction knows what came before.
    assert next(iter(list(ours.predictions(read, go_on=True))[1:]))[1] != rows[0][1]


def test_arrays_that_were_not_learned_from_are_passed_over(tmp_path):
    """If this fails, a file with more in it than the network was trained on cannot be predicted."""
    x = np.sin(0.3 * np.arange(40))
    ours = served(tmp_path, task(tmp_path, x=x), program(1, 1))
    plain = list(ours.predictions(ours.read(tmp_path / "data.npz", answered=True)))
    np.savez(tmp_path / "more.npz", x=x, y=x[::-1], inputs=np.zeros(3), lengths=np.array([5]))
    for answered in (False, True):
        assert list(ours.predictions(ours.read(tmp_path / "more.npz", answered=answered))) == plain


def test_what_cannot_be_served_is_refused(tmp_path):
    """If this fails, a network is fed with what it was never trained on, or an error is a traceback."""
    ours = served(tmp_path, task(tmp_path, **labelled()), program(2, 2, "cross_entropy"))
    np.savez(tmp_path / "wide.npz", x=np.zeros((2, 3, 5)))
    with pytest.raises(DataError, match="5 channels, and the network was trained on 2"):
        ours.read(tmp_path / "wide.npz", answered=False)
    np.savez(tmp_path / "bare.npz", x=np.zeros((2, 3, 2)))
    with pytest.raises(DataError, match=r"no array 'y'|does not say what should come out"):
        ours.read(tmp_path / "bare.npz", answered=True)
    np.savez(tmp_path / "new.npz", x=np.zeros((2, 3, 2)), y=np.array(["rise", "stay"]))
    with pytest.raises(DataError, match="label 'stay' is none"):
        ours.score(ours.read(tmp_path / "new.npz", answered=True))
    with pytest.raises(DataError, match="several sequences cannot go on"):
        list(ours.predictions(ours.read(tmp_path / "bare.npz", answered=False), go_on=True))
    compiled = program(1, 1)
    fg.Learner(compiled, compiled.init(0), Adam(0.1)).save(tmp_path / "own.npz")
    with pytest.raises(FileError, match="says nothing of the data"):
        Served.load(tmp_path / "own.npz")

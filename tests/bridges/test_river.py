"""Are recurrent networks what river expects of a model, with a state that moves on once per observation?"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytest.importorskip("river", reason='needs pip install "forwardgrad[river]"')

from river import checks, compose, evaluate, metrics, preprocessing

from forwardgrad.bridges.river import RecurrentClassifier, RecurrentRegressor
from forwardgrad.errors import DataError

MODELS = [RecurrentRegressor(hidden=4, rule="eprop"), RecurrentClassifier(hidden=4, rule="eprop")]


@pytest.mark.parametrize(
    ("model", "check"),
    [(model, check) for model in MODELS for check in checks.yield_checks(model)],
    ids=lambda each: getattr(each, "__name__", type(each).__name__),
)
def test_what_river_expects(model, check):
    """If this fails, a pipeline, a selection or an evaluation of river stumbles over a model."""
    check(model.clone())


def stream(steps: int = 300, seed: int = 0) -> list[tuple[dict[str, float], float]]:
    """Numbers, and what they were one observation before."""
    numbers = np.random.default_rng(seed).normal(size=steps + 1)
    return [({"now": now}, before) for before, now in pairwise(numbers)]


def test_the_state_moves_on_once_per_observation():
    """If this fails, an observation that is predicted and learned from counts twice, or a prediction counts."""
    silent, asked = (RecurrentRegressor(hidden=4, rule="eprop") for _ in range(2))
    for x, y in stream(40):
        for _ in range(3):
            asked.predict_one(x)
        asked.learn_one(x, y)
        silent.learn_one(x, y)
    assert silent._online is not None
    assert asked._online is not None
    for name, array in silent._online.learner.params.items():  # type: ignore[union-attr]
        np.testing.assert_array_equal(asked._online.learner.params[name], array)  # type: ignore[union-attr]
    assert asked._online.learner.seen == 40  # type: ignore[union-attr]
    now = {"now": 0.5}
    before = copy.deepcopy(asked).predict_one(now)
    assert asked.predict_one(now) == before
    asked.reset()
    assert asked.predict_one(now) != before


def test_what_came_before_is_remembered():
    """If this fails, the models are no better than ones that see single observations."""
    model = compose.Pipeline(preprocessing.StandardScaler(), RecurrentRegressor(hidden=8))
    errors = [abs(model.predict_one(x) - y) + 0 * (model.learn_one(x, y) or 0) for x, y in stream(600)]
    assert np.mean(errors[-100:]) < 0.3 < np.mean(errors[:100])
    named = RecurrentClassifier(hidden=8)
    labels = ((x, ("low", "middle", "high")[int(np.digitize(y, [-0.5, 0.5]))]) for x, y in stream(800))
    assert evaluate.progressive_val_score(labels, named, metrics.Accuracy()).get() > 0.7


def test_features_and_labels_come_and_go():
    """If this fails, a new feature ends the stream, or a missing one is taken for zero."""
    model: Any = RecurrentRegressor(hidden=4, rule="eprop")
    for number, (x, y) in enumerate(stream(60)):
        model.learn_one({**x, "late": 10.0 + x["now"]} if number >= 20 else x, y)
    assert model._online.sizes == (2, 1)
    assert model.predict_one({"now": 0.1}) == model.predict_one({"now": 0.1, "late": float(model._inputs.mean[1])})
    assert model.predict_one({"now": 0.1, "unknown": 9.0}) == model.predict_one({"now": 0.1})
    named: Any = RecurrentClassifier(hidden=4, rule="eprop")
    assert named.predict_proba_one({"a": 1}) == {}
    assert named.predict_one({"a": 1}) is None
    for number, label in enumerate(["a", "b", 3, "a", None, "b"]):
        named.learn_one({"x": number}, label)
        assert sum(named.predict_proba_one({"x": 1}).values()) == pytest.approx(1)
    assert set(named.predict_proba_one({})) == {"a", "b", 3, None}
    empty = RecurrentRegressor(hidden=4, rule="eprop")
    empty.learn_one({}, 3)
    assert np.isfinite(empty.predict_one({}))


@pytest.mark.parametrize("scale", [True, False])
def test_what_is_known_of_a_feature_begins_with_it(scale):
    """If this fails, a feature that comes late is scaled, or filled in, as if it had been 0 before."""
    model: Any = RecurrentRegressor(hidden=4, rule="eprop", scale=scale)
    late = 10.0 + np.random.default_rng(3).normal(size=60)
    for number, (x, y) in enumerate(stream(60)):
        model.learn_one({**x, "late": late[number]} if number >= 20 else x, y)
    assert model._inputs.mean[1] == pytest.approx(late[20:].mean())
    assert model._inputs.deviation[1] == pytest.approx(late[20:].std())
    missing, mean = ({"now": 0.1}, {"now": 0.1, "late": late[20:].mean()})
    assert model.predict_one(missing) == pytest.approx(model.predict_one(mean), rel=1e-9)
    assert model.predict_one(missing) != pytest.approx(model.predict_one({"now": 0.1, "late": 0.0}), rel=1e-3)


@pytest.mark.parametrize("value", ["red", None, float("nan"), float("inf"), [1.0]])
def test_what_is_no_number_is_refused(value):
    """If this fails, a word is learned as a number, or an error leaves a model half changed."""
    model: Any = RecurrentRegressor(hidden=4, rule="eprop")
    model.learn_one({"a": 1.0}, 1.0)
    before = copy.deepcopy(model)
    with pytest.raises(DataError, match="feature 'b' is"):
        model.learn_one({"a": 1.0, "b": value}, 1.0)
    with pytest.raises(DataError, match="target"):
        model.learn_one({"a": 1.0}, value)
    with pytest.raises(DataError, match="feature 'b' is"):
        model.predict_one({"b": value})
    assert model.predict_one({"a": 0.5}) == before.predict_one({"a": 0.5})
    assert model._features == before._features

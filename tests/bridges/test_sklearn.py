"""Are online estimators what scikit-learn expects of an estimator, and recurrent besides?"""

from __future__ import annotations

import pickle
from typing import Any

import networkx as nx
import numpy as np
import pytest

pytest.importorskip("sklearn", reason='needs pip install "forwardgrad[sklearn]"')

from sklearn.base import clone
from sklearn.model_selection import TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.bridges.sklearn import OnlineClassifier, OnlineRegressor
from forwardgrad.errors import DataError, GraphError

SMALL = {"hidden": 8, "epochs": 20, "rule": "eprop"}

ORDER = "rows are steps of a series: what is predicted for one depends on those before it"

EXPECTED = {"check_methods_sample_order_invariance": ORDER, "check_methods_subset_invariance": ORDER}


@parametrize_with_checks(
    [OnlineRegressor(**SMALL, random_state=0), OnlineClassifier(**SMALL, random_state=0)],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_what_scikit_learn_expects(estimator, check):
    """If this fails, pipelines, searches or cross-validation stumble over an estimator."""
    check(estimator)


def delayed(rows: int = 300, seed: int = 0) -> tuple[Any, Any]:
    """Numbers, and what they were one row before."""
    x = np.random.default_rng(seed).normal(size=(rows, 1))
    return x, np.concatenate([[0.0], x[:-1, 0]])


def test_pieces_of_any_length_are_one_series():
    """If this fails, what a network remembers is lost between two calls."""
    x, y = delayed(120)
    options = {**SMALL, "random_state": 0, "block": 1, "scale": False}
    whole, pieces = OnlineRegressor(**options).partial_fit(x, y), OnlineRegressor(**options)
    for first, last in ((0, 1), (1, 50), (50, 53), (53, 120)):
        pieces.partial_fit(x[first:last], y[first:last])
    ours, theirs = whole.online_.learner, pieces.online_.learner
    for name, array in ours.params.items():
        np.testing.assert_allclose(theirs.params[name], array, rtol=1e-12)
    new = delayed(9, 1)[0]
    np.testing.assert_allclose(pieces.predict(new), whole.predict(new), rtol=1e-12)
    np.testing.assert_array_equal(whole.predict(new), whole.predict(new))  # a prediction moves nothing on
    assert np.abs(whole.reset().predict(new)[0] - pieces.predict(new)[0]) > 1e-6
    assert pieces.online_.learner.seen == 120


def test_what_came_before_is_remembered():
    """If this fails, the estimators are no better than ones that see single rows."""
    x, y = delayed(400)
    model = OnlineRegressor(hidden=8, random_state=0).fit(x[:300], y[:300])
    assert model.score(x[300:], y[300:]) > 0.9
    labels = np.where(y > 0, "up", "down")
    named = OnlineClassifier(hidden=8, random_state=0).fit(x[:300], labels[:300])
    assert named.score(x[300:], labels[300:]) > 0.9
    np.testing.assert_allclose(named.predict_proba(x[300:]).sum(axis=1), 1)


def test_it_works_among_the_tools_of_scikit_learn():
    """If this fails, a pipeline, a cross-validation or a pickle gives something else."""
    x, y = delayed(200)
    model = make_pipeline(StandardScaler(), OnlineRegressor(hidden=8, epochs=15, random_state=0))
    assert cross_val_score(model, x, np.c_[y, -y], cv=TimeSeriesSplit(2))[-1] > 0.5
    fitted = clone(model).fit(x, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(x[:9]), fitted.predict(x[:9]))


def test_networks_of_any_kind():
    """If this fails, only the default network can be used, or the user's graph is changed."""
    x, y = delayed(60)
    graph: nx.MultiDiGraph = nx.MultiDiGraph()
    graph.add_node("in", op="input", size=7)
    cells.readout(graph, "out", input=cells.lif(graph, "z", input="in", size=5), size=3)
    model = OnlineRegressor(graph, rule="eprop", epochs=1).fit(np.c_[x, x], y)
    assert model.online_.sizes == (2, 1)
    assert graph.nodes["in"]["size"] == 7
    assert OnlineRegressor("lstm", rule="eprop", epochs=1).fit(x, y).predict(x).shape == (60,)
    graph.add_node("second", op="input", size=1)
    with pytest.raises(GraphError, match="a graph with one input, got 'in', 'second'"):
        OnlineRegressor(graph).fit(x, y)


@pytest.mark.parametrize(("options", "words"), [({"block": 0}, "'block'"), ({"epochs": 1.5}, "'epochs'")])
def test_settings_are_checked(options, words):
    """If this fails, a slip in a setting ends far from where it was made."""
    with pytest.raises(DataError, match=words):
        OnlineRegressor(**options).fit(*delayed(20))


def test_labels_that_come_late():
    """If this fails, a label that nobody announced is learned as another one."""
    x, y = delayed(20)
    model = OnlineClassifier(**SMALL, random_state=0)
    with pytest.raises(ValueError, match="classes must be passed"):
        model.partial_fit(x, y > 0)
    model.partial_fit(x, np.where(y > 0, "b", "a"), classes=["b", "a", "c"])
    assert model.predict_proba(x).shape == (20, 3)
    with pytest.raises(ValueError, match="label 'd'"):
        model.partial_fit(x, np.full(20, "d"))
    with pytest.raises(ValueError, match="was"):
        model.partial_fit(x, np.full(20, "a"), classes=["a"])


def test_more_inputs_and_outputs_keep_what_was_learned():
    """If this fails, a network that grows forgets its weights."""
    model = OnlineRegressor(hidden=4, epochs=1, random_state=0, scale=False).fit(*delayed(30))
    before = model.online_.learner
    after = model.online_.fit_sizes(3, 2)
    assert after is not before
    for name, array in before.params.items():
        np.testing.assert_array_equal(after.params[name][tuple(map(slice, array.shape))], array)
        assert np.isfinite(after.params[name]).all()
    x = np.zeros((5, 3))
    x[:, 0] = 1
    grown = model.online_.predict(x, go_on=False)[:, 0]
    small = before.predict({"x": np.ones((5, 1, 1))})["y"][:, 0, 0]
    np.testing.assert_allclose(grown, small, rtol=1e-12)
    assert fg.Learner is type(after)

"""Is a readout that least squares has found the best one for all steps seen?"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.errors import DataError, GraphError
from forwardgrad.learning.least_squares import RLS
from forwardgrad.learning.readouts import ReadoutLearner


def program(**options: Any) -> fg.Program:
    """A leaky layer that is read now and two steps late, beside the input through a fixed weight."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    h = cells.leaky_tanh(graph, "l1", input="x", size=5)
    graph.add_node("y", op="linear", size=2, bias=True, **options)
    graph.add_edge(h, "y", weight="dense")
    graph.add_edge(h, "y", "late", weight="dense", delay=2)
    graph.add_edge("x", "y", value=0.5)
    return fg.compile(graph, {"y": "mse"}, "reservoir")


def sequences(count: int = 3, steps: int = 30) -> list[tuple[Any, Any]]:
    random = np.random.default_rng(0)
    x = random.normal(size=(count, steps, 2, 2))
    y = np.cumsum(x, axis=1) * 0.3 + 1
    return [({"x": a}, {"y": b}) for a, b in zip(x, y, strict=True)]


def test_weights_are_those_of_ridge_regression():
    """If this fails, delays, the bias or what is fixed are not where the features say."""
    ours = program()
    params = ours.init(1)
    learner = ReadoutLearner(ours, params, rls=RLS(ridge=0.2))
    learner.fit(sequences())
    rows, goals = [], []
    for inputs, targets in sequences():
        h = ours.run(params, inputs)["l1.h"]
        late = np.concatenate([np.zeros((2, *h.shape[1:])), h[:-2]])
        rows.append(np.concatenate([h, late, np.ones((*h.shape[:2], 1))], axis=2).reshape(-1, 11))
        goals.append((targets["y"] - 0.5 * inputs["x"]).reshape(-1, 2))
    x, y = np.concatenate(rows), np.concatenate(goals)
    closed = np.linalg.solve(x.T @ x + 0.2 * np.eye(11), x.T @ y).T
    np.testing.assert_allclose(learner.params["l1.h->y"], closed[:, :5], atol=1e-9)
    np.testing.assert_allclose(learner.params["l1.h->y#late"], closed[:, 5:10], atol=1e-9)
    np.testing.assert_allclose(learner.params["y.bias"], closed[:, 10], atol=1e-9)
    for name in params.keys() - {"l1.h->y", "l1.h->y#late", "y.bias"}:
        np.testing.assert_array_equal(learner.params[name], params[name])


def test_steps_with_a_mask_of_zero_are_left_out():
    """If this fails, a reservoir is fitted to what it does before it has forgotten its start."""
    ours = program()
    mask = np.ones(30)
    mask[:10] = 0
    masked, poisoned = ReadoutLearner(ours, ours.init()), ReadoutLearner(ours, ours.init())
    masked.fit([(*piece, mask) for piece in sequences()])
    for inputs, targets in sequences():
        wild = targets["y"].copy()
        wild[:10] = 1e6
        poisoned.fit([(inputs, {"y": wild}, np.broadcast_to(mask[:, None], (30, 2)))])
    for name, array in masked.params.items():
        np.testing.assert_allclose(poisoned.params[name], array, atol=1e-9)
    assert masked.predict(sequences()[0][0])["y"].shape == (30, 2, 2)


def test_targets_and_masks_are_read_as_programs_read_them():
    """If this fails, a mask of another shape is broadcast, or NaN behind a mask spoils the weights."""
    ours = program()
    inputs, targets = sequences()[0]
    late = (np.arange(30) > 9) * 1.0
    holes = targets["y"].copy()
    holes[:10] = np.nan
    found = []
    for goal, mask in ((targets["y"], late), (holes, late), (holes, {"y": np.repeat(late[:, None], 2, axis=1)})):
        learner = ReadoutLearner(ours, ours.init())
        learner.fit([(inputs, {"y": goal}, mask)])
        found.append(learner.params["l1.h->y"])
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
    learner = ReadoutLearner(ours, ours.init())
    for goal, mask, words in (
        (holes, None, "is not finite|nan"),
        (targets["y"], np.ones((2, 30)), r"mask: expected shape \(30,\) or \(30, 2\), got \(2, 30\)"),
        (targets["y"], {"z": late}, "mask: unknown name 'z'"),
    ):
        with pytest.raises(DataError, match=words):
            learner.fit([(inputs, {"y": goal}, mask)])
    with pytest.raises(DataError, match="targets"):
        learner.fit([(inputs, {"z": targets["y"]})])


def chained() -> fg.Program:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=1)
    cells.readout(graph, "y", input=cells.elman(graph, "h", input="x", size=2), size=1, leak=0.5)
    return fg.compile(graph, {"y": "mse"})


def test_what_least_squares_cannot_find_is_refused():
    """If this fails, weights are called the best ones and are not."""
    ours = program()
    for make, error, words in (
        (lambda: ReadoutLearner(ours, ours.init(), "z"), GraphError, "no such node"),
        (lambda: ReadoutLearner(ours, ours.init(), "l1.a"), GraphError, "is not linear"),
        (lambda: ReadoutLearner(chained(), chained().init()), GraphError, "an edge leads out of it"),
        (lambda: ReadoutLearner(ours, {}), DataError, "missing"),
        (
            lambda: ReadoutLearner(ours, ours.init()).fit([({"x": np.ones((3, 1, 2))}, {"y": np.ones((3, 1))})]),
            DataError,
            "shape",
        ),
    ):
        with pytest.raises(error, match=words):
            make()

"""Do constraints hold after every update, leave alone what is allowed, and refuse what they are not for?"""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import networkx as nx
import numpy as np
import pytest
from nets import vanilla

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.errors import DataError, FileError, NonFiniteError
from forwardgrad.learning.constraints import (
    Constrained,
    Constraint,
    bounds,
    nonnegative,
    nonpositive,
    signs,
    spectral_radius,
    zero_diagonal,
)
from forwardgrad.learning.optimizers import SGD, Adam
from forwardgrad.learning.transforms import Accumulated, Clipped

ALL = [bounds(-0.5, 0.25), nonnegative(), nonpositive(), signs([1, -1, 1, -1]), zero_diagonal(), spectral_radius(0.9)]


def matrix(seed: int, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, 4)).astype(dtype)


def radius(w: np.ndarray) -> float:
    return float(np.abs(np.linalg.eigvals(w)).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("constraint", ALL, ids=str)
def test_projections_are_idempotent_and_keep_dtype_and_argument(constraint: Constraint, dtype: str) -> None:
    """A projection that moves what is allowed would drag parameters along without any gradient."""
    for seed in range(20):
        w = matrix(seed, dtype)
        before = w.copy()
        once = constraint.project(w)
        assert not np.array_equal(once, w), "vacuous: nothing was projected"
        np.testing.assert_array_equal(w, before)
        assert once.dtype == w.dtype
        rounding = 100 * np.finfo(dtype).eps if "spectral" in constraint.text else 0
        np.testing.assert_allclose(constraint.project(once), once, rtol=rounding)


def test_projections_give_what_they_say_exactly() -> None:
    """By hand: which entries move, and to what; all others stay bit for bit."""
    w = np.array([[0.3, -0.7], [-0.2, 0.9]])
    for constraint, expected in [
        (bounds(-0.5, 0.5), [[0.3, -0.5], [-0.2, 0.5]]),
        (bounds(-np.inf, 0.5), [[0.3, -0.7], [-0.2, 0.5]]),
        (nonnegative(), [[0.3, 0], [0, 0.9]]),
        (nonpositive(), [[0, -0.7], [-0.2, 0]]),
        (signs([1, -1]), [[0.3, -0.7], [0, 0]]),
        (zero_diagonal(), [[0, -0.7], [-0.2, 0]]),
        (spectral_radius(2.0), w),
    ]:
        np.testing.assert_array_equal(constraint.project(w), expected)
    found = spectral_radius(0.5).project(w)
    assert radius(found) == pytest.approx(0.5, rel=1e-14)
    np.testing.assert_allclose(found / found[0, 0], w / w[0, 0], rtol=1e-14)


@pytest.mark.parametrize("constraint", ALL[:5], ids=str)
def test_the_nearest_allowed_matrix_is_found(constraint: Constraint) -> None:
    """The projection on a convex set: from there to the matrix is an obtuse angle with every way into the set."""
    w = matrix(0)
    nearest = constraint.project(w)
    for seed in range(1, 50):
        inside = constraint.project(3 * matrix(seed))
        assert np.sum((w - nearest) * (inside - nearest)) <= 1e-12


def test_an_update_is_that_of_the_optimizer_and_then_the_projection() -> None:
    """Anything else would be another optimizer; parameters without a gradient stay as they are, allowed or not."""
    plain = Adam(0.1)
    constrained = Constrained(plain, {"w*": [signs([1, -1, 1, -1]), zero_diagonal()], "b[1]": nonnegative()})
    params = {"w1": matrix(1), "w2": matrix(2), "b[1]": np.array([-0.5, 1.0]), "c": np.array([-3.0])}
    grads = {"w1": matrix(3), "b[1]": np.array([0.0, 20.0])}
    state = constrained.start(params)
    assert {name: array.tolist() for name, array in state.items()} == {
        name: array.tolist() for name, array in plain.start(params).items()
    }
    new, memory = constrained.update(params, grads, state)
    expected, also = plain.update(params, grads, state)
    np.testing.assert_array_equal(new["w1"], zero_diagonal().project(signs([1, -1, 1, -1]).project(expected["w1"])))
    np.testing.assert_array_equal(new["b[1]"], [0.0, expected["b[1]"][1]])
    assert new["w2"] is params["w2"]
    assert new["c"] is params["c"]
    assert all(np.array_equal(memory[key], also[key]) for key in also)
    projected = constrained.project(params)
    assert not projected["w2"].diagonal().any()
    np.testing.assert_array_equal(projected["b[1]"], [0, 1])
    assert projected["c"] is params["c"]


def learner(optimizer: Any, dtype: str = "float64", **settings: Any) -> fg.Learner:
    program = fg.compile(vanilla(), loss={"y": "mse"}, rule="eprop", dtype=dtype)
    return fg.Learner(program, program.init(3), optimizer, **settings)


def stream(steps: int = 24, seed: int = 0) -> list[Any]:
    x = np.random.default_rng(seed).normal(size=(steps, 2, 2))
    return [({"x": x}, {"y": -x[::-1]})]


def test_several_constraints_hold_through_training() -> None:
    """The usual recurrent matrix: no autapses, one sign per unit, and echoes that fade."""
    several = [signs([1, 1, -1]), zero_diagonal(), spectral_radius(0.4)]
    held, free = learner(Constrained(SGD(0.5), {"h->h": several})), learner(SGD(0.5))
    for seed in range(12):
        held.fit(stream(seed=seed), block=4)
        free.fit(stream(seed=seed), block=4)
        w = held.params["h->h"]
        assert not w.diagonal().any()
        assert (w * [1, 1, -1] >= 0).all()
        assert radius(w) <= 0.4 * (1 + 1e-12)
        assert w.any()
    assert radius(free.params["h->h"]) > 0.4
    assert free.params["h->h"].diagonal().all()


def excitatory_and_inhibitory() -> tuple[fg.Program, list[str]]:
    """An `ei_pair`, and the names of its recurrent matrices."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    rate = cells.ei_pair(graph, "l1", input="x", size=8)
    cells.readout(graph, "y", input=rate, size=1)
    recurrent = [f"l1.{source}->l1.{target}" for source in ("e", "minus") for target in ("to_e", "to_i")]
    return fg.compile(graph, loss={"y": "mse"}), recurrent


def test_dales_law_holds_where_ei_pair_says_so() -> None:
    """The docstring of the cell promises it. Without the constraint the same training breaks the law."""
    program, recurrent = excitatory_and_inhibitory()
    x = np.random.default_rng(0).normal(size=(400, 4, 2))
    piece = {"x": x}, {"y": x[..., :1] - np.roll(x[..., 1:], 2, axis=0)}
    free = fg.Learner(program, program.init(0), Adam(0.05))
    free.fit([piece], block=5)
    assert sum((free.params[name] < 0).any() for name in recurrent) >= 3
    kept = fg.Learner(program, program.init(0), Constrained(Adam(0.05), {"l1.*->l1.to_?": nonnegative()}))
    losses = []
    for update in kept.updates([piece], block=5):
        assert all((kept.params[name] >= 0).all() for name in recurrent)
        losses.append(update.loss)
    assert any((kept.params[name] == 0).any() for name in recurrent), "vacuous: the constraint never acted"
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8]), "and it learns"


def test_a_checkpoint_goes_on_and_another_constraint_is_refused(tmp_path: Any) -> None:
    """If it failed, a resumed run would leave what its author allowed."""
    constraints = {"h->h": [bounds(-0.3, 0.3), zero_diagonal()], "*bias": nonpositive()}
    optimizer = Accumulated(Constrained(Clipped(SGD(0.3, momentum=0.9), norm=1.0), constraints), 2)
    straight, halted = learner(optimizer), learner(pickle.loads(pickle.dumps(copy.deepcopy(optimizer))))
    straight.fit([*stream(12), *stream(12)], block=4)
    halted.fit(stream(12), block=4)
    halted.save(tmp_path / "l.npz")
    other = Accumulated(Constrained(Clipped(SGD(0.3, momentum=0.9), norm=1.0), {"h->h": bounds(-0.3, 0.4)}), 2)
    with pytest.raises(FileError, match="belongs to another optimizer"):
        fg.Learner.load(tmp_path / "l.npz", optimizer=other)
    back = fg.Learner.load(tmp_path / "l.npz", optimizer=optimizer)
    back.fit(stream(12), block=4)
    for name, array in straight.params.items():
        assert back.params[name].tobytes() == array.tobytes()
    config = json.loads(json.dumps(optimizer.config()))["optimizer"]
    assert config["constraints"] == {"h->h": ["bounds(-0.3, 0.3)", "zero_diagonal()"], "*bias": ["nonpositive()"]}


@pytest.mark.parametrize("constraint", [bounds(-1, 1), spectral_radius(0.5)], ids=str)
def test_what_is_not_finite_is_refused_by_the_learner_and_not_hidden(constraint: Constraint) -> None:
    """Clipping would turn an infinite weight into a legal one, and eigenvalues of it would end in an error of NumPy."""
    constrained = Constrained(SGD(1.0), {"h->h": constraint})
    params, grads = {"h->h": np.full((3, 3), 3e38, "float32")}, {"h->h": np.full((3, 3), -3e38, "float32")}
    with np.errstate(over="ignore"):
        assert np.isposinf(constrained.update(params, grads, {})[0]["h->h"]).all()
    exploding = learner(Constrained(SGD(1e38), {"h->h": constraint}), dtype="float32")
    before = exploding.params["h->h"]
    with pytest.raises(NonFiniteError, match="would not be finite"):
        exploding.fit([({"x": 30 * x["x"]}, {"y": 1e4 * y["y"]}) for x, y in stream()], block=4)
    assert exploding.params["h->h"] is before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: bounds(1.0, 0.0), "'low' must be at most 'high', got 1.0 and 0.0"),
        (lambda: bounds(float("nan"), 0.0), "'low' must be a number, got nan"),
        (lambda: bounds(0.0, "1"), "'high' must be a number, got '1'"),  # pyright: ignore[reportArgumentType]
        (lambda: signs([1, 2]), r"one 1 or -1 for each presynaptic unit, got \[1, 2\]"),
        (lambda: signs([[1, -1]]), "for each presynaptic unit"),
        (lambda: signs("excitatory"), "for each presynaptic unit"),
        (lambda: spectral_radius(0.0), "'largest' must be a finite number > 0, got 0.0"),
        (lambda: Constrained(SGD(1), {}), "a mapping from parameters to constraints"),
        (lambda: Constrained(SGD(1), {"h->h": nonnegative}), "'h->h' needs a constraint, such as nonnegative()"),  # pyright: ignore[reportArgumentType]
        (lambda: Constrained(SGD(1), {"h->h": "nonnegative()"}), "needs a constraint"),  # pyright: ignore[reportArgumentType]
        (lambda: Constrained(SGD(1), {1: nonnegative()}), "is a string, got 1"),  # pyright: ignore[reportArgumentType]
        (lambda: learner(Constrained(SGD(1), {"h->hh": nonnegative()})), "'h->hh': fits no parameter.\n.*'h->h'"),
        (lambda: learner(Constrained(SGD(1), {"l1.*": nonnegative()})), "fits no parameter"),
        (
            lambda: learner(Constrained(SGD(1), {"x->h": zero_diagonal()})),
            r"constraint zero_diagonal\(\) on parameter 'x->h': needs a square matrix, got shape \(3, 2\)",
        ),
        (
            lambda: learner(Constrained(SGD(1), {"h->h": signs([1, -1])})),
            r"on parameter 'h->h': needs a matrix with a column for each of 2 presynaptic units, got shape \(3, 3\)",
        ),
        (lambda: learner(Constrained(SGD(1), {"h.bias": spectral_radius(1)})), r"square matrix, got shape \(3,\)"),
    ],
)
def test_refuses_in_the_users_words(wrong: Any, words: str) -> None:
    """An error of NumPy in the middle of a run would not say which parameter it was."""
    with pytest.raises(DataError, match=words):
        wrong()

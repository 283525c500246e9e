"""Do optimisers compute what their papers say, without changing what they are given?"""

from __future__ import annotations

import dataclasses
import json
import math

import networkx as nx
import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.errors import DataError
from forwardgrad.learning import optimizers
from forwardgrad.learning.optimizers import SGD, Adam, clip_by_norm

OPTIMIZERS = [
    SGD(0.1),
    SGD(0.1, momentum=0.9),
    SGD(0.1, momentum=0.5, weight_decay=0.2),
    Adam(0.01),
    Adam(0.01, weight_decay=0.2),
]


def params(dtype: str = "float64") -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "w": random.normal(size=(3, 2)).astype(dtype),
        "leak": np.asarray(0.5, dtype=dtype),  # a scalar weight: shape ()
        "frozen": np.ones(4, dtype=dtype),
    }


def grads(step: int, dtype: str = "float64") -> dict[str, np.ndarray]:
    random = np.random.default_rng([1, step])
    return {"w": random.normal(size=(3, 2)).astype(dtype), "leak": np.asarray(random.normal(), dtype=dtype)}


def test_sgd_by_hand():
    new, state = SGD(0.1).update({"w": np.array([1.0, 2.0])}, {"w": np.array([10.0, -1.0])}, {})
    np.testing.assert_allclose(new["w"], [0.0, 2.1])
    assert state == {}


def test_momentum_by_hand():
    """Gradients 1, 1, 0 with momentum 0.5: velocities 1, 1.5, 0.75."""
    sgd = SGD(1.0, momentum=0.5)
    p: dict[str, np.ndarray] = {"w": np.array([0.0])}
    state = sgd.start(p)
    seen = []
    for g in (1.0, 1.0, 0.0):
        p, state = sgd.update(p, {"w": np.array([g])}, state)
        seen.append(float(p["w"][0]))
    assert seen == [-1.0, -2.5, -3.25]
    assert float(state["momentum:w"][0]) == 0.75


def test_adam_by_hand():
    """Two steps of algorithm 1 of Kingma & Ba, written out in scalars."""
    adam = Adam(learning_rate=0.1, beta1=0.9, beta2=0.99, epsilon=1e-3)
    p: dict[str, np.ndarray] = {"w": np.array([2.0])}
    state = adam.start(p)
    p, state = adam.update(p, {"w": np.array([3.0])}, state)
    p, state = adam.update(p, {"w": np.array([-1.0])}, state)
    w = 2.0 - 0.1 * 3.0 / (math.sqrt(9.0) + 1e-3)
    m, v = 0.9 * 0.1 * 3.0 - 0.1 * 1.0, 0.99 * 0.01 * 9.0 + 0.01 * 1.0
    w -= 0.1 * (m / (1 - 0.81)) / (math.sqrt(v / (1 - 0.99**2)) + 1e-3)
    assert float(p["w"][0]) == pytest.approx(w, rel=1e-14)
    assert float(state["first:w"][0]) == pytest.approx(m, rel=1e-14)
    assert float(state["second:w"][0]) == pytest.approx(v, rel=1e-14)
    assert state["count"].dtype == np.int64
    assert int(state["count"]) == 2


@pytest.mark.parametrize("plain", [SGD(0.1), SGD(0.1, momentum=0.9), Adam(0.01)], ids=str)
def test_decay_is_taken_off_apart_from_the_gradient(plain: SGD | Adam):
    """If decay went through momentum or moments, two parameters of one gradient would not decay by one factor."""
    decaying = dataclasses.replace(plain, weight_decay=0.5)
    p, state = params(), plain.start(params())
    for step in range(3):
        expected, after = plain.update(p, grads(step), state)
        found, also_after = decaying.update(p, grads(step), state)
        for name in ("w", "leak"):
            lost = plain.learning_rate * 0.5 * p[name]
            np.testing.assert_allclose(found[name], expected[name] - lost, rtol=0, atol=1e-15)
        assert found["frozen"] is p["frozen"], "what has no gradient does not decay"
        assert all(np.array_equal(after[key], also_after[key]) for key in after)
        p, state = found, also_after


def alignment(weight_decay: float, learning: int) -> tuple[float, float]:
    """Cosine of readout weights and the feedback in their place, before and after learning under `eprop-adaptive`."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    cells.leaky_tanh(graph, "l", input="x", size=12, leak=0.7)
    cells.readout(graph, "y", input="l.h", size=3)
    program = fg.compile(graph, loss={"y": "mse"}, rule="eprop-adaptive; seed=1")
    learner = fg.Learner(program, program.init(0), SGD(0.1, weight_decay=weight_decay))
    random = np.random.default_rng(0)

    def cosine() -> float:
        w, b = learner.params["l.h->y"], learner.params["l.h->y.feedback"]
        return float((w * b).sum() / np.sqrt((w * w).sum() * (b * b).sum()))

    first = cosine()
    x = random.normal(size=(learning, 8, 2))
    learner.fit([({"x": x}, {"y": np.stack([x[..., 0], x[..., 1], x[..., 0] - x[..., 1]], axis=2)})], block=2)
    return first, cosine()


def test_decay_aligns_adaptive_feedback_with_the_weights_it_stands_for():
    """Kolen & Pollack 1994: both take the same updates, so what they differ in decays, and only if there is decay."""
    first, last = alignment(weight_decay=0.05, learning=2000)
    assert first < 0.5
    assert last > 0.999
    assert alignment(weight_decay=0.0, learning=2000)[1] < 0.99


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_keeps_dtype_and_arguments(optimizer: optimizers.Optimizer, dtype: str):
    """A changed argument would corrupt a state that was saved a moment ago; a changed dtype, a program in float32."""
    p, g = params(dtype), grads(0, "float64")
    state = optimizer.start(p)
    arrays = {**p, **{f"g{k}": v for k, v in g.items()}, **{f"s{k}": v for k, v in state.items()}}
    before = {name: array.copy() for name, array in arrays.items()}
    for array in arrays.values():
        array.flags.writeable = False
    new, after = optimizer.update(p, g, state)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])
    for name in p:
        assert isinstance(new[name], np.ndarray)
        assert (new[name].dtype, new[name].shape) == (p[name].dtype, p[name].shape)
    for key in state:
        assert isinstance(after[key], np.ndarray)
        assert (after[key].dtype, after[key].shape) == (state[key].dtype, state[key].shape)
    assert new["frozen"] is p["frozen"]
    assert not np.array_equal(new["w"], p["w"])


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_resumes_bit_for_bit(optimizer: optimizers.Optimizer, tmp_path):
    """Twelve steps in one go, and six steps, a file, six steps, end in the same bits."""

    def go(p, state, steps):
        for step in steps:
            p, state = optimizer.update(p, grads(step, "float32"), state)
        return p, state

    whole, _ = go(params("float32"), optimizer.start(params("float32")), range(12))
    half, state = go(params("float32"), optimizer.start(params("float32")), range(6))
    np.savez(tmp_path / "half.npz", **{f"p/{k}": v for k, v in half.items()}, **{f"s/{k}": v for k, v in state.items()})
    config = json.loads(json.dumps(optimizer.config()))
    with np.load(tmp_path / "half.npz") as file:
        half = {k[2:]: file[k] for k in file.files if k.startswith("p/")}
        state = {k[2:]: file[k] for k in file.files if k.startswith("s/")}
    optimizer = optimizers.get(**config)
    again, _ = go(half, state, range(6, 12))
    for name, array in whole.items():
        assert array.tobytes() == again[name].tobytes()


def test_registry():
    assert optimizers.names() == ["adam", "lars", "rmsprop", "sgd"]
    for optimizer in OPTIMIZERS:
        assert optimizers.get(**optimizer.config()) == optimizer
    assert optimizers.get("adam", learning_rate=np.float32(0.5)).config()["learning_rate"] == 0.5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SGD(0.0), "'learning_rate' must be a finite number greater than 0, got 0.0"),
        (lambda: SGD(float("nan")), "'learning_rate'"),
        (lambda: SGD(float("inf")), "'learning_rate'"),
        (lambda: SGD("0.1"), "got '0.1'"),  # pyright: ignore[reportArgumentType]
        (lambda: SGD(True), "'learning_rate'"),
        (lambda: SGD(0.1, momentum=1.0), r"'momentum' must be a number in \[0, 1\)"),
        (lambda: Adam(beta1=-0.1), "'beta1'"),
        (lambda: Adam(beta2=1.0), "'beta2'"),
        (lambda: Adam(epsilon=0.0), "'epsilon'"),
        (lambda: SGD(0.1, weight_decay=-0.1), "'weight_decay' must be a finite number >= 0, got -0.1"),
        (lambda: Adam(weight_decay=float("inf")), "'weight_decay'"),
        (lambda: optimizers.get("adma"), "Did you mean 'adam'"),
        (lambda: optimizers.get("adam", lerning_rate=1.0), "Did you mean 'learning_rate'"),
        (lambda: optimizers.get("sgd"), "'sgd' needs 'learning_rate'"),
        (lambda: clip_by_norm({}, 0.0), "the limit must be"),
        (lambda: clip_by_norm({"w": np.array([np.nan])}, 1.0), "gradient of 'w' is not finite"),
        (lambda: SGD(0.1).update({"w": np.zeros(2)}, {"v": np.zeros(2)}, {}), "unknown parameter 'v'"),
        (lambda: SGD(0.1).update({"w": np.zeros(2)}, {"w": np.zeros(3)}, {}), r"shape \(2,\), its gradient \(3,\)"),
        (lambda: SGD(0.1).update({"w": np.zeros(1)}, {"w": np.array([np.inf])}, {}), "'w' is not finite"),
        (lambda: Adam().update({"w": np.zeros(2)}, {"w": np.zeros(2)}, {}), "lacks 'count'"),
        (lambda: SGD(1, 0.5).update({"w": np.zeros(2)}, {"w": np.zeros(2)}, {}), "optimizer.start"),
        (
            lambda: SGD(1, 0.5).update({"w": np.zeros(2)}, {"w": np.zeros(2)}, {"momentum:w": np.zeros(3)}),
            "'momentum:w' needs shape",
        ),
    ],
)
def test_refuses(make, words: str):
    with pytest.raises(DataError, match=words):
        make()


def test_clipping():
    g = {"a": np.array([[3.0, 0.0]]), "b": np.asarray(4.0)}
    clipped = clip_by_norm(g, 2.5)
    np.testing.assert_allclose(clipped["a"], [[1.5, 0.0]])
    np.testing.assert_allclose(clipped["b"], 2.0)
    assert isinstance(clipped["b"], np.ndarray)
    assert clip_by_norm(g, 5.0)["a"] is g["a"]
    assert clip_by_norm({"a": np.zeros(2)}, 1.0)["a"].tolist() == [0.0, 0.0]
    assert clip_by_norm({}, 1.0) == {}


def test_clipping_does_not_overflow():
    """The squares of these numbers are infinite in their own dtype."""
    for value in (np.full(4, 1e30, dtype="float32"), np.full(4, 1e200)):
        clipped = clip_by_norm({"w": value}, 2.0)["w"]
        assert clipped.dtype == value.dtype
        np.testing.assert_allclose(clipped, 1.0, rtol=1e-6)

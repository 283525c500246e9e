"""Are learning rates, gradients and updates what schedules, clipping, accumulation and pairs of functions say?"""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
from nets import vanilla

import forwardgrad as fg
from forwardgrad.errors import DataError, FileError
from forwardgrad.learning.optimizers import LARS, RMSprop, clip_by_value
from forwardgrad.learning.schedules import Constant, Cosine, StepDecay, Warmup
from forwardgrad.learning.transforms import Accumulated, Clipped, Scheduled

GRADS = [{"w": np.random.default_rng(seed).normal(size=(2, 3))} for seed in range(6)]


def stream(steps: int = 24) -> list[Any]:
    x = np.random.default_rng(0).normal(size=(steps, 2, 2))
    return [({"x": x}, {"y": x})]


def learner(optimizer: Any) -> fg.Learner:
    program = fg.compile(vanilla(), loss={"y": "mse"}, rule="eprop")
    return fg.Learner(program, program.init(3), optimizer)


def moved(optimizer: Any, grads: list[dict[str, Any]] = GRADS) -> np.ndarray:
    params = {"w": np.ones((2, 3))}
    state = optimizer.start(params)
    for g in grads:
        params, state = optimizer.update(params, g, state)
    return params["w"]


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (Constant(0.5), [0.5] * 5),
        (Cosine(4, final=0.2), [1, (1 + math.sqrt(0.5)) / 2, 0.5, 0.2, 0.2]),
        (StepDecay(2, 0.5), [1, 1, 0.5, 0.5, 0.25]),
        (Warmup(2, StepDecay(1, 0.5)), [0.5, 1, 1, 0.5, 0.25]),
    ],
    ids=str,
)
def test_schedules_are_their_equations_and_set_the_learning_rate(schedule, wanted):
    """If it failed, a network would learn at another rate than its author wrote."""
    assert [schedule(n) for n in range(5)] == pytest.approx(wanted, abs=1e-15)
    by_hand = np.ones((2, 3)) - 0.3 * sum(f * g["w"] for f, g in zip(wanted, GRADS, strict=False))
    np.testing.assert_allclose(moved(Scheduled(fg.SGD(0.3), schedule), GRADS[:5]), by_hand, atol=1e-14)


def test_accumulated_gradients_are_one_update_with_their_mean():
    """If it failed, four small blocks would not be worth one large one."""
    means = [{"w": sum(g["w"] for g in GRADS[at : at + 3]) / 3} for at in (0, 3)]
    optimizer = fg.Adam(0.1)
    np.testing.assert_allclose(moved(Accumulated(optimizer, 3)), moved(optimizer, means), atol=1e-14)
    np.testing.assert_array_equal(moved(Accumulated(optimizer, 7)), np.ones((2, 3)))


def test_clipping_bounds_entries_first_and_their_norm_then():
    """If it failed, one surprising entry could throw the parameters far away."""
    assert np.abs(moved(Clipped(fg.SGD(1.0), value=0.1), GRADS[:1]) - 1).max() == pytest.approx(0.1)
    both = moved(Clipped(fg.SGD(1.0), norm=0.05, value=0.1), GRADS[:1]) - 1
    assert np.linalg.norm(both) == pytest.approx(0.05)
    limited = clip_by_value(GRADS[0], 0.1)["w"]
    np.testing.assert_allclose(both, -0.05 * limited / np.linalg.norm(limited), atol=1e-14)


def test_rmsprop_and_lars_are_their_equations():
    """If it failed, results would not compare with those of other libraries."""
    p, q, v, m = np.ones((2, 3)), np.ones((2, 3)), 0.0, 0.0
    for g in (each["w"] for each in GRADS):
        v = 0.9 * v + 0.1 * g**2
        p = p * (1 - 0.01 * 0.1) - 0.01 * g / (np.sqrt(v) + 1e-8)
        ratio = 0.1 * np.linalg.norm(q) / (np.linalg.norm(g) + 0.2 * np.linalg.norm(q))
        m = 0.9 * m + 0.5 * ratio * (g + 0.2 * q)
        q = q - m
    np.testing.assert_allclose(moved(RMSprop(0.01, decay=0.9, weight_decay=0.1)), p, atol=1e-13)
    np.testing.assert_allclose(moved(LARS(0.5, trust=0.1, weight_decay=0.2)), q, atol=1e-13)


def momentum() -> tuple[Any, Any]:
    """Heavy-ball momentum as a pair of functions, its state a tree."""

    def init(params: Any) -> Any:
        return ({name: np.zeros_like(p) for name, p in params.items()}, None)

    def update(grads: Any, state: Any, params: Any) -> Any:
        trace = {name: 0.8 * state[0][name] + g for name, g in grads.items()}
        return {name: -0.03 * t for name, t in trace.items()}, (trace, None)

    return init, update


def test_a_pair_of_functions_is_an_optimizer(tmp_path):
    """If it failed, an optimizer of another library would forget, or a checkpoint of it would."""
    pair = momentum()
    ours, theirs = learner(fg.SGD(0.03, momentum=0.8)), learner(pair)
    for each in (ours, theirs):
        each.fit(stream(), block=4)
    for name in ours.params:
        np.testing.assert_allclose(theirs.params[name], ours.params[name], atol=1e-13)
    theirs.save(tmp_path / "l.npz")
    back = fg.Learner.load(tmp_path / "l.npz", optimizer=pair)
    for each in (back, theirs):
        each.fit(stream(), block=4)
    for name in ours.params:
        np.testing.assert_array_equal(back.params[name], theirs.params[name])


def test_optax_plugs_in_in_one_line():
    """If it failed, the optimizers of JAX could not be used."""
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        ours, theirs = learner(fg.Adam(0.01)), learner(optax.adam(0.01))
        for each in (ours, theirs):
            each.fit(stream(), block=4)
    finally:
        jax.config.update("jax_enable_x64", before)
    for name in ours.params:
        np.testing.assert_allclose(theirs.params[name], ours.params[name], atol=1e-12)


@pytest.mark.parametrize(
    "optimizer",
    [Scheduled(fg.Adam(0.01), Warmup(2, Cosine(9))), Accumulated(Clipped(fg.SGD(0.1, 0.5), norm=0.2), 2)],
    ids=["scheduled", "accumulated"],
)
def test_nested_optimizers_are_resumed_copied_and_pickled(optimizer, tmp_path):
    """If it failed, a run that was halted would start its schedule or its sum again."""
    straight, halted = learner(optimizer), learner(pickle.loads(pickle.dumps(copy.deepcopy(optimizer))))
    straight.fit([*stream(12), *stream(12)], block=4)
    halted.fit(stream(12), block=4)
    halted.save(tmp_path / "l.npz")
    with pytest.raises(FileError, match="own must be given"):
        fg.Learner.load(tmp_path / "l.npz")
    back = fg.Learner.load(tmp_path / "l.npz", optimizer=optimizer)
    back.fit(stream(12), block=4)
    for name in straight.params:
        np.testing.assert_array_equal(back.params[name], straight.params[name])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Cosine(0),
        lambda: StepDecay(3, 0.0),
        lambda: Constant(math.inf),
        lambda: Warmup(1.5),  # type: ignore[arg-type]
        lambda: Scheduled(Clipped(fg.SGD(0.1), norm=1.0), Constant()),
        lambda: Scheduled(fg.SGD(0.1), Cosine),  # type: ignore[arg-type]
        lambda: moved(Scheduled(fg.SGD(0.1), lambda n: -1.0)),
        lambda: Clipped(fg.SGD(0.1)),
        lambda: Clipped(fg.SGD(0.1), value=0.0),
        lambda: Accumulated(fg.SGD(0.1), 0),
        lambda: learner((1, 2)),
        lambda: Scheduled(fg.SGD(0.1), Constant()).update({}, {}, {}),
    ],
)
def test_what_cannot_be_is_refused(wrong):
    """If it failed, a slip of the pen would show as a network that does not learn."""
    with pytest.raises(DataError):
        wrong()

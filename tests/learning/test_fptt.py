"""Is FPTT the published recursion around any optimizer, on the gradients of any rule, and does it resume?"""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from nets import vanilla

import forwardgrad as fg
from forwardgrad.errors import DataError, FileError
from forwardgrad.learning.constraints import Constrained, nonnegative, zero_diagonal
from forwardgrad.learning.fptt import FPTT
from forwardgrad.learning.optimizers import SGD, Adam, Optimizer
from forwardgrad.learning.transforms import Accumulated, Clipped

SETTINGS = [(0.5, 0.5, 0.0), (0.1, 0.3, 0.5), (1.5, 1.0, 0.2)]
"""Some alpha, beta and rho."""


def go(optimizer: Optimizer, updates: int = 12) -> np.ndarray:
    """A parameter after updates under quadratic losses, each with a minimum elsewhere."""
    random = np.random.default_rng(0)
    goals = random.normal(size=(updates, 2, 3))
    params = {"w": random.normal(size=(2, 3))}
    state = optimizer.start(params)
    for goal in goals:
        params, state = optimizer.update(params, {"w": params["w"] - goal}, state)
    return params["w"]


@pytest.mark.parametrize(("alpha", "beta", "rho"), SETTINGS)
def test_it_is_the_published_recursion_step_by_step(alpha: float, beta: float, rho: float) -> None:
    """The loop of the authors' code around SGD, written out; `lm` is the multiplier itself, not that over alpha."""
    random = np.random.default_rng(0)
    goals, rate = random.normal(size=(12, 2, 3)), 0.3
    p = random.normal(size=(2, 3))
    sm, lm = p.copy(), np.zeros((2, 3))
    params: dict[str, np.ndarray] = {"w": p}
    optimizer = FPTT(SGD(rate), alpha, beta, rho)
    state = optimizer.start(params)
    for goal in goals:
        params, state = optimizer.update(params, {"w": params["w"] - goal}, state)
        p = p - rate * (p - goal + (rho - 1) * lm + alpha * (p - sm))
        lm = lm - alpha * (p - sm)
        sm = (1 - beta) * sm + beta * p - (beta / alpha) * lm
        np.testing.assert_allclose(params["w"], p, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(state["mean:w"], sm, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(alpha * state["multiplier:w"], lm, rtol=1e-11, atol=1e-13)


def test_the_gradient_that_it_adds_is_that_of_the_regularizer() -> None:
    """By central differences of the papers' form, at rho = 1/2, in the midst of a run."""
    got: list[np.ndarray] = []

    class Spy(SGD):
        def update(self, params: Any, grads: Any, state: Any) -> Any:
            got.append(grads["w"])
            return super().update(params, grads, state)

    alpha, random = 0.7, np.random.default_rng(1)
    optimizer = FPTT(Spy(0.2), alpha, 0.5, 0.5)
    params: dict[str, np.ndarray] = {"w": random.normal(size=4)}
    state = optimizer.start(params)
    for _ in range(3):
        params, state = optimizer.update(params, {"w": random.normal(size=4)}, state)
    mean, last = state["mean:w"], alpha * state["multiplier:w"]

    def regularizer(p: np.ndarray) -> float:
        return alpha / 2 * float(np.sum((p - mean - last / (2 * alpha)) ** 2))

    steps = 1e-5 * np.eye(4)
    slopes = [(regularizer(params["w"] + step) - regularizer(params["w"] - step)) / 2e-5 for step in steps]
    optimizer.update(params, {"w": np.zeros(4)}, state)
    assert np.abs(slopes).min() > 1e-3
    np.testing.assert_allclose(got[-1], slopes, rtol=1e-8)


def test_the_multiplier_becomes_the_gradient_where_an_update_minimizes() -> None:
    """This is why the recursion needs no second pass. The loss |p - goal|^2 / 2 is minimized in one step of SGD."""
    alpha, random = 0.8, np.random.default_rng(2)
    optimizer = FPTT(SGD(1 / (1 + alpha)), alpha)
    params: dict[str, np.ndarray] = {"w": random.normal(size=3)}
    state = optimizer.start(params)
    for _ in range(5):
        goal = random.normal(size=3)
        params, state = optimizer.update(params, {"w": params["w"] - goal}, state)
        np.testing.assert_allclose(alpha * state["multiplier:w"], params["w"] - goal, atol=1e-13)


def test_without_its_regularizer_the_test_problem_ends_elsewhere() -> None:
    """The step that is essential: if the regularizer were dropped, all of these would be the optimizer alone."""
    for plain in (SGD(0.2), SGD(0.1, momentum=0.5), Adam(0.05)):
        ends = [go(FPTT(plain, *each)) for each in SETTINGS]
        for end in ends:
            assert np.abs(end - go(plain)).max() > 0.002


def test_it_settles_where_the_loss_is_least() -> None:
    """The regularizer must not move the solution: mean and parameter meet there, and the multiplier vanishes."""
    goal = np.array([1.0, -2.0])
    optimizer = FPTT(SGD(0.2), 0.5)
    params: dict[str, np.ndarray] = {"w": np.zeros(2)}
    state = optimizer.start(params)
    for _ in range(400):
        params, state = optimizer.update(params, {"w": params["w"] - goal}, state)
    np.testing.assert_allclose(params["w"], goal, atol=1e-12)
    np.testing.assert_allclose(state["mean:w"], goal, atol=1e-12)
    np.testing.assert_allclose(state["multiplier:w"], 0, atol=1e-12)


@pytest.mark.parametrize(
    "plain", [SGD(0.2), SGD(0.1, momentum=0.5), Adam(0.05), Clipped(Adam(0.05), norm=0.1)], ids=str
)
def test_alpha_0_is_the_optimizer_alone(plain: Optimizer) -> None:
    """Bit for bit, so that a comparison of both differs in the regularizer and in nothing else."""
    assert go(FPTT(plain, alpha=0.0)).tobytes() == go(plain).tobytes()


def learner(optimizer: Any, rule: str = "eprop", dtype: str = "float64") -> fg.Learner:
    program = fg.compile(vanilla(), loss={"y": "mse"}, rule=rule, dtype=dtype)
    return fg.Learner(program, program.init(3), optimizer)


def stream(steps: int = 24) -> list[Any]:
    x = np.random.default_rng(0).normal(size=(steps, 2, 2))
    return [({"x": x}, {"y": -x[::-1]})]


@pytest.mark.parametrize("rule", ["rtrl", "tbptt", "eprop", "immediate"])
def test_it_goes_with_exact_and_approximate_gradients(rule: str) -> None:
    """A learner with FPTT does what the loop of the papers does with the gradients of that rule."""
    alpha, beta, rate = 0.5, 0.5, 0.3
    found = learner(FPTT(SGD(rate), alpha, beta), rule)
    program, params, state = found.program, dict(found.params), found.program.start(2)
    sm, lm = dict(params), {name: np.zeros_like(p) for name, p in params.items()}
    found.fit(stream(), block=4)
    x, y = stream()[0][0]["x"], stream()[0][1]["y"]
    for at in range(0, 24, 4):
        state, step = program.step(params, {"x": x[at : at + 4]}, {"y": y[at : at + 4]}, state=state)
        for name, g in step.grads.items():
            p = params[name]
            params[name] = p = p - rate * (g / 4 - lm[name] + alpha * (p - sm[name]))
            lm[name] = lm[name] - alpha * (p - sm[name])
            sm[name] = (1 - beta) * sm[name] + beta * p - (beta / alpha) * lm[name]
    alone = learner(SGD(rate), rule)
    alone.fit(stream(), block=4)
    for name, p in params.items():
        np.testing.assert_allclose(found.params[name], p, rtol=1e-10, atol=1e-12)
        assert np.abs(p - alone.params[name]).max() > 1e-3


OPTIMIZERS = [
    FPTT(Clipped(Adam(0.01), norm=1.0), 0.5),
    Accumulated(FPTT(SGD(0.1, momentum=0.9), 0.2, 0.4, 0.5), 2),
    FPTT(Constrained(Adam(0.01), {"h->h": [nonnegative(), zero_diagonal()]})),
    FPTT(FPTT(SGD(0.1))),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["clipped", "accumulated", "constrained", "nested"])
def test_a_resumed_run_is_the_uninterrupted_one(optimizer: Any, dtype: str, tmp_path: Any) -> None:
    """Bit for bit, through a checkpoint, a copy and a pickle. If it failed, means or multipliers would start again."""
    halted = learner(pickle.loads(pickle.dumps(copy.deepcopy(optimizer))), dtype=dtype)
    straight = learner(optimizer, dtype=dtype)
    straight.fit([*stream(12), *stream(12)], block=4)
    halted.fit(stream(12), block=4)
    halted.save(tmp_path / "l.npz")
    with pytest.raises(FileError, match="own must be given"):
        fg.Learner.load(tmp_path / "l.npz")
    with pytest.raises(FileError, match="belongs to another optimizer"):
        fg.Learner.load(tmp_path / "l.npz", optimizer=FPTT(SGD(0.1), 0.7))
    back = fg.Learner.load(tmp_path / "l.npz", optimizer=optimizer)
    back.fit(stream(12), block=4)
    assert any(np.any(array) for key, array in back.optimizer_state.items() if "multiplier:" in key)
    for ours, theirs in ((straight.params, back.params), (straight.optimizer_state, back.optimizer_state)):
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            assert theirs[name].dtype == array.dtype
            assert theirs[name].tobytes() == array.tobytes()


def test_no_argument_is_changed_and_the_rest_passes_through() -> None:
    """A changed argument would corrupt a state that was saved a moment ago."""
    fptt = FPTT(Adam(0.1), 0.5)
    params = {"w": np.ones(3, "float32"), "leak": np.asarray(0.5, "float32"), "frozen": np.ones(2, "float32")}
    grads = {"w": np.arange(3.0), "leak": np.asarray(2.0)}
    state = fptt.start(params)
    for array in (*params.values(), *grads.values(), *state.values()):
        array.flags.writeable = False
    new, memory = fptt.update(params, grads, state)
    assert new["frozen"] is params["frozen"]
    assert memory["mean:frozen"] is state["mean:frozen"]
    assert memory.keys() == state.keys()
    for key, array in {**new, **memory}.items():
        assert isinstance(array, np.ndarray)
        assert array.dtype == ("int64" if key.endswith("count") else "float32")
    assert json.loads(json.dumps(fptt.config()))["optimizer"] == Adam(0.1).config()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: FPTT(SGD(1), alpha=-0.1), "'alpha' must be a finite number >= 0, got -0.1"),
        (lambda: FPTT(SGD(1), beta=0.0), "'beta' must be a number > 0 and at most 1, got 0.0"),
        (lambda: FPTT(SGD(1), beta="half"), "got 'half'"),  # pyright: ignore[reportArgumentType]
        (lambda: FPTT(SGD(1), rho=1.0), r"'rho' must be a number in \[0, 1\)"),
        (lambda: FPTT(SGD(1)).update({"w": np.zeros(1)}, {"v": np.zeros(1)}, {}), "unknown parameter 'v'"),
        (lambda: FPTT(SGD(1)).update({"w": np.zeros(1)}, {"w": np.zeros(2)}, {}), r"shape \(1,\), its gradient \(2,\)"),
        (lambda: FPTT(SGD(1)).update({"w": np.zeros(1)}, {"w": np.zeros(1)}, {}), "lacks 'mean:w'"),
        (lambda: FPTT(SGD(1)).update({"w": np.zeros(1)}, {"w": np.array([np.inf])}, {}), "'w' is not finite"),
    ],
)
def test_refuses_in_the_users_words(wrong: Any, words: str) -> None:
    """A setting that cannot be would show as a network that does not learn."""
    with pytest.raises(DataError, match=words):
        wrong()

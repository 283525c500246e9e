"""Is memory used again, and only when nobody holds it any more?"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad.support import reuse
from forwardgrad.support.reuse import Pool


def where(array: Any) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again() -> None:
    """If this fails, every block asks the system for its memory anew, and speed is lost without a sign."""
    pool = Pool(most=4000, least=100)
    first = pool.empty((10, 10), np.float64)
    at = where(first)
    del first
    again = pool.empty((100, 1), np.float64)
    assert where(again) == at
    assert again.shape == (100, 1)
    assert again.flags.writeable


@pytest.mark.parametrize("held", [lambda a: a[2:, ::2], lambda a: a.T, lambda a: a.reshape(-1).view(np.int64)[:1]])
def test_memory_that_is_held_is_left_alone(held: Any) -> None:
    """If this fails, an array that a user holds changes under their hands."""
    pool = Pool(most=4000, least=100)
    array = pool.empty((10, 10), np.float64)
    view = held(array)
    at = where(array)
    del array
    assert where(pool.empty((10, 10), np.float64)) != at
    del view
    assert where(pool.empty((10, 10), np.float64)) in {at, *map(where, pool._held)}
    assert len(pool._held) == 2


def test_it_holds_no_more_than_it_may() -> None:
    """If this fails, a long session fills the memory with what it needs no more."""
    pool = Pool(most=4000, least=100)
    for size in (100, 200, 300, 400, 450):
        pool.empty((size,), np.float64)
        assert sum(array.nbytes for array in pool._held) <= 4000
    kept = [pool.empty((250,), np.float64) for _ in range(4)]
    assert len({where(array) for array in kept}) == 4
    assert sum(array.nbytes for array in pool._held) <= 4000
    pool.empty((10_000,), np.float64)
    pool.empty((1,), np.float64)
    assert all(100 <= array.nbytes <= 4000 for array in pool._held)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_does_not_wait_for_ever() -> None:
    """If this fails, worker processes hang that were forked while a thread was computing."""
    pool = reuse._POOL
    with pool._lock:
        child = os.fork()
        if child == 0:  # pragma: no cover
            os._exit(0 if pool._lock.acquire(blocking=False) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_busy_pool_is_passed_by() -> None:
    """If this fails, a signal handler waits for a lock that its own thread holds."""
    pool = Pool(most=4000, least=100)
    with pool._lock:
        assert pool.empty((100,), np.float64).shape == (100,)
    assert pool._held == []


def test_results_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, states, outputs or gradients of one call are overwritten by the next, also from other threads."""
    pool = Pool(least=1)
    monkeypatch.setattr(reuse, "empty", pool.empty)
    program = fg.compile(fg.load("lstm"), rule="eprop", dtype="float64")
    params = program.init(0)
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(6, 2, program.network.nodes[name].size)) for name in program.network.inputs}
    y = {name: rng.normal(size=(6, 2, program.network.nodes[name].size)) for name in program.losses}

    def train(_: int) -> list[Any]:
        state, found = program.start(2), []
        for t in range(0, 6, 2):
            state, step = program.step(
                params, {k: v[t : t + 2] for k, v in x.items()}, {k: v[t : t + 2] for k, v in y.items()}, state=state
            )
            found += [state, step.grads, step.outputs]
        return [*found, program.gradient(params, x, y, block=2).grads, program.run(params, x)]

    def copied(found: list[Any]) -> list[dict[str, Any]]:
        return [{name: array.copy() for name, array in part.items()} for part in found]

    first = train(0)
    wanted = copied(first)
    with ThreadPoolExecutor(4) as threads:
        others = list(threads.map(train, range(16)))
    assert pool._held
    for found in [first, *others]:
        for part, expected in zip(found, wanted, strict=True):
            for name, array in part.items():
                np.testing.assert_array_equal(array, expected[name])

"""Do products run on one thread, whatever number is set, and are they NumPy's to rounding?"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checks import ENGINES
from threadpoolctl import threadpool_info, threadpool_limits

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.support import blas

OPENBLAS = any(pool["internal_api"] == "openblas" for pool in threadpool_info())


def numbers() -> int:
    """Those of NumPy's BLAS: a library that another test has imported may bring one of its own."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return min(pools, key=lambda pool: "numpy" not in pool["filepath"])["num_threads"]


@pytest.mark.skipif(not OPENBLAS, reason="others are left as they are")
@pytest.mark.parametrize(("size", "lead", "threads"), [(2**6, (), 2), (2**6, (3,), 2), (2**8, (), 1), (2**8, (3,), 1)])
def test_the_number_of_threads_inside_a_product(
    size: int, lead: tuple[int, ...], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, threads of BLAS wait for each other, or other code finds a number that it has not set."""
    seen: list[int] = []

    def product(a: Any, b: Any, out: Any = None) -> Any:
        seen.append(numbers())
        return a @ b

    monkeypatch.setattr(np, "matmul", product)
    with threadpool_limits(2, "blas"):
        blas.matmul(np.ones((*lead, size, size)), np.ones((size, size)))
        assert set(seen) == {threads}
        assert numbers() == 2


def test_large_products_are_computed_in_pieces_of_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a product of a second is computed on one thread where many are free."""
    seen: list[int] = []
    monkeypatch.setattr(np, "matmul", lambda a, b, out: seen.append(numbers()))
    with threadpool_limits(2, "blas"):
        blas.matmul(np.ones((64, 2**13), "float32"), np.ones((2**13, 2**11), "float32"))
        assert numbers() == 2
    assert seen == [1] * 16


def test_the_setting_outlives_failures_and_threads_at_once() -> None:
    """If this fails, a program leaves the process on one thread."""
    with threadpool_limits(2, "blas"):
        with pytest.raises(ValueError, match="matmul"):
            blas.matmul(np.ones((300, 300)), np.ones((299, 300)))
        assert numbers() == 2
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: blas.matmul(np.ones((90, 90)), np.ones((90, 90))), range(400)))
        assert numbers() == 2


def test_threads_that_look_for_the_setting_at_once_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, one of them takes the other's single thread for what was set before, and leaves it so."""
    together = Barrier(4)

    def looked_for() -> blas.Setting:
        together.wait(60)
        return blas.Setting(lambda: 2, lambda number: None)

    monkeypatch.setattr(blas, "_SETTINGS", {})
    monkeypatch.setattr(blas, "_looked_for", looked_for)
    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(lambda _: blas.setting(), range(4)))
    assert len(found) == 1


@pytest.mark.parametrize("when", range(5))
def test_the_setting_outlives_a_product_of_a_signal_handler(when: int) -> None:
    """If this fails, a handler that runs a program deadlocks, or leaves the process on one thread."""
    numbers = [2]
    calls = 0

    def interrupted() -> None:
        nonlocal calls
        calls += 1
        if calls == when + 1:
            with setting:
                pass

    def get() -> int:
        interrupted()
        return numbers[-1]

    def put(number: int) -> None:
        interrupted()
        numbers.append(number)
        interrupted()

    setting = blas.Setting(get, put)
    with setting:
        pass
    assert calls > when
    assert numbers[-1] == 2
    with setting:
        assert numbers[-1] == 1
    assert numbers[-1] == 2


def network(units: int = 96) -> Any:
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=40)
    cells.lstm(graph, "l1", "x", units)
    cells.readout(graph, "y", "l1.h", 10)
    return graph


def data(steps: int = 12, batch: int = 32) -> tuple[dict[str, Any], dict[str, Any]]:
    random = np.random.default_rng(0)
    return {"x": random.normal(size=(steps, batch, 40))}, {"y": random.normal(size=(steps, batch, 10))}


@pytest.mark.parametrize("backend", ENGINES)
def test_the_same_bits_with_any_number_of_threads(backend: str) -> None:
    """If this fails, a run that is resumed where another number of threads is set does not go on bit for bit."""
    program = fg.compile(network(), {"y": "mse"}, "eprop", backend=backend)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            found.append(program.gradient(program.init(0), *data(), block=5).grads)
    assert all(np.any(array) for array in found[0].values())
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


CHILD = Path(__file__).parents[1] / "thread_use.py"


@pytest.mark.skipif(
    not (OPENBLAS and Path("/proc/self/schedstat").exists()),
    reason="needs OpenBLAS, and a system that tells how long each thread has run",
)
@pytest.mark.parametrize("how", ["plain", "numpy", "interpreter", "threads", "raising", "fork"])
def test_no_thread_of_blas_runs(how: str) -> None:
    """If this fails, products wait for threads of BLAS, or a function of the user's finds another number of them.

    `plain` is the control: a product of NumPy alone, of the same size, does use them.
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    child = subprocess.run([sys.executable, CHILD, how], capture_output=True, text=True, timeout=300, env=environment)
    assert child.returncode == 0, child.stderr
    used, before, inside, after = map(int, child.stdout.split())
    assert (used > 0) == (how == "plain")
    assert before == after == 2
    assert inside == 2 or how == "threads"  # where a function of ours may run beside a product of another thread

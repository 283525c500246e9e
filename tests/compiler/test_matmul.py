"""Do products run on one thread, whatever number is set, and are they NumPy's to rounding?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.backends import BACKENDS
from forwardgrad.compiler.source import support

OPENBLAS = any(pool["internal_api"] == "openblas" for pool in threadpool_info())
SIZES = st.one_of(st.integers(1, 70), st.sampled_from([64, 97, 128, 160, 200]))


class Recorded:
    """NumPy, with the multiplications of each of its products noted."""

    def __init__(self) -> None:
        self.pieces: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def matmul(self, a: Any, b: Any, out: Any = None) -> Any:
        self.pieces.append(a.shape[-2] * a.shape[-1] * b.shape[-1])
        return np.matmul(a, b, out=out)


@given(SIZES, SIZES, SIZES, st.sampled_from([(), (3,), (2, 2)]), st.integers(0, 15))
def test_products_are_numpys_in_small_pieces(
    rows: int, depth: int, columns: int, lead: tuple[int, ...], layout: int
) -> None:
    """If this fails, a product of some shape or memory layout is wrong, or has a piece that BLAS would share out."""
    random = np.random.default_rng(rows + 1000 * columns)
    a = random.normal(size=(*lead, rows, depth))
    b = random.normal(size=(*(lead if layout & 8 else ()), depth, columns))
    a = np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2) if layout & 1 else a
    b = np.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2) if layout & 2 else b
    room = np.full((*lead, rows, columns + 2), 7.0)
    recorded = Recorded()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(support, "np", recorded)
        patch.setattr(support, "SINGLE", 2000)
        patch.setattr(support, "DEPTH", 32)
        patch.setattr(support, "SPLIT", True)
        found = support.matmul(a, b, room[..., :-2] if layout & 4 else None)
    assert max(recorded.pieces) <= 2000
    np.testing.assert_allclose(found, a @ b, rtol=1e-10, atol=1e-10)
    if layout & 4:
        np.testing.assert_array_equal(room[..., :-2], found)
        assert np.all(room[..., -2:] == 7)


def test_large_products_are_left_to_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a product of a second is computed on one thread where many are free."""
    recorded = Recorded()
    monkeypatch.setattr(support, "np", recorded)
    monkeypatch.setattr(support, "SPLIT", True)
    a = np.ones((8, 2**13), "float32")
    support.matmul(a, np.ones((2**13, 2**12), "float32"))
    assert recorded.pieces == [2**28]


def network(units: int = 96) -> Any:
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=40)
    cells.lstm(graph, "l1", "x", units)
    cells.readout(graph, "y", "l1.h", 10)
    return graph


def data(steps: int = 12, batch: int = 32) -> tuple[dict[str, Any], dict[str, Any]]:
    random = np.random.default_rng(0)
    return {"x": random.normal(size=(steps, batch, 40))}, {"y": random.normal(size=(steps, batch, 10))}


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_bits_with_any_number_of_threads(backend: str) -> None:
    """If this fails, a run that is resumed where another number of threads is set does not go on bit for bit."""
    program = fg.compile(network(), {"y": "mse"}, "eprop", backend=backend)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            found.append(program.gradient(program.init(0), *data(), block=5).grads)
    assert all(np.any(array) for array in found[0].values())
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


CHILD = Path(__file__).parent.parent / "thread_use.py"


@pytest.mark.skipif(
    not (OPENBLAS and support.SPLIT and Path("/proc/self/schedstat").exists()),
    reason="needs OpenBLAS, and a system that tells how long each thread has run",
)
@pytest.mark.parametrize("how", ["plain", "numpy", "interpreter", "printed", "threads", "raising", "fork"])
def test_no_thread_of_blas_runs(how: str) -> None:
    """If this fails, products wait for threads of BLAS, which a busy machine makes long, or their number is changed.

    `plain` is the control: a product of NumPy alone, of the same size, does use them.
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    child = subprocess.run([sys.executable, CHILD, how], capture_output=True, text=True, timeout=300, env=environment)
    assert child.returncode == 0, child.stderr
    used, before, inside, after = map(int, child.stdout.split())
    assert (used > 0) == (how == "plain")
    assert before == inside == after == 2

"""Are pieces of a product computed by several threads, each once, and is nothing of them left behind?"""

from __future__ import annotations

import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from forwardgrad.support import blas, sharing
from forwardgrad.support.sharing import Helpers


@pytest.fixture(autouse=True)
def processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of them, wherever this runs."""
    monkeypatch.setattr(sharing, "processors", lambda: 3)


def test_every_piece_is_computed_once_by_as_many_threads_as_there_are() -> None:
    """If this fails, processors are idle, or a part of a product is missing."""
    together, done = threading.Barrier(3), list[tuple[int, int]]()

    def piece(number: int) -> None:
        if number >= 17:
            together.wait(60)  # three pieces that end only if three threads compute them at the same time
        done.append((number, threading.get_ident()))

    helpers = Helpers()
    helpers.compute([lambda number=number: piece(number) for number in range(20)], 3)
    assert sorted(number for number, _ in done) == list(range(20))
    assert len({thread for _, thread in done}) >= 3
    helpers.compute([lambda: done.clear()], 3)  # one piece needs no helper
    assert not done


@pytest.mark.parametrize("here", [True, False])
def test_a_failure_reaches_the_one_who_asked(here: bool) -> None:
    """If this fails, a product that a helper could not compute counts as computed."""
    helpers, together, done = Helpers(), threading.Barrier(2), list[int]()

    def fail() -> None:
        together.wait(60)
        if here == (threading.current_thread() is threading.main_thread()):
            raise FloatingPointError("overflow")

    for _ in range(20):
        with pytest.raises(FloatingPointError, match="overflow"):
            helpers.compute([fail, fail], 2)
    helpers.compute([lambda: done.append(1)] * 5, 3)
    assert len(done) == 5


def test_an_interrupt_leaves_no_piece_running() -> None:
    """If this fails, a helper writes into an array that somebody else has by then."""
    helpers, running, seen = Helpers(), threading.Event(), list[str]()

    def slow() -> None:
        if threading.current_thread() is threading.main_thread():
            assert running.wait(60)
            signal.raise_signal(signal.SIGINT)
        running.set()
        release.wait(0.2)
        seen.append("slow")

    release = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        helpers.compute([slow] * 8, 2)
    assert seen == ["slow"]
    release.wait(0.5)
    assert seen == ["slow"]


def test_no_array_is_kept() -> None:
    """If this fails, memory that nobody refers to is not used again, and large arrays pile up."""
    helpers = Helpers()
    for _ in range(30):
        array = np.ones(1000)
        left = weakref.ref(array)
        helpers.compute([array.sum] * 6, 3)
        del array
        assert left() is None


def test_numpy_reports_errors_as_the_thread_that_asked_has_set() -> None:
    """If this fails, underflow in a helper goes unnoticed, or a warning appears that was switched off."""
    helpers, together, noted = Helpers(), threading.Barrier(2), list[str]()

    def overflow() -> None:
        together.wait(60)
        np.multiply(np.full(3, 1e200), 1e200)

    with np.errstate(over="call", call=lambda kind, flag: noted.append(kind)):
        helpers.compute([overflow, overflow], 2)
    assert noted == ["overflow", "overflow"]
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("error")
        helpers.compute([overflow, overflow], 2)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        helpers.compute([overflow, overflow], 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_process_has_helpers_of_its_own() -> None:
    """If this fails, the first large product after a fork waits for threads that are not there."""
    helpers = Helpers()
    helpers.compute([lambda: None] * 6, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads
        child = os.fork()
    if not child:
        signal.alarm(60)
        together = threading.Barrier(2)
        helpers.compute([lambda: together.wait(30) and None] * 2, 2)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_several_threads_may_ask_at_once() -> None:
    """If this fails, one of them takes the pieces of another, or waits for ever."""
    helpers, sums = Helpers(), list[float]()

    def asked() -> None:
        for _ in range(50):
            found = np.zeros(8)

            def piece(place: int, found: Any = found) -> None:
                found[place] += 1

            helpers.compute([lambda place=place, piece=piece: piece(place) for place in range(8)], 3)
            sums.append(float(found.sum()))

    threads = [threading.Thread(target=asked) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sums == [8.0] * 200


def test_where_no_thread_can_be_started_the_one_who_asks_computes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a process at the limit of its threads cannot learn."""

    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    done = list[int]()
    Helpers().compute([lambda: done.append(1)] * 6, 3)
    assert len(done) == 6


Shapes = tuple[tuple[int, ...], tuple[int, ...]]


@st.composite
def shapes(draw: st.DrawFn) -> Shapes:
    """Of two factors: matrices, several of them, or one beside several."""
    rows, depth, columns = (draw(st.integers(1, 40)) for _ in range(3))
    lead = draw(st.lists(st.integers(1, 5), max_size=2))
    left, right = (
        tuple(draw(st.sampled_from([length, 1])) for length in lead)[draw(st.integers(0, len(lead))) :]
        for _ in range(2)
    )
    return (*left, rows, depth), (*right, depth, columns)


@given(shapes(), st.sampled_from(["float64", "float32"]), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_products_in_pieces_are_those_of_numpy(given: Shapes, dtype: str, seed: int, turned: bool) -> None:
    """If this fails, a product is wrong at the border of a piece, or its bits depend on who computed it."""
    random = np.random.default_rng(seed)
    a, b = (random.integers(-9, 10, shape).astype(dtype) for shape in given)  # of which all sums are exact
    if turned:
        a = np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
    wanted = np.matmul(a, b)
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(3, "blas"):
        for name, number in {"SINGLE": 0, "SHARED": 1, "PIECE": 1, "WIDTH": 3}.items():
            patch.setattr(blas, name, number)
        patch.setattr(sharing, "processors", lambda: 3)
        found, out = blas.matmul(a, b), np.full(wanted.shape, np.nan, dtype)
        assert blas.matmul(a, b, out) is out
    for each in (found, out):
        assert each.dtype == wanted.dtype
        assert np.array_equal(each, wanted)


def by_pieces(pieces: list[Callable[[], Any]]) -> list[tuple[int, ...]]:
    """The shapes of what pieces compute."""
    return [piece.keywords["out"].shape for piece in pieces]  # pyright: ignore[reportFunctionMemberAccess, reportUnknownMemberType, reportUnknownVariableType]


def test_a_large_product_is_computed_in_pieces_whatever_number_of_threads_is_set() -> None:
    """If this fails, a run that is resumed on another machine does not go on bit for bit."""
    a, b = np.random.default_rng(0).normal(size=(2, 640, 640)).astype("float32")
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            found.append(blas.matmul(a, b))
    assert np.array_equal(found[0], found[1])
    pieces = blas._pieces(a, b, found[0], 16)  # pyright: ignore[reportPrivateUsage]
    assert by_pieces(pieces) == [(64, 640)] * 10

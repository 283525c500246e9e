"""Is a step of a stream one call of C, which makes nothing in Python but its result, in memory of its own?"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from c_backend import in_a_hurry, needs_compiler
from checks import error
from nets import small, vanilla
from stepping import ROUNDING, ByHand, data

import forwardgrad as fg
from forwardgrad.backends.c_calls import BoundCall, CompiledUnit
from forwardgrad.backends.c_stream import CSteps
from forwardgrad.learning.transforms import Clipped

needs_compiler()


@pytest.fixture(scope="module", autouse=True)
def _compiled_fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from in_a_hurry(tmp_path_factory.mktemp("c_stream"))


def steps_of(stream: Any) -> CSteps:
    """The steps in C that a stream takes."""
    return stream._steps._holder._steps


OPTIMIZERS: dict[str, Any] = {
    "none": None,
    "sgd": fg.SGD(0.05),
    "momentum": fg.SGD(0.05, 0.9),
    "adam": fg.Adam(0.01),
    "clipped": Clipped(fg.Adam(0.01), norm=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy", "bernoulli", "signal"])
def test_a_step_is_one_call(loss: str, optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, Python stands between the parts of a step again."""
    program = fg.compile(vanilla(), {"y": loss}, backend="c")
    stream = program.stream(program.init(), optimizer=OPTIMIZERS[optimizer])
    pieces = data(program, 6, 1)
    stream.step(*pieces[0])  # compiles
    calls: list[str] = []
    original = CSteps._run
    monkeypatch.setattr(CSteps, "_run", lambda self, name: (calls.append(name), original(self, name))[1])
    monkeypatch.setattr(CompiledUnit, "run", lambda *_: calls.append("part of a block"))
    for inputs, targets in pieces[1:]:
        stream.step(inputs, targets)
    stream.step(pieces[0][0])
    assert calls == ["learn"] * 5 + ["predict"]
    assert all(isinstance(run, BoundCall) for run in steps_of(stream)._runs.values())


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_makes_nothing_but_its_result(optimizer: str) -> None:
    """If this fails, arrays of the size of a network are made anew in each step."""
    program = fg.compile(small("lstm", 32), rule="eprop", backend="c")
    stream = program.stream(program.init(), optimizer=OPTIMIZERS[optimizer])
    ((inputs, targets),) = data(program, 1, 1)
    for _ in range(4):  # both arrays of each kind have been in use
        stream.step(inputs, targets)
    before = [array.ctypes.data for arrays in steps_of(stream)._arrays for array in arrays.values()]
    results: list[Any] = [None] * 200
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(len(results)):
            results[number] = stream.step(inputs, targets)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - kept < 2_000
    assert kept / len(results) < 1_000  # a result: a float, a dictionary, and an array of one number
    assert before == [array.ctypes.data for arrays in steps_of(stream)._arrays for array in arrays.values()]


def test_what_is_read_of_a_stream_stays_as_it_is() -> None:
    """If this fails, a later step writes into what was handed out."""
    program = fg.compile(small("lstm", 4), rule="rtrl", backend="c")
    stream = program.stream(program.init(), optimizer=fg.Adam(0.01))
    groups = ("params", "state", "outputs", "grads", "optimizer_state")
    handed: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for inputs, targets in data(program, 5, 1):
        stream.step(inputs, targets)
        for group in groups:
            found = getattr(stream, group)
            handed.append((found, {name: array.copy() for name, array in found.items()}))
    for found, copies in handed:
        assert all(np.array_equal(found[name], array) for name, array in copies.items())


def test_steps_with_and_without_a_mask_take_turns() -> None:
    """If this fails, a step that C cannot take whole goes on from old parameters, or leaves old ones behind."""
    program = fg.compile(small("lstm", 4), rule="eprop", backend="c")
    for optimizer in (fg.SGD(0.05, momentum=0.9), fg.Adam(0.01)):
        params = program.init()
        stream = program.stream(params, optimizer=optimizer, batch=2)
        hand = ByHand(program, params, 2, optimizer)
        for number, (inputs, targets) in enumerate(data(program, 9, 2)):
            mask = np.array([0.0, 1.0]) if number % 3 == 1 else None
            found = stream.step(inputs, targets, mask)
            wanted = hand.step(inputs, targets, None if mask is None else mask[None])
            assert abs(found.loss - wanted.loss) <= ROUNDING
        assert error(stream.params, hand.params) <= ROUNDING
        assert error(stream.optimizer_state, hand.memory) <= ROUNDING
        assert stream.seen == 9


@pytest.mark.parametrize("batch", [1, 3])
def test_several_streams_of_one_program(batch: int) -> None:
    """If this fails, streams share the memory in which C computes."""
    program = fg.compile(small("elman", 4), rule="rtrl", backend="c")
    streams = [program.stream(program.init(n), optimizer=fg.SGD(0.1), batch=batch) for n in range(2)]
    alone = [program.stream(program.init(n), optimizer=fg.SGD(0.1), batch=batch) for n in range(2)]
    pieces = data(program, 5, batch)
    for inputs, targets in pieces:
        for stream in streams:
            stream.step(inputs, targets)
    for stream, other in zip(streams, alone, strict=True):
        for inputs, targets in pieces:
            other.step(inputs, targets)
        assert error(stream.params, other.params) == error(stream.state, other.state) == 0

"""What may a stream be given, what does it refuse, and is nothing of it shared with the caller or lost in an error?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import networkx as nx
import numpy as np
import pytest
from c_backend import needs_compiler, skip_without
from checks import ENGINES, error
from nets import declare, small, vanilla
from stepping import OPTIMIZERS, ROUNDING, InBlocks, data

import forwardgrad as fg
from forwardgrad.errors import DataError, MemoryBudgetError, NonFiniteError
from forwardgrad.learning.transforms import Scheduled
from forwardgrad.ops import Array
from forwardgrad.program.stream import Stream

# What is handed over.


def arrays(value: Any) -> Iterator[Array]:
    if isinstance(value, np.ndarray):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from arrays(each)


@pytest.mark.parametrize("backend", [*ENGINES, "c"])
@pytest.mark.parametrize("optimizer", ["adam", "lars"])
def test_nothing_is_shared_with_the_caller(backend: str, optimizer: str) -> None:
    """If this fails, a buffer that is filled again changes what a stream has learned, or the other way round."""
    skip_without(backend)
    program = fg.compile(small("dilated", 4), rule="rtrl", backend=backend, dead="ignore")
    chosen, rounding = OPTIMIZERS[optimizer], ROUNDING if backend == "c" else 0  # a mask takes another way in C
    clean = program.stream(program.init(), batch=2, optimizer=chosen)
    params, state = program.init(), program.start(2)
    memory = chosen.start({name: params[name] for name in program.rules})
    before = copy.deepcopy((params, state, memory))
    stream, other = (program.stream(params, optimizer=chosen, state=state, optimizer_state=memory) for _ in range(2))
    other.step(np.ones((2, 1)), np.ones((2, 1)))
    now = arrays((params, state, memory))
    assert all(np.array_equal(one, two) for one, two in zip(arrays(before), now, strict=True))
    for array in arrays([params, state, memory]):
        array[...] = 9
    x, y, mask = np.empty((2, 1)), np.empty((2, 1)), np.ones(2)
    for inputs, targets in data(program, 6, 2):
        clean.step(inputs, targets)
        x[:], y[:], mask[:] = inputs["x"], targets["y"], 1
        step = stream.step({"x": x}, {"y": y}, mask if stream.seen % 2 else None)
        for array in (x, y, mask):
            array[:] = 1e9
        for array in arrays([step.outputs, stream.outputs, stream.params, stream.state, stream.grads]):
            assert array.flags.writeable
            array[...] = 1e9
        for array in stream.optimizer_state.values():
            array[...] = 9
        assert error(stream.outputs, clean.outputs) <= rounding
        assert error(stream.grads, clean.grads) <= rounding
    assert error(stream.params, clean.params) <= rounding
    assert error(stream.state, clean.state) <= rounding


def views(array: Array) -> dict[str, Any]:
    """The same numbers in other arrays."""
    wide = np.empty((2 * array.shape[0], 3 * array.shape[1]))
    wide[::2, ::3] = array
    read_only = array.copy()
    read_only.flags.writeable = False
    return {
        "strided": wide[::2, ::3],
        "reversed": array[::-1, ::-1].copy()[::-1, ::-1],
        "columns": np.asfortranarray(array),
        "read-only": read_only,
        "swapped": array.astype(array.dtype.newbyteorder()),
        "list": array.tolist(),
        "float32": array.astype(np.float32),
        "int": array.astype(np.int64),
        "timed": array[None],
    }


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("way", views(np.zeros((1, 1))))
def test_arrays_of_all_kinds(way: str, batch: int) -> None:
    """If this fails, the layout or the type of an array changes what is learned from it."""
    program = fg.compile(vanilla(), {"y": "mse"})
    one, two = (program.stream(program.init(), batch=batch, optimizer=fg.SGD(0.1)) for _ in range(2))
    for inputs, targets in data(program, 4, batch):
        x, y = np.round(4 * inputs["x"]), np.round(4 * targets["y"])
        assert abs(one.step({"x": x}, {"y": y}).loss - two.step(views(x)[way], views(y)[way]).loss) <= ROUNDING
    assert error(one.params, two.params) <= ROUNDING


def test_shapes_of_one_sample() -> None:
    """If this fails, a stream of single samples must be given axes of length 1."""
    program = fg.compile(small("elman", 4))
    ways: list[Callable[[float], Any]] = [
        float,
        lambda v: np.float64(v),
        lambda v: [v],
        lambda v: np.array([[v]]),
        lambda v: np.array([[[v]]]),
        lambda v: {"x": v},
    ]
    losses = set()
    for way in ways:
        stream = program.stream(program.init(), optimizer=fg.SGD(0.1))
        losses.add(sum(stream.step(way(v), v, mask=1).loss for v in (0.5, -0.2, 1.0)))
    assert len(losses) == 1


def tokens() -> nx.MultiDiGraph[str]:
    return declare(
        {"x": {"op": "input", "size": 4}, "h": {"op": "tanh", "size": 3}, "y": {"op": "linear", "size": 4}},
        ("x", "h", {"weight": "embedding"}),
        ("h", "h", {"weight": "dense", "delay": 1}),
        ("h", "y", {"weight": "dense"}),
    )


def test_tokens_and_labels() -> None:
    """If this fails, a token is read as a number, or a label as a row of them."""
    program = fg.compile(tokens(), {"y": "cross_entropy"})
    for batch in (1, 2):
        spelled, plain = (program.stream(program.init(), batch=batch, optimizer=fg.SGD(0.1)) for _ in range(2))
        for token in range(4):
            numbers = np.full(batch, token)
            first = spelled.step(np.eye(4)[numbers], numbers)
            assert plain.step(token if batch == 1 else numbers, token if batch == 1 else numbers).loss == first.loss
        assert error(plain.params, spelled.params) == 0


def test_shaped_nodes() -> None:
    """If this fails, images must be flattened by hand."""
    graph = declare(
        {"x": {"op": "input", "shape": [2, 3]}, "y": {"op": "linear", "size": 2}}, ("x", "y", {"weight": "dense"})
    )
    program = fg.compile(graph, {"y": "mse"})
    one, two = (program.stream(program.init(), optimizer=fg.SGD(0.1)) for _ in range(2))
    x = np.arange(6.0).reshape(2, 3)
    assert one.step(x, [1, 2]).loss == two.step(x.reshape(1, 6), [[1, 2]]).loss > 0


# What is refused.


def opened(batch: int = 2, **options: Any) -> Stream:
    program = fg.compile(vanilla(), {"y": "mse"})
    return program.stream(program.init(), batch=batch, **options)


ONES = np.ones((2, 2))
WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: opened().step({"x": np.ones((2, 3))}), r"input 'x': expected shape \(2, 2\), got \(2, 3\)"),
    (lambda: opened().step(np.ones(2)), r"input 'x': expected shape \(2, 2\), got \(2,\)"),
    (lambda: opened().step(np.ones((5, 2, 2))), "takes one time step per call"),
    (lambda: opened().step({"z": ONES}), "inputs: unknown name 'z'"),
    (lambda: opened().step(), "inputs: 'x' is missing"),
    (lambda: opened().step(ONES * np.nan), r"input 'x': nan at \(time, batch, unit\) = \(0, 0, 0\)"),
    (lambda: opened().step(ONES, ONES * np.inf), "target 'y': inf"),
    (lambda: opened().step("words"), "input 'x'"),
    (lambda: opened().step(np.ma.masked_array(ONES, ONES > 0)), "its mask would be lost"),
    (lambda: opened().step(ONES, {"y": np.ones((2, 1))}), r"target 'y': expected shape \(2, 2\), got \(2, 1\)"),
    (lambda: opened().step(ONES, {}), "targets: 'y' is missing"),
    (lambda: opened().step(ONES, ONES, np.ones(3)), r"mask: expected one number, or shape \(2,\), got \(3,\)"),
    (lambda: opened().step(ONES, ONES, {"z": 1}), "mask: unknown name 'z'"),
    (lambda: opened().step(ONES, mask=1), "mask and signals come with targets"),
    (lambda: opened().step(ONES, ONES, signals=ONES), "signals: expected a mapping"),
    (lambda: opened().reset([True]), r"reset: samples must be \(2,\) truth values"),
    (lambda: opened().reset(np.ones(2)), "reset: samples must be"),
    (lambda: opened(0), "stream: batch must be a whole number >= 1, got 0"),
    (lambda: opened(optimizer="sgd"), "stream: an optimizer has start, update and config, got str"),
    (lambda: opened(draw=-1), "stream: draw must be"),
    (lambda: opened(optimizer_state={}), "stream: an optimizer_state needs its optimizer"),
    (lambda: opened(optimizer=fg.SGD(0.1), optimizer_state={"m": 1}), "optimizer_state: unknown name 'm'"),
    (lambda: opened(optimizer=fg.Adam(0.1), optimizer_state={}), "optimizer_state: 'count' is missing"),
    (lambda: opened(state=fg.compile(vanilla(), {"y": "mse"}).start(3)), "the state is of batch 3, and batch is 2"),
    (lambda: opened(state={}), "state: .* is missing"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_does_not_fit_is_refused_in_the_words_of_the_user(call: Callable[[], Any], message: str) -> None:
    """If this fails, bad input is computed with, or NumPy complains about arrays that nobody knows."""
    with pytest.raises(DataError, match=message):
        call()


def test_parameters_are_checked_when_a_stream_is_made() -> None:
    """If this fails, a wrong array is found out in the middle of a stream, if at all."""
    program = fg.compile(vanilla(), {"y": "mse"})
    for wrong in ({}, program.init() | {"h->h": np.ones((3, 4))}, program.init() | {"h->h": np.full((3, 3), np.nan)}):
        with pytest.raises(DataError, match=r"param"):
            program.stream(wrong)
    sgd = fg.SGD(0.1, momentum=0.5)
    memory = sgd.start({name: program.init()[name] for name in program.rules})
    with pytest.raises(DataError, match=r"optimizer_state 'momentum:h->h': expected shape \(3, 3\), got \(2,\)"):
        program.stream(program.init(), optimizer=sgd, optimizer_state=memory | {"momentum:h->h": np.ones(2)})
    with pytest.raises(MemoryBudgetError, match="stream: batch 1 needs"):
        program.stream(program.init(), max_memory=64)


def test_what_an_optimizer_gives_is_checked() -> None:
    """If this fails, your own optimizer breaks the stream at some later step."""

    class Broken(fg.SGD):
        def update(self, params: Any, grads: Any, state: Any) -> Any:
            return {name: array[..., None] for name, array in params.items()}, {}

    stream = opened(optimizer=Broken(0.1))
    with pytest.raises(DataError, match="expected shape"):
        stream.step(ONES, ONES)
    assert stream.seen == 0


def test_an_optimizer_may_keep_what_it_gives() -> None:
    """If this fails, an optimizer that fills one array again changes the parameters of a step before."""

    class Keeping(fg.SGD):
        def update(self, params: Any, grads: Any, state: Any) -> Any:
            kept.append(super().update(params, grads, state)[0])
            return kept[-1], {}

    kept: list[dict[str, Array]] = []
    stream = opened(optimizer=Keeping(0.1))
    stream.step(ONES, ONES)
    before = stream.params
    for array in kept[0].values():
        array[...] = 9
    assert error(stream.params, before) == 0


# Numbers that are not finite.


STEEP = fg.Loss("steep", lambda y, t: 1e160 * abs(y - t).sum(axis=1), lambda y, t: 1e160 * np.sign(y - t))
"""Its gradients are finite, and their squares are not."""


def fatal(backend: str, cause: str) -> tuple[fg.Program, dict[str, Array], Any, list[tuple[Any, Any]]]:
    """A program and a stream in which the fourth step is one too many."""
    rule = "rtrl"
    graph = vanilla()
    if cause in ("value", "influence"):  # linear units, which nothing bounds
        graph = declare(
            {"x": {"op": "input", "size": 2}, "h": {"op": "linear", "size": 2}, "y": {"op": "tanh", "size": 2}},
            ("x", "h", {"weight": "dense"}),
            ("h", "h", {"weight": "diagonal", "delay": 1}),
            ("h", "y", {"weight": "dense"}),
        )
    program = fg.compile(graph, {"y": STEEP if cause == "memory" else "mse"}, rule, backend=backend)
    params = program.init()
    if cause == "value":
        params["x->h"] = np.full((2, 2), 2.0)
    if cause == "influence":
        params["h->h"] = np.full(2, 1e60)
    optimizer = (
        Scheduled(fg.SGD(1e-3), lambda number: 1e307 if number == 3 else 1.0)
        if cause == "update"
        else Scheduled(fg.Adam(1e-3), lambda number: 1.0)
    )
    x, y = 1.7e308 if cause == "value" else 1.0, {"loss": 1e200, "update": 1e5}.get(cause, 0.5)
    steps = [(ONES * (x if t == 3 else 1), ONES * (y if t == 3 else 0.5)) for t in range(12)]
    return program, params, optimizer, steps


def all_steps(stream: Stream, steps: list[tuple[Any, Any]]) -> None:
    for inputs, targets in steps:
        stream.step(inputs, targets)


@pytest.mark.parametrize("backend", [*ENGINES, "c"])
@pytest.mark.parametrize("cause", ["loss", "value", "influence", "update", "memory"])
def test_what_is_not_finite_is_noticed_as_in_a_learner(backend: str, cause: str) -> None:
    """If this fails, a run that has diverged goes on, or its error does not say where and when."""
    skip_without(backend)
    program, params, optimizer, steps = fatal(backend, cause)
    learner = InBlocks(program, params, optimizer)
    with pytest.raises(NonFiniteError) as wanted:
        learner.fit([({"x": x[None]}, {"y": y[None]}) for x, y in steps])
    stream = program.stream(params, batch=2, optimizer=optimizer)
    with pytest.raises(NonFiniteError) as found:
        all_steps(stream, steps)
    assert str(found.value) == str(wanted.value)
    assert stream.seen == learner.seen < 12
    assert error(stream.params, learner.params) <= ROUNDING  # the last good step
    if learner.state is not None:
        assert error(stream.state, learner.state) <= ROUNDING
    stream.reset()
    stream.step(0 * ONES)  # and it can go on


def test_a_prediction_that_is_not_finite_is_noticed() -> None:
    """If this fails, a stream hands out infinities as long as nobody gives it a target."""
    for cause, message in (("value", "step 3: the value of node 'h' is not finite"), ("influence", "explodes")):
        program, params, _, steps = fatal("numpy", cause)
        stream = program.stream(params, batch=2)
        with pytest.raises(NonFiniteError, match=message):
            all_steps(stream, [(x, None) for x, _ in steps])
        assert 0 < stream.seen <= 3


def test_a_masked_target_may_be_anything() -> None:
    """If this fails, a gap in the data ends a stream, or is learned from."""
    stream = opened(optimizer=fg.SGD(0.1))
    before = stream.params
    assert stream.step(ONES, ONES * np.nan, 0).loss == 0
    assert error(stream.params, before) == 0
    assert stream.step(ONES, np.array([[0.0, 0.0], [np.nan, np.inf]]), [1, 0]).loss > 0


def test_a_step_that_fails_changes_nothing() -> None:
    """If this fails, an error half-way leaves parameters of one step with the state of another."""

    def value(y: Array, target: Array) -> Array:
        if broken:
            raise RuntimeError("no")
        return ((y - target) ** 2).sum(axis=1)

    broken: list[int] = []
    loss = fg.Loss("sometimes", value, lambda y, target: 2 * (y - target))
    program = fg.compile(vanilla(), {"y": loss})
    stream = program.stream(program.init(), batch=2, optimizer=fg.Adam(0.1))
    stream.step(ONES, ONES)
    before = stream.params, stream.state, stream.optimizer_state, stream.outputs
    broken.append(1)
    with pytest.raises(RuntimeError, match="no"):
        stream.step(ONES, 2 * ONES)
    after = stream.params, stream.state, stream.optimizer_state, stream.outputs
    assert all(error(one, other) == 0 for one, other in zip(before, after, strict=True))
    assert stream.seen == 1


def test_a_stream_on_many_devices_is_refused() -> None:
    """If this fails, a stream copies a state from device to device at every step, or breaks on one that stays there."""
    pytest.importorskip("jax")
    program = fg.compile(fg.load("elman"), rule="eprop", backend="jax", devices=1)
    with pytest.raises(DataError, match=r"stream: a stream runs on one device\.\n  Compile without devices="):
        program.stream(program.init())


def test_a_stream_runs_on_its_backend() -> None:
    """If this fails, a program that was compiled for C computes in NumPy, step by step."""
    needs_compiler()
    program = fg.compile(fg.load("elman"), rule="eprop", backend="c", dtype="float32")
    stream = program.stream(program.init(), optimizer=fg.SGD(0.1))
    stream.step(np.ones((1, 1)), np.ones((1, 1)))
    stream.predict(np.ones((1, 1)))
    engine: Any = program._execution.engine  # pyright: ignore[reportPrivateUsage]
    assert "compiled" in vars(engine)

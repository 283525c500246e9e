"""Does a stream give what `step` and an optimizer give, one call per time step, and does it keep its things apart?"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from c_backend import skip_without
from checks import ENGINES, compiled, error
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nets import declare, problem, small, stack, vanilla
from stepping import DRAW, OPTIMIZERS, ROUNDING, ByHand, InBlocks, data, timed

import forwardgrad as fg
from forwardgrad.array_program import numpy_helpers
from forwardgrad.backends.single_sample import HELPERS
from forwardgrad.learning.joined import is_entrywise
from forwardgrad.learning.optimizers import clip_by_norm
from forwardgrad.learning.transforms import Clipped
from forwardgrad.ops import Array
from forwardgrad.program.stream import Stream
from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import problems


def assert_same(stream: Stream, hand: ByHand, tolerance: float = ROUNDING) -> None:
    """Parameters, optimizer, state and gradients are those by hand."""
    assert stream.state.keys() == hand.state.keys()
    assert stream.params.keys() == hand.params.keys()
    assert error(stream.params, hand.params) <= tolerance
    assert error(*nonempty(stream.state, hand.state)) <= tolerance
    assert error(stream.optimizer_state, hand.memory) <= tolerance
    assert error(stream.grads, hand.grads) <= tolerance


def nonempty(*groups: Mapping[str, Array]) -> list[dict[str, Array]]:
    return [{name: array for name, array in group.items() if array.size} for group in groups]


def compare(program: fg.Program, batch: int, optimizer: Any, tolerance: float = ROUNDING, steps: int = 8) -> float:
    """Assert that a stream and steps by hand agree all the way; how far they moved the parameters."""
    params = program.init(2)
    stream = program.stream(params, batch=batch, optimizer=optimizer, draw=DRAW)
    hand = ByHand(program, params, batch, optimizer)
    for inputs, targets in data(program, steps, batch):
        found, wanted = stream.step(inputs, targets), hand.step(inputs, targets)
        assert abs(found.loss - wanted.loss) <= tolerance * max(1.0, abs(wanted.loss))
        assert error(found.outputs, wanted.outputs) <= tolerance
        assert error(stream.outputs, wanted.outputs) <= tolerance
    assert_same(stream, hand, tolerance)
    assert stream.seen == steps
    return max(float(np.abs(hand.params[name] - params[name]).max()) for name in params)


# The same numbers.


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("rule", ["rtrl", "eprop", "uoro", "snap(1)"])
@pytest.mark.parametrize("name", ["elman", "lstm", "alif", "dilated"])
@pytest.mark.parametrize("backend", ENGINES)
def test_a_stream_is_steps_and_updates(backend: str, name: str, rule: str, batch: int) -> None:
    """If this fails, learning one step per call is another algorithm than learning in blocks of one step."""
    program = fg.compile(small(name, 4), rule=rule, backend=backend, dead="ignore")
    assert compare(program, batch, fg.SGD(0.05)) > 1e-3


@pytest.mark.parametrize(
    ("name", "rule"), [("elman", "rtrl"), ("lstm", "eprop"), ("alif", "uoro"), ("elman", "snap(1)")]
)
def test_a_stream_in_c(name: str, rule: str) -> None:
    """If this fails, a whole step in C is another algorithm than a block of one step and an update."""
    skip_without("c")
    program = fg.compile(small(name, 4), rule=rule, backend="c", dead="ignore")
    assert compare(program, 3, fg.SGD(0.05)) > 1e-3


@given(given=problems(most_steps=6), rule=st.sampled_from(["rtrl", "eprop", "eprop-deep", "snap(1)"]))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("backend", ENGINES)
def test_a_stream_of_a_random_problem(backend: str, given: Problem, rule: str) -> None:
    """A kind of edge, op, loss or mask is read differently by a stream."""
    program = compiled(given, rule, backend=backend)
    assume(program.network.inputs)
    stream = program.stream(given.params, batch=given.batch, optimizer=fg.SGD(0.01, momentum=0.5), draw=DRAW)
    hand = ByHand(program, given.params, given.batch, fg.SGD(0.01, momentum=0.5))
    for t in range(given.steps):
        inputs, targets = ({n: a[t] for n, a in group.items()} for group in (given.inputs, given.targets))
        mask, by_hand = given.mask, given.mask
        if isinstance(mask, Mapping):
            masks = {name: array for name, array in mask.items() if array is not None}
            mask, by_hand = {n: m[t] for n, m in masks.items()}, {n: m[t : t + 1] for n, m in masks.items()}
        elif mask is not None:
            mask, by_hand = mask[t], mask[t : t + 1]
        found, wanted = stream.step(inputs, targets, mask), hand.step(inputs, targets, by_hand)
        assert abs(found.loss - wanted.loss) <= ROUNDING * max(1.0, abs(wanted.loss))
    assert_same(stream, hand)


@pytest.mark.parametrize(("name", "rule", "batch"), [("elman", "rtrl", 2), ("lstm", "eprop", 1), ("alif", "uoro", 1)])
def test_a_stream_under_jax(name: str, rule: str, batch: int) -> None:
    """If this fails, the two compiled functions of a step are not the five of a block."""
    pytest.importorskip("jax")
    program = fg.compile(small(name, 4), rule=rule, backend="jax", dead="ignore")
    assert compare(program, batch, fg.SGD(0.05)) > 1e-3


PAIR = (
    lambda params: {name: 0 * p for name, p in params.items()},
    lambda grads, state, params: (
        {name: -0.01 * (g + state[name]) for name, g in grads.items()},
        {name: g + 0.5 * state[name] for name, g in grads.items()},
    ),
)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_every_optimizer_updates_as_by_hand(backend: str, optimizer: str, dtype: str) -> None:
    """If this fails, parameters that are kept as one array are updated differently from each by its name."""
    skip_without(backend)
    program = fg.compile(small("lstm", 4), rule="eprop", dtype=dtype, backend=backend)
    assert compare(program, 2, OPTIMIZERS[optimizer], ROUNDING if dtype == "float64" else 1e-4) > 1e-4
    assert is_entrywise(OPTIMIZERS[optimizer]) == (optimizer in ("momentum", "adam", "rmsprop", "scheduled"))


def test_a_pair_of_functions_updates_as_in_a_learner() -> None:
    """If this fails, optimizers of other libraries work for learners only."""
    program = fg.compile(small("elman", 4))
    stream, learner = program.stream(program.init(), optimizer=PAIR), InBlocks(program, program.init(), PAIR)
    for inputs, targets in data(program, 6, 1):
        stream.step(inputs, targets)
        learner.fit([(timed(inputs), timed(targets))])
    assert error(stream.params, learner.params) <= ROUNDING
    assert error(stream.optimizer_state, learner.optimizer_state) <= ROUNDING


def writes_into(y: Array, target: Array) -> Array:
    """A loss that leaves nonsense in what it is given."""
    value = ((y - target) ** 4).sum(axis=1)
    y[:], target[:] = 7, 8
    return value


ROUGH = fg.Loss("rough", writes_into, lambda y, target: 4 * (y - target) ** 3)


@pytest.mark.parametrize(
    "loss", ["mse", "cross_entropy", "bernoulli", ROUGH], ids=["mse", "cross_entropy", "bernoulli", "rough"]
)
@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_every_loss(backend: str, loss: Any) -> None:
    """If this fails, a loss is evaluated differently one step at a time."""
    skip_without(backend)
    program = fg.compile(vanilla(), {"y": loss}, backend=backend)
    for batch in (1, 2):
        assert compare(program, batch, fg.SGD(0.02)) > 1e-3


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_several_inputs_and_outputs(backend: str) -> None:
    """If this fails, arrays are given to the wrong nodes."""
    skip_without(backend)
    graph = vanilla()
    graph.add_node("u", op="input", size=3)
    graph.add_edge("u", "h", weight="dense", delay=2)
    graph.add_node("z", op="linear", size=1)
    graph.add_edge("h", "z", weight="dense")
    program = fg.compile(graph, {"y": "cross_entropy", "z": "mse"}, "rtrl", backend=backend)
    assert compare(program, 2, fg.Adam(0.01)) > 1e-3


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_names_that_a_generated_function_might_use(backend: str) -> None:
    """If this fails, a node hides a variable or function of the text that runs a step."""
    skip_without(backend)
    names = ["params", "state", "forward", "back", 'a "quoted" name', "after"]
    graph = declare({"inputs": {"op": "input", "size": 2}})
    for before, name in zip(["inputs", *names], names, strict=False):
        graph.add_node(name, op="tanh", size=2, bias=True)
        graph.add_edge(before, name, weight="dense")
        graph.add_edge(name, name, weight="dense", delay=1)
    program = fg.compile(graph, {"after": "mse", "state": "mse"}, "rtrl", backend=backend)
    assert compare(program, 2, fg.SGD(0.1)) > 1e-3


@pytest.mark.parametrize("rule", ["eprop-adaptive", "eprop; feedback=signal"])
@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_feedback_that_is_learned_or_given(backend: str, rule: str) -> None:
    """If this fails, the matrices of adaptive feedback stay as they are, or given signals are not used."""
    skip_without(backend)
    program = fg.compile(vanilla(), {"y": "mse"}, rule, backend=backend)
    params = program.init()
    stream, hand = program.stream(params, optimizer=fg.SGD(0.1)), ByHand(program, params, 1, fg.SGD(0.1))
    for number, (inputs, targets) in enumerate(data(program, 5, 1)):
        signals = {name: np.full((1, 2), number - 2.0) for name in program.signalled} or None
        stream.step(inputs, targets, signals=signals)
        hand.step(inputs, targets, signals=signals)
    assert_same(stream, hand)
    assert all(np.any(hand.params[name] != params[name]) for name in (*program.rules, *program.plan.followers))


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_graphs_without_inputs_or_without_memory(backend: str) -> None:
    """If this fails, a stream needs something to read, or something to keep."""
    skip_without(backend)
    ring = declare({"h": {"op": "tanh", "size": 3, "initial": 0.3}}, ("h", "h", {"weight": "dense", "delay": 1}))
    program = fg.compile(ring, {"h": "mse"}, backend=backend)
    one, two = (program.stream(program.init(), optimizer=fg.SGD(0.1)) for _ in range(2))
    for target in np.random.default_rng(0).normal(size=(4, 3)):
        assert one.step(targets=target).loss == two.step({}, {"h": target}).loss > 0
    plain = declare(
        {"x": {"op": "input", "size": 2}, "y": {"op": "linear", "size": 2}}, ("x", "y", {"weight": "dense"})
    )
    assert compare(fg.compile(plain, {"y": "mse"}, backend=backend), 2, fg.SGD(0.1)) > 1e-3


@pytest.mark.parametrize("backend", [*ENGINES, "c"])
@pytest.mark.parametrize("rule", ["rtrl", "uoro"])
def test_without_targets_nothing_is_learned_and_the_state_goes_on(backend: str, rule: str) -> None:
    """If this fails, a prediction between two answers disturbs what is learned from them."""
    skip_without(backend)
    program = fg.compile(small("elman", 4), rule=rule, backend=backend)
    stream = program.stream(program.init(), batch=2, optimizer=fg.SGD(0.1), draw=DRAW)
    hand = ByHand(program, program.init(), 2, None)
    hand.optimizer = fg.SGD(0.1)
    for number, (inputs, targets) in enumerate(data(program, 7, 2)):
        if number % 3 == 2:
            wanted, found = hand.step(inputs, targets), stream.step(inputs, targets)
            assert abs(found.loss - wanted.loss) <= ROUNDING
        else:
            before = hand.params
            wanted, found = hand.step(inputs, targets, np.zeros(1)), stream.step(inputs)
            hand.params = before
            assert np.isnan(found.loss)
        assert error(found.outputs, wanted.outputs) <= ROUNDING
    assert error(stream.params, hand.params) <= ROUNDING
    assert error(stream.state, hand.state) <= ROUNDING
    assert stream.seen == 7


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_without_an_optimizer_parameters_stay(backend: str) -> None:
    """If this fails, a stream that only watches learns, or has no gradients to look at."""
    skip_without(backend)
    program = fg.compile(small("elman", 4), backend=backend)
    stream, hand = program.stream(program.init(), batch=2), ByHand(program, program.init(), 2, None)
    assert stream.outputs == stream.grads == {}
    for inputs, targets in data(program, 4, 2):
        stream.step(inputs, targets)
        hand.step(inputs, targets)
    assert_same(stream, hand)
    assert error(stream.params, program.init()) == 0
    assert max(float(np.abs(g).max()) for g in stream.grads.values()) > 1e-3


# Starting afresh, and going on.


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_samples_start_afresh(backend: str) -> None:
    """If this fails, an episode begins with the memory of another one."""
    skip_without(backend)
    program = fg.compile(small("lstm", 4), rule="rtrl", backend=backend)
    stream, hand = (
        program.stream(program.init(), batch=3, optimizer=fg.SGD(0.1)),
        ByHand(program, program.init(), 3, fg.SGD(0.1)),
    )
    for number, (inputs, targets) in enumerate(data(program, 9, 3)):
        if number == 3:
            which = np.array([True, False, True])
            stream.reset(which)
            hand.state = program.reset(hand.state, which)
        if number == 6:
            stream.reset()
            hand.state = program.start(3)
        stream.step(inputs, targets)
        hand.step(inputs, targets)
    assert_same(stream, hand)


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_each_episode_draws_other_signs(backend: str) -> None:
    """If this fails, the noise of a random layout does not average out over the episodes of a stream."""
    skip_without(backend)
    program = fg.compile(small("elman", 4), rule="uoro", backend=backend)
    inputs_and_targets = data(program, 5, 1)

    def episode(stream: Stream) -> dict[str, Array]:
        for inputs, targets in inputs_and_targets:
            stream.step(inputs, targets)
        return stream.grads

    stream = program.stream(program.init(), draw=8)
    first = episode(stream)
    stream.reset()
    second = episode(stream)
    assert error(first, second) > 1e-3
    assert error(second, episode(program.stream(program.init(), draw=9))) == 0
    stream.reset(np.array([True]))
    assert error(second, episode(stream)) > 1e-3  # the counters go on
    one, other = (episode(program.stream(program.init())) for _ in range(2))
    assert error(one, other) > 1e-3


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "scheduled", "lars", "accumulated"])
@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_a_stream_goes_on_where_a_learner_ended(backend: str, optimizer: str) -> None:
    """If this fails, what was learned in blocks must be learned again to be deployed."""
    skip_without(backend)
    chosen = OPTIMIZERS[optimizer]
    program = fg.compile(small("lstm", 4), rule="eprop", backend=backend)
    learner = InBlocks(program, program.init(), chosen)
    pieces = data(program, 12, 2)
    learner.fit([(timed(x), timed(y)) for x, y in pieces[:5]])
    assert learner.state is not None
    stream = program.stream(
        learner.params, optimizer=chosen, state=learner.state, optimizer_state=learner.optimizer_state
    )
    assert stream.batch == 2
    learner.fit([(timed(x), timed(y)) for x, y in pieces[5:]])
    for inputs, targets in pieces[5:]:
        stream.step(inputs, targets)
    assert error(stream.params, learner.params) <= ROUNDING
    assert error(stream.state, learner.state) <= ROUNDING
    assert error(stream.optimizer_state, learner.optimizer_state) <= ROUNDING


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("optimizer", ["adam", "lars"])
@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_a_copy_goes_on_by_itself(backend: str, way: str, optimizer: str) -> None:
    """If this fails, two streams share an array, and each writes into what the other one reads."""
    skip_without(backend)
    program = fg.compile(small("lstm", 4), rule="uoro", backend=backend)
    stream = program.stream(program.init(), batch=2, optimizer=OPTIMIZERS[optimizer])
    pieces = data(program, 9, 2)
    for inputs, targets in pieces[:4]:
        stream.step(inputs, targets)
    other = COPIES[way](stream)
    assert repr(other) == repr(stream)
    assert error(other.outputs, stream.outputs) == error(other.grads, stream.grads) == 0
    for inputs, targets in pieces[4:]:
        stream.step(inputs, targets)
    before = other.params
    assert error(before, stream.params) > 1e-6
    for inputs, targets in pieces[4:]:
        other.step(inputs, targets)
    assert error(other.params, stream.params) == error(other.state, stream.state) == 0


# How it is done.


def mixed(stream: Stream, pieces: list[Any], break_at: int = -1) -> tuple[Stream, list[float]]:
    """Learn, predict, learn under a mask, start afresh, by turns. It is pickled before one of the steps."""
    losses: list[float] = []
    for number, (inputs, targets) in enumerate(pieces):
        if number == break_at:
            stream = pickle.loads(pickle.dumps(stream))
        if number % 11 == 7:
            stream.reset(np.array([True, False]))
        if number == 15:
            stream.reset()
        mask = np.array([0.5, 1.0]) if number % 7 == 4 and number % 5 != 3 else None
        losses.append(stream.step(inputs, None if number % 5 == 3 else targets, mask).loss)
        if number % 6 == 2:
            stream.params["x->h" if "x->h" in stream.params else next(iter(stream.params))][...] = 9  # a copy
    return stream, losses


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
@pytest.mark.parametrize("name", ["lstm", "dilated"])
def test_steps_of_all_kinds_by_turns_in_c(name: str, optimizer: str) -> None:
    """If this fails, steps that are one call in C go on from something else than what the steps before them left."""
    skip_without("c")
    streams, wanted = list[Stream](), list[float]()
    for backend, break_at in (("numpy", -1), ("c", -1), ("c", 6), ("c", 9), ("c", 10)):
        program = fg.compile(small(name, 4), rule="rtrl", backend=backend, dead="ignore")
        stream = program.stream(program.init(2), batch=2, optimizer=OPTIMIZERS[optimizer])
        stream, losses = mixed(stream, data(program, 24, 2), break_at)
        streams.append(stream)
        wanted = wanted or losses
        np.testing.assert_allclose(losses, wanted, rtol=1e-10, err_msg=backend)
    first, *others = streams
    for other in others:
        assert other.seen == first.seen == 24
        for found, like in (
            (other.params, first.params),
            (other.state, first.state),
            (other.optimizer_state, first.optimizer_state),
            (other.outputs, first.outputs),
            (other.grads, first.grads),
        ):
            assert list(found) == list(like)
            assert error(*nonempty(found, like)) <= 1e-10
            assert all(found[key].dtype == array.dtype for key, array in like.items())
            assert all(np.array_equal(others[0].params[key], array) for key, array in other.params.items())


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_whole_steps_in_c_are_taken(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, streams in C learn by several calls per step, or a step that is not finite changes something."""
    skip_without("c")
    program = fg.compile(vanilla(), {"y": "mse"}, backend="c")
    stream = program.stream(program.init(), batch=2, optimizer=OPTIMIZERS[optimizer])
    pieces = data(program, 5, 2)
    with monkeypatch.context() as patch:
        patch.setattr(type(program._execution.engine), "forward", None)
        patch.setattr(numpy_helpers, "noting_underflow", None)
        for inputs, targets in pieces[:4]:
            stream.step(inputs, targets)
    inputs, targets = pieces[4]

    def everything() -> list[dict[str, Array]]:
        return [stream.params, stream.state, stream.optimizer_state, stream.outputs, stream.grads]

    twin = copy.deepcopy(stream)
    before = [twin.params, twin.state, twin.optimizer_state, twin.outputs, twin.grads]
    for _ in range(2):
        with pytest.raises(fg.NonFiniteError, match=f"step {stream.seen}:"):
            stream.step(inputs, {"y": targets["y"] * 1e200})
        assert all(error(*pair) == 0 for pair in zip(everything(), before, strict=True))
    assert stream.seen == 4
    hand = program.stream(program.init(), batch=2, optimizer=OPTIMIZERS[optimizer])
    for x, y in pieces[:4]:
        hand.step(x, y)
    assert stream.step(inputs, targets).loss == hand.step(inputs, targets).loss
    assert error(stream.params, hand.params) == 0


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", [name for name in HELPERS if name != "empty"])
def test_helpers_for_one_sample_compute_what_their_namesakes_do(name: str, batch: int) -> None:
    """If this fails, a stream of one sample has another gradient."""
    random = np.random.default_rng(0)
    b, x, s = random.normal(size=(1, batch, 4)), random.normal(size=(1, batch, 3)), random.normal(size=(batch, 4, 3))
    w, full = random.normal(size=(4, 3)), random.normal(size=(1, batch, 5, 4))
    calls: dict[str, list[tuple[Array, Array]]] = {
        "times": [(x, w)],
        "pulled": [(b, w)],
        "outer": [(b, x)],
        "injected": [(b, x), (full, x), (b[..., 0], x)],
        "contracted_rows": [(b[0], s)],
    }
    for pair in calls[name]:
        found, wanted = HELPERS[name](*pair), getattr(numpy_helpers, name)(*pair)
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= ROUNDING


@pytest.mark.parametrize("batch", [1, 2])
def test_traces_that_decay_end_in_zeros(batch: int) -> None:
    """If this fails, a stream computes with subnormal numbers, which are slow and never reach zero."""
    graph = declare(
        {"x": {"op": "input", "size": 2}, "h": {"op": "linear", "size": 2}, "y": {"op": "linear", "size": 1}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"value": 1e-160, "delay": 1}),
        ("h", "y", {"weight": "dense"}),
    )
    program = fg.compile(graph, {"y": "mse"}, "eprop")
    stream, hand = program.stream(program.init(), batch=batch), ByHand(program, program.init(), batch, None)
    sizes = []
    for t in range(4):
        inputs, targets = {"x": np.full((batch, 2), float(t == 0))}, {"y": np.zeros((batch, 1))}
        stream.step(inputs, targets)
        hand.step(inputs, targets)
        influence = [array for key, array in stream.state.items() if key.startswith("influence")]
        sizes.append(max(float(np.abs(array).max()) for array in influence))
    assert_same(stream, hand)
    assert sizes == [1.0, 1e-160, 0.0, 0.0]  # not 1e-320


def test_a_stream_clips_with_an_optimizer_that_clips() -> None:
    """If this fails, `Clipped` limits something else than the joint norm of a step's gradients."""
    program = fg.compile(stack(), {"y": "mse"}, "eprop")
    given = problem(stack(), "y", steps=1, gain=3.0)
    stream = program.stream(given.params, batch=2, optimizer=Clipped(fg.SGD(1.0), norm=0.25))
    stream.step(given.inputs, given.targets)
    clipped = clip_by_norm(stream.grads, 0.25)
    for name, grad in clipped.items():
        np.testing.assert_allclose(stream.params[name], given.params[name] - grad, rtol=1e-12)

"""May a learner of single steps be read, written into, saved, copied and interrupted between them, as any other?"""

from __future__ import annotations

import copy
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_backend import in_a_hurry, skip_without
from nets import declare
from short_blocks import assert_alike, both, compare, everything, is_ahead, pieces, program_of
from stepping import OPTIMIZERS

import forwardgrad as fg
from forwardgrad import Learner
from forwardgrad.learning.optimizers import RMSprop
from forwardgrad.learning.schedules import StepDecay
from forwardgrad.learning.transforms import Clipped, Scheduled
from forwardgrad.ops import Array


@pytest.fixture(scope="module", autouse=True)
def _compiled_fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from in_a_hurry(tmp_path_factory.mktemp("between"))


# What is read and written in between.


def assigned(learner: Learner) -> None:
    learner.params = {name: 0.5 * array for name, array in learner.params.items()}


def written_into(learner: Learner) -> None:
    for array in (*learner.params.values(), *(learner.state or {}).values()):
        array *= 0.5


def one_name(learner: Learner) -> None:
    learner.params["h.i" if "h.i" in learner.params else next(iter(learner.params))] *= -1


def another_state(learner: Learner) -> None:
    learner.state = {name: array + 0.1 for name, array in (learner.state or {}).items()}


def no_momentum(learner: Learner) -> None:
    learner.optimizer_state = learner.optimizer.start(learner.params) | {"passed on": np.ones(2)}


def new_rate(learner: Learner) -> None:
    learner.optimizer = fg.Adam(0.05, beta1=0.5)


def new_clip(learner: Learner) -> None:
    learner.clip = 0.02


def no_clip(learner: Learner) -> None:
    learner.clip = None


def scheduled(learner: Learner) -> None:
    learner.optimizer = Scheduled(fg.Adam(0.05), StepDecay(1, 0.5))
    learner.optimizer_state = learner.optimizer.start(learner.params)


def clips_itself(learner: Learner) -> None:
    learner.optimizer, learner.clip = Clipped(fg.Adam(0.05), norm=0.02), None


def other_kind(learner: Learner) -> None:
    learner.optimizer = RMSprop(0.01)
    learner.optimizer_state |= learner.optimizer.start(learner.params)


def fresh(learner: Learner) -> None:
    learner.reset()


def fresh_sample(learner: Learner) -> None:
    learner.reset(np.array([True, False]))


def renumbered(learner: Learner) -> None:
    learner.seen, learner.episodes = 100, 7


CHANGES: list[Callable[[Learner], Any]] = [
    assigned, written_into, one_name, another_state, no_momentum, new_rate, new_clip, no_clip, scheduled,
    clips_itself, other_kind, fresh, fresh_sample, renumbered, everything,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_what_is_changed_in_between_counts(backend: str, change: Callable[[Learner], Any]) -> None:
    """If this fails, a learner goes on from arrays of its own, whatever is written into it."""
    program = program_of(backend, rule="uoro" if backend == "numpy" else "eprop")
    one, other = both(program, fg.Adam(0.01), clip=1.0)
    stream = pieces(program, 9)
    plain = Learner(program, program.init(2), fg.Adam(0.01), clip=1.0)
    plain.fit(stream)
    for first in (0, 3, 6):
        compare(one, other, stream[first : first + 3])
        change(one)
        change(other)
    assert_alike(everything(one), everything(other))
    if change not in (everything,):
        assert any(np.any(a != everything(one)[name]) for name, a in everything(plain).items())


@pytest.mark.parametrize("backend", ["numpy", "c"])
@pytest.mark.parametrize("optimizer", ["adam", "lars"])
def test_what_was_read_stays_as_it_is(backend: str, optimizer: str) -> None:
    """If this fails, a later step writes into arrays that were handed out, or these are still those of the learner."""
    program = program_of(backend)
    one, other = both(program, OPTIMIZERS[optimizer], clip=0.5)
    handed: list[tuple[dict[str, Array], dict[str, Array]]] = []
    for x, y in pieces(program, 5):
        given = ({"x": x["x"].copy()}, {"y": y["y"].copy()})
        update = next(one.updates([given]))
        other.fit([(x, y)])
        for group in (*given, one.params, one.optimizer_state, one.state, update.step.grads, update.step.outputs):
            assert group is not None
            handed.append((group, {name: np.array(array) for name, array in group.items()}))
    for found, copies in handed:
        assert all(np.array_equal(found[name], array) for name, array in copies.items())
    one.fit(pieces(program, 2))
    other.fit(pieces(program, 2))
    for found, _ in handed:
        for array in found.values():
            array[...] = 9
    assert_alike(everything(one), everything(other))


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_buffers_that_are_filled_again(backend: str) -> None:
    """If this fails, a live source that reuses its arrays is learned from wrongly."""
    program = program_of(backend)
    one, other = both(program, fg.Adam(0.01), clip=0.5)
    stream = pieces(program, 5)

    def refilled() -> Iterator[Any]:
        x, y, mask = np.empty((1, 2, 1)), np.empty((1, 2, 1)), np.empty((1, 2))
        for number, (inputs, targets) in enumerate(stream):
            x[...], y[...], mask[...] = inputs["x"], targets["y"], number % 2
            yield {"x": x}, {"y": y}, mask
            x[...] = y[...] = mask[...] = 1e9

    one.fit(refilled())
    other.fit([(x, y, np.full(1, number % 2)) for number, (x, y) in enumerate(stream)])
    assert_alike(everything(one), everything(other))


# Saved, copied, interrupted.


@pytest.mark.parametrize(
    ("backend", "optimizer", "rule"),
    [("numpy", "adam", "uoro"), ("numpy", "scheduled", "eprop"), ("numpy", "clipped", "eprop"), ("c", "adam", "eprop")],
)
def test_a_saved_learner_goes_on_bit_for_bit(backend: str, optimizer: str, rule: str, tmp_path: Path) -> None:
    """If this fails, a run that is resumed is another run."""
    program, chosen = program_of(backend, rule=rule), OPTIMIZERS[optimizer]
    stream = pieces(program, 9)
    whole, learner = (Learner(program, program.init(2), chosen, clip=0.5) for _ in range(2))
    whole.fit(stream)
    for first in (0, 2, 5):
        learner.fit(stream[first : {0: 2, 2: 5, 5: 9}[first]])
        assert is_ahead(learner)
        learner.save(tmp_path / "learner.npz")
        learner = Learner.load(tmp_path / "learner.npz", program, optimizer=chosen)
    found, wanted = everything(learner), everything(whole)
    assert all(np.array_equal(found[name], array) for name, array in wanted.items())


@pytest.mark.parametrize(
    "way",
    [copy.deepcopy, copy.copy, lambda learner: pickle.loads(pickle.dumps(learner))],
    ids=["deepcopy", "copy", "pickle"],
)
@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_a_copy_goes_on_by_itself(backend: str, way: Callable[[Learner], Learner]) -> None:
    """If this fails, two learners take each other's steps."""
    program = program_of(backend)
    learner = Learner(program, program.init(2), fg.Adam(0.01), clip=0.5)
    stream = pieces(program, 6)
    learner.fit(stream[:3])
    other = way(learner)
    before = everything(other)
    learner.fit(stream[3:])
    assert all(np.array_equal(array, before[name]) for name, array in everything(other).items())
    other.fit(stream[3:])
    assert_alike(everything(other), everything(learner))


HOLDING = ("carried", "learner", "single_steps", "held")
"""The modules that hold what changes in a step."""


class Interrupting:
    """Raises `KeyboardInterrupt` at the n-th line of these modules that is run."""

    def __init__(self, at: int, modules: tuple[str, ...]) -> None:
        self.left, self.files = at, {f"{name}.py" for name in modules}

    def __call__(self, frame: Any, event: str, _: Any) -> Any:
        if os.path.basename(frame.f_code.co_filename) not in self.files:
            return None
        self.left -= event == "line"
        if not self.left:
            raise KeyboardInterrupt
        return self

    def __enter__(self) -> None:
        sys.settrace(self)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)


@pytest.mark.parametrize("steps", [0, 3], ids=["first step", "later step"])
@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_an_interrupt_leaves_the_learner_before_or_after_a_step(backend: str, steps: int) -> None:
    """If this fails, Ctrl-C leaves parameters of one step with the state or the count of another."""
    program = program_of(backend)
    stream = pieces(program, steps + 2)
    masked = [(x, y, np.array([[0.5, 1.0]])) for x, y in stream]

    def begun() -> Learner:
        learner = Learner(program, program.init(2), fg.Adam(0.01), clip=0.5)
        learner.fit(stream[:steps])
        return learner

    plain = begun()
    photographs = [everything(plain)]
    for piece in (masked[steps], stream[steps + 1]):
        plain.fit([piece])
        photographs.append(everything(plain))
    modules = (*HOLDING, "joined", "moment", "c_stream") if steps else HOLDING
    at, ended, found = 1, False, set[int]()
    while not ended:
        learner = begun()
        try:
            with Interrupting(at, modules):
                learner.fit([masked[steps]])
            ended = True
        except KeyboardInterrupt:
            pass
        taken = learner.seen - steps
        found.add(taken)
        if at % 3 == 0:  # or go on without a look
            assert all(np.array_equal(a, photographs[taken][name]) for name, a in everything(learner).items()), at
        learner.fit([masked[steps], stream[steps + 1]][taken:])
        assert all(np.array_equal(a, photographs[2][name]) for name, a in everything(learner).items()), at
        at += 2 if steps else 1
    assert found == {0, 1}
    assert at > 60


# What is not finite.


def growing(backend: str, **options: Any) -> tuple[fg.Program, list[Any]]:
    """Linear units, whose influence explodes in the fourth step; it starts afresh with them."""
    skip_without(backend)
    graph = declare(
        {"x": {"op": "input", "size": 2}, "h": {"op": "linear", "size": 2}, "y": {"op": "tanh", "size": 2}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"weight": "diagonal", "delay": 1, "init": 1e60}),
        ("h", "y", {"weight": "dense"}),
    )
    ones = np.ones((1, 2, 2))
    return fg.compile(graph, {"y": "mse"}, backend=backend), [({"x": ones}, {"y": 0.5 * ones})] * 8


@pytest.mark.parametrize("policy", ["skip", "reset"])
@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_blocks_that_are_skipped(backend: str, policy: Any) -> None:
    """If this fails, a learner that is told to skip learns from what is not finite, or does not start afresh."""
    program, stream = growing(backend)
    one, other = both(program, fg.SGD(1e-3), on_nonfinite=policy)
    warned: list[list[str]] = []
    for learner in (one, other):
        with pytest.warns(fg.NonFiniteWarning) as messages:
            updates = learner.fit(stream)
        warned.append([str(each.message) for each in messages])
        assert [update.seen for update in updates] == list(range(1, 9))
    assert warned[0] == warned[1]
    assert 0 < len(warned[0]) < 8
    assert_alike(everything(one), everything(other))


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_a_bad_step_raises_and_changes_nothing(backend: str) -> None:
    """If this fails, one bad measurement spoils what was learned, or the error names another step."""
    program = program_of(backend)
    one, other = both(program, fg.Adam(0.01), clip=0.5)
    stream = pieces(program, 4)
    bad: list[Any] = [
        ({"x": np.full((1, 2, 1), np.nan)}, stream[0][1]),
        (stream[0][0], {"y": np.full((1, 2, 1), 1e200)}),
        (stream[0][0], {}),
        tuple(pieces(program, 1, 3)[0]),
    ]
    compare(one, other, stream)
    for piece in bad:
        before, messages = everything(one), list[str]()
        next(one.updates(stream[:1]))
        next(other.updates(stream[:1]))
        before = everything(other)
        for learner in (one, other):
            with pytest.raises(fg.ForwardgradError) as error:
                learner.fit([piece])
            messages.append(f"{type(error.value).__name__}: {error.value}")
        assert messages[0] == messages[1]
        assert_alike(everything(one), before)
    for wrong in ({}, one.params | {"extra": np.ones(2)}, {name: a * np.nan for name, a in one.params.items()}):
        messages = []
        for learner in (one, other):
            kept, learner.params = learner.params, dict(wrong)
            with pytest.raises(fg.ForwardgradError) as error:
                learner.fit(stream[:1])
            messages.append(str(error.value))
            learner.params = kept
        assert messages[0] == messages[1]
    compare(one, other, stream)

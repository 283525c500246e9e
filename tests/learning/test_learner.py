"""Does a learner learn, by exactly the steps and updates one would make by hand, and does nothing else move it?"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from nets import gru, readout_of_features, stack, vanilla

import forwardgrad as fg
from forwardgrad import Learner
from forwardgrad.errors import DataError
from forwardgrad.learning.optimizers import clip_by_norm


def data(steps: int, batch: int = 2, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two noisy inputs, and their sum three steps late: a task that needs memory."""
    x = np.random.default_rng(seed).normal(size=(steps, batch, 2))
    late = np.concatenate([np.zeros((1, batch, 2)), x[:-1]])
    return {"x": x}, {"y": 0.5 * x + 0.5 * late}


def piece(inputs: dict[str, Any], targets: dict[str, Any], at: int, steps: int) -> tuple[dict[str, Any], ...]:
    return tuple({name: array[at : at + steps] for name, array in arrays.items()} for arrays in (inputs, targets))


def learner(
    rule: str = "rtrl", optimizer: Any = None, graph: Any = None, *, loss: str = "mse", **options: Any
) -> Learner:
    program = fg.compile(vanilla() if graph is None else graph, loss={"y": loss}, rule=rule)
    return Learner(program, program.init(3), optimizer or fg.SGD(0.1), **options)


def photograph(of: Learner) -> dict[str, Any]:
    """Everything that learning changes, copied."""
    groups = {"params": of.params, "optimizer": of.optimizer_state, "state": of.state or {}}
    found: dict[str, Any] = {f"{group} {name}": a.copy() for group, held in groups.items() for name, a in held.items()}
    return found | {"seen": of.seen, "started": of.state is not None}


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


# What it does.


@pytest.mark.parametrize("rule", ["rtrl", "eprop-deep", "eprop", "immediate"])
@pytest.mark.parametrize("optimizer", [fg.SGD(0.1), fg.SGD(0.03, momentum=0.8), fg.Adam(0.02)], ids=str)
def test_learning_reduces_the_loss(rule, optimizer):
    """If it failed, gradients or updates would point the wrong way."""
    ours = learner(rule, optimizer)
    losses = [update.loss for update in ours.fit([data(600)], block=4)]
    assert np.mean(losses[-30:]) < 0.6 * np.mean(losses[:30])


@pytest.mark.parametrize("graph", [vanilla(), stack(), gru()], ids=["vanilla", "stack", "gru"])
@pytest.mark.parametrize("optimizer", [fg.SGD(0.1, momentum=0.9), fg.Adam(0.01)], ids=str)
def test_updates_are_step_clip_and_optimizer_by_hand(graph, optimizer):
    """If it failed, the learner would scale, clip or order its updates otherwise than it says."""
    inputs, targets = data(14)
    ours = learner("eprop-deep", optimizer, graph, clip=0.05)
    updates = ours.fit([(inputs, targets)], block=4)

    program = ours.program
    params = program.init(3)
    state, memory = program.start(2), optimizer.start({name: params[name] for name in program.rules})
    for update, at in zip(updates, range(0, 14, 4), strict=True):
        x, y = piece(inputs, targets, at, 4)
        state, step = program.step(params, x, y, state=state)
        steps = len(x["x"])
        assert (update.step.loss, update.steps, update.loss) == (step.loss, steps, step.loss / steps)
        grads = clip_by_norm({name: g / steps for name, g in step.grads.items()}, 0.05)
        params, memory = optimizer.update(params, grads, memory)
    assert [update.steps for update in updates] == [4, 4, 4, 2]
    assert [update.seen for update in updates] == [4, 8, 12, 14]
    by_hand = {"params": params, "optimizer": memory, "state": state}
    wanted = {f"{group} {name}": a for group, held in by_hand.items() for name, a in held.items()}
    assert_same(photograph(ours), wanted | {"seen": 14, "started": True})


def test_an_update_takes_the_mean_loss_per_step():
    """If it failed, a learning rate would mean something else at every block length."""
    x, y = np.ones((6, 1, 2)), np.zeros((6, 1, 2))
    moved = []
    for block in (1, 2, 6):
        ours = learner(graph=readout_of_features(leak=0.0))  # no memory: every step has the same gradient
        before = {name: array.copy() for name, array in ours.params.items()}
        next(iter(ours.updates([({"x": x}, {"y": y})], block=block)))
        moved.append({name: ours.params[name] - before[name] for name in before})
    for other in moved[1:]:
        for name, change in moved[0].items():
            assert np.any(change)
            np.testing.assert_allclose(other[name], change, rtol=1e-12)


def test_clip_bounds_the_joint_norm():
    """If it failed, one surprising block could throw the parameters far away."""
    inputs, targets = data(8)
    targets["y"] *= 1e6
    ours = learner(optimizer=fg.SGD(1.0), clip=0.25)
    before = {name: array.copy() for name, array in ours.params.items()}
    ours.fit([(inputs, targets)])
    moved = sum(float(np.sum((ours.params[name] - before[name]) ** 2)) for name in before)
    assert np.sqrt(moved) == pytest.approx(0.25, rel=1e-9)


def test_no_block_length_means_one_update_a_piece():
    """If it failed, pieces made by the user would be cut or joined behind their back."""
    inputs, targets = data(9)
    stream = [piece(inputs, targets, at, n) for at, n in ((0, 2), (2, 4), (6, 3))]
    assert [update.steps for update in learner().fit(stream)] == [2, 4, 3]


def test_fit_twice_is_fit_once():
    """If it failed, learning could not be interrupted and continued: state would be lost between calls."""
    inputs, targets = data(24)
    one, two = learner("eprop", fg.Adam(0.01)), learner("eprop", fg.Adam(0.01))
    losses = [update.loss for update in one.fit([(inputs, targets)], block=3)]
    again = two.fit([piece(inputs, targets, 0, 12)], block=3) + two.fit([piece(inputs, targets, 12, 12)], block=3)
    assert [update.loss for update in again] == losses
    assert_same(photograph(one), photograph(two))


def test_influence_goes_on_over_updates():
    """If it failed, every block would begin without the past: truncated backpropagation instead of forward credit."""
    inputs, targets = data(6)
    ours = learner()
    ours.fit([piece(inputs, targets, 0, 3)])
    assert ours.state is not None
    influence = [array for key, array in ours.state.items() if key.startswith("influence")]
    assert influence
    assert all(np.any(array) for array in influence)
    cold = ours.program.start(2) | {k: a for k, a in ours.state.items() if k.startswith("value")}
    with_past = ours.program.step(ours.params, *piece(inputs, targets, 3, 3), state=ours.state)[1].grads
    without = ours.program.step(ours.params, *piece(inputs, targets, 3, 3), state=cold)[1].grads
    assert np.abs(with_past["h->h"] - without["h->h"]).max() > 1e-3


def test_masks_travel_with_their_pieces():
    """If it failed, masked steps would be learned from."""
    inputs, targets = data(6)
    targets["y"][3:] = np.nan
    one, two = learner(), learner()
    one.fit([(inputs, targets, np.repeat([1.0, 0.0], 3))], block=3)
    two.fit([piece(inputs, targets, 0, 3)])
    assert_same(
        {name: a for name, a in photograph(one).items() if name.startswith("params")},
        {name: a for name, a in photograph(two).items() if name.startswith("params")},
    )


def test_frozen_parameters_stay():
    """If it failed, `trainable=False` would not be kept by the learner."""
    graph = vanilla(trainable=False)
    ours = learner(graph=graph, optimizer=fg.Adam(0.1))
    before = ours.params["h->h"].copy()
    ours.fit([data(20)], block=2)
    np.testing.assert_array_equal(ours.params["h->h"], before)
    assert not any("h->h" in key for key in ours.optimizer_state)


def test_parameters_are_copied():
    """If it failed, learning would change arrays of the user's, or the user's changes would reach the learner."""
    program = fg.compile(vanilla(), loss={"y": "mse"})
    params = program.init(0)
    kept = {name: array.copy() for name, array in params.items()}
    ours = Learner(program, params, fg.SGD(0.5))
    ours.fit([data(10)], block=2)
    for name in params:
        np.testing.assert_array_equal(params[name], kept[name])


# Streams.


def test_a_stream_is_asked_for_one_piece_at_a_time():
    """If it failed, learning from a live source would wait for data that is yet to be measured."""
    asked = 0

    def live() -> Iterator[Any]:
        nonlocal asked
        while True:
            asked += 1
            yield data(4, seed=asked)

    ours = learner()
    seen = []
    for update in ours.updates(live(), block=2):
        seen.append((asked, update.seen, ours.seen))
        if update.seen == 12:
            break
    assert seen == [(1, 2, 2), (1, 4, 4), (2, 6, 6), (2, 8, 8), (3, 10, 10), (3, 12, 12)]


def test_progress_comes_after_the_update():
    """If it failed, a callback that looks at the learner would see the parameters of one update before."""
    ours = learner()
    watched = []
    ours.fit([data(6)], block=2, progress=lambda update: watched.append((update.seen, ours.seen, ours.state is None)))
    assert watched == [(2, 2, False), (4, 4, False), (6, 6, False)]


def test_fit_keeps_no_arrays():
    """If it failed, the list that `fit` returns would grow with everything the network ever put out."""
    updates = learner().fit([data(6)], block=2)
    assert all(not update.step.grads and not update.step.outputs for update in updates)


def test_the_last_updates_outputs_can_be_read():
    """If it failed, predictions made while learning could not be scored."""
    inputs, targets = data(4)
    ours = learner()
    expected = ours.program.run(ours.params, inputs)["y"]
    update = next(iter(ours.updates([(inputs, targets)])))
    np.testing.assert_array_equal(update.step.outputs["y"], expected)


# Starting afresh.


def test_reset_starts_all_samples_afresh():
    """If it failed, one sequence would leak into the next; parameters and optimiser must stay."""
    inputs, targets = data(6)
    ours = learner(optimizer=fg.Adam(0.01))
    ours.fit([(inputs, targets)], block=3)
    params, memory = dict(ours.params), dict(ours.optimizer_state)
    ours.reset()
    assert ours.state is None
    assert_same({**params}, {**ours.params})
    assert_same({**memory}, {**ours.optimizer_state})
    first = next(iter(ours.updates([piece(inputs, targets, 0, 3)])))
    fresh = ours.program.step(params, *piece(inputs, targets, 0, 3), state=ours.program.start(2))[1]
    assert first.step.loss == fresh.loss
    ours.reset()
    ours.fit([data(4, batch=5)])  # another batch size may begin now


def test_reset_of_some_samples_leaves_the_others():
    """If it failed, an episode that ends would end its neighbours' too, or keep its own traces."""
    ours = learner()
    ours.fit([data(6)], block=3)
    assert ours.state is not None
    before, fresh = dict(ours.state), ours.program.start(2)
    ours.reset(np.array([True, False]))
    for key, array in ours.state.items():
        np.testing.assert_array_equal(array[:, 0], fresh[key][:, 0])
        np.testing.assert_array_equal(array[:, 1], before[key][:, 1])
        assert np.any(array[:, 1])


def test_reset_before_the_first_block_does_nothing():
    """If it failed, a loop that resets at the beginning of every episode could not begin."""
    ours = learner()
    ours.reset()
    ours.reset(np.array([True]))
    assert ours.state is None


# What can go wrong.


BAD = {
    "NaN in the inputs": lambda x, y: ({"x": np.where(x["x"] > 0, np.nan, x["x"])}, y),
    "another batch": lambda x, y: data(4, batch=3),
    "no targets": lambda x, y: (x, {}),
    "targets too short": lambda x, y: (x, {"y": y["y"][:-1]}),
    "not a piece": lambda x, y: x,
    "a gradient that overflows": lambda x, y: (x, {"y": y["y"] + 1e308}),
}


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("optimizer", [fg.SGD(0.1, momentum=0.9), fg.Adam(0.1)], ids=str)
def test_a_bad_piece_leaves_the_learner_as_it_was(what, optimizer):
    """If it failed, one bad measurement would spoil what was learned: half an update, or a poisoned state."""
    inputs, targets = data(4)
    ours = learner(optimizer=optimizer, clip=1.0)
    ours.fit([(inputs, targets)], block=2)
    before = photograph(ours)
    with pytest.raises(DataError):
        ours.fit([BAD[what](*data(4, seed=1))], block=4)
    assert_same(photograph(ours), before)
    ours.fit([data(4, seed=2)], block=2)
    assert ours.seen == 8


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_a_bad_first_piece_does_not_fix_the_batch():
    """If it failed, a learner whose very first block failed would accept only that block's batch size from then on."""
    ours = learner(optimizer=fg.Adam(0.1))
    with pytest.raises(DataError, match="not finite"):
        ours.fit([BAD["a gradient that overflows"](*data(4, batch=3))])
    assert ours.state is None
    ours.fit([data(4, batch=2)])


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_update_to_infinity_is_refused(momentum):
    """If it failed, parameters that are not finite would take the place of the last good ones."""
    ours = learner(optimizer=fg.SGD(1e308, momentum))
    inputs, targets = data(4)
    targets["y"] *= 1e3
    before = photograph(ours)
    with pytest.raises(DataError, match="would not be finite after the update"):
        ours.fit([(inputs, targets)])
    assert_same(photograph(ours), before)


def test_good_blocks_before_a_bad_one_are_kept():
    """If it failed, a broken stream would take with it all that was learned from its beginning."""
    ours = learner()
    with pytest.raises(DataError):
        ours.fit([data(4), data(4, batch=3)], block=2)
    assert ours.seen == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optimizer": "adam"}, "an optimizer has start, update and config, got str"),
        ({"clip": 0}, "the limit must be a finite number greater than 0, got 0"),
        ({"clip": -1.0}, "the limit"),
        ({"clip": float("nan")}, "the limit"),
        ({"clip": "1"}, "the limit"),
        ({"params": {}}, "params: 'h->h' is missing|params: 'x->h' is missing"),
        ({"params": None}, "params: expected a mapping"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_at_once(change, words):
    """If it failed, a wrong setting would come to light only at the first update, or in a bare error."""
    program = fg.compile(vanilla(), loss={"y": "mse"})
    given: dict[str, Any] = {"params": program.init(0), "optimizer": fg.SGD(0.1), "clip": None} | change
    with pytest.raises(DataError, match=words):
        Learner(program, given["params"], given["optimizer"], clip=given["clip"])


@pytest.mark.parametrize("block", [0, -1, 2.5, "all", True])
def test_a_wrong_block_length_is_refused(block):
    """If it failed, a wrong block length would loop for ever or raise a bare error."""
    ours = learner()
    with pytest.raises(DataError, match="block must be"):
        ours.fit([data(4)], block=block)
    assert ours.seen == 0


def test_a_mapping_is_no_stream():
    """If it failed, forgetting the brackets round a piece would iterate over names."""
    inputs, targets = data(4)
    with pytest.raises(DataError, match="a stream is an iterable"):
        learner().fit(inputs)
    with pytest.raises(DataError, match="each piece"):
        learner().fit((inputs, targets))


def pickled(ours: Learner) -> Learner:
    """A learner through a pickle that names its program and does not hold it."""
    buffer = io.BytesIO()
    writer = pickle.Pickler(buffer)
    writer.persistent_id = lambda thing: "program" if thing is ours.program else None
    writer.dump(ours)
    reader = pickle.Unpickler(io.BytesIO(buffer.getvalue()))
    reader.persistent_load = lambda name: ours.program
    return reader.load()


@pytest.mark.parametrize("copied", [lambda ours: copy.deepcopy(ours, {id(ours.program): ours.program}), pickled])
def test_a_copy_of_a_learner_goes_on_apart_from_it(copied):
    """If it failed, a copy would share arrays with the learner it is from, or forget where that one was."""
    ours = learner("eprop", fg.Adam(0.02), clip=0.5)
    ours.fit([data(12)], block=4)
    before = photograph(ours)
    other = copied(ours)
    other.fit([data(12, seed=1)], block=4)
    assert_same(photograph(ours), before)
    ours.fit([data(12, seed=1)], block=4)
    assert_same(photograph(other), photograph(ours))


# Answers.


def test_loss_is_per_answer():
    """If this fails, a loss looks small where a mask asks for few answers."""
    inputs, targets = data(6)
    mask = np.zeros((6, 2))
    mask[2, 0] = mask[5] = 1
    ours = learner()
    [masked] = ours.fit([(inputs, targets, mask)])
    assert masked.answers == 1.5
    assert masked.loss == pytest.approx(masked.step.loss / 1.5)
    by_hand = learner()
    y = by_hand.predict(inputs)["y"]
    errors = ((y - targets["y"]) ** 2).mean(axis=2)
    assert masked.loss == pytest.approx(errors[mask > 0].sum() / 3)
    assert by_hand.evaluate(inputs, targets, mask) == pytest.approx(masked.loss)
    [silent] = learner().fit([(inputs, targets, np.zeros((6, 2)))])
    assert silent.answers == 0
    assert np.isnan(silent.loss)
    [every] = learner().fit([(inputs, targets)])
    assert (every.answers, every.loss) == (6, every.step.loss / 6)

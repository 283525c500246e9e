"""Is nothing kept of what a caller hands over, or lost of it, and do all entrances take and refuse the same?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from checks import ENGINES, TOLERANCE, error
from nets import declare, gru, problem, stack, vanilla

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.errors import DataError, NonFiniteWarning
from forwardgrad.ops import Array
from forwardgrad.testing import Problem


def history() -> Any:
    """A graph that reads delayed values of an input, of a layer and of its output, in many kinds of edges."""
    return declare(
        {"x": {"op": "input", "size": 2}, "h": {"op": "tanh", "size": 3}, "y": {"op": "linear", "size": 2}},
        ("x", "h", {"weight": "dense", "delay": 3}),
        ("x", "y", {"weight": "dense"}),
        ("h", "h", {"weight": "diagonal", "delay": 2}),
        ("h", "y", {"weight": "dense", "delay": 1}),
        ("x", "y", {"value": 0.5, "delay": 2}),
        ("y", "y", {"value": 0.5, "delay": 1}),
    )


NETS = {"history": history(), "vanilla": vanilla(), "stack": stack(), "gru": gru()}


def compiled(given: Problem, rule: Any = "rtrl", backend: str = "numpy", **options: Any) -> fg.Program:
    return fg.compile(given.graph, dict(given.loss), rule, backend=backend, dead="ignore", **options)


def arrays(value: Any) -> Iterator[Array]:
    """All arrays in nested results."""
    if isinstance(value, np.ndarray):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from arrays(each)


# What is handed over.


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "tbptt", "snap(1)", "uoro"])
@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("steps", [1, 4])
def test_nothing_given_back_is_what_was_handed_over(net: str, backend: str, rule: str, steps: int) -> None:
    """If this fails, a buffer that is filled again changes a state, a gradient or an output from before."""
    given = problem(NETS[net], "y", steps=steps)
    program = compiled(given, rule, backend)
    signals, mask = None, np.ones((steps, given.batch))
    state, first = program.step(
        given.params, given.inputs, given.targets, mask, signals, state=program.start(given.batch)
    )
    after, second = program.step(given.params, given.inputs, given.targets, mask, state=state)
    again = program.reset(after, np.array([True, False]))
    values = program.run(given.params, given.inputs, state=after)
    whole = program.gradient(given.params, given.inputs, given.targets, block=2, mask=mask)
    handed = [*arrays([given.params, given.inputs, given.targets, mask])]
    results = [state, first.grads, first.outputs, after, second.grads, second.outputs, again, values, whole.grads]
    for place, result in enumerate(results):
        others = [array for other in results[:place] for array in arrays(other)]
        for array in arrays(result):
            assert array.flags.writeable
            assert not any(np.shares_memory(array, other) for other in (*handed, *others)), place
        own = list(arrays(result))
        assert not any(np.shares_memory(one, two) for i, one in enumerate(own) for two in own[:i])


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("policy", ["skip", "reset"])
def test_a_learner_keeps_nothing_of_what_it_was_handed(backend: str, policy: Any) -> None:
    """If this fails, a learner goes on with numbers that its stream has put into an old buffer since."""
    given, other = problem(history(), "y", steps=6), problem(history(), "y", steps=6, seed=8)
    program = compiled(given, "rtrl", backend)

    def learned(buffers: bool) -> fg.Learner:
        params = {name: array.copy() for name, array in given.params.items()}
        ours = fg.Learner(program, params, fg.SGD(0.05, momentum=0.5), on_nonfinite=policy)
        x, y, mask = (np.zeros((6, 2, 2)), np.zeros((6, 2, 2)), np.ones(6))

        def stream() -> Iterator[Any]:
            for number, each in enumerate((given, other, given)):
                if not buffers:
                    scale = 1e200 if number == 1 else 1.0
                    yield {"x": each.inputs["x"] * scale}, {"y": each.targets["y"].copy()}, np.ones(6)
                    continue
                x[:], y[:], mask[:] = each.inputs["x"], each.targets["y"], 1
                if number == 1:
                    x[:] *= 1e200  # a block of which nothing is learned, run again to find out why
                yield {"x": x}, {"y": y}, mask
                x[:], y[:], mask[:] = 7, 8, 9

        for update in ours.updates(stream(), block=4):
            for array in (*arrays(update.step.grads), *arrays(update.step.outputs)):
                array[:] = 1e9
        for array in params.values():
            array[...] = 1e9
        return ours

    with pytest.warns(NonFiniteWarning):
        one, two = learned(True), learned(False)
    assert error(one.params, two.params) == 0
    assert one.state is not None
    assert two.state is not None
    assert error(one.state, two.state) == 0


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("call", ["gradient", "record"])
def test_a_stream_that_fills_one_buffer_has_its_own_gradient(call: str, backend: str) -> None:
    """If this fails, every block but the last is computed from the numbers of the next one, without a word."""
    given = problem(vanilla(), "y", steps=12)
    wanted = oracle.reverse(**given.arguments)

    def stream() -> Iterator[Any]:
        x, y = np.empty((3, 2, 2)), np.empty((3, 2, 2))
        for at in range(0, 12, 3):
            x[:], y[:] = given.inputs["x"][at : at + 3], given.targets["y"][at : at + 3]
            yield {"x": x}, {"y": y}

    found = getattr(compiled(given, "rtrl", backend), call)(given.params, stream())
    assert np.sum(found.loss) == pytest.approx(wanted.loss, rel=TOLERANCE)
    assert error(found.grads, wanted.grads) <= TOLERANCE


@pytest.mark.parametrize("call", ["gradient", "record"])
def test_weights_are_frozen_while_a_stream_runs(call: str) -> None:
    """If this fails, a stream that changes parameters on its way gets the gradient of no weights at all."""
    given = problem(vanilla(), "y", steps=6)
    wanted = oracle.reverse(**given.arguments).grads
    params = {name: array.copy() for name, array in given.params.items()}

    def stream() -> Iterator[Any]:
        for at in range(0, 6, 2):
            yield {"x": given.inputs["x"][at : at + 2]}, {"y": given.targets["y"][at : at + 2]}
            for array in params.values():
                array *= 2

    assert error(getattr(compiled(given), call)(params, stream()).grads, wanted) <= TOLERANCE


def test_an_empty_stream_says_so_and_costs_nothing() -> None:
    """If this fails, no data at all is a gradient of zero, or a learner that has lost its state."""
    given = problem(vanilla(), "y")
    program = compiled(given)
    for call in (program.gradient, program.record):
        with pytest.raises(DataError, match="the sequence is empty"):
            call(given.params, iter(()))
    ours = fg.Learner(program, given.params, fg.SGD(0.1))
    assert ours.fit(iter(())) == []
    assert (ours.seen, ours.state, ours.episodes) == (0, None, 0)


# What is refused.


class Lazy:
    """Something that becomes an array when it is asked to, as tables and tensors do."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if isinstance(self.array, Exception):
            raise self.array
        return self.array if dtype is None else self.array.astype(dtype)


def entrances(given: Problem) -> dict[str, Callable[..., Any]]:
    """All calls that take the arrays of a problem: what each makes of changed arguments."""
    program = compiled(given)

    def learner(p: Any, x: Any, y: Any, m: Any) -> Any:
        return fg.Learner(program, p, fg.SGD(0.1)).fit([(x, y, m)], block=2)

    return {
        "step": lambda p, x, y, m: program.step(p, x, y, m, state=program.start(given.batch)),
        "gradient": lambda p, x, y, m: program.gradient(p, x, y, m, block=2),
        "stream": lambda p, x, y, m: program.gradient(p, iter([(x, y, m)]), block=2),
        "record": lambda p, x, y, m: program.record(p, x, y, m, block=2),
        "learner": learner,
        "oracle": lambda p, x, y, m: oracle.reverse(given.graph, p, x, y, given.loss, mask=m),
        "differences": lambda p, x, y, m: oracle.finite_difference(given.graph, p, x, y, given.loss, mask=m),
        "slope": lambda p, x, y, m: oracle.directional_derivative(given.graph, p, x, y, given.loss, ALONG, mask=m),
    }


ALONG = {"h->h": np.eye(3)}
ENTRANCES = list(entrances(problem(vanilla(), "y")))
PLACES = ["params", "inputs", "targets", "mask"]
WHAT = {"params": "parameter 'h->h'", "inputs": "input 'x'", "targets": "target 'y'", "mask": "mask"}


def changed(given: Problem, place: str, change: Callable[[Array], Any]) -> list[Any]:
    """The arguments, one array of one of them changed."""
    mask = np.ones((given.steps, given.batch)) if given.mask is None else given.mask
    arguments: dict[str, Any] = {"params": given.params, "inputs": given.inputs, "targets": given.targets, "mask": mask}
    if place == "mask":
        arguments["mask"] = change(mask)
    else:
        name = {"params": "h->h", "inputs": "x", "targets": "y"}[place]
        arguments[place] = arguments[place] | {name: change(arguments[place][name])}
    return list(arguments.values())


def masked(array: Array) -> Any:
    return np.ma.masked_array(array, mask=np.arange(array.size).reshape(array.shape) == 0)


REFUSED: dict[str, tuple[Callable[[Array], Any], str]] = {
    "masked": (masked, "is a masked array, and its mask would be lost"),
    "masked, nothing hidden": (np.ma.asarray, "is a masked array, and its mask would be lost"),
    "a list of masked": (lambda a: [masked(each) for each in a], "is a masked array"),
    "lazily masked": (lambda a: Lazy(masked(a)), "is a masked array"),
    "lazy, and cannot": (lambda a: Lazy(RuntimeError("requires grad")), "Lazy does not become an array: requires grad"),
    "lazy, of objects": (lambda a: Lazy(a.astype(object)), "expected numbers, got dtype object of Lazy"),
    "objects": (lambda a: a.astype(object), r"expected numbers, got dtype object\.\n  Convert it first"),
    "complex": (lambda a: a * 1j, "expected numbers, got dtype complex128"),
    "text": (lambda a: a.astype(str), "expected numbers, got dtype <U"),
    "dates": (lambda a: a.astype("datetime64[s]"), "expected numbers, got dtype datetime64"),
    "records": (lambda a: a.astype([("a", float)]), "expected numbers, got dtype .*'a'"),
    "nothing": (lambda a: float("nan"), "shape|NaN|nan"),
    "NaN": (lambda a: np.full_like(a, np.nan), "NaN|nan"),
    "infinite": (lambda a: np.full_like(a, -np.inf), "NaN|inf"),
    "rows of unequal length": (lambda a: [[1.0], [1.0, 2.0]], "unequal lengths"),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_array_of_numbers_is_refused_everywhere(what: str, place: str, entrance: str) -> None:
    """If this fails, a mask is lost without a word, or what one entrance refuses another computes with."""
    change, text = REFUSED[what]
    given = problem(vanilla(), "y", steps=4)
    with pytest.raises(DataError, match=text) as caught:
        entrances(given)[entrance](*changed(given, place, change))
    assert str(caught.value).startswith(WHAT[place])


def test_masked_targets_are_told_how_to_pass_their_mask() -> None:
    """If this fails, who has masked targets is told that they are refused, and not what to do, or it does not work."""
    given = problem(vanilla(), "y", steps=4)
    target = np.ma.masked_array(given.targets["y"], mask=False)
    target[1], target[2, 0] = np.ma.masked, np.ma.masked
    with pytest.raises(DataError, match="Pass what counts as mask=") as caught:
        compiled(given).gradient(given.params, given.inputs, {"y": target})
    weights = ~np.ma.getmaskarray(target).any(axis=-1)
    assert "~np.ma.getmaskarray(target).any(axis=-1)" in str(caught.value)
    found = compiled(given).gradient(given.params, given.inputs, {"y": target.filled(0)}, mask=weights)
    want = np.array([[1, 1], [0, 0], [0, 1], [1, 1.0]])
    assert found.loss == oracle.reverse(**{**given.arguments, "mask": want}).loss


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "change",
    [Lazy, np.ndarray.tolist, lambda a: a.astype("f2").astype(">f8"), np.asfortranarray],
    ids=["lazy", "list", "big-endian", "Fortran order"],
)
def test_what_means_the_same_numbers_is_taken_everywhere(change: Any, place: str, entrance: str) -> None:
    """If this fails, data must be made NumPy's own before it is of use."""
    given = problem(vanilla(), "y", steps=4)
    given = Problem(given.graph, given.loss, *({n: a.astype("f2").astype(float) for n, a in group.items()}
                    for group in (given.params, given.inputs, given.targets)))  # fmt: skip
    call = entrances(given)[entrance]
    one, two = (call(*changed(given, place, each)) for each in (change, np.copy))
    for found, wanted in zip(arrays(numbers(one)), arrays(numbers(two)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def numbers(found: Any) -> list[Array]:
    """The losses and gradients of what an entrance gives."""
    if isinstance(found, list):
        return [np.array([update.loss for update in found])]
    found = found[1] if isinstance(found, tuple) else found
    return [np.asarray(found)] if isinstance(found, float) else [np.sum(found.loss), *found.grads.values()]


# What has no weight.


def log(rows: Array, targets: Array) -> Array:
    return np.sum((rows - np.log(targets)) ** 2, axis=1)


LOG = fg.Loss("log", log, lambda rows, targets: 2 * (rows - np.log(targets)))
"""A loss of positive targets alone: it is not finite at what programs put in place of hidden targets."""

HIDDEN = {"NaN": np.nan, "infinite": -np.inf, "too large to square": 1e200}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("loss", ["mse", "bernoulli", LOG], ids=["mse", "bernoulli", "log"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_what_has_no_weight_may_be_anything(hidden: str, loss: Any, entrance: str) -> None:
    """If this fails, a program, an oracle or a record refuses what another takes, or NaN gets through."""
    drawn = problem(vanilla(), "y", steps=5)
    targets = {"y": np.abs(drawn.targets["y"]) % 1 + 0.1}
    mask = np.array([[1, 0], [1, 1], [0, 0], [2, 1], [0, 1.0]])
    given = Problem(drawn.graph, {"y": loss}, drawn.params, drawn.inputs, targets, mask)

    def hide(target: Array) -> Array:
        return np.where((mask == 0)[..., None], HIDDEN[hidden], target)

    call = entrances(given)[entrance]
    one, two = (call(*changed(given, "targets", each)) for each in (hide, np.copy))
    for found, wanted in zip(arrays(numbers(one)), arrays(numbers(two)), strict=True):
        assert np.abs(wanted).max() > 1e-6
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("bad", [-1, 5, 10**6])
def test_labels_without_weight_may_be_anything(bad: int, entrance: str) -> None:
    """If this fails, padding of labels must be a class."""
    drawn = problem(vanilla(), "y", steps=5)
    labels, mask = np.array([[0, 1], [1, 1], [0, 0], [1, 0], [1, 1]]), np.array([1, 1, 0, 1, 0.0])
    given = Problem(drawn.graph, {"y": "cross_entropy"}, drawn.params, drawn.inputs, {"y": labels}, mask)
    call = entrances(given)[entrance]
    one, two = (call(*changed(given, "targets", e)) for e in (lambda y: np.where(mask[:, None] == 0, bad, y), np.copy))
    for found, wanted in zip(arrays(numbers(one)), arrays(numbers(two)), strict=True):
        np.testing.assert_array_equal(found, wanted)
    for wrong in (lambda y: np.where(mask[:, None] == 1, bad, y), lambda y: y.astype(float)):
        with pytest.raises(DataError, match="target 'y': label"):
            call(*changed(given, "targets", wrong))


# Norms.


@pytest.mark.parametrize("clip", [None, 1e-3])
@pytest.mark.parametrize("optimizer", [fg.SGD(0.05), fg.SGD(0.05, momentum=0.9), fg.Adam(0.01)], ids=str)
def test_fit_reports_the_norms_of_each_block(optimizer: Any, clip: Any) -> None:
    """If this fails, who watches the norms of a run does not see what is about to explode."""
    given = problem(vanilla(), "y", steps=6)
    fitted, watched = (fg.Learner(compiled(given), given.params, optimizer, clip=clip) for _ in range(2))
    pieces = [(given.inputs, given.targets)]
    updates = fitted.fit(pieces, block=2)
    assert len(updates) == 3
    for found, update in zip(updates, watched.updates(pieces, block=2), strict=True):
        true = np.sqrt(sum(np.sum(g * g) for g in update.step.grads.values()))
        state = np.sqrt(sum(np.sum(a * a) for a in (watched.state or {}).values()))
        assert found.step.grad_norm == pytest.approx(true)
        assert found.step.state_norm == pytest.approx(state)
        assert true > 10 * (clip or 0)
        assert found.step.grads == found.step.outputs == {}


def test_norms_of_a_block_that_is_skipped_are_no_numbers() -> None:
    """If this fails, a block of which nothing was learned seems to have a gradient of zero."""
    given = problem(vanilla(), "y", steps=2)
    ours = fg.Learner(compiled(given), given.params, fg.SGD(0.1), on_nonfinite="skip")
    with pytest.warns(NonFiniteWarning):
        (update,) = ours.fit([({"x": given.inputs["x"]}, {"y": given.targets["y"] * 1e200})])
    assert np.isnan([update.loss, update.step.grad_norm, update.step.state_norm]).all()


def test_norms_of_small_numbers_are_not_zero() -> None:
    """If this fails, a gradient in single precision whose squares underflow is reported as no gradient at all."""
    given = problem(vanilla(), "y", steps=3)
    program = compiled(given, dtype="float32")
    mask = np.full(3, 1e-28)
    _, step = program.step(given.params, given.inputs, given.targets, mask, state=program.start(2))
    true = np.sqrt(sum(np.sum(np.float64(g) ** 2) for g in step.grads.values()))
    assert 1e-30 < true < 1e-26
    assert step.grad_norm == pytest.approx(true, rel=1e-5, abs=0)

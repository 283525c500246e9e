"""Is what overflows noticed in the block in which it does, named with its step, and kept out of what was learned?"""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checks import ENGINES
from nets import declare, gru, vanilla

import forwardgrad as fg
from forwardgrad import Learner, NonFiniteError, NonFiniteWarning
from forwardgrad.errors import DataError
from forwardgrad.program import numerics


def grows(factor: float = 10.0, size: int = 2) -> nx.MultiDiGraph[str]:
    """A unit that multiplies itself each step, and an output that does not see it: only its influence matters."""
    return declare(
        {"x": {"op": "input", "size": size}, "h": {"op": "linear", "size": size}, "y": {"op": "linear", "size": size}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"value": factor, "delay": 1}),
        ("h", "y", {"weight": "diagonal"}),
    )


def plain() -> nx.MultiDiGraph[str]:
    """One weight."""
    nodes = {"x": {"op": "input", "size": 2}, "y": {"op": "linear", "size": 2}}
    return declare(nodes, ("x", "y", {"weight": "dense"}))


def ones(steps: int, batch: int = 2, size: int = 2) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"x": np.ones((steps, batch, size))}, {"y": np.zeros((steps, batch, size))}


def compiled(graph: Any = None, rule: str = "rtrl", **options: Any) -> fg.Program:
    return fg.compile(grows() if graph is None else graph, loss={"y": "mse"}, rule=rule, **options)


def photograph(of: Learner) -> dict[str, bytes]:
    held = {"params": of.params, "optimizer": of.optimizer_state, "state": of.state or {}}
    return {f"{group} {name}": array.tobytes() for group, arrays in held.items() for name, array in arrays.items()}


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("block", [1, 7, 100])
def test_the_first_value_that_overflows_is_named_with_its_step(backend: str, block: int) -> None:
    """If this fails, a user is told another node or step than where the run went wrong, or is told nothing."""
    program = compiled(dtype="float32", backend=backend)
    params = {"x->h": np.eye(2, dtype=np.float32), "h->y": np.zeros(2, np.float32)}
    # Node h is 1, 11, 111, ...: beyond 3.4e38 with 39 digits, which is step 39. The loss on zeros times h is zero.
    with pytest.raises(NonFiniteError, match=r"step 39: the value of node 'h' is not finite: inf at index") as error:
        program.gradient(params, *ones(60), block=block)
    assert (error.value.what, error.value.step) == ("the value of node 'h'", 39)


@pytest.mark.parametrize("backend", ENGINES)
def test_an_overflow_of_a_gradient_is_found_by_running_the_block_again(backend: str) -> None:
    """If this fails, only values are looked at, and a gradient that overflows is returned."""
    program = compiled(plain(), backend=backend)
    inputs, targets = ones(9)
    inputs["x"][5] = 1e200
    targets["y"][5] = 1e150  # the loss is finite, and its derivative times the input is not
    with pytest.raises(NonFiniteError, match=r"step 5: the gradient of 'x->y' is not finite: -inf at index"):
        program.gradient({"x->y": np.zeros((2, 2))}, inputs, targets, block=4)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize(("rule", "step"), [("rtrl", 2), ("uoro", 5)])  # estimates are known at the end of a block
def test_an_influence_that_overflows_is_named(backend: str, rule: str, step: int) -> None:
    """If this fails, a state with an infinite influence is handed on, and breaks another block."""
    graph = grows(1e200)
    program = compiled(graph, rule, backend=backend)
    params = {"x->h": np.zeros((2, 2)), "h->y": np.ones(2)}  # all values are zero, the influence is not
    state = program.start(2)
    with pytest.raises(NonFiniteError, match=f"step {step}: the influence of parameter 'x->h' on ") as error:
        program.step(params, *ones(6), state=state)
    assert "not finite" in str(error.value)


def test_the_loss_itself() -> None:
    """If this fails, a squared error that overflows is not told from one of the network."""
    program = compiled(gru())
    inputs, targets = ones(4)
    targets["y"][2] = 1e200
    with pytest.raises(NonFiniteError, match=r"step 2: the loss is not finite: inf\."):
        program.gradient(program.init(0), inputs, targets)
    targets["y"][2] = 1.7e308
    with pytest.raises(NonFiniteError, match=r"step 2: the loss on node 'y' is not finite"):
        program.gradient({name: -1e307 * array for name, array in program.init(0).items()}, inputs, targets)


def test_a_record_is_refused_likewise() -> None:
    """If this fails, pictures of what flows show numbers that are none."""
    program = compiled(dtype="float32")
    with pytest.raises(NonFiniteError, match="step 39"):
        program.record({"x->h": np.eye(2), "h->y": np.zeros(2)}, *ones(60), block=8)


def test_large_numbers_are_not_mistaken() -> None:
    """If this fails, numbers whose squares overflow, and which are finite all the same, stop a gradient."""
    program = compiled()
    inputs, targets = ones(3)
    inputs["x"] *= 1e160
    found = program.gradient({"x->h": np.eye(2), "h->y": np.full(2, 1e-160)}, inputs, targets)
    assert np.abs(found.grads["h->y"]).max() > 1e155


# Learners.


def learner(policy: Any = "raise", **options: Any) -> Learner:
    program = compiled(dtype="float32", **options)
    return Learner(program, {"x->h": np.eye(2), "h->y": np.zeros(2)}, fg.SGD(1e-30), on_nonfinite=policy, clip=1.0)


@pytest.mark.parametrize("backend", ENGINES)
def test_an_exploding_influence_is_noticed_before_it_overflows(backend: str) -> None:
    """If this fails, a learner goes on with an influence that no gradient can be made from."""
    ours = learner(backend=backend)
    ours.fit([ones(12)], block=4)
    before = photograph(ours)
    # 111...: its norm is beyond 1.8e19 after 20 steps
    with pytest.raises(
        NonFiniteError, match=r"step 19: the influence of parameter 'x->h' on node 'h' explodes"
    ) as error:
        ours.fit([ones(40)], block=8)
    assert (photograph(ours), ours.seen) == (before, 12)
    assert "clip gradients" in str(error.value)


def test_steps_are_those_of_the_stream() -> None:
    """If this fails, an error late in a stream names a step near its beginning."""
    ours = learner()
    for _ in range(10):
        ours.fit([ones(10)], block=5)
        ours.reset()
    with pytest.raises(NonFiniteError, match="step 1"):
        ours.fit([ones(50)])  # one block of 50 steps: values overflow at 39
    assert ours.seen == 100
    with pytest.raises(NonFiniteError, match=r"step 139: the value of node 'h'"):
        ours.fit([ones(50)])


@pytest.mark.parametrize("policy", ["skip", "reset"])
def test_a_block_that_overflows_is_passed_over(policy: str) -> None:
    """If this fails, one bad block ends a stream that was to go on, or spoils what was learned."""
    ours = learner(policy)
    ours.fit([ones(16)], block=4)
    before = photograph(ours)
    with pytest.warns(NonFiniteWarning, match=r"nothing is learned from this block\. step 19: the influence"):
        (update,) = ours.fit([ones(4)])
    assert (update.seen, update.steps, ours.seen) == (20, 4, 20)
    assert np.isnan(update.loss)
    assert update.skipped is not None
    if policy == "skip":
        assert photograph(ours) == before
    else:
        assert ours.state is None
        assert [update.skipped for update in ours.fit([ones(8)], block=4)] == [None, None]
    assert all(before[key] == array for key, array in photograph(ours).items() if not key.startswith("state"))


def test_what_is_skipped_goes_on_as_if_it_had_not_been_there() -> None:
    """If this fails, `skip` leaves a trace of the block that it says was not learned from."""
    one, two = learner("skip"), learner("skip")
    inputs, targets = ones(4)
    bad = {"x": np.full((4, 2, 2), 1e38)}
    with pytest.warns(NonFiniteWarning):
        one.fit([(inputs, targets), (bad, targets), (inputs, targets)])
    two.fit([(inputs, targets), (inputs, targets)])
    assert photograph(one) == photograph(two)


def test_an_update_that_overflows_is_named() -> None:
    """If this fails, parameters become infinite without a word."""
    program = fg.compile(vanilla(), loss={"y": "mse"}, dtype="float32")
    inputs, targets = ones(4)
    targets["y"] += np.float32(5e18)
    ours = Learner(program, program.init(0), fg.SGD(1e20, momentum=0.5))
    before = photograph(ours)
    with pytest.raises(NonFiniteError, match=r"step 3: parameter '.*' would not be finite after"):
        ours.fit([(inputs, targets)])
    assert photograph(ours) == before


def test_what_an_optimizer_remembers_is_looked_at() -> None:
    """If this fails, Adam divides by an infinite second moment from then on, and learns nothing without a word."""
    inputs, targets = ones(4)
    inputs["x"] *= 1e10
    targets["y"] += 1e12
    ours = Learner(compiled(plain(), dtype="float32"), {"x->y": np.zeros((2, 2))}, fg.Adam(0.1))
    with pytest.raises(NonFiniteError, match=r"step 3: memory of the optimizer 'second:.*' would not be finite"):
        ours.fit([(inputs, targets)])


def test_the_policy_is_checked_and_saved(tmp_path: Any) -> None:
    """If this fails, a slip of the pen is found by the first overflow, or a resumed run stops where another went on."""
    with pytest.raises(DataError, match="on_nonfinite must be raise, skip, reset, got 'clip'"):
        learner("clip")
    ours = learner("reset")
    ours.save(tmp_path / "saved.npz")
    assert Learner.load(tmp_path / "saved.npz").on_nonfinite == "reset"


def test_no_warning_of_numpys_is_seen() -> None:
    """If this fails, users read lines of generated source beside our words, or an error of NumPy's in their place."""
    ours = learner("skip")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours.fit([ones(60)])
    assert [warning.category for warning in caught] == [NonFiniteWarning]


def test_the_error_survives_a_process() -> None:
    """If this fails, a worker that overflows ends in an error about its error."""
    error = NonFiniteError("the value of node 'h'", "is not finite", 3)
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.step, back.what) == (str(error), 3, error.what)


def test_in_the_normal_case_nothing_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, every block pays for a search that only an overflow needs."""

    def never(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(numerics, "locate", never)
    program = compiled(gru())
    assert np.isfinite(program.gradient(program.init(0), *ones(8), block=3).loss)

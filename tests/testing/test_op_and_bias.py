"""Do `assert_op` and `assert_unbiased` fail on planted faults, and refuse what they cannot judge?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nets import problem, vanilla

import forwardgrad as fg
from forwardgrad import CheckError, VacuousError, testing
from forwardgrad.array_program import numpy_helpers
from forwardgrad.graph.parameters import stream
from forwardgrad.layouts import draws
from forwardgrad.ops import Op, Port, registry
from forwardgrad.structure import Structure
from forwardgrad.testing import Problem, Vacuity


@pytest.mark.parametrize("name", registry.names())
def test_every_registered_op_is_right(name: str) -> None:
    """If it failed, an op of ours would have a wrong derivative, or a wider word than it needs."""
    testing.assert_op(name, scale=2.0, allow=["surrogate"])  # hard_sigmoid is straight up to 3


def product(first: Any, second: Any, word: Structure = Structure.DIAGONAL) -> Op:
    return Op("product", lambda a, b: a * b, (Port("a", first, word), Port("b", second, word)))


FAULTS: dict[str, tuple[Op, str]] = {
    "a port that is wrong": (
        product(lambda a, b, y: b, lambda a, b, y: b),
        r"the derivative of unit \d by unit \d of 'b' is .*, declared .*\n.*Off by .* at a .*, b ",
    ),
    "a sign": (Op("sine", np.sin, (Port("in", lambda x, y: -np.cos(x)),)), "of 'in' is "),
    "a word that is too narrow": (
        Op("flip", lambda x: x[:, ::-1] * x, (Port("in", lambda x, y: x[:, ::-1]),)),
        "of 'in' is .*, declared -?0",
    ),
    "a word that is too wide": (
        Op("double", lambda x: 2 * x, (Port("in", lambda x, y: 2 + 0 * x, Structure.DIAGONAL),)),
        "the derivative by port 'in' is declared diagonal, and is scalar at all 20 samples",
    ),
    "a constant": (
        Op("triple", lambda x: 3 * x, (Port("in", lambda x, y: 3.0, Structure.SCALAR, constant=2.0),)),
        "is not the constant 2",
    ),
    "NaN": (Op("root", lambda x: x, (Port("in", lambda x, y: x * np.nan),)), "is not finite"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_an_op_fails_and_is_named(fault: str) -> None:
    """If it failed, a user's op could be wrong in this way, and every program with it would be."""
    op, text = FAULTS[fault]
    with pytest.raises(CheckError, match=f"op '{op.name}': (?s:.*){text}"):
        testing.assert_op(op)


def test_ops_that_cannot_be_judged_are_refused() -> None:
    """If it failed, a surrogate, or an op that is flat where it was tried, would count as checked."""
    with pytest.raises(VacuousError, match="not meant to be that of its value") as caught:
        testing.assert_op("spike")
    assert caught.value.kind is Vacuity.SURROGATE
    flat = Op("flat", lambda x: np.maximum(x - 1e3, 0), (Port("in", lambda x, y: np.sign(y)),))
    with pytest.raises(VacuousError, match="by port 'in' is zero at all 20 samples"):
        testing.assert_op(flat)
    with pytest.raises(fg.DataError, match="cannot tell structure words apart"):
        testing.assert_op("tanh", size=1)


# Estimates.


def tiny(**options: Any) -> Problem:
    graph = vanilla()
    del graph.nodes["h"]["bias"]
    return problem(graph, "y", **{"steps": 4, "batch": 12, "gain": 1.5} | options)


@pytest.mark.parametrize("rule", ["uoro", "kf-rtrl"])
def test_estimates_without_bias_pass(rule: str) -> None:
    """If it failed, sound estimates would be called biased, or the bound would say nothing."""
    found = testing.assert_unbiased(rule, tiny())
    assert found.seeds == 300
    assert 3 < found.bound < 5
    assert found.resolution < 0.5


def uneven(seed: int, name: str, draw: int, block: int, shape: tuple[int, ...]) -> Any:
    return np.where(stream(seed, name, draw, block).random(shape) < 0.9, 1.0, -1.0)


@pytest.mark.parametrize("rule", ["uoro", "kf-rtrl"])
def test_uneven_signs_fail(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, an estimate with a bias would pass for one without."""
    for module in (draws, numpy_helpers):
        monkeypatch.setattr(module, "signs", uneven)
    with pytest.raises(CheckError, match=r"is biased: parameter .* on average over 300 seeds(?s:.*) standard errors"):
        testing.assert_unbiased(rule, tiny())


def test_a_path_that_is_lost_is_a_bias() -> None:
    """If it failed, an estimate of something else than the rule's own paths would pass."""
    given = tiny()
    wanted = testing.assert_unbiased("uoro", given, seeds=300)
    assert wanted.distance < wanted.bound
    mixed = testing.assert_unbiased({"h->h": "uoro", "*": "rtrl"}, given, seeds=100)
    assert mixed.distance < mixed.bound


def test_estimates_that_say_nothing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a few noisy seeds, one block, or signs that never change would count as a proof."""
    with pytest.raises(VacuousError, match=r"50 seeds would not see a bias of .* of the largest entry") as caught:
        testing.assert_unbiased("uoro", tiny(), seeds=50, resolution=0.1)
    assert caught.value.kind is Vacuity.TOO_FEW_SEEDS
    with pytest.raises(VacuousError, match="3 seeds say nothing about a mean"):
        testing.assert_unbiased("uoro", tiny(), seeds=3)
    with pytest.raises(VacuousError, match="a block of 4 steps is the whole sequence"):
        testing.assert_unbiased("uoro", tiny(), block=4)
    with pytest.raises(fg.RuleError, match="draws nothing at random"):
        testing.assert_unbiased("snap(1)", tiny())
    for module in (draws, numpy_helpers):
        monkeypatch.setattr(module, "signs", lambda seed, name, draw, block, shape: np.ones(shape))
    with pytest.raises(VacuousError, match="all 60 seeds give one estimate") as same:
        testing.assert_unbiased("uoro", tiny(), seeds=60)
    assert same.value.kind is Vacuity.NO_NOISE


def test_a_zero_gradient_is_refused() -> None:
    """If it failed, an estimate of nothing would have no bias."""
    given = tiny()
    given.graph.nodes["h"].update(op="relu", bias=-1e9, bias_trainable=False)
    given = Problem(given.graph, given.loss, {**given.params, "h.bias": np.full(3, -1e9)}, given.inputs, given.targets)
    with pytest.raises(VacuousError, match="the reference gradient of"):
        testing.assert_unbiased("uoro", given, seeds=2)

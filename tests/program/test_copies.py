"""Is a copied or pickled program the same program, and is another function of the same name noticed?"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad.errors import DataError, FileError
from forwardgrad.ops import registry
from forwardgrad.ops.losses import Loss

LOSS = {"y": "mse"}


def graph(op: str = "tanh") -> nx.MultiDiGraph[str]:
    g: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name, each in {"x": "input", "h": op, "y": "linear"}.items():
        g.add_node(name, op=each, size=2)
    g.add_edge("x", "h", weight="dense")
    g.add_edge("h", "h", weight="dense", delay=1)
    g.add_edge("h", "y", weight="dense")
    return g


def register(value: Callable[..., Any], name: str = "mine", replace: bool = False) -> None:
    fg.register_op(name, value=value, derivative=lambda z, y: 1 - y * y, smooth=False, replace=replace)


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    """Ops that a test registers are gone after it."""
    before = dict(registry._table)
    yield
    registry._table.clear()
    registry._table.update(before)


def assert_same(one: fg.Program, other: fg.Program) -> None:
    random = np.random.default_rng(0)
    inputs, targets = {"x": random.normal(size=(5, 2, 2))}, {"y": random.normal(size=(5, 2, 2))}
    wanted, found = (each.gradient(each.init(3), inputs, targets, block=2) for each in (one, other))
    assert found.loss == wanted.loss
    for name, grad in wanted.grads.items():
        np.testing.assert_array_equal(found.grads[name], grad)
    assert str(other) == str(one)
    assert (other.dtype, other.backend) == (one.dtype, one.backend)
    assert nx.is_frozen(other.graph)


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("rule", ["rtrl", "eprop-deep", {"x->h": "immediate", "*": "snap(1)"}])
def test_a_copy_is_the_same_program(way: str, rule: Any) -> None:
    """If this fails, a program does not reach the workers of a pool, or is another one there."""
    program = fg.compile(graph(), LOSS, rule, dtype="float32", backend="interpreter", dead="ignore")
    assert_same(program, COPIES[way](program))


@pytest.mark.parametrize("way", COPIES)
def test_a_learner_is_copied_with_its_program(way: str) -> None:
    """If this fails, a learner cannot be handed to another process."""
    program = fg.compile(graph(), LOSS, "rtrl")
    learner = COPIES[way](fg.Learner(program, program.init(), fg.SGD(0.1)))
    assert_same(program, learner.program)


def test_a_loss_object_is_copied_but_not_pickled() -> None:
    """If this fails, pickle names a lambda that it cannot find, and says nothing of what to do."""
    loss = Loss("mine", lambda y, t: abs(y - t).sum(1), lambda y, t: np.sign(y - t))
    program = fg.compile(graph(), {"y": loss}, "rtrl")
    assert_same(program, copy.deepcopy(program))
    with pytest.raises(DataError, match=r"loss 'mine' on 'y' is not registered(.|\n)*register_loss\('mine'"):
        pickle.dumps(program)


def test_ops_are_registered_before_a_pickle_is_loaded() -> None:
    """If this fails, a missing op, or another one of that name, shows late or never."""
    register(lambda z: np.tanh(z))
    program = fg.compile(graph("mine"), LOSS, "rtrl")
    data = pickle.dumps(program)
    assert_same(program, pickle.loads(data))
    register(lambda z: np.tanh(2 * z), replace=True)
    with pytest.raises(DataError, match="op 'mine' is another function"):
        pickle.loads(data)
    del registry._table["mine"]
    with pytest.raises(DataError, match=r"unknown op 'mine'(.|\n)*register that before loading"):
        pickle.loads(data)


def scaled(factor: float) -> Callable[..., Any]:
    return lambda z: np.tanh(factor * z)


def without_source(factor: float) -> Callable[..., Any]:
    return eval(f"lambda z: np.tanh({factor} * z)", {"np": np})


@pytest.mark.parametrize("make", [scaled, without_source])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("name", ["mine", "tanh"])
def test_a_checkpoint_notices_another_function_of_the_same_name(
    make: Callable[[float], Any], given: bool, name: str, tmp_path: Path
) -> None:
    """If this fails, a learner goes on with another network than the one that it learned with."""
    register(make(1.0), name, replace=True)
    program = fg.compile(graph(name), LOSS, "rtrl")
    fg.Learner(program, program.init(), fg.SGD(0.1)).save(tmp_path / "saved.npz")
    register(make(1.0), name, replace=True)
    fg.Learner.load(tmp_path / "saved.npz", fg.compile(graph(name), LOSS, "rtrl") if given else None)
    register(make(2.0), name, replace=True)
    other = fg.compile(graph(name), LOSS, "rtrl") if given else None
    with pytest.raises(FileError, match=f"another function here: op '{name}'"):
        fg.Learner.load(tmp_path / "saved.npz", other)

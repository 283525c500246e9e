"""Learners of blocks of one step, by single steps and as blocks, compared with each other."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from c_backend import skip_without
from nets import small
from stepping import InBlocks, data, timed

import forwardgrad as fg
from forwardgrad import Learner
from forwardgrad.learning.carried import Ahead

TOLERANCE = 1e-10


def program_of(backend: str, name: str = "lstm", rule: str = "eprop", **options: Any) -> fg.Program:
    skip_without(backend)
    return fg.compile(small(name, 4), rule=rule, backend=backend, dead="ignore", **options)


def both(program: fg.Program, optimizer: Any, **options: Any) -> tuple[Learner, Learner]:
    """The same learner twice: by single steps, and in blocks."""
    return Learner(program, program.init(2), optimizer, **options), InBlocks(
        program, program.init(2), optimizer, **options
    )


def pieces(program: fg.Program, steps: int, batch: int = 2, seed: int = 0) -> list[Any]:
    return [(timed(x), timed(y)) for x, y in data(program, steps, batch, seed)]


def is_ahead(learner: Learner) -> bool:
    """Whether it was taken as a stream takes it."""
    return isinstance(learner._now, Ahead)


def everything(learner: Learner) -> dict[str, Any]:
    """All that learning changes, copied."""
    groups = {"params": learner.params, "memory": learner.optimizer_state, "state": learner.state or {}}
    arrays = {f"{group} {name}": np.array(a) for group, held in groups.items() for name, a in held.items()}
    return arrays | {"seen": learner.seen, "episodes": learner.episodes, "started": learner.state is not None}


def assert_alike(found: Mapping[str, Any], wanted: Mapping[str, Any], tolerance: float = TOLERANCE) -> None:
    """That arrays of these names differ by rounding only, and are of the same types."""
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        one, other = np.asarray(found[name]), np.asarray(array)
        assert (one.shape, one.dtype) == (other.shape, other.dtype), name
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=name)


def assert_same_updates(found: Any, wanted: Any, tolerance: float = TOLERANCE) -> None:
    """That an update says the same."""
    assert (found.steps, found.seen, found.answers) == (wanted.steps, wanted.seen, wanted.answers)
    numbers = [(u.loss, u.step.loss, u.step.state_norm, u.step.grad_norm) for u in (found, wanted)]
    np.testing.assert_allclose(*numbers, rtol=tolerance, atol=tolerance)
    assert_alike(found.step.grads, wanted.step.grads, tolerance)
    assert_alike(found.step.outputs, wanted.step.outputs, tolerance)


def compare(one: Learner, other: Learner, stream: list[Any], tolerance: float = TOLERANCE, ahead: bool = True) -> float:
    """Assert that both learn the same; by how much their parameters moved."""
    before = everything(one)
    for found, wanted in zip(one.updates(stream, block=1), other.updates(stream, block=1), strict=True):
        assert_same_updates(found, wanted, tolerance)
        assert is_ahead(one) == ahead
        assert not is_ahead(other)
    after = everything(one)
    assert_alike(after, everything(other), tolerance)
    return max(float(np.abs(after[name] - before[name]).max()) for name in before if name.startswith("params"))

"""Is each synthetic task what its text says, and are the scores right that are said to be known of it?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad.learning import tasks
from forwardgrad.learning.tasks import Labelled, Reference, Valued
from tests.learning.task_levels import level

TASKS: dict[str, Callable[..., Labelled | Valued]] = {
    name: getattr(tasks, name) for name in tasks.__all__ if name[0].islower()
}


def guessed(task: Labelled) -> tuple[float, float]:
    """The accuracy of the best answers by the present input alone, learned on one half, and its standard error."""
    half, seen = task.inputs.shape[1] // 2, defaultdict[bytes, Counter[int]](Counter)
    for step, n in np.argwhere(task.mask[:, :half] > 0):
        seen[task.inputs[step, n].tobytes()][int(task.targets[step, n])] += 1
    right = [
        np.mean([seen[task.inputs[s, n].tobytes()].most_common(1)[0][0] == task.targets[s, n] for s in steps])
        for n in range(half, task.inputs.shape[1])
        if len(steps := np.flatnonzero(task.mask[:, n]))
    ]
    return float(np.mean(right)), float(np.std(right) / np.sqrt(len(right)))


# All of them.


@pytest.mark.parametrize("name", TASKS)
def test_seeds_make_tasks(name: str) -> None:
    """Training and test data must be told apart, and a run repeated."""
    one, again, other = (TASKS[name](5, seed) for seed in ((1, 2), (1, 2), (1, 3)))
    for field in ("inputs", "targets", "mask", "lengths"):
        assert np.array_equal(getattr(one, field), getattr(again, field))
    assert one.inputs.shape != other.inputs.shape or not np.array_equal(one.inputs, other.inputs)
    assert one.references == again.references


@pytest.mark.parametrize("name", TASKS)
def test_arrays_fit_together(name: str) -> None:
    """A learner would refuse them, or answers be asked for behind the end of a sequence."""
    task = TASKS[name](7)
    steps = len(task.inputs)
    assert task.inputs.shape[:2] == task.targets.shape[:2] == task.mask.shape == (steps, 7)
    assert task.lengths.shape == (7,)
    assert task.lengths.max() <= steps
    ended = np.arange(steps)[:, None] >= task.lengths
    assert not task.mask[ended].any()
    assert not task.inputs[ended].any()
    assert set(np.unique(task.mask)) <= {0.0, 1.0}
    assert all(task.mask.sum(axis=0) >= 1)
    assert task.references
    assert {each.kind for each in task.references} & {"accuracy" if isinstance(task, Labelled) else "NMSE"}


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        *((name, {"sequences": 0}, f"{name}: sequences must be a whole number of at least 1, got 0") for name in TASKS),
        *((name, {"sequences": True}, f"{name}: sequences must be a whole number") for name in TASKS),
        ("memory_chain", {"steps": 1}, "steps must be a whole number of at least 2"),
        ("memory_chain", {"bits": 0}, "bits must be a whole number of at least 1"),
        ("delayed_xor", {"gap": 0}, "gap must be a whole number of at least 1"),
        ("delayed_xor", {"delay": 1.5}, "delay must be a whole number of at least 1, got 1.5"),
        ("temporal_order", {"steps": 9}, "steps must be a whole number of at least 10"),
        ("cued_count", {"symbols": 1}, "symbols must be a whole number of at least 2"),
        ("cued_count", {"modulo": 1}, "modulo must be a whole number of at least 2"),
        ("evidence_accumulation", {"cues": 4}, "cues must be odd, so that one side has more, got 4"),
        ("evidence_accumulation", {"query": 0}, "query must be a whole number of at least 1"),
        ("evidence_accumulation", {"rate": 2}, "rate is a probability"),
        ("evidence_accumulation", {"rate": "often"}, "rate is a probability, from 0 to 1, got 'often'"),
        ("evidence_accumulation", {"likely": -0.1}, "likely is a probability, from 0 to 1, got -0.1"),
        ("copy_memory", {"delay": 0}, "delay must be a whole number of at least 1"),
        ("copy_memory", {"symbols": 1}, "symbols must be a whole number of at least 2"),
        ("adding_problem", {"steps": 3}, "steps must be a whole number of at least 4"),
        ("delayed_add", {"lags": (0, 3)}, r"lags must be two whole numbers from 1 on, in rising order, got \(0, 3\)"),
        ("delayed_add", {"lags": 3}, "lags must be two whole numbers"),
        ("delayed_add", {"lags": (3, 3)}, r"lags must differ, got \(3, 3\)"),
        ("delayed_add", {"steps": 9}, "steps must be a whole number of at least 10, got 9"),
        ("pattern_generation", {"steps": 19}, "steps must be a whole number of at least 20"),
        ("pattern_generation", {"rate": float("nan")}, "rate is a probability"),
        ("trace_patterning", {"patterns": 21}, "there are 20 patterns of half of 6 stimuli, got 21"),
        ("trace_patterning", {"stimuli": 17}, "stimuli must be at most 16"),
        ("trace_patterning", {"gap": (5, 4)}, r"gap must be two whole numbers .* got \(5, 4\)"),
        ("trace_patterning", {"pause": (0, 4)}, "pause must be two whole numbers"),
        ("trace_patterning", {"discount": 1}, "discount must be from 0 on and below 1, got 1"),
        ("trace_patterning", {"discount": None}, "discount must be from 0 on and below 1, got None"),
    ],
)
def test_arguments_out_of_range_are_named(name: str, arguments: dict[str, Any], problem: str) -> None:
    """A user would meet an error of NumPy's, or a task that is none."""
    with pytest.raises(fg.DataError, match=problem):
        TASKS[name](**{"sequences": 2, **arguments})


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (tasks.recall(4000, 1, cues=3), "without memory"),
        (tasks.memory_chain(4000, 1, steps=3, bits=3), "without memory"),
        (tasks.delayed_xor(4000, 1, gap=1, delay=1), "one bit or none"),
        (tasks.temporal_order(4000, 1, steps=10), "without memory"),
        (tasks.cued_count(4000, 1, symbols=3, steps=4, modulo=3), "without memory"),
        (tasks.embedded_reber(4000, 1, everywhere=False), "without memory"),
    ],
)
def test_guesses_by_the_present_input_reach_the_stated_accuracy(task: Labelled, name: str) -> None:
    """A network at the level would be said to remember, or to forget, what it does not."""
    accuracy, error = guessed(task)
    assert abs(accuracy - level(task, name, "accuracy")) < 4 * error


def test_errors_are_those_of_numbers_asked_for() -> None:
    """Steps without an answer would dilute them."""
    task = tasks.adding_problem(3, seed=1, steps=6)
    outputs = np.where(task.mask[..., None] > 0, task.targets + 2, 7)
    assert task.mse(outputs) == pytest.approx(4)
    with pytest.raises(fg.DataError, match=r"outputs of shape \(3, 1\), expected \(6, 3, 1\)"):
        task.mse(outputs[0])


def test_a_reference_reads_as_a_sentence() -> None:
    """It is printed beside results."""
    assert str(Reference(1 / 3, "without memory", "accuracy")) == "without memory: accuracy 0.3333"

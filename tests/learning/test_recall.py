"""Is the recall task what its text says, and can it only be solved by memory?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad.learning.tasks import recall


def test_a_sequence_is_cue_distractors_and_query() -> None:
    """Something else in the inputs could give the label away, or hide it."""
    task = recall(200, seed=3, cues=3, shortest=12, longest=20, rate=0.5)
    assert task.inputs.shape == (20, 200, 4)
    assert set(task.lengths) == set(range(12, 21)), "lengths are drawn evenly, both ends included"
    assert set(task.labels) == {0, 1, 2}
    for n, (label, length) in enumerate(zip(task.labels, task.lengths, strict=True)):
        sequence = task.inputs[:, n]
        assert np.array_equal(sequence[:3], np.tile(np.eye(4)[label], (3, 1)))
        assert np.array_equal(sequence[length - 3 : length], np.tile(np.eye(4)[3], (3, 1)))
        assert not sequence[3 : length - 3, 3].any()
        assert not sequence[length:].any()
        assert np.array_equal(np.flatnonzero(task.mask[:, n]), np.arange(length - 3, length))
    between = np.concatenate([task.inputs[3 : length - 3, n, :3] for n, length in enumerate(task.lengths)])
    assert abs(between.mean() - 0.5) < 0.03
    assert np.ptp(between.mean(axis=0)) < 0.05, "distractors do not depend on the channel"


def test_seeds_make_tasks() -> None:
    """Training and test data must be told apart, and a run repeated."""
    one, again, other = recall(5, seed=(1, 2)), recall(5, seed=(1, 2)), recall(5, seed=(1, 3))
    assert np.array_equal(one.inputs, again.inputs)
    assert not np.array_equal(one.inputs, other.inputs)


def test_accuracy_counts_asked_labels_alone() -> None:
    """Steps before the query would dilute it."""
    task = recall(50, seed=0, cues=2, shortest=7, longest=9)
    right = np.eye(2)[task.targets]
    assert task.accuracy(np.where(task.mask[..., None] > 0, right, 1 - right)) == 1.0
    assert task.accuracy(1 - right) == 0.0
    with pytest.raises(fg.DataError, match=r"outputs of shape \(50, 2\), expected \(9, 50, 'classes'\)"):
        task.accuracy(right[0])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"sequences": 0}, "sequences must be a whole number of at least 1, got 0"),
        ({"sequences": 2.5}, "sequences must be"),
        ({"sequences": 2, "cues": 1}, "cues must be a whole number of at least 2"),
        ({"sequences": 2, "shortest": 6}, "shortest must be a whole number of at least 7"),
        ({"sequences": 2, "shortest": 30, "longest": 20}, "longest must be a whole number of at least 30"),
        ({"sequences": 2, "rate": 1.5}, "rate is a probability"),
        ({"sequences": 2, "rate": float("nan")}, "rate is a probability"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, Any], problem: str) -> None:
    """A user would meet an error of NumPy's."""
    with pytest.raises(fg.DataError, match=problem):
        recall(**arguments)

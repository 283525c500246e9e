"""Is each synthetic task what its paper says, and are its levels those that are stated?"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest

from forwardgrad.learning import tasks
from forwardgrad.learning.tasks import Labelled
from tests.learning.task_levels import level


def words(task: Labelled, symbols: str) -> list[str]:
    """One-hot sequences as strings."""
    return [
        "".join(symbols[each] for each in task.inputs[:length, n].argmax(axis=1))
        for n, length in enumerate(task.lengths)
    ]


def test_memory_chain() -> None:
    """As bsuite shows it: time left, query, context."""
    task = tasks.memory_chain(200, seed=3, steps=5, bits=3)
    for n, label in enumerate(task.labels):
        x = task.inputs[:, n]
        assert np.allclose(x[:, 0], [1, 0.8, 0.6, 0.4, 0.2])
        assert not x[:-1, 1].any()
        assert set(np.abs(x[0, 2:])) == {1.0}
        assert not x[1:, 2:].any()
        assert label == (x[0, 2 + int(x[-1, 1])] > 0)
        assert np.flatnonzero(task.mask[:, n]).tolist() == [4]
    assert set(task.inputs[-1, :, 1]) == {0.0, 1.0, 2.0}


def test_delayed_xor() -> None:
    """And one of the two bits is of no use alone."""
    task = tasks.delayed_xor(2000, seed=3, gap=4, delay=3)
    pairs = Counter[tuple[int, int]]()
    for n, label in enumerate(task.labels):
        events = [(int(step), int(channel)) for step, channel in np.argwhere(task.inputs[:, n])]
        (one, first), (two, second), query = events
        assert (one, two, query) == (0, 4, (7, 2))
        assert label == (first + second) % 2
        pairs[first, second] += 1
    assert all(abs(count - 500) < 4 * np.sqrt(2000 * 3 / 16) for count in pairs.values())
    assert len(pairs) == 4


def test_temporal_order() -> None:
    """Positions and lengths are those of the paper."""
    task = tasks.temporal_order(2000, seed=3)
    places, lengths = (set[int](), set[int]()), set[int]()
    for word, label, asked in zip(words(task, "EBabcdXY"), task.labels, task.mask.T, strict=True):
        (one, first), (two, second) = [(place, each) for place, each in enumerate(word) if each in "XY"]
        places[0].add(one)
        places[1].add(two)
        lengths.add(len(word))
        assert label == ["XX", "XY", "YX", "YY"].index(first + second)
        assert (word[0], word[-1]) == ("E", "B")
        assert set(word[1:-1]) <= set("abcdXY")
        assert np.flatnonzero(asked).tolist() == [len(word) - 1]
    assert (places[0], places[1], lengths) == (set(range(10, 21)), set(range(50, 61)), set(range(100, 111)))


def test_cued_count() -> None:
    """Counted here by hand; and the level by all streams that there are."""
    task = tasks.cued_count(300, seed=3, symbols=3, steps=7, modulo=4)
    for n, label in enumerate(task.labels):
        x = task.inputs[:, n]
        assert np.array_equal(x.sum(axis=1), np.ones(9))
        cue = int(x[0, :3].argmax())
        assert x[8, 6] == 1
        assert label == sum(int(x[step, 3 + cue]) for step in range(1, 8)) % 4
    counts = Counter(stream.count(0) % 4 for stream in itertools.product(range(3), repeat=7))
    assert level(task, "without memory", "accuracy") == pytest.approx(max(counts.values()) / 3**7)
    by_formula = 1 / 2 + (1 / 3) ** 20 / 2
    assert level(tasks.cued_count(1), "without memory", "accuracy") == pytest.approx(by_formula, abs=1e-15)


def test_evidence_accumulation() -> None:
    """With spikes that are certain, sides can be read off, and noise has a quarter of their rate."""
    task = tasks.evidence_accumulation(2000, seed=3, cues=5, cue=3, gap=2, delay=4, query=2, rate=1, likely=0.8)
    assert task.inputs.shape == (31, 2000, 40)
    left, right, recall, noise = (task.inputs[..., 10 * group : 10 * (group + 1)] for group in range(4))
    starts = [2, 7, 12, 17, 22]
    during = [step for start in starts for step in range(start, start + 3)]
    quiet = [step for step in range(31) if step not in during]
    assert not left[quiet].any()
    assert not right[quiet].any()
    assert np.array_equal(left[during], 1 - right[during])
    assert recall[29:].all()
    assert not recall[:29].any()
    assert abs(noise.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / noise.size)
    agreed = list[float]()
    for n, label in enumerate(task.labels):
        sides = [int(right[start, n, 0]) for start in starts]
        assert label == (sides.count(1) > sides.count(0))
        agreed.append(sides[0] == sides[1])
        assert np.flatnonzero(task.mask[:, n]).tolist() == [29, 30]
    assert abs(np.mean(agreed) - (0.8**2 + 0.2**2)) < 4 * np.std(agreed) / np.sqrt(2000)
    assert abs(task.labels.mean() - level(task, "without memory", "accuracy")) < 4 * 0.5 / np.sqrt(2000)


def test_evidence_accumulation_by_default_is_that_of_the_paper() -> None:
    """Seven cues of 100 ms, 50 ms apart, a delay of a second, recall of 150 ms; 40 and 10 Hz."""
    task = tasks.evidence_accumulation(20, seed=3)
    assert task.inputs.shape == (7 * 150 + 1000 + 150, 20, 40)
    recall, noise = task.inputs[-150:, :, 20:30].mean(), task.inputs[..., 30:].mean()
    assert abs(recall - 0.04) < 4 * np.sqrt(0.04 / (150 * 200))
    assert abs(noise - 0.01) < 4 * np.sqrt(0.01 / (2200 * 200))


def test_copy_memory() -> None:
    """Symbols, blanks, delimiter, blanks; and both levels by who knows the step alone."""
    task = tasks.copy_memory(3000, seed=3, delay=6, symbols=5, length=3)
    for n, word in enumerate(words(task, "01234_!")):
        assert word[3:] == "_" * 5 + "!" + "_" * 3
        assert [int(each) for each in word[:3]] == task.targets[9:, n].tolist()
        assert (task.targets[:9, n] == 5).all()
    assert task.mask.all()
    shares = np.zeros((12, 1, 6))
    for step, targets in enumerate(task.targets):
        shares[step, 0] = np.bincount(targets, minlength=6) / 3000
    shares = np.broadcast_to(shares, (12, 3000, 6))
    assert task.accuracy(shares) == pytest.approx(level(task, "symbols forgotten", "accuracy"), abs=0.01)
    told = np.take_along_axis(shares, task.targets[..., None], axis=2)
    assert -np.log(told).mean() == pytest.approx(level(task, "symbols forgotten", "cross entropy"), abs=0.001)
    paper = tasks.copy_memory(1, delay=100)
    assert level(paper, "symbols forgotten", "cross entropy") == pytest.approx(10 * np.log(8) / 120)


REBER = {
    0: {"B": 1},
    1: {"T": 2, "P": 3},
    2: {"S": 2, "X": 4},
    3: {"T": 3, "V": 5},
    4: {"X": 3, "S": 6},
    5: {"P": 4, "V": 6},
    6: {"E": 7},
}


def successors(prefix: str) -> str:
    """The symbols that may follow the beginning of a string of the embedded grammar."""
    if len(prefix) < 2:
        return ["B", "TP"][len(prefix)]
    state = 0
    for place, symbol in enumerate(prefix[2:]):
        if state == 7:
            return "E" if len(prefix) == place + 3 else ""
        state = REBER[state][symbol]
    return prefix[1] if state == 7 else "".join(REBER[state])


@pytest.mark.parametrize("everywhere", [True, False])
def test_embedded_reber(everywhere: bool) -> None:
    """Every string must be legal to its end, and both choices come evenly."""
    task = tasks.embedded_reber(2000, seed=3, everywhere=everywhere)
    taken = list[int]()
    for n, word in enumerate(words(task, "BTPSXVE")):
        length = len(word)
        following = "".join("BTPSXVE"[each] for each in task.targets[:length, n])
        assert following == word[1:] + "E"
        for end in range(1, length + 1):
            legal = successors(word[:end])
            assert following[end - 1] in legal
            if len(legal) == 2:
                taken.append(legal.index(following[end - 1]))
        assert successors(word + "E") == ""
        asked = np.flatnonzero(task.mask[:, n]).tolist()
        assert asked == (list(range(length)) if everywhere else [length - 2])
    assert abs(np.mean(taken) - 0.5) < 4 * 0.5 / np.sqrt(len(taken))


def test_levels_of_the_embedded_reber_grammar_follow_from_its_strings() -> None:
    """All strings at once, by the weights of the places in the grammar that they have come to, down to 1e-12."""
    edges: dict[Any, dict[str, Any]] = {"second": {"T": ("T", 0), "P": ("P", 0)}, "last": {"E": "end"}}
    for outer, (state, following) in itertools.product("TP", REBER.items()):
        edges[outer, state] = {symbol: (outer, after) for symbol, after in following.items()}
        edges[outer, 7] = {outer: "last"}
    pairs, answers, right, inner = defaultdict[tuple[str, str], float](float), 0.0, 0.0, 0.0
    weights: dict[tuple[Any, str], float] = {("second", "B"): 1.0}
    while sum(weights.values()) > 1e-12:
        after = defaultdict[tuple[Any, str], float](float)
        for (place, symbol), weight in weights.items():
            answers += weight
            right += weight / len(edges[place])
            inner += weight / (2 if place in (("T", 7), ("P", 7)) else len(edges[place]))
            for following, reached in edges[place].items():
                pairs[symbol, following] += weight / len(edges[place])
                if reached != "end":
                    after[reached, following] += weight / len(edges[place])
        weights = after
    memoryless = sum(max(weight for (seen, _), weight in pairs.items() if seen == symbol) for symbol in "BTPSXVE")
    task = tasks.embedded_reber(1)
    assert answers == pytest.approx(11)
    assert level(task, "all memory", "accuracy") == pytest.approx(right / answers)
    assert level(task, "inner memory only", "accuracy") == pytest.approx(inner / answers)
    assert level(task, "without memory", "accuracy") == pytest.approx(memoryless / answers)


def test_adding_problem() -> None:
    """And by the last number nothing is known of the sum."""
    task = tasks.adding_problem(4000, seed=3, steps=9)
    firsts, seconds = Counter[int](), Counter[int]()
    for n in range(4000):
        first, second = np.flatnonzero(task.inputs[:, n, 1])
        firsts[int(first)] += 1
        seconds[int(second)] += 1
        assert task.targets[-1, n, 0] == pytest.approx(task.inputs[first, n, 0] + task.inputs[second, n, 0])
        assert np.flatnonzero(task.mask[:, n]).tolist() == [8]
    assert (set(firsts), set(seconds)) == ({0, 1, 2, 3}, {4, 5, 6, 7})
    assert 0 <= task.inputs[..., 0].min() < 0.01
    assert 0.99 < task.inputs[..., 0].max() < 1
    sums, now = task.targets[-1, :, 0], task.inputs[-1, :, 0]
    known = np.stack([now**power for power in range(4)], axis=1)
    rest = sums - known @ np.linalg.lstsq(known, sums, rcond=None)[0]
    squares = rest**2
    assert abs(squares.mean() - level(task, "without memory", "MSE")) < 4 * squares.std() / np.sqrt(4000)
    uniform = (np.arange(1000) + 0.5) / 1000
    assert np.var(np.add.outer(uniform, uniform)) == pytest.approx(level(task, "without memory", "MSE"), rel=1e-5)


def test_delayed_add() -> None:
    """The levels by all pairs of flips that there are."""
    task = tasks.delayed_add(200, seed=3, steps=60, lags=(2, 5))
    for n in range(200):
        for step in range(60):
            x, y = task.inputs[step, n], task.targets[step, n]
            assert x.sum() == y.sum() == 1
            assert task.mask[step, n] == (step >= 5)
            if step >= 5:
                assert y[0] == 0.5 + 0.5 * task.inputs[step - 2, n, 0] - 0.25 * task.inputs[step - 5, n, 0]
    assert abs(task.inputs[..., 0].mean() - 0.5) < 4 * 0.5 / np.sqrt(12000)
    targets = {pair: 0.5 + 0.5 * pair[0] - 0.25 * pair[1] for pair in itertools.product((0, 1), repeat=2)}
    variance = np.var(list(targets.values()))
    for name, known in (("without memory", 0), ("first flip alone", 1)):
        alike = [[y for pair, y in targets.items() if pair[:known] == seen] for seen in {p[:known] for p in targets}]
        mse = np.mean([np.var(each) for each in alike])
        means = np.array([np.mean(each) for each in alike])
        entropy = -np.mean(means * np.log(means) + (1 - means) * np.log(1 - means))
        assert level(task, name, "MSE") == pytest.approx(mse)
        assert level(task, name, "NMSE") == pytest.approx(mse / variance)
        assert level(task, name, "cross entropy") == pytest.approx(entropy)
    guess = np.full(task.targets.shape, 0.375)
    guess[..., 0] = 0.625
    assert task.mse(guess) == pytest.approx(level(task, "without memory", "MSE"), rel=0.02)
    guess[5:, :, 0] = 0.375 + 0.5 * task.inputs[3:-2, :, 0]
    guess[..., 1] = 1 - guess[..., 0]
    assert task.mse(guess) == pytest.approx(level(task, "first flip alone", "MSE"), rel=0.02)


def test_pattern_generation() -> None:
    """One pattern of four frequencies; to answer with its mean must have the stated error."""
    task = tasks.pattern_generation(3, seed=3, steps=200, channels=30, outputs=2)
    assert task.mask.all()
    for array in (task.inputs, task.targets):
        assert np.array_equal(array[:, :1].repeat(3, axis=1), array)
    for target in task.targets[:, 0].T:
        amplitudes = abs(np.fft.rfft(target)) / 100
        assert np.flatnonzero(amplitudes > 1e-9).tolist() == [1, 2, 3, 5]
        assert np.ptp(np.log(amplitudes[[1, 2, 3, 5]])) < np.log(4), "amplitudes are drawn from 0.5 to 2"
        assert abs(target).max() == pytest.approx(1)
    assert abs(task.inputs[:, 0].mean() - 0.05) < 4 * np.sqrt(0.05 / 6000)
    mean = np.zeros(task.targets.shape)
    assert task.mse(mean) == pytest.approx(level(task, "predicting the mean", "MSE"))
    assert task.mse(mean) / np.mean(np.var(task.targets, axis=(0, 1))) == pytest.approx(1)


def test_trace_patterning() -> None:
    """Trials are read off the inputs; the return is summed here step by step."""
    task = tasks.trace_patterning(
        40, seed=3, steps=3000, stimuli=4, patterns=2, distractors=3, gap=(3, 5), pause=(9, 12)
    )
    outcomes = defaultdict[tuple[int, ...], set[bool]](set)
    gaps, lengths, followed, distracting = set[int](), set[int](), list[bool](), list[float]()
    for n in range(40):
        x = task.inputs[:, n]
        later = 0.0
        for step in range(2998, 2500, -1):
            later = x[step + 1, 0] + 0.9 * later
        for step in range(2500, -1, -1):
            later = x[step + 1, 0] + 0.9 * later
            assert task.targets[step, n, 0] == pytest.approx(later, abs=1e-12)
        starts = np.flatnonzero(x[:, 1:].any(axis=1)).tolist()
        lengths.update(np.diff(starts).tolist())
        for start in starts[:-1]:
            us = np.flatnonzero(x[start : start + 9, 0]).tolist()
            outcomes[tuple(x[start, 1:5].astype(int).tolist())].add(bool(us))
            gaps.update(us)
            followed.append(bool(us))
            distracting.append(x[start, 5:].mean())
    assert all(len(each) == 1 for each in outcomes.values()), "a pattern decides"
    counting = [pattern for pattern, each in outcomes.items() if True in each]
    assert len(counting) == 2
    assert {sum(pattern) for pattern in counting} == {2}
    assert gaps == {3, 4, 5}
    assert set(range(12, 18)) <= lengths, "a trial without any stimulus cannot be seen, and joins two"
    assert abs(np.mean(followed) - 0.5) < 0.04
    assert abs(np.mean(distracting) - 0.5) < 0.04
    mean = np.full(task.targets.shape, task.targets.mean())
    streams = task.targets[..., 0].var(axis=0)
    assert abs(task.mse(mean) - level(task, "predicting the mean", "MSE")) < 4 * streams.std() / np.sqrt(40)

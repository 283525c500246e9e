"""Does a run learn, is it the same however often it is interrupted, and is another run refused?"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

gymnasium: Any = pytest.importorskip("gymnasium")

import forwardgrad as fg  # noqa: E402
from forwardgrad import rl  # noqa: E402
from forwardgrad.errors import DataError, FileError  # noqa: E402

SETTINGS = rl.RunSettings(steps=70, every=20, batch=4, episodes=8, seed=3)


def chain() -> Any:
    return rl.MemoryChain(3)


def compiled(make: Any = chain, rule: str = "rflo", units: int = 6, *, recall: bool = True) -> Any:
    graph = rl.fitted(fg.load("actor_critic"), make, recall=recall)
    graph.nodes["a"]["size"] = graph.nodes["k"]["size"] = units
    graph.nodes["k"]["bias"] = np.linspace(0, 3, units)
    return fg.compile(graph, rule=rule, per_sample=True)


def test_a_chain_is_learned() -> None:
    """From chance, which is 0, to all right. If this failed, nothing of the outer loop would be sure."""
    learned = rl.learn(compiled(units=16), chain, rl.RunSettings(steps=900, every=300, batch=16, learning_rate=0.01))
    assert abs(rl.evaluate(compiled(units=16), compiled(units=16).init(), chain, episodes=1000)) < 0.2
    assert learned.score > 0.95
    assert [each.steps for each in learned.curve] == [300, 600, 900]


def test_an_interrupted_run_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    """Bit for bit, wherever it was interrupted: in the middle of a round, that round is made again."""
    whole, calls = rl.learn(compiled(), chain, SETTINGS), 0

    class Interrupted(Exception):
        pass

    def interrupt(steps: int) -> None:
        nonlocal calls
        calls += 1
        if calls in (35, 60):
            raise Interrupted

    for _ in range(2):
        with pytest.raises(Interrupted):
            rl.learn(compiled(), chain, SETTINGS, path=tmp_path / "run.npz", stepped=interrupt)
    resumed = rl.learn(compiled(), chain, SETTINGS, path=tmp_path / "run.npz", stepped=interrupt)
    assert resumed.curve == whole.curve
    assert [each.steps for each in resumed.curve] == [20, 40, 60, 70]
    assert resumed.score == whole.score
    assert all(np.array_equal(p, whole.params[name]) for name, p in resumed.params.items())
    again = rl.learn(compiled(), chain, SETTINGS, path=tmp_path / "run.npz", stepped=interrupt)
    assert (again.curve, again.score) == (whole.curve, whole.score)
    assert calls == 35 + 25 + 70 - 40


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": replace(SETTINGS, seed=4)}, "belongs to another run"),
        ({"settings": replace(SETTINGS, td=rl.TDSettings(trace=0.5))}, "belongs to another run"),
        ({"about": {"length": 4}}, "belongs to another run"),
        ({"program": compiled(rule="rtrl")}, "belongs to another program; what differs: rules"),
    ],
)
def test_another_run_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    rl.learn(compiled(), chain, SETTINGS, path=path)
    given: dict[str, Any] = {"program": compiled(), "make": chain, "settings": SETTINGS, "path": path, **change}
    with pytest.raises(FileError, match=words):
        rl.learn(**given)


def test_a_goal_ends_a_run() -> None:
    learned = rl.learn(compiled(), chain, replace(SETTINGS, goal=-1))
    assert [each.steps for each in learned.curve] == [20]


def test_any_environment_of_choices_can_be_learned_in() -> None:
    """Episodes that are cut off, and a network that does not see what it did."""

    def make() -> Any:
        return gymnasium.make("CartPole-v1", max_episode_steps=12)

    settings = replace(SETTINGS, recall=False, greedy=True)
    learned = rl.learn(compiled(make, recall=False), make, settings)
    assert 8 <= learned.score <= 12
    assert all(8 <= each.evaluation <= 12 for each in learned.curve)


def test_values_of_trace_patterning_beat_the_mean() -> None:
    """TD learns to foresee the US of patterns that last until it comes: the gap is one step here."""
    how = {"stimuli": 2, "patterns": 1, "distractors": 0, "gap": (1, 1), "pause": (3, 3)}
    program = compiled(lambda: rl.TracePatterning(**how), "rtrl")
    envs = rl.SideBySide(lambda: rl.TracePatterning(2000, **how), 8)
    td = rl.TDSettings(discount=0.5, trace=0.5, entropy=0.0)
    agent = rl.ActorCritic(program, program.init(), fg.Adam(0.01), batch=8, settings=td)
    actions, values, rewards = agent.begin(envs.reset(0)), list[Any](), list[Any]()
    for _ in range(1000):
        values.append(agent.values)
        moment = envs.step(actions)
        rewards.append(moment.rewards)
        actions = agent.step(moment.observations, moment.rewards, moment.ended, moment.cut, moment.final)
    returns = np.zeros((1000, 8))
    for t in range(998, -1, -1):
        returns[t] = rewards[t] + 0.5 * returns[t + 1]
    late = slice(700, 980)
    error = np.mean((np.array(values)[late] - returns[late]) ** 2)
    assert error < 0.35 * np.var(returns[late])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rl.RunSettings(batch=0), "run: batch must be a whole number >= 1"),
        (lambda: rl.RunSettings(goal="high"), "'goal' must be a number"),
        (lambda: rl.learn(compiled(recall=False), chain, SETTINGS), "node 'x' needs 6 units, and there are 3 units"),
        (lambda: rl.fitted(fg.load("elman"), chain), "needs one input and a node 'actor'"),
    ],
)
def test_what_does_not_fit_is_refused_in_our_words(call: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()


def test_without_gymnasium_the_extra_is_named() -> None:
    code = "import sys; sys.modules['gymnasium'] = None\nfrom forwardgrad import rl"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "forwardgrad[rl]"' in ended.stderr.splitlines()[-1]

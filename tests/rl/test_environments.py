"""Are our environments what gymnasium asks of one, and what the papers describe?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

gymnasium: Any = pytest.importorskip("gymnasium")
checker: Any = pytest.importorskip("gymnasium.utils.env_checker")

from forwardgrad import rl  # noqa: E402
from forwardgrad.errors import DataError  # noqa: E402

OURS = {
    "a chain": lambda: rl.MemoryChain(4),
    "a chain of three bits": lambda: rl.MemoryChain(2, bits=3),
    "patterns": lambda: rl.TracePatterning(50),
    "few patterns": lambda: rl.TracePatterning(20, stimuli=2, patterns=1, distractors=0, gap=(2, 3), pause=(2, 4)),
}


@pytest.mark.parametrize("name", OURS)
def test_gymnasium_finds_nothing_wrong(name: str) -> None:
    """Warnings are errors here, so that it finds nothing to recommend either."""
    checker.check_env(OURS[name](), skip_render_check=True)


def test_a_chain_is_that_of_bsuite() -> None:
    """Observations, rewards and end of an episode, as bsuite's code has them; its first observation comes twice."""
    env = rl.MemoryChain(3, bits=2)
    for seed in range(8):
        seen, _ = env.reset(seed=seed)
        steps = [env.step(1) for _ in range(4)]
        found = np.array([seen, *(each[0] for each in steps)])
        bits, asked = found[0, 2:], int(found[3, 1])
        np.testing.assert_allclose(found[:, 0], [1, 1, 2 / 3, 1 / 3, 0], atol=1e-6)
        np.testing.assert_array_equal(found[:, 1], [0, 0, 0, asked, 0])
        np.testing.assert_array_equal(found[:, 2:], [bits, bits, 0 * bits, 0 * bits, 0 * bits])
        assert set(np.abs(bits)) == {1}
        assert [each[1] for each in steps] == [0, 0, 0, bits[asked]]
        assert [each[2:4] for each in steps] == [(False, False)] * 3 + [(True, False)]


def test_bits_and_questions_of_chains_differ() -> None:
    env = rl.MemoryChain(2, bits=2)
    found = {tuple(env.reset(seed=seed)[0][2:]) for seed in range(30)}
    assert len(found) == 4
    asked = {int((env.reset(seed=seed), env.step(0), env.step(0)[0][1])[2]) for seed in range(30)}
    assert asked == {0, 1}


def test_a_reward_follows_the_patterns_that_count_and_no_others() -> None:
    """After the gap of its trial; the same patterns in all episodes, others for another seed of patterns."""
    settings = {"stimuli": 4, "patterns": 3, "distractors": 1, "gap": (3, 3), "pause": (5, 5)}

    def counting(patterns_seed: int, seed: int) -> dict[tuple[float, ...], set[bool]]:
        env, found = rl.TracePatterning(800, patterns_seed, **settings), dict[tuple[float, ...], set[bool]]()
        seen = [env.reset(seed=seed)[0]]
        while True:
            each, reward, ended, cut, _ = env.step(0)
            assert reward == each[0]
            assert not ended
            seen.append(each)
            if cut:
                break
        assert len(seen) == 801
        for start in range(0, 800 - 8, 8):
            found.setdefault(tuple(seen[start][1:5].tolist()), set()).add(bool(seen[start + 3][0]))
        return found

    first, again, other = counting(0, 1), counting(0, 2), counting(1, 1)
    assert all(len(rewarded) == 1 for rewarded in first.values())
    announcing = {pattern for pattern, rewarded in first.items() if True in rewarded}
    assert len(announcing) == 3
    assert all(sum(pattern) == 2 for pattern in announcing)
    assert announcing == {pattern for pattern, rewarded in again.items() if True in rewarded}
    assert announcing != {pattern for pattern, rewarded in other.items() if True in rewarded}


def test_side_by_side_is_each_alone() -> None:
    """Another episode begins where one is over, and what was seen last is kept for a value."""
    envs = rl.SideBySide(lambda: gymnasium.make("CartPole-v1", max_episode_steps=15), 3)
    single = [gymnasium.make("CartPole-v1", max_episode_steps=15) for _ in range(3)]
    seeds = np.random.SeedSequence(4).generate_state(3)
    seen = envs.reset(4)
    alone = [env.reset(seed=int(seed))[0] for env, seed in zip(single, seeds, strict=True)]
    rng, sums, over = np.random.default_rng(0), np.zeros(3), set[str]()
    np.testing.assert_allclose(seen, alone)
    for _ in range(60):
        actions = rng.integers(0, 2, 3)
        moment = envs.step(actions)
        returns = []
        for n, env in enumerate(single):
            last, reward, ended, cut, _ = env.step(actions[n])
            sums[n] += reward
            np.testing.assert_allclose(moment.final[n], last)
            assert (moment.rewards[n], moment.ended[n], moment.cut[n]) == (reward, ended, cut and not ended)
            if ended or cut:
                over.add("ended" if ended else "cut")
                returns.append(sums[n])
                sums[n], last = 0, env.reset()[0]
            np.testing.assert_allclose(moment.observations[n], last)
        assert moment.returns == returns
    assert over == {"ended", "cut"}
    assert (envs.size, envs.actions) == (4, 2)


def test_spaces_that_are_flattened() -> None:
    """Whole numbers become vectors with a single 1, as gymnasium flattens them."""
    envs = rl.SideBySide(lambda: gymnasium.make("FrozenLake-v1", is_slippery=False), 2)
    np.testing.assert_array_equal(envs.reset(0), np.eye(16)[[0, 0]])
    np.testing.assert_array_equal(envs.step([2, 1]).observations, np.eye(16)[[1, 4]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rl.MemoryChain(1), "MemoryChain: length must be a whole number of at least 2"),
        (lambda: rl.TracePatterning(pause=(0, 1)), "TracePatterning: pause must be two whole numbers"),
        (lambda: rl.TracePatterning(stimuli=4, patterns=7), "there are 6 patterns of half of 4 stimuli"),
        (lambda: rl.make("memory_chian"), "Did you mean 'memory_chain'"),
        (lambda: rl.make("memory_chain", size=3), "unexpected keyword argument 'size'"),
        (lambda: rl.SideBySide(lambda: gymnasium.make("Pendulum-v1")), "actions must be choices"),
    ],
)
def test_what_does_not_fit_is_refused_in_our_words(call: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()

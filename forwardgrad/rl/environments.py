"""Environments of gymnasium that need a memory: a chain to its end, and a reward that some patterns announce."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import DataError, MissingExtraError, did_you_mean
from forwardgrad.learning.tasks import ranges
from forwardgrad.learning.tasks.trace_patterning import counting_patterns, one_stream

try:
    import gymnasium
except ImportError as error:
    raise MissingExtraError('forwardgrad.rl needs gymnasium: pip install "forwardgrad[rl]"') from error

Observation = NDArray[np.float32]


class MemoryChain(gymnasium.Env[Observation, np.int64]):
    """Bits are shown at the beginning, and the last action must name one of them.

    An observation has the time left, `1 - t / length`; the number of the bit that is asked for, in the last observation
    that is acted on, and 0 before; and the bits, +1 or -1, at the beginning, and 0 afterwards. There are two actions.
    The last one is rewarded with +1 for the right bit and -1 for the wrong one; those before have no effect. Without
    memory the mean return is 0.

    As in bsuite's code, the observation at t = 0 comes twice, so that an episode has `length + 1` actions, and the bits
    are seen for the last time `length - 1` steps before the action that counts.

    Source: `memory_len` of bsuite, Osband et al. 2019, arXiv 1908.03568.

    Args:
        length: of the chain, at least 2.
        bits: how many are shown, at least 1.

    Raises:
        DataError: if an argument is out of range.

    >>> env = MemoryChain(length=2)
    >>> seen, _ = env.reset(seed=1)
    >>> bit = int(seen[2] > 0)
    >>> [env.step(action)[1:3] for action in (0, 0, bit)]
    [(0.0, False), (0.0, False), (1.0, True)]
    """

    def __init__(self, length: int = 16, bits: int = 1) -> None:
        ranges.whole("MemoryChain", length=(length, 2), bits=(bits, 1))
        self.length, self.bits = length, bits
        low = np.array([0, 0, *[-1] * bits], np.float32)
        high = np.array([1, max(bits - 1, 1), *[1] * bits], np.float32)
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._time, self._asked, self._shown = 0, 0, np.zeros(bits, np.int64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode with bits of its own."""
        super().reset(seed=seed)
        self._time, self._asked = 0, int(self.np_random.integers(self.bits))
        self._shown = self.np_random.integers(0, 2, self.bits)
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Act, and observe; the action after the last observation is rewarded."""
        seen, over = self._observation(), self._time == self.length
        self._time += 1
        right = int(action) == self._shown[self._asked]
        return seen, (1.0 if right else -1.0) if over else 0.0, over, False, {}

    def _observation(self) -> Observation:
        seen = np.zeros(2 + self.bits, np.float32)
        seen[0] = 1 - self._time / self.length
        if self._time == self.length - 1:
            seen[1] = self._asked
        if self._time == 0:
            seen[2:] = 2 * self._shown - 1
        return seen


class TracePatterning(gymnasium.Env[Observation, np.int64]):
    """A stream in which some patterns of stimuli announce a reward: there is much to predict and nothing to decide.

    The observations are the inputs of the task `trace_patterning`: the unconditioned stimulus (US), the conditioned
    stimuli, and distractors. The reward of a step is the US that it shows, so the value of a step is that task's
    target. There is one action. An episode is cut off after `steps`; the next one has the same patterns.

    Source: Rafiee et al. 2022, Adaptive Behavior, doi 10.1177/10597123221085039.

    Args:
        steps: of an episode, at least 1.
        patterns_seed: of the patterns that count, a whole number.
        stimuli, patterns, distractors, gap, pause: as of the task.

    Raises:
        DataError: if an argument is out of range.

    >>> env = TracePatterning(stimuli=2, patterns=1, distractors=0, gap=(2, 2), pause=(2, 2))
    >>> seen, _ = env.reset(seed=0)
    >>> seen.shape, env.action_space
    ((3,), Discrete(1))
    """

    def __init__(
        self,
        steps: int = 1000,
        patterns_seed: int = 0,
        *,
        stimuli: int = 6,
        patterns: int = 10,
        distractors: int = 5,
        gap: tuple[int, int] = (14, 26),
        pause: tuple[int, int] = (80, 120),
    ) -> None:
        ranges.whole("TracePatterning", steps=(steps, 1), patterns_seed=(patterns_seed, 0), stimuli=(stimuli, 2))
        ranges.whole("TracePatterning", patterns=(patterns, 1), distractors=(distractors, 0))
        ranges.interval("TracePatterning", "gap", gap, 1)
        ranges.interval("TracePatterning", "pause", pause, 1)
        counting = counting_patterns(np.random.default_rng(patterns_seed), stimuli, patterns)
        self.steps, self._how = steps, (counting, distractors, gap, pause)
        self.observation_space = gymnasium.spaces.Box(0, 1, (1 + stimuli + distractors,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(1)
        self._time, self._stream = 0, np.zeros((steps + 1, 1 + stimuli + distractors), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin another stretch of the stream, with a trial."""
        super().reset(seed=seed)
        self._time = 0
        self._stream = one_stream(self.np_random, self.steps + 1, *self._how).astype(np.float32)
        return self._stream[0].copy(), {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """See what comes next."""
        self._time += 1
        seen = self._stream[self._time].copy()
        return seen, float(seen[0]), False, self._time == self.steps, {}


NAMED = {"memory_chain": MemoryChain, "trace_patterning": TracePatterning}
"""Our own environments, by name."""


def make(name: str, **settings: Any) -> gymnasium.Env[Any, Any]:
    """An environment by name: one of ours, or one that gymnasium knows.

    Args:
        name: `memory_chain`, `trace_patterning`, or an id of gymnasium such as `CartPole-v1`.
        settings: arguments of the environment.

    Raises:
        DataError: if there is no such environment, or it does not take these settings.

    >>> make("memory_chain", length=4).length
    4
    """
    try:
        return NAMED[name](**settings) if name in NAMED else gymnasium.make(name, **settings)
    except (gymnasium.error.Error, TypeError) as error:
        hint = did_you_mean(name, NAMED) or f"Ours are {', '.join(NAMED)}; others are made by gymnasium.make."
        raise DataError(f"environment {name!r} with {settings}: {error}", hint) from error

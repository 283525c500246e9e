"""Environments of gymnasium side by side: one array of observations, and another episode where one is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from forwardgrad.arrays import count
from forwardgrad.errors import DataError


@dataclass(frozen=True)
class Moment:
    """What came of one action in each environment.

    Args:
        observations: `(batch, size)`; where an episode is over, the first of the next one.
        rewards: `(batch,)`.
        ended: `(batch,)` truth values: episodes that came to their end.
        cut: `(batch,)` truth values: episodes that were cut off, and would have gone on.
        final: `(batch, size)`: the last observations of episodes that are over; elsewhere as `observations`.
        returns: the sum of rewards of each episode that is over.
    """

    observations: NDArray[np.float64]
    rewards: NDArray[np.float64]
    ended: NDArray[np.bool_]
    cut: NDArray[np.bool_]
    final: NDArray[np.float64]
    returns: list[float]


class SideBySide:
    """A batch of environments of one kind, all of which take a step at the same time.

    Args:
        make: makes one environment.
        batch: how many.

    Attributes:
        size: numbers of an observation, whose space is flattened.
        actions: how many actions there are to choose from.

    Raises:
        DataError: if observations cannot be flattened, or the actions are not some number of choices.
    """

    def __init__(self, make: Callable[[], gymnasium.Env[Any, Any]], batch: int = 1) -> None:
        self.envs = [make() for _ in range(count("environments: batch", batch))]
        first, choices = self.envs[0].observation_space, self.envs[0].action_space
        if not first.is_np_flattenable:
            raise DataError(f"environments: observations of the space {first} are not arrays of one size.")
        if not isinstance(choices, gymnasium.spaces.Discrete) or choices.start != 0:
            raise DataError(
                f"environments: actions must be choices, Discrete(n), and the space is {choices}.",
                "An actor-critic here has a logit for each action.",
            )
        self._space, self._plain = first, isinstance(first, gymnasium.spaces.Box)
        self.size, self.actions = int(gymnasium.spaces.flatdim(first)), int(choices.n)
        self._returns = np.zeros(batch)

    def reset(self, seed: int | Sequence[int] | None = None) -> NDArray[np.float64]:
        """Begin an episode in each environment.

        Args:
            seed: what `numpy.random.SeedSequence` takes; each environment gets a seed of its own from it.

        Returns:
            The first observations, `(batch, size)`.
        """
        seeds = np.random.SeedSequence(seed).generate_state(len(self.envs))
        self._returns[:] = 0
        return np.array([self._flat(env.reset(seed=int(s))[0]) for env, s in zip(self.envs, seeds, strict=True)])

    def step(self, actions: Any) -> Moment:
        """Take one action in each environment, and begin another episode where one is over."""
        batch, returns = len(self.envs), list[float]()
        final, rewards = np.zeros((batch, self.size)), np.zeros(batch)
        ended, cut, first = np.zeros(batch, np.bool_), np.zeros(batch, np.bool_), dict[int, Any]()
        for n, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            seen, rewards[n], ended[n], cut[n], _ = env.step(action)
            final[n] = self._flat(seen)
            self._returns[n] += rewards[n]
            if ended[n] or cut[n]:
                first[n] = self._flat(env.reset()[0])
                returns.append(float(self._returns[n]))
                self._returns[n] = 0
        observations = final.copy() if first else final
        for n, seen in first.items():
            observations[n] = seen
        return Moment(observations, rewards, ended, cut & ~ended, final, returns)

    def _flat(self, seen: Any) -> Any:
        return np.ravel(seen) if self._plain else gymnasium.spaces.flatten(self._space, seen)

    def close(self) -> None:
        """Close them all."""
        for env in self.envs:
            env.close()

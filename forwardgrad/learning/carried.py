"""What a learner carries from block to block: plain arrays, or single steps that are ahead of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from forwardgrad.layouts.draws import PERIOD
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.ops import Array
from forwardgrad.program import Program, State
from forwardgrad.program.single_steps import SingleSteps


class Carried(NamedTuple):
    """All that learning changes, replaced at once, so that an interrupt leaves the old or the new.

    Args:
        params, optimizer_state: arrays by name.
        state: activations and influence; `None` where all samples start afresh.
        seen: steps of the stream so far.
        episodes: how often all samples have started afresh.
    """

    params: dict[str, Array]
    optimizer_state: dict[str, Array]
    state: State | None
    seen: int
    episodes: int


class Ahead(NamedTuple):
    """Single steps, which hold all of that until somebody asks.

    Args:
        steps: take them.
        passed: of what the optimizer remembers, the part that it only passes on.
        episodes: as above.
    """

    steps: SingleSteps
    passed: dict[str, Array]
    episodes: int

    def carried(self) -> Carried:
        """What they have come to."""
        held = self.steps.held
        memory = self.passed | self.steps.updates.remembered(held.weights)
        return Carried(dict(held.weights.params), memory, dict(held.state), held.seen, self.episodes)


class Carrier:
    """The attributes of a learner that change with each block.

    Reading or writing one of them ends a run of single steps; the next one begins from what is here then.
    """

    program: Program
    optimizer: Optimizer
    clip: float | None

    def __init__(self, carried: Carried) -> None:
        self._now: Carried | Ahead = carried
        self._steps: SingleSteps | None = None  # kept for the next run

    @property
    def params(self) -> dict[str, Array]:
        """All parameters by name."""
        return self._carried().params

    @params.setter
    def params(self, params: dict[str, Array]) -> None:
        self._now = self._carried()._replace(params=params)

    @property
    def optimizer_state(self) -> dict[str, Array]:
        """What the optimizer remembers, by its own names."""
        return self._carried().optimizer_state

    @optimizer_state.setter
    def optimizer_state(self, optimizer_state: dict[str, Array]) -> None:
        self._now = self._carried()._replace(optimizer_state=optimizer_state)

    @property
    def state(self) -> State | None:
        """Activations and influence; `None` where all samples start afresh."""
        return self._carried().state

    @state.setter
    def state(self, state: State | None) -> None:
        self._now = self._carried()._replace(state=state)

    @property
    def seen(self) -> int:
        """Steps of the stream so far."""
        return self._now.steps.seen if isinstance(self._now, Ahead) else self._now.seen

    @seen.setter
    def seen(self, seen: int) -> None:
        self._now = self._carried()._replace(seen=seen)

    @property
    def episodes(self) -> int:
        """How often all samples have started afresh."""
        return self._now.episodes

    @episodes.setter
    def episodes(self, episodes: int) -> None:
        self._now = self._carried()._replace(episodes=episodes)

    def _carried(self) -> Carried:
        """All of it as plain arrays, which may be written into."""
        if isinstance(self._now, Ahead):
            self._now = self._now.carried()
        return self._now

    def _ahead(self, batch: int) -> Ahead | None:
        """Single steps that go on from here; `None` where blocks of one step are taken as all others are."""
        now, steps = self._now, self._steps
        if steps is None or batch != steps.batch or not self._served_by(steps):
            now, steps = self._carried(), self.program.single_steps(batch, self.optimizer, self.clip)
        if isinstance(now, Ahead):
            return now
        if steps is None:
            return None
        state = now.state
        if state is None:
            self.program.fits(batch, 1, what="learner")
            state = self.program.start(batch, draw=now.episodes % PERIOD)
        if not steps.go_on(now.params, now.optimizer_state, state, now.seen):
            return None
        remembered = steps.updates.remembered(steps.held.weights)
        passed = {key: array for key, array in now.optimizer_state.items() if key not in remembered}
        self._steps = steps
        return Ahead(steps, passed, now.episodes + (now.state is None))

    def _served_by(self, steps: SingleSteps) -> bool:
        """Whether steps have the optimizer that there is by now."""
        same = steps.optimizer is self.optimizer and steps.clip == self.clip
        return same or steps.change(self.optimizer, self.clip)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_now": self._carried(), "_steps": None}

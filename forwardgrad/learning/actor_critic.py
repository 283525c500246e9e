"""Actor-critic learning with eligibility traces over the gradient of any rule: real-time recurrent RL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from forwardgrad.arrays import count, finite, numeric, truths
from forwardgrad.errors import DataError
from forwardgrad.learning.optimizers import is_number
from forwardgrad.ops import Array
from forwardgrad.program import Program


@dataclass(frozen=True)
class TDSettings:
    """What an actor-critic needs to know besides network, rule and optimizer.

    Args:
        discount: gamma, of the return, from 0 to 1.
        trace: lambda, how long the outer trace lasts, from 0 to 1; at 0 only the last gradient counts.
        policy: weight of the policy's gradient, beside that of the value.
        entropy: weight of the gradient of the policy's entropy, >= 0.

    Raises:
        DataError: if a setting is out of range.
    """

    discount: float = 0.99
    trace: float = 0.9
    policy: float = 1.0
    entropy: float = 0.001

    def __post_init__(self) -> None:
        for name, value, high in (("discount", self.discount, 1.0), ("trace", self.trace, 1.0)):
            if not (is_number(value) and 0 <= value <= high):
                raise DataError(f"actor-critic: {name!r} must be from 0 to 1, got {value!r}.")
        for name, value in (("policy", self.policy), ("entropy", self.entropy)):
            if not (is_number(value) and value >= 0):
                raise DataError(f"actor-critic: {name!r} must be a number >= 0, got {value!r}.")


class ActorCritic:
    """A policy and a value function on one recurrent network, which learn in every step from environments side by side.

    The network gives one logit per action, and the value of what it has seen so far. With p the softmax of the logits,
    an action a is drawn in each environment, and the gradient of log p(a) and of the value v is added to a trace z of
    its own. In the next step, with the reward r, the next value v' and the next action a',

        delta = r + gamma v' - v                                  v' = 0 where the episode has ended
        theta <- theta + optimizer(mean over environments of  delta z + entropy dH(p')/dtheta)
        z     <- gamma lambda z + d(policy log p'(a') + v')/dtheta         z = 0 before a new episode

    The gradients are those of the program's rule, so there are two kinds of eligibility traces: the rule's, of the
    network's state on its parameters, and this outer one, of later rewards on earlier actions. The entropy has no part
    in the outer trace. Values and gradients of a step are those of the weights before its update.

    The input is what is observed, followed, if `recall`, by the last action (a 1 in its place, else 0) and the last
    reward; both are 0 in the first step of an episode.

    Source: Lemmel & Grosu 2025, "Real-Time Recurrent Reinforcement Learning", AAAI, arXiv 2311.04830; the order of
    operations is that of the authors' code (github.com/FranzKnut/RTRRL-AAAI25), with accumulating traces. Actor-critic
    with traces: Sutton & Barto 2018, "Reinforcement Learning", section 13.5.

    Args:
        program: compiled with `per_sample=True`, with one input, and these two outputs alone, of any loss.
        params: `{name: array}`; they are copied.
        optimizer: makes the updates, as for a `Stream`; `None`: nothing is learned.
        batch: how many environments there are.
        settings: discount, traces and weights.
        recall: whether the network sees its last action and reward.
        greedy: take the most probable action instead of drawing one.
        seed: of the actions: what `numpy.random.default_rng` takes.
        actor, critic: the output nodes of the logits, `(batch, actions)`, and of the value, `(batch, 1)`.
        optimizer_state: what the optimizer remembers, to go on with.

    Attributes:
        stream: the program with its parameters, its optimizer and its state.
        probabilities: `(batch, actions)` of the policy in the last step.
        values: `(batch,)` of the critic in the last step.
        errors: `(batch,)`, delta of the last step.

    Raises:
        DataError: if an argument does not fit.

    Of two actions the second is always rewarded:

    >>> import forwardgrad as fg, numpy as np
    >>> program = fg.compile(fg.load("actor_critic"), rule="rflo", per_sample=True)
    >>> agent = ActorCritic(program, program.init(), fg.Adam(0.01), batch=8)
    >>> seen = np.ones((8, 3))
    >>> actions = agent.begin(seen)
    >>> for _ in range(100):
    ...     actions = agent.step(seen, rewards=actions == 1, ended=np.ones(8, bool))
    >>> bool(agent.probabilities[:, 1].min() > 0.9)
    True
    """

    def __init__(
        self,
        program: Program,
        params: Mapping[str, Any],
        optimizer: Any,
        *,
        batch: int,
        settings: TDSettings | None = None,
        recall: bool = True,
        greedy: bool = False,
        seed: Any = 0,
        actor: str = "actor",
        critic: str = "critic",
        optimizer_state: Mapping[str, Any] | None = None,
    ) -> None:
        _check(program, actor, critic)
        self.batch, self.settings = count("actor-critic: batch", batch), settings or TDSettings()
        self.stream = program.stream(params, batch=self.batch, optimizer=optimizer, optimizer_state=optimizer_state)
        self.recall, self.greedy = recall, greedy
        self._program, self._actor, self._critic = program, actor, critic
        self._rng, self._dtype = np.random.default_rng(seed), program.dtype
        nodes = program.network.nodes
        (self._input,) = program.network.inputs
        self._actions = nodes[actor].size
        self._observed = nodes[self._input].size - (self._actions + 1 if recall else 0)
        plan = program.plan
        self._shapes = {name: plan.parameters[name].shape for name in (*plan.entries, *plan.followers)}
        self._traces = np.zeros((self.batch, sum(prod(shape) for shape in self._shapes.values())), self._dtype)
        self.probabilities = np.zeros((self.batch, self._actions), self._dtype)
        self.values, self.errors = np.zeros(self.batch, self._dtype), np.zeros(self.batch, self._dtype)
        self._taken: Array | None = None

    @property
    def traces(self) -> dict[str, Array]:
        """The outer traces, copied: `(batch, *shape)` by parameter."""
        return self._by_name(self._traces.copy())

    def begin(self, observations: Any) -> Array:
        """Forget all episodes, and act on the first observations of new ones.

        Args:
            observations: `(batch, size of an observation)`.

        Returns:
            The actions, `(batch,)` whole numbers.

        Raises:
            DataError: if the array does not fit.
        """
        seen = self._read("observations", observations, self._observed)
        self.stream.reset()
        self._traces[...] = 0
        nothing = np.zeros((self.batch, self._actions), self._dtype)
        logits, self.values = self._predict(seen, nothing, nothing[:, 0])
        return self._acted(logits, None, None)

    def step(self, observations: Any, rewards: Any, ended: Any, cut: Any = None, final: Any = None) -> Array:
        """Learn from what came of the last actions, and act again.

        Args:
            observations: `(batch, size of an observation)`; where an episode is over, the first of the next one.
            rewards: `(batch,)` for the last actions.
            ended: `(batch,)` truth values: whether the episode came to its end.
            cut: `(batch,)` truth values: whether it was cut off, as by a limit of time, so that more would have come.
            final: `(batch, size of an observation)`: the last observations of episodes that were cut off; other rows
                are not used.

        Returns:
            The actions, `(batch,)` whole numbers.

        Raises:
            DataError: if an array does not fit, or no episode has begun.
            NonFiniteError: as in `Stream.step`.
        """
        if self._taken is None:
            raise DataError("actor-critic: there is no action to learn from.", "Call begin first.")
        seen, taken = self._read("observations", observations, self._observed), self._taken
        got, over = self._read("rewards", rewards), truths("actor-critic: ended", ended, (self.batch,))
        later = np.zeros(self.batch, self._dtype)
        if cut is not None and (stopped := truths("actor-critic: cut", cut, (self.batch,)) & ~over).any():
            last = np.where(stopped[:, None], self._read("final", final, self._observed), 0)
            later, over = np.where(stopped, self._foreseen(last, taken, got), 0), over | stopped
        if over.any():
            self.stream.reset(over)
        logits, values = self._predict(seen, np.where(over[:, None], 0, taken), np.where(over, 0, got))
        self.errors = got + self.settings.discount * np.where(over, later, values) - self.values
        self.values = values
        return self._acted(logits, self.errors, over)

    def _acted(self, logits: Array, errors: Array | None, over: Array | None) -> Array:
        """The actions, after an update where there are errors."""
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        self.probabilities = p = p / p.sum(axis=1, keepdims=True)
        drawn = (p.cumsum(axis=1) <= self._rng.random((self.batch, 1))).sum(axis=1)
        actions = p.argmax(axis=1) if self.greedy else np.minimum(drawn, self._actions - 1)
        self._taken = np.eye(self._actions, dtype=self._dtype)[actions]
        if self.stream.optimizer is not None:
            self._learn(self._taken, p, errors, over)
        return actions

    def _learn(self, taken: Array, p: Array, errors: Array | None, over: Array | None) -> None:
        """Update along the traces, then let the gradient of this step into them."""
        policy, entropy = self.settings.policy, self.settings.entropy
        one = np.ones((self.batch, 1), self._dtype)
        grads = self._flat(self.stream.credit(signals={self._actor: policy * (taken - p), self._critic: one}))
        if errors is None or over is None:
            self._traces = grads
            return
        ascent = errors @ self._traces / self.batch
        if entropy:
            logs = np.log(np.maximum(p, np.finfo(p.dtype).tiny))
            slope = -p * (logs - (p * logs).sum(axis=1, keepdims=True))  # dH/dlogit = -p (log p + H)
            ascent += self._flat(self.stream.credit(signals={self._actor: entropy * slope})).mean(axis=0)
        self._traces *= np.where(over, 0, self.settings.discount * self.settings.trace).astype(self._dtype)[:, None]
        self._traces += grads
        self.stream.update(self._by_name(-ascent))

    def _flat(self, arrays: Mapping[str, Array]) -> Array:
        """Gradients `(batch, *shape)` by parameter, as one array `(batch, entries)`."""
        return np.concatenate([arrays[name].reshape(self.batch, -1) for name in self._shapes], axis=1)

    def _by_name(self, entries: Array) -> dict[str, Array]:
        """An array `(..., entries)` as parameters, of which each is a view."""
        found, start = dict[str, Array](), 0
        for name, shape in self._shapes.items():
            size = prod(shape)
            found[name] = entries[..., start : start + size].reshape(*entries.shape[:-1], *shape)
            start += size
        return found

    def _predict(self, seen: Array, taken: Array, rewards: Array) -> tuple[Array, Array]:
        """Logits `(batch, actions)` and values `(batch,)` of the next step."""
        outputs = self.stream.predict({self._input: self._joined(seen, taken, rewards)})
        return outputs[self._actor], outputs[self._critic][:, 0]

    def _foreseen(self, seen: Array, taken: Array, rewards: Array) -> Array:
        """The values of a next step that is not taken."""
        inputs = {self._input: self._joined(seen, taken, rewards)[None]}
        return self._program.run(self.stream.params, inputs, state=self.stream.state)[self._critic][0, :, 0]

    def _joined(self, seen: Array, taken: Array, rewards: Array) -> Array:
        parts = (seen, taken, rewards[:, None]) if self.recall else (seen,)
        return np.concatenate(parts, axis=1, dtype=self._dtype)

    def _read(self, what: str, given: Any, *size: int) -> Array:
        array = finite(what, numeric(f"actor-critic: {what}", given, self._dtype), "index")
        if array.shape != (self.batch, *size):
            raise DataError(f"actor-critic: {what}: expected shape {(self.batch, *size)}, got {array.shape}.")
        return array


def _check(program: Program, actor: str, critic: str) -> None:
    """Raise `DataError` unless this is a program of an actor and a critic."""
    if set(program.losses) != {actor, critic} or actor == critic:
        raise DataError(
            f"actor-critic: the program has losses on {', '.join(map(repr, program.losses))}, and the outputs are "
            f"{actor!r} and {critic!r}.",
            f"Compile it with loss={{{actor!r}: 'signal', {critic!r}: 'signal'}}.",
        )
    size = program.network.nodes[critic].size
    if size != 1:
        raise DataError(f"actor-critic: a value is one number, and node {critic!r} has {size} units.")
    if len(program.network.inputs) != 1:
        raise DataError(f"actor-critic: one input is needed, and the graph has {len(program.network.inputs)}.")
    if not program.plan.per_sample:
        raise DataError(
            "actor-critic: every environment has a trace of its own.", "Compile the program with per_sample=True."
        )

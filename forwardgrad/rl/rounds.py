"""A run of reinforcement learning: rounds of steps, after each of which it is evaluated and can be saved."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import networkx as nx
import numpy as np

from forwardgrad.arrays import count
from forwardgrad.errors import DataError, FileError
from forwardgrad.graph.ends import ends
from forwardgrad.learning import checkpoint
from forwardgrad.learning.actor_critic import ActorCritic, TDSettings
from forwardgrad.learning.optimizers import Adam, Optimizer, is_number
from forwardgrad.learning.schedules import Cosine
from forwardgrad.learning.transforms import Scheduled
from forwardgrad.ops import Array
from forwardgrad.program import Program
from forwardgrad.rl.side_by_side import SideBySide

LEARNING, EVALUATION, SCORE = range(3)
"""What random numbers are for, beside the seed of the run and the number of the round."""


@dataclass(frozen=True)
class RunSettings:
    """How a run learns.

    Args:
        steps: of each environment, in all.
        every: steps of a round. A round begins new episodes, so that a saved run needs no environment's state.
        batch: environments side by side.
        learning_rate: of Adam, which falls to 0 along a cosine over the run.
        epsilon: of Adam. Far above its usual value: once a policy is right, errors get small, and what would be their
            noise must not be scaled up to full steps.
        td: discount, traces and weights of the actor-critic.
        recall: whether the network sees its last action and reward.
        episodes: of an evaluation.
        greedy: evaluate by the most probable actions rather than by drawn ones.
        goal: the mean return of an evaluation at which the run ends; `None`: it goes to its end.
        seed: of parameters, environments and actions.

    Raises:
        DataError: if a setting is out of range.
    """

    steps: int = 10_000
    every: int = 1_000
    batch: int = 32
    learning_rate: float = 0.003
    epsilon: float = 1e-4
    td: TDSettings = field(default_factory=TDSettings)
    recall: bool = True
    episodes: int = 100
    greedy: bool = False
    goal: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "every", "batch", "episodes"):
            count(f"run: {name}", getattr(self, name))
        if not (self.goal is None or is_number(self.goal)):
            raise DataError(f"run: 'goal' must be a number, got {self.goal!r}.")

    @property
    def rounds(self) -> int:
        """How many rounds there are; the last may be shorter."""
        return -(-self.steps // self.every)

    def optimizer(self) -> Optimizer:
        """Adam with the learning rate of this run."""
        return Scheduled(Adam(self.learning_rate, epsilon=self.epsilon), Cosine(self.steps))


@dataclass(frozen=True)
class Round:
    """A point of the learning curve.

    Args:
        steps: of each environment so far.
        learning: the mean return of the round's episodes, with actions drawn; NaN if none came to its end.
        evaluation: the mean return of further episodes, with the weights after the round.
    """

    steps: int
    learning: float
    evaluation: float


@dataclass(frozen=True)
class Learned:
    """What a run gave.

    Args:
        params: the weights of the best evaluation, the last of equal ones.
        curve: the rounds.
        score: the mean return with these weights over ten times as many further episodes, by which nothing was chosen.
        seconds: spent on learning and evaluations, over all parts of an interrupted run.
    """

    params: dict[str, Array]
    curve: list[Round]
    score: float
    seconds: float


def fitted(
    graph: nx.MultiDiGraph[str],
    make: Callable[[], gymnasium.Env[Any, Any]],
    *,
    recall: bool = True,
    actor: str = "actor",
) -> nx.MultiDiGraph[str]:
    """A copy of a graph whose input and policy have the sizes of an environment.

    Args:
        graph: a declared graph with one input.
        make: makes one environment.
        recall: as of an `ActorCritic`.
        actor: the node of the logits.

    Raises:
        DataError: if the graph has another number of inputs, or no such node.

    >>> import forwardgrad as fg
    >>> graph = fitted(fg.load("actor_critic"), lambda: gymnasium.make("CartPole-v1"), recall=False)
    >>> graph.nodes["x"]["size"], graph.nodes["actor"]["size"]
    (4, 2)
    """
    sources = ends(graph)[0]
    if len(sources) != 1 or actor not in graph:
        raise DataError(f"the graph needs one input and a node {actor!r}; its inputs are {sources}.")
    envs = SideBySide(make)
    envs.close()
    found = graph.copy()
    found.nodes[sources[0]]["size"] = envs.size + (envs.actions + 1 if recall else 0)
    found.nodes[actor]["size"] = envs.actions
    return found


def evaluate(
    program: Program,
    params: Mapping[str, Any],
    make: Callable[[], gymnasium.Env[Any, Any]],
    *,
    episodes: int = 100,
    batch: int = 32,
    recall: bool = True,
    greedy: bool = False,
    seed: Any = 0,
) -> float:
    """The mean return of episodes with frozen weights.

    Each environment has the same number of episodes, so that short ones do not count more often.

    Args:
        program, params: as of an `ActorCritic`.
        make: makes one environment.
        episodes: at least that many.
        batch: environments side by side.
        recall: as of an `ActorCritic`.
        greedy: take the most probable actions instead of drawing them.
        seed: of environments and actions: what `numpy.random.SeedSequence` takes.
    """
    side = min(batch, episodes)
    envs, wanted = SideBySide(make, side), -(-episodes // side)
    try:
        agent = ActorCritic(program, params, None, batch=side, recall=recall, greedy=greedy, seed=seed)
        actions, found, counts, sums = agent.begin(envs.reset(seed)), list[float](), np.zeros(side), np.zeros(side)
        while counts.min() < wanted:
            moment = envs.step(actions)
            sums += moment.rewards
            over = moment.ended | moment.cut
            found += sums[over & (counts < wanted)].tolist()
            counts, sums = counts + over, np.where(over, 0, sums)
            actions = agent.step(moment.observations, moment.rewards, over)
    finally:
        envs.close()
    return float(np.mean(found))


def learn(
    program: Program,
    make: Callable[[], gymnasium.Env[Any, Any]],
    settings: RunSettings | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    about: Mapping[str, Any] | None = None,
    stepped: Callable[[int], None] = lambda steps: None,
    finished: Callable[[Round], None] = lambda round: None,
) -> Learned:
    """Learn in environments side by side, round by round.

    Args:
        program: as of an `ActorCritic`, with outputs `actor` and `critic`.
        make: makes one environment.
        settings: how.
        path: of a file where the run is saved after every round. If it holds one, that is gone on with, to the same
            numbers as if it had not been interrupted.
        about: what else must be the same then, as plain data, such as the environment's name.
        stepped: called after each step, with the number of steps so far.
        finished: called after each round, when it is saved.

    Raises:
        DataError: if the program does not fit the environment.
        FileError: if the file is of another run, or cannot be read or written.
        NonFiniteError: if learning has diverged.

    >>> import forwardgrad as fg
    >>> from forwardgrad import rl
    >>> program = fg.compile(fg.load("actor_critic"), rule="rflo", per_sample=True, dtype="float32")
    >>> learned = rl.learn(program, lambda: rl.MemoryChain(2), rl.RunSettings(steps=600, every=200))
    >>> learned.score > 0.8
    True
    """
    chosen = settings or RunSettings()
    run = _Run(program, make, chosen, {"settings": asdict(chosen), **(about or {})})
    if path is not None and Path(path).exists():
        run.load(path)
    while not run.over:
        ended = run.round(stepped)
        if path is not None:
            run.save(path)
        finished(ended)
    return run.learned()


class _Run:
    """A run between two rounds."""

    def __init__(
        self,
        program: Program,
        make: Callable[[], gymnasium.Env[Any, Any]],
        settings: RunSettings,
        identity: Mapping[str, Any],
    ) -> None:
        self.program, self.make, self.settings, self.identity = program, make, settings, identity
        self.optimizer = settings.optimizer()
        self.params = self.best = program.init(settings.seed)
        self.memory: Mapping[str, Any] | None = None
        self.curve: list[Round] = []
        self.seconds = 0.0

    @property
    def over(self) -> bool:
        """Whether all steps are made, or the goal is reached."""
        goal, last = self.settings.goal, self.curve[-1] if self.curve else None
        return last is not None and (
            last.steps >= self.settings.steps or (goal is not None and last.evaluation >= goal)
        )

    def round(self, stepped: Callable[[int], None]) -> Round:
        """Learn for a number of steps from new episodes, and evaluate."""
        began, settings, number = time.perf_counter(), self.settings, len(self.curve)
        before = self.curve[-1].steps if self.curve else 0
        after = min(before + settings.every, settings.steps)
        envs, returns = SideBySide(self.make, settings.batch), list[float]()
        _check(self.program, envs, settings.recall)
        try:
            agent = ActorCritic(
                self.program,
                self.params,
                self.optimizer,
                batch=settings.batch,
                settings=settings.td,
                recall=settings.recall,
                seed=[settings.seed, number],
                optimizer_state=self.memory,
            )
            actions = agent.begin(envs.reset([settings.seed, number, LEARNING]))
            for steps in range(before + 1, after + 1):
                moment = envs.step(actions)
                returns += moment.returns
                actions = agent.step(moment.observations, moment.rewards, moment.ended, moment.cut, moment.final)
                stepped(steps)
        finally:
            envs.close()
        self.params, self.memory = agent.stream.params, agent.stream.optimizer_state
        found = self.evaluated(self.params, settings.episodes, [settings.seed, number, EVALUATION])
        if not self.curve or found >= max(each.evaluation for each in self.curve):
            self.best = self.params
        self.curve.append(Round(after, float(np.mean(returns)) if returns else float("nan"), found))
        self.seconds += time.perf_counter() - began
        return self.curve[-1]

    def evaluated(self, params: Mapping[str, Array], episodes: int, seed: list[int]) -> float:
        batch, recall, greedy = self.settings.batch, self.settings.recall, self.settings.greedy
        how: dict[str, Any] = {"episodes": episodes, "batch": batch, "recall": recall, "greedy": greedy}
        return evaluate(self.program, params, self.make, **how, seed=seed)

    def learned(self) -> Learned:
        """What the run gave."""
        score = self.evaluated(self.best, 10 * self.settings.episodes, [self.settings.seed, 0, SCORE])
        return Learned(dict(self.best), list(self.curve), score, self.seconds)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the run to a file, whole or not at all."""
        notes = {"identity": self.identity, "curve": [asdict(each) for each in self.curve], "seconds": self.seconds}
        described, config = checkpoint.describe(self.program), self.optimizer.config()
        kept = checkpoint.Checkpoint(
            described,
            config,
            None,
            "raise",
            self.curve[-1].steps,
            0,
            self.params,
            self.memory or {},
            None,
            json.loads(json.dumps(notes)),
            {"best": self.best},
        )
        checkpoint.write(path, kept)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Read a run that was saved, if it is this one."""
        kept = checkpoint.read(path)
        checkpoint.match(path, kept.program, self.program)
        ours, theirs = json.loads(json.dumps(self.identity)), kept.notes.get("identity")
        if theirs != ours:
            raise FileError(
                f"checkpoint {str(path)!r}: belongs to another run: {theirs} in the file, {ours} asked for.",
                "Give another file, or remove this one.",
            )
        trained = (*self.program.plan.entries, *self.program.plan.followers)
        expected = self.optimizer.start({name: self.params[name] for name in trained})
        checkpoint.check(path, "params", kept.params, self.params)
        checkpoint.check(path, "best", kept.kept.get("best", {}), self.params)
        checkpoint.check(path, "optimizer_state", kept.optimizer_state, expected)
        self.params, self.best, self.memory = dict(kept.params), dict(kept.kept["best"]), kept.optimizer_state
        self.curve = [Round(**each) for each in kept.notes["curve"]]
        self.seconds = float(kept.notes["seconds"])


def _check(program: Program, envs: SideBySide, recall: bool) -> None:
    """Raise `DataError` unless input and policy have the sizes of the environments."""
    nodes, (source,) = program.network.nodes, program.network.inputs
    wanted = {source: envs.size + (envs.actions + 1 if recall else 0), "actor": envs.actions}
    for name, size in wanted.items():
        if name not in nodes or nodes[name].size != size:
            found = "no such node" if name not in nodes else f"{nodes[name].size} units"
            more = f", and of {envs.actions} actions and a reward" if recall and name == source else ""
            raise DataError(
                f"run: node {name!r} needs {size} units, and there are {found}.",
                f"Observations are of size {envs.size}{more}. Graphs are made to fit by forwardgrad.rl.fitted.",
            )

"""Is the actor-critic the published recursion, environment by environment, on the gradients of any rule?"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from c_backend import needs_compiler

import forwardgrad as fg
from forwardgrad.errors import DataError
from forwardgrad.learning.actor_critic import ActorCritic, TDSettings
from forwardgrad.program import Program

BATCH, STEPS, OBSERVED = 3, 12, 2
RATE = 0.05
SGD = fg.SGD(RATE)
SETTINGS = TDSettings(discount=0.9, trace=0.8, policy=0.7, entropy=0.3)
OVER = np.random.default_rng(6).random((STEPS, BATCH)) < 0.25
"""Where episodes end, at other times in each environment."""


def network() -> Any:
    """The shipped graph with few units, whose input is 2 observed numbers, 3 actions and a reward."""
    graph = fg.load("actor_critic")
    graph.nodes["x"]["size"] = OBSERVED + 4
    graph.nodes["actor"]["size"] = 3
    for name in ("a", "k"):
        graph.nodes[name]["size"] = 4
    graph.nodes["k"]["bias"] = [0.0, 1.0, 2.0, 3.0]
    return graph


def compiled(rule: str = "rtrl", backend: str = "numpy", *, per_sample: bool = True) -> Program:
    return fg.compile(network(), rule=rule, per_sample=per_sample, backend=backend)


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Observations `(steps + 1, batch, size)`, and rewards `(steps, batch)`."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(STEPS + 1, BATCH, OBSERVED)), rng.normal(size=(STEPS, BATCH))


def played(program: Program, settings: TDSettings = SETTINGS, optimizer: Any = SGD) -> tuple[Any, np.ndarray]:
    """An agent after all steps, and its actions."""
    agent = ActorCritic(program, program.init(), optimizer, batch=BATCH, settings=settings, seed=7)
    seen, rewards = data()
    actions = [agent.begin(seen[0])]
    for t in range(STEPS):
        actions.append(agent.step(seen[t + 1], rewards[t], OVER[t]))
    return agent, np.array(actions)


class Reference:
    """The same written out, for one environment with a program of its own, without gradients by sample.

    It asks for the gradients of the policy, of the value and of the entropy one by one. The derivatives of log p and of
    H by the logits are those of complex steps, which are exact to rounding.
    """

    def __init__(self, program: Program, actions: np.ndarray, n: int) -> None:
        self.program, self.actions, self.n = program, actions, n
        self.state = program.start(1)
        self.z: dict[str, Any] = {}
        self.before = 0.0

    def input(self, t: int, seen: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        fresh = t == 0 or OVER[t - 1, self.n]
        last = np.zeros(4) if fresh else np.append(np.eye(3)[self.actions[t - 1, self.n]], rewards[t - 1, self.n])
        return np.concatenate([seen[t, self.n], last])[None, None]

    def step(self, params: Any, t: int, seen: np.ndarray, rewards: np.ndarray, settings: TDSettings) -> dict[str, Any]:
        """The direction of this environment's update."""
        fresh = t > 0 and OVER[t - 1, self.n]
        state = self.program.start(1) if fresh else self.state
        self.state, prediction = self.program.predict(params, {"x": self.input(t, seen, rewards)}, state=state)
        logits, value = prediction.outputs["actor"][0, 0], prediction.outputs["critic"][0, 0, 0]
        action = self.actions[t, self.n]

        def gradient(function: Any) -> dict[str, Any]:
            signal = [np.imag(function(logits + 1e-30j * unit)) / 1e-30 for unit in np.eye(3)]
            return self.program.credit(prediction, signals={"actor": np.array(signal)[None, None]}).grads

        policy, entropy = gradient(lambda y: np.log(softmax(y)[action])), gradient(lambda y: entropy_of(softmax(y)))
        critic = self.program.credit(prediction, signals={"critic": np.ones((1, 1, 1))}).grads
        ascent: dict[str, Any] = {}
        if t > 0:
            error = rewards[t - 1, self.n] + settings.discount * value * (not fresh) - self.before
            ascent = {name: error * z + settings.entropy * entropy[name] for name, z in self.z.items()}
        kept = settings.discount * settings.trace * (not fresh)
        self.z = {name: kept * self.z.get(name, 0.0) + settings.policy * policy[name] + critic[name] for name in policy}
        self.before = value
        return ascent


def softmax(y: np.ndarray) -> np.ndarray:
    return np.exp(y) / np.exp(y).sum()


def entropy_of(p: np.ndarray) -> Any:
    return -(p * np.log(p)).sum()


def alone(rule: str, actions: np.ndarray, settings: TDSettings = SETTINGS) -> tuple[dict[str, Any], list[Reference]]:
    """The parameters after all steps, with each environment run alone by the interpreter."""
    program = compiled(rule, "interpreter", per_sample=False)
    params, (seen, rewards) = program.init(), data()
    each = [Reference(program, actions, n) for n in range(BATCH)]
    for t in range(STEPS + 1):
        found = [one.step(params, t, seen, rewards, settings) for one in each]
        if t:
            params = {
                name: p + RATE * sum(ascent.get(name, 0.0) for ascent in found) / BATCH for name, p in params.items()
            }
    return params, each


@pytest.mark.parametrize("rule", ["rtrl", "rflo", "immediate", "snap(1)"])
def test_a_batch_is_each_environment_alone(rule: str) -> None:
    """Updates are means over environments, and traces, resets and last actions are of each alone."""
    agent, actions = played(compiled(rule))
    params, each = alone(rule, actions)
    for name, p in agent.stream.params.items():
        np.testing.assert_allclose(p, params[name], rtol=1e-12, atol=1e-12, err_msg=name)
    for name, z in agent.traces.items():
        np.testing.assert_allclose(z, [one.z[name] for one in each], rtol=1e-12, atol=1e-12, err_msg=name)
    assert len(set(actions.ravel())) == 3
    assert OVER.any(axis=0).all()
    assert not OVER.all(axis=0).any()


@pytest.mark.parametrize("backend", ["interpreter", "jax", "c"])
def test_every_backend_learns_the_same(backend: str) -> None:
    if backend == "jax":
        pytest.importorskip("jax")
    if backend == "c":
        needs_compiler()
    (agent, actions), (wanted, taken) = played(compiled(backend=backend)), played(compiled())
    np.testing.assert_array_equal(actions, taken)
    for name, p in agent.stream.params.items():
        np.testing.assert_allclose(p, wanted.stream.params[name], rtol=1e-10, atol=1e-10, err_msg=name)


def plain() -> Any:
    """A policy and a value that are linear in what is seen, without any memory."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    for name, size in (("actor", 2), ("critic", 1)):
        graph.add_node(name, op="linear", size=size)
        graph.add_edge("x", name, weight="dense", init="zeros")
    return fg.compile(graph, {"actor": "signal", "critic": "signal"}, per_sample=True)


def preference(trace: float) -> float:
    """How probable the better action has become: it is taken in the first of four steps, and rewarded after the last.

    The steps between look the same whatever was done, so that values cannot tell.
    """
    settings = TDSettings(discount=1.0, trace=trace, entropy=0.0)
    agent = ActorCritic(plain(), plain().init(), fg.SGD(0.5), batch=8, settings=settings, recall=False)
    cue, blank = np.tile([1.0, 0.0], (8, 1)), np.tile([0.0, 1.0], (8, 1))
    actions, found = agent.begin(cue), 0.0
    for _ in range(100):
        found, rewards = agent.probabilities[0, 1], actions == 1
        for _ in range(3):
            agent.step(blank, np.zeros(8), np.zeros(8, bool))
        actions = agent.step(cue, rewards, np.ones(8, bool))
    return float(found)


def test_the_outer_trace_brings_a_late_reward_to_an_early_action() -> None:
    """If this fails, z holds no more than the last gradient, as it does at lambda 0."""
    assert preference(1.0) > 0.95
    assert abs(preference(0.0) - 0.5) < 0.05


def test_an_episode_that_was_cut_off_is_valued_by_what_it_showed_last() -> None:
    """It goes on in the critic's eyes, from its own state, last action and reward; one that ended does not."""
    seen, rewards = data()
    final, cut, ended = data(1)[0][0], np.array([True, False, True]), np.array([False, True, True])
    program = compiled()
    agents = [ActorCritic(program, program.init(), SGD, batch=BATCH, settings=SETTINGS) for _ in range(2)]
    for agent in agents:
        agent.begin(seen[0])
        agent.step(seen[1], rewards[0], np.zeros(BATCH, bool))
    agent, other = agents
    before = agent.values
    agent.step(seen[2], rewards[1], ended, cut, final)
    other.step(final, rewards[1], np.zeros(BATCH, bool))  # as if it went on
    went_on = np.array([SETTINGS.discount * other.values[0], 0, 0])
    np.testing.assert_allclose(agent.errors, rewards[1] + went_on - before, rtol=1e-12)
    assert abs(went_on[0]) > 1e-3


def test_without_an_optimizer_it_acts_and_learns_nothing() -> None:
    program = compiled()
    agent, _ = played(program, optimizer=None)
    for name, p in program.init().items():
        np.testing.assert_array_equal(agent.stream.params[name], p)
    greedy = ActorCritic(program, program.init(), None, batch=BATCH, greedy=True)
    np.testing.assert_array_equal(greedy.begin(data()[0][0]), greedy.probabilities.argmax(axis=1))


def test_actions_are_drawn_as_the_policy_says() -> None:
    graph = plain().graph
    program = fg.compile(graph, {"actor": "signal", "critic": "signal"}, per_sample=True)
    params = {"x->actor": np.log([[0.2, 1.0], [0.8, 1.0]]), "x->critic": np.zeros((1, 2))}
    agent = ActorCritic(program, params, None, batch=20_000, recall=False)
    assert abs(agent.begin(np.tile([1.0, 0.0], (20_000, 1))).mean() - 0.8) < 0.01


def test_adaptive_feedback_learns_with_the_rest() -> None:
    """Its matrices are parameters that get the gradients of their weights."""
    agent, _ = played(compiled("eprop-adaptive"))
    start = compiled("eprop-adaptive").init()
    (name,) = [name for name in start if name == "h->actor.feedback"]
    assert not np.allclose(agent.stream.params[name], start[name])


WRONG = {
    "the losses": (lambda: ActorCritic(compiled(), compiled().init(), None, batch=1, actor="h"), "has losses on"),
    "the axis of the batch": (
        lambda: ActorCritic(compiled(per_sample=False), compiled().init(), None, batch=1),
        "per_sample=True",
    ),
    "a step before the first": (
        lambda: ActorCritic(compiled(), compiled().init(), None, batch=1).step([[0, 0]], [0], [True]),
        "Call begin first",
    ),
    "an observation": (
        lambda: ActorCritic(compiled(), compiled().init(), None, batch=2).begin(np.zeros((2, 3))),
        r"observations: expected shape \(2, 2\), got \(2, 3\)",
    ),
    "not a number": (
        lambda: ActorCritic(compiled(), compiled().init(), None, batch=1).begin([[0, np.nan]]),
        "observations: nan",
    ),
    "a value of two units": (
        lambda: ActorCritic(compiled(), compiled().init(), None, batch=1, actor="critic", critic="actor"),
        "a value is one number",
    ),
    "a discount": (lambda: TDSettings(discount=1.5), "'discount' must be from 0 to 1, got 1.5"),
    "an entropy": (lambda: TDSettings(entropy=-1), "'entropy' must be a number >= 0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused_in_our_words(what: str) -> None:
    call, words = WRONG[what]
    with pytest.raises(DataError, match=words):
        call()

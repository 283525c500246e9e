"""Are random layouts without bias? All draws of signs summed up on tiny nets; a confidence interval on larger ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from checks import ENGINES, error
from mutations import spread
from nets import declare, problem, vanilla

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.array_program import numpy_helpers
from forwardgrad.layouts import draws
from forwardgrad.ops import Array
from forwardgrad.testing import Problem, refactored

Patch = pytest.MonkeyPatch


def gradient(program: fg.Program, given: Problem, block: int) -> dict[str, Array]:
    return program.gradient(given.params, given.inputs, given.targets, block=block).grads


def patch_signs(patch: Patch, signs: Callable[..., Array]) -> None:
    """Draw other signs, in the interpreter and in array programs."""
    for module in (draws, numpy_helpers):
        patch.setattr(module, "signs", signs)


def mean_over_all_draws(given: Problem, rule: Any, block: int, patch: Patch) -> tuple[dict[str, Array], int]:
    """The mean gradient over every draw of signs, and how many there are.

    Parameters draw on their own, so that all of them can be given the same draws: each then sees every draw of its own
    equally often. One that asks for fewer signs in a block reads the first of them.
    """
    program = fg.compile(given.graph, loss=dict(given.loss), rule=rule)
    wide = dict[int, int]()

    def measure(seed: int, name: str, draw: int, count: int, shape: tuple[int, ...]) -> Array:
        assert shape[0] == 1, "one sample, or there are too many draws"
        wide[count] = max(wide.get(count, 0), shape[1])
        return np.ones(shape)

    patch_signs(patch, measure)
    gradient(program, given, block)
    # Nothing reads what the last block leaves behind, but the losses of its last step do read its compression.
    count = sum(wide.values())
    assert count <= 14
    total: dict[str, Array] = {}
    for number, flat in enumerate(itertools.product((-1.0, 1.0), repeat=count)):
        ends = np.cumsum([wide[count] for count in sorted(wide)])
        by_block = dict(zip(sorted(wide), np.split(np.array(flat), ends[:-1]), strict=True))

        def signs(
            seed: int, name: str, draw: int, count: int, shape: tuple[int, ...], by_block: Any = by_block
        ) -> Array:
            return by_block[count][None, : shape[1]]

        patch_signs(patch, signs)
        found = gradient(program, given, block)
        total = {name: g + total[name] if number else g for name, g in found.items()}
    return {name: g / 2**count for name, g in total.items()}, count


def tiny(**recurrent: Any) -> Any:
    """Two units, one input, a bias; no biases where the recurrent edge says `bias=False`."""
    bias = recurrent.pop("bias", True)
    return declare(
        {"x": {"op": "input", "size": 1}, "h": {"op": "tanh", "size": 2, "bias": bias}}
        | {"y": {"op": "linear", "size": 1}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"weight": "dense", "delay": 1} | recurrent),
        ("h", "y", {"weight": "dense"}),
    )


def leaky_pair() -> Any:
    """A drive that mixes and a leaky state, so that influence lives on a node that is not the parameter's own."""
    return declare(
        {"x": {"op": "input", "size": 1}, "a": {"op": "tanh", "size": 1, "bias": True}, "h": {"op": "linear"}}
        | {"y": {"op": "linear", "size": 1}},
        ("x", "a", {"weight": "dense"}),
        ("h", "a", {"weight": "dense", "delay": 1}),
        ("h", "h", {"weight": "scalar", "delay": 1}),
        ("a", "h", {"value": 0.4}),
        ("h", "y", {"weight": "dense"}),
        ("y", "y", {"value": 0.5, "delay": 1}),
    )


NETS = {"vanilla": tiny(), "two steps late": tiny(delay=2), "leaky": leaky_pair()}
NETS["a delay line"] = refactored(NETS["two steps late"], {"h->h": 1})


@pytest.mark.parametrize(
    ("net", "block", "steps"),
    [
        (net, *length)
        for net in NETS
        for length in ((1, 3), (2, 4), (2, 5))
        if (net, length) != ("a delay line", (1, 3))
    ],
)
def test_uoro_has_no_bias(net: str, block: int, steps: int, monkeypatch: Patch) -> None:
    """If this fails, the mean over all draws of signs is another gradient than that of RTRL."""
    if net in ("two steps late", "a delay line"):
        steps = min(steps, 3 if block == 1 else 4)
    given = problem(NETS[net], "y", steps=steps, batch=1, gain=1.5)
    wanted = oracle.reverse(**given.arguments).grads
    assert all(np.abs(g).max() > 1e-4 for g in wanted.values())
    found, draws = mean_over_all_draws(given, "uoro", block, monkeypatch)
    assert draws >= 2
    assert error(found, wanted) < 1e-10
    one = gradient(fg.compile(given.graph, loss={"y": "mse"}, rule="uoro"), given, block)
    assert error(one, wanted) > 1e-3  # a single draw is another gradient


@pytest.mark.parametrize("delay", [1, 2])
@pytest.mark.parametrize(("block", "steps"), [(1, 4), (2, 5), (2, 6)])
def test_kf_rtrl_has_no_bias(delay: int, block: int, steps: int, monkeypatch: Patch) -> None:
    """If this fails, the mean over all draws of signs is another gradient than that of RTRL."""
    given = problem(tiny(delay=delay, bias=False), "y", steps=steps, batch=1, gain=1.5)
    wanted = oracle.reverse(**given.arguments).grads
    assert all(np.abs(g).max() > 1e-4 for g in wanted.values())
    found, draws = mean_over_all_draws(given, "kf-rtrl", block, monkeypatch)
    assert draws >= 4
    assert error(found, wanted) < 1e-10
    one = gradient(fg.compile(given.graph, loss={"y": "mse"}, rule="kf-rtrl"), given, block)
    assert error(one, wanted) > 1e-3


def larger(rule: str) -> Problem:
    graph = vanilla()
    if rule == "kf-rtrl":
        del graph.nodes["h"]["bias"]
    return problem(graph, "y", steps=6, batch=12, gain=1.5)


@pytest.mark.parametrize("rule", ["uoro", "kf-rtrl"])
@pytest.mark.parametrize("block", [1, 4])
def test_the_mean_over_seeds_is_within_its_error_of_the_exact_gradient(rule: str, block: int) -> None:
    """If this fails, signs are not independent, or not even, over parameters, samples, blocks or seeds."""
    given, draws = larger(rule), 100
    wanted = oracle.reverse(**given.arguments).grads
    found: list[Array] = []
    for seed in range(draws):
        program = fg.compile(given.graph, loss=dict(given.loss), rule=f"{rule}; seed={seed}")
        grads = gradient(program, given, block)
        found.append(np.concatenate([grads[name].ravel() for name in wanted]))
    exact = np.concatenate([g.ravel() for g in wanted.values()])
    mean, deviation = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
    spread = deviation / np.sqrt(draws)
    assert deviation.max() > 0.1 * np.abs(exact).max()  # there is noise
    assert spread.max() < 0.2 * np.abs(exact).max()  # and it is small enough by now to say something
    assert np.all(np.abs(mean - exact) <= 4 * spread + 1e-10)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("rule", spread.RULES)
def test_an_estimate_is_the_published_one(rule: str, backend: str) -> None:
    """If this fails, factors, signs or their order are not those of the paper, also where the mean is still right."""
    of = spread.given()
    program = fg.compile(of.graph, {"y": "mse"}, {"h->h": f"{rule}; seed=4", "*": "rtrl"}, backend=backend)
    count = 3 if rule == "uoro" else 2
    for draw in (0, 5):
        signs = [draws.signs(4, "h->h", draw, t, (of.batch, count)) for t in range(of.steps)]
        wanted = spread.by_hand(rule, of, np.array([signs]))[0]
        found = program.gradient(of.params, of.inputs, of.targets, block=1, draw=draw).grads["h->h"]
        assert np.abs(wanted).max() > 1e-2
        assert np.abs(found - wanted).max() <= 1e-10 * np.abs(wanted).max()


@pytest.mark.parametrize("backend", ENGINES)
def test_estimates_have_no_more_noise_than_the_published_ones(backend: str) -> None:
    """If this fails, an estimate is right on average, and needs several times as many samples to be of use."""
    assert list(spread.wide(backend)) == []


# Draws: which signs, and when others.


def flat(grads: dict[str, Array]) -> Array:
    return np.concatenate([g.ravel() for g in grads.values()])


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("rule", ["uoro", "kf-rtrl"])
def test_noise_averages_out_over_calls(rule: str, backend: str) -> None:
    """If this fails, each sequence has the same signs, so that an estimate without bias is one with a bias in use."""
    given = larger(rule)
    wanted = flat(oracle.reverse(**given.arguments).grads)
    program = fg.compile(given.graph, loss=dict(given.loss), rule=rule, backend=backend)
    found = [flat(gradient(program, given, 1)) for _ in range(100)]
    one, all_of_them = (np.linalg.norm(each - wanted) for each in (found[0], np.mean(found, axis=0)))
    assert all_of_them < 0.3 * one  # a tenth is expected
    again = fg.compile(given.graph, loss=dict(given.loss), rule=rule, backend=backend)
    assert all(np.array_equal(flat(gradient(again, given, 1)), each) for each in found[:3])


@pytest.mark.parametrize("rule", ["uoro", "kf-rtrl"])
def test_noise_averages_out_over_episodes_of_a_learner(rule: str) -> None:
    """If this fails, a learner that is reset between episodes adds up the same noise for ever."""
    given = larger(rule)
    wanted = flat(oracle.reverse(**given.arguments).grads)
    program = fg.compile(given.graph, loss=dict(given.loss), rule=rule)
    rate, episodes = 1e-7, 100

    def learned(count: int) -> Array:
        """The mean gradient that a learner followed."""
        ours = fg.Learner(program, given.params, fg.SGD(rate))
        for _ in range(count):
            ours.reset()
            ours.fit([(given.inputs, given.targets)], block=1)
        assert ours.episodes == count
        return flat({name: (given.params[name] - ours.params[name]) / rate / count for name in program.rules})

    one, many = learned(1), learned(episodes)
    assert np.linalg.norm(many - wanted) < 0.3 * np.linalg.norm(one - wanted)
    assert np.array_equal(many, learned(episodes))  # two learners that are built alike learn alike


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", ["uoro", "kf-rtrl"])
def test_a_draw_repeats_a_run_and_another_draw_does_not(rule: str, dtype: str) -> None:
    """If this fails, a run cannot be repeated, single precision cannot count, or numbers of draws mean nothing."""
    given, last = larger(rule), draws.PERIOD - 1
    program = fg.compile(given.graph, loss=dict(given.loss), rule=rule, dtype=dtype)
    call = (given.params, given.inputs, given.targets)
    first = {draw: program.gradient(*call, block=2, draw=draw).grads for draw in (0, 1, last - 1, last)}
    for draw, grads in first.items():
        assert error(program.gradient(*call, block=2, draw=draw).grads, grads) == 0
        assert error(program.record(*call, block=2, draw=draw).grads, grads) == 0
        assert all(error(other, grads) > 1e-3 for number, other in first.items() if number != draw)
    state = program.start(given.batch, draw=last)
    total = dict[str, Array]()
    for at in range(0, given.steps, 2):
        x, y = given.inputs["x"][at : at + 2], given.targets["y"][at : at + 2]
        state, step = program.step(given.params, {"x": x}, {"y": y}, state=state)
        total = {name: g + total.get(name, 0) for name, g in step.grads.items()}
    assert error(total, first[last]) < 1e-5
    assert error(program.gradient(*call, block=2).grads, first[0]) == 0  # the counter was not moved by any of these


@pytest.mark.parametrize("draw", [-1, draws.PERIOD, 0.5, True, "1", 10**400])
def test_what_is_no_draw_is_refused(draw: Any) -> None:
    """If this fails, a number that single precision cannot hold ends in other signs, or in an error of NumPy's."""
    given = larger("uoro")
    program = fg.compile(given.graph, loss=dict(given.loss), rule="uoro")
    for call in (program.gradient, program.record):
        with pytest.raises(fg.DataError, match="draw must be a whole number from 0 to 8,388,607"):
            call(given.params, given.inputs, given.targets, draw=draw)
    with pytest.raises(fg.DataError, match="start: draw must be"):
        program.start(draw=draw)


@pytest.mark.parametrize("backend", ENGINES)
def test_a_reset_goes_on_counting(backend: str) -> None:
    """If this fails, samples that start afresh get the signs again that they have had."""
    given = larger("uoro")
    program = fg.compile(given.graph, loss=dict(given.loss), rule="uoro", backend=backend)
    state = program.start(given.batch, draw=2)
    for _ in range(3):
        state, _ = program.step(given.params, given.inputs, given.targets, state=state)
    for where in (np.arange(given.batch) < 5, np.ones(given.batch, bool)):
        again = program.reset(state, where)
        for key in again:
            if key.endswith(('"draw"]', '"blocks"]')):
                assert again[key].ravel().tolist() == [2 if key.endswith('"draw"]') else 3] * given.batch
                assert not np.shares_memory(again[key], state[key])
            else:
                assert np.array_equal(again[key][:, where], program.start(given.batch)[key][:, where])


def test_counters_measure_nothing() -> None:
    """If this fails, the norm of a state grows with the number of a draw."""
    given = larger("uoro")
    program = fg.compile(given.graph, loss=dict(given.loss), rule="uoro")
    for draw in (0, 10**6):
        state, step = program.step(
            given.params, given.inputs, given.targets, state=program.start(given.batch, draw=draw)
        )
        arrays = [a for key, a in state.items() if not key.endswith(('"draw"]', '"blocks"]'))]
        assert step.state_norm == pytest.approx(np.sqrt(sum(np.sum(a * a) for a in arrays)))


def test_other_rules_draw_nothing() -> None:
    """If this fails, numbers of draws change what has no noise."""
    given = larger("uoro")
    program = fg.compile(given.graph, loss=dict(given.loss), rule="rtrl")
    call = (given.params, given.inputs, given.targets)
    wanted = program.gradient(*call, block=2).grads
    assert all(error(program.gradient(*call, block=2, draw=draw).grads, wanted) == 0 for draw in (None, 0, 7))
    assert not any("draw" in key for key in program.start(2, draw=5))


@pytest.mark.parametrize("rule", ["uoro", "kf-rtrl"])
def test_a_seed_repeats_a_run_and_another_seed_does_not(rule: str) -> None:
    """If this fails, a run cannot be repeated, or all seeds are one."""
    given = larger(rule)
    one, same, other = (
        gradient(fg.compile(given.graph, loss=dict(given.loss), rule=text), given, 2)
        for text in (f"{rule}; seed=7", f"{rule}; seed=7", f"{rule}; seed=8")
    )
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert error(one, other) > 1e-3


@pytest.mark.parametrize(
    ("graph", "name"),
    [
        (vanilla(weight="diagonal"), "h->h"),
        (vanilla(weight="scalar"), "h->h"),
        (vanilla(weight="sparse", mask=[[0, 1, 0], [0, 0, 1], [1, 0, 0]]), "h->h"),
    ],
    ids=["diagonal", "scalar", "sparse"],
)
def test_kf_rtrl_refuses_what_is_no_kronecker_product(graph: Any, name: str) -> None:
    """If this fails, influence that is no such product is forced into one."""
    del graph.nodes["h"]["bias"]
    with pytest.raises(
        fg.RuleError, match=f"layout 'kronecker' needs a dense weight on one edge, and parameter '{name}'"
    ):
        fg.compile(graph, loss={"y": "mse"}, rule="kf-rtrl")
    mixed = fg.compile(graph, loss={"y": "mse"}, rule={name: "rtrl", "*": "kf-rtrl"})
    assert mixed.rules[name].exact
    assert not mixed.rules["x->h"].exact


def test_kf_rtrl_refuses_a_shared_weight() -> None:
    """If this fails, two injections are squeezed into one product."""
    graph = vanilla(param="W")
    del graph.nodes["h"]["bias"]
    graph.add_edge("h", "h", key="tied", weight="dense", delay=2, param="W")
    with pytest.raises(fg.RuleError, match="parameter 'W' is a dense weight on 2 edges"):
        fg.compile(graph, loss={"y": "mse"}, rule="kf-rtrl")

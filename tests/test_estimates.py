"""Are random layouts without bias? All draws of signs summed up on tiny nets; a confidence interval on larger ones."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from checks import error
from nets import declare, problem, vanilla

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.backends import estimates
from forwardgrad.ops import Array
from forwardgrad.testing import Problem, refactored

Patch = pytest.MonkeyPatch


def gradient(program: fg.Program, given: Problem, block: int) -> dict[str, Array]:
    return program.gradient(given.params, given.inputs, given.targets, block=block).grads


def mean_over_all_draws(given: Problem, rule: Any, block: int, patch: Patch) -> tuple[dict[str, Array], int]:
    """The mean gradient over every draw of signs, and how many there are.

    Parameters draw on their own, so that all of them can be given the same draws: each then sees every draw of its own
    equally often. One that asks for fewer signs in a block reads the first of them.
    """
    program = fg.compile(given.graph, loss=dict(given.loss), rule=rule)
    wide = dict[int, int]()

    def measure(seed: int, name: str, count: int, shape: tuple[int, ...]) -> Array:
        assert shape[0] == 1, "one sample, or there are too many draws"
        wide[count] = max(wide.get(count, 0), shape[1])
        return np.ones(shape)

    patch.setattr(estimates, "signs", measure)
    gradient(program, given, block)
    # Nothing reads what the last block leaves behind, but the losses of its last step do read its compression.
    draws = sum(wide.values())
    assert draws <= 14
    total: dict[str, Array] = {}
    for number, flat in enumerate(itertools.product((-1.0, 1.0), repeat=draws)):
        ends = np.cumsum([wide[count] for count in sorted(wide)])
        by_block = dict(zip(sorted(wide), np.split(np.array(flat), ends[:-1]), strict=True))

        def signs(seed: int, name: str, count: int, shape: tuple[int, ...], by_block: Any = by_block) -> Array:
            return by_block[count][None, : shape[1]]

        patch.setattr(estimates, "signs", signs)
        found = gradient(program, given, block)
        total = {name: g + total[name] if number else g for name, g in found.items()}
    return {name: g / 2**draws for name, g in total.items()}, draws


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


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(("block", "steps"), [(1, 3), (2, 4), (2, 5)])
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
    given, draws = larger(rule), 200
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
    assert spread.max() < 0.15 * np.abs(exact).max()  # and it is small enough by now to say something
    assert np.all(np.abs(mean - exact) <= 4 * spread + 1e-10)


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
        (vanilla(), "h.bias"),
        (vanilla(weight="diagonal"), "h->h"),
        (vanilla(weight="scalar"), "h->h"),
        (vanilla(weight="sparse", mask=[[0, 1, 0], [0, 0, 1], [1, 0, 0]]), "h->h"),
    ],
    ids=["bias", "diagonal", "scalar", "sparse"],
)
def test_kf_rtrl_refuses_what_is_no_kronecker_product(graph: Any, name: str) -> None:
    """If this fails, influence that is no such product is forced into one."""
    if name != "h.bias":
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
    with pytest.raises(fg.RuleError, match="parameter 'W' is a dense on 2"):
        fg.compile(graph, loss={"y": "mse"}, rule="kf-rtrl")

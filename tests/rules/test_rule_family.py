"""Does every row of the table do what it says: against the oracle, against its relatives, and against SnAp by hand?"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks import TOLERANCE, assert_like_oracle, error
from nets import declare, problem, stack, vanilla

import forwardgrad as fg
from forwardgrad import cells, oracle
from forwardgrad.ops import Array
from forwardgrad.rules import table as rules
from forwardgrad.testing import Problem

ARGUMENTS = {"hops": "(2)", "snap": "(2)", "window": "(2)", "dsf": "(0.5)"}
TEXTS = {name: name + ARGUMENTS.get(name, "") for name in rules.RULES}
LOSSLESS = [text for text in TEXTS.values() if (found := rules.rule(text)).layout == "lossless" and found.carry]


def lif_problem() -> Problem:
    graph = declare({"x": {"op": "input", "size": 3}})
    cells.lif(graph, "l", input="x", size=4, threshold=0.5, dampening=0.6, width=2.0)
    cells.readout(graph, "y", input="l.z", size=2)
    given = problem(graph, "y", steps=10, gain=2.0)
    assert 0.05 < oracle.forward(graph, given.params, given.inputs)["l.z"].mean() < 0.9
    return given


def lstm_problem() -> Problem:
    graph = declare({"x": {"op": "input", "size": 2}})
    cells.lstm(graph, "l", input="x", size=3)
    cells.readout(graph, "y", input="l.h", size=2)
    return problem(graph, "y", steps=8, gain=1.5)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "stack": lambda: problem(stack(), "y", steps=8, gain=1.5),
    "lstm": lstm_problem,
    "lif": lif_problem,
}


def with_feedback(given: Problem, program: fg.Program) -> Problem:
    """The problem with matrices of adaptive feedback that are not the weights."""
    random = np.random.default_rng(5)
    given.params.update({name: random.normal(size=p.shape) for name, p in program.plan.parameters.items()
                         if name not in given.params})  # fmt: skip
    return given


def gradient(given: Problem, rule: Any, block: int) -> dict[str, Array]:
    program = fg.compile(given.graph, loss=dict(given.loss), rule=rule, dead="ignore")
    return program.gradient(given.params, given.inputs, given.targets, block=block).grads


@pytest.mark.parametrize("net", PROBLEMS)
@pytest.mark.parametrize("rule", LOSSLESS)
def test_every_lossless_rule_gives_the_oracles_gradient(net: str, rule: str) -> None:
    """If this fails, a row of the table computes another gradient than its coordinates say."""
    given = PROBLEMS[net]()
    program = fg.compile(given.graph, loss=dict(given.loss), rule=rule)
    given = with_feedback(given, program)
    found = assert_like_oracle(given, rule, blocks=(1, 3))
    wanted = oracle.reverse(**given.arguments, rule=rule).grads
    live = [name for name in wanted if np.abs(wanted[name]).max() > 1e-6]
    assert set(live) == set(wanted)
    expected = set(given.network.trainable) - set(program.plan.untrained)
    assert found.rules.keys() == expected


DIFFERENT = {
    "immediate": "rtrl", "eprop": "rtrl", "eprop-deep": "eprop", "eprop-random": "eprop", "eprop-adaptive": "eprop",
    "hops(2)": "rtrl", "ostl": "eprop", "dsf(0.5)": "rtrl", "window(2)": "rtrl",
}  # fmt: skip


@pytest.mark.parametrize(("rule", "other"), DIFFERENT.items())
def test_rules_differ_on_a_leaky_stack(rule: str, other: str) -> None:
    """If this fails, the equalities above hold since rules do not matter on these nets."""
    given = problem(stack(), "y", steps=8, gain=1.5)
    given = with_feedback(given, fg.compile(given.graph, loss=dict(given.loss), rule=rule))
    one = oracle.reverse(**given.arguments, rule=rule).grads
    plain = {name: p for name, p in given.params.items() if name in given.network.parameters}
    two = oracle.reverse(**{**given.arguments, "params": plain}, rule=other).grads
    assert error({name: one[name] for name in two}, two) > 1e-3


@pytest.mark.parametrize("net", PROBLEMS)
def test_hops_and_windows_that_hold_every_path_are_rtrl(net: str) -> None:
    """If this fails, a path of a whole sequence is lost, or counted at two numbers of hops."""
    given = PROBLEMS[net]()
    exact = oracle.reverse(**given.arguments).grads
    # A step crosses at most two explicit edges here: the recurrent weight, and in an LSTM none within the step.
    for rule in (f"hops({2 * given.steps})", f"window({given.steps})"):
        for block in (1, 3):
            assert error(gradient(given, rule, block), exact) <= TOLERANCE
    short = [gradient(given, rule, 1) for rule in ("hops(2)", "window(1)")]
    assert all(error(grads, exact) > 1e-4 for grads in short)


def test_tbptt_is_exact_in_one_block_and_drops_what_crosses_ends() -> None:
    """If this fails, tbptt carries, or drops paths inside a block."""
    given = problem(stack(), "y", steps=8, gain=1.5)
    exact = oracle.reverse(**given.arguments).grads
    assert error(gradient(given, "tbptt", 8), exact) <= TOLERANCE
    for block in (1, 3):
        found = gradient(given, "tbptt", block)
        assert error(found, oracle.reverse(**given.arguments, rule="tbptt", block=block).grads) <= TOLERANCE
        assert error(found, exact) > 1e-3
    assert error(gradient(given, "tbptt", 1), gradient(given, "immediate", 1)) <= TOLERANCE


@pytest.mark.parametrize("net", PROBLEMS)
def test_a_reservoir_trains_the_readout_exactly_and_nothing_recurrent(net: str) -> None:
    """If this fails, recurrent weights are trained, or have a gradient of zero in place of none."""
    given = PROBLEMS[net]()
    program = fg.compile(given.graph, loss=dict(given.loss), rule="reservoir")
    exact = oracle.reverse(**given.arguments).grads
    found = program.gradient(given.params, given.inputs, given.targets, block=3).grads
    readout = {name for name in exact if name.endswith("->y") or name == "y.bias"}
    assert found.keys() == readout == program.rules.keys()
    assert set(program.plan.untrained) == exact.keys() - readout
    assert error(found, {name: exact[name] for name in readout}) <= TOLERANCE
    assert program.init().keys() == given.params.keys()
    assert all(program.rules[name].exact for name in readout)


# Different rules for different parameters.


@pytest.mark.parametrize("block", [1, 3])
def test_each_parameter_has_the_gradient_of_its_own_rule(block: int) -> None:
    """If this fails, rules in one network disturb each other."""
    given = problem(stack(), "y", steps=8, gain=1.5)
    for choice in (
        {"x->a1": "rtrl", "h1->a1": "eprop", "*": "eprop-deep"},
        {"x->a1": "snap(1)", "h1->a1": "snap(2)", "h2->a2": "hops(2)", "*": "eprop-random"},
        {"*1": "snap(1)", "*2": "window(2)", "*": "rtrl"},
        {"x->*": "eprop; feedback=random, seed=3", "h1->a1": "rtrl; carry=False", "*": "dsf(0.4)"},
    ):
        found = gradient(given, choice, block)
        alone = {rule: gradient(given, rule, block) for rule in choice.values()}
        program = fg.compile(given.graph, loss=dict(given.loss), rule=choice)
        for name, g in found.items():
            rule = str(program.rules[name].rule)
            assert error({name: g}, {name: alone[rule][name]}) <= TOLERANCE, (name, rule)
        first, *others = choice.values()
        assert [rule for rule in others if error(alone[rule], alone[first]) < 1e-4] == []


# SnAp.


def ring(size: int = 5) -> Any:
    """A layer whose units each hear their two neighbours, and not themselves."""
    mask = np.roll(np.eye(size, dtype=int), 1, axis=0) | np.roll(np.eye(size, dtype=int), -1, axis=0)
    return declare(
        {"x": {"op": "input", "size": 2}, "h": {"op": "tanh", "size": size}, "y": {"op": "linear", "size": 2}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"weight": "sparse", "mask": mask, "delay": 1}),
        ("h", "y", {"weight": "dense"}),
    )


def matrix(given: Problem) -> tuple[Array, Array]:
    """The recurrent weight as a matrix, and where it has entries."""
    edge = given.network.edges["h->h"]
    if edge.pattern is None:
        return given.params["h->h"], np.ones_like(given.params["h->h"], dtype=bool)
    weight, where = np.zeros(edge.pattern.shape), np.zeros(edge.pattern.shape, dtype=bool)
    weight[edge.pattern.rows, edge.pattern.columns] = given.params["h->h"]
    where[edge.pattern.rows, edge.pattern.columns] = True
    return weight, where


def reach(where: Array, order: int) -> Array:
    """Which units (rows) a unit (column) reaches within `order - 1` steps of the recurrence."""
    found = step = np.eye(len(where), dtype=bool)
    for _ in range(order - 1):
        step = (where.astype(int) @ step.astype(int)) > 0
        found = found | step
    return found


def snap_by_hand(given: Problem, order: int) -> tuple[dict[str, Array], dict[str, int]]:
    """S(t) = M * (D(t) S(t-1) + I(t)), g = sum of c(t) S(t), per batch; and how many entries of S are kept."""
    values = oracle.forward(given.graph, given.params, given.inputs)
    weight, where = matrix(given)
    units, y = len(weight), values["y"]
    signal = 2 * (y - given.targets["y"]) / (y.shape[1] * y.shape[2]) @ given.params["h->y"]
    late = np.concatenate([np.zeros_like(values["h"][:1]), values["h"][:-1]])
    dense = np.ones((units, 2), dtype=bool)
    grads, kept = dict[str, Array](), dict[str, int]()
    for name, read, synapses in (("x->h", values["x"], dense), ("h->h", late, where)):
        mask = reach(where, order)[:, :, None] & synapses[None]
        s, total = np.zeros((given.batch, *mask.shape)), np.zeros(synapses.shape)
        for t in range(given.steps):
            slope = 1 - values["h"][t] ** 2
            carried = np.einsum("bi,ij,bjkl->bikl", slope, weight, s)
            s = mask * (carried + np.einsum("bi,ik,bl->bikl", slope, np.eye(units), read[t]))
            total += np.einsum("bi,bikl->kl", signal[t], s)
        kept[name] = int(mask.sum())
        grads[name] = total[synapses] if name == "h->h" and not where.all() else total
    return grads, kept


def plain(**recurrent: Any) -> Any:
    graph = vanilla(**recurrent)
    del graph.nodes["h"]["bias"]
    return graph


@pytest.mark.parametrize("net", ["dense", "ring"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_snap_is_the_published_recursion_and_stores_kept_entries_only(net: str, order: int) -> None:
    """If this fails, the pattern of SnAp is another one, it is applied at another time, or zeros are stored."""
    given = problem(plain() if net == "dense" else ring(), "y", steps=9, gain=1.5)
    expected, kept = snap_by_hand(given, order)
    program = fg.compile(given.graph, loss=dict(given.loss), rule=f"snap({order})")
    found = program.gradient(given.params, given.inputs, given.targets, block=1).grads
    assert error({name: found[name] for name in expected}, expected) <= TOLERANCE
    assert {name: program.rules[name].bytes // 8 for name in kept} == kept
    state = program.start(given.batch)
    stored = sum(array.size for key, array in state.items() if key.startswith("influence"))
    assert stored == given.batch * sum(kept.values())
    exact = oracle.reverse(**given.arguments).grads
    full = order >= (2 if net == "dense" else 3)
    assert (error(found, exact) <= TOLERANCE) is full
    assert error(expected, snap_by_hand(given, order % 3 + 1)[0]) > 1e-4 or full


def test_snap_past_the_diameter_is_rtrl() -> None:
    """If this fails, SnAp never becomes exact, or its order is one off."""
    dense, sparse = problem(plain(), "y", steps=9), problem(ring(7), "y", steps=12, gain=1.5)
    for given, order in ((dense, 2), (sparse, 4)):  # on a ring of seven, three steps reach every unit
        exact = oracle.reverse(**given.arguments).grads
        for block in (1, 4):
            assert error(gradient(given, f"snap({order})", block), exact) <= TOLERANCE
            assert error(gradient(given, f"snap({order - 1})", block), exact) > 1e-6


def test_hops_keep_a_part_of_what_snap_keeps() -> None:
    """If this fails, one of the two counts units or edges wrongly: snap lets credit go back and forth, hops do not."""
    step = matrix(problem(ring(5), "y"))[1].astype(int)
    for order in (1, 2, 3):
        by_hops = by_snap = np.eye(5, dtype=int)  # number of kept paths from unit to unit after t steps
        mask = reach(step, order)
        for t in range(1, 9):
            by_hops = step @ by_hops if t < order else 0 * step
            by_snap = mask * (step @ by_snap)
            assert np.all(by_hops <= by_snap)
        assert by_hops.sum() == 0
        assert by_snap.any() == (order > 1)
    given = problem(ring(5), "y", steps=9, gain=1.5)
    # A weight of one on every path, so that gradients count paths: linear units, influence and signal positive.
    linear = problem(ring(5), "y", steps=9)
    linear.graph.nodes["h"]["op"] = "linear"
    linear.params.update(
        {name: np.ones_like(p) * (0.1 if name != "h->h" else 1.0) for name, p in linear.params.items()}
    )
    linear.inputs["x"] = np.ones_like(linear.inputs["x"])
    linear.targets["y"] = np.full_like(linear.targets["y"], -1.0)
    for order in (1, 2, 3):
        hops, snap = (gradient(linear, f"{rule}({order})", 1) for rule in ("hops", "snap"))
        assert all(np.all(hops[name] <= snap[name] + 1e-12) for name in hops)
        one, other = gradient(given, f"hops({order})", 1), gradient(given, f"snap({order})", 1)
        assert (error(one, other) > 1e-3) is (order > 1)


def test_snap_1_is_hops_1_exactly_when_autapses_are_absent_or_implicit() -> None:
    """If this fails, autapses are a part of the carry where they should not be, or missing where they should."""
    without = problem(ring(5), "y", steps=9, gain=1.5)
    having = problem(plain(), "y", steps=9, gain=1.5)
    no_diagonal = problem(plain(weight="sparse", mask=1 - np.eye(3, dtype=int)), "y", steps=9, gain=1.5)
    for given in (without, having, no_diagonal):
        snap = gradient(given, "snap(1)", 1)
        for block in (1, 4):
            assert error(gradient(given, "hops(1); autapses=implicit", block), snap) <= TOLERANCE
            assert (error(gradient(given, "hops(1)", block), snap) > 1e-3) is (given is having)


# What is saved.


@pytest.mark.parametrize("rule", TEXTS.values())
def test_a_learner_under_every_rule_is_saved_and_goes_on_bit_for_bit(rule: str, tmp_path: Path) -> None:
    """If this fails, a checkpoint forgets a coordinate of the rule, or what a layout stores."""
    graph = vanilla(delay=2) if rule != "kf-rtrl" else plain(delay=2)
    given = problem(graph, "y", steps=12)
    pieces = [({"x": given.inputs["x"][cut]}, {"y": given.targets["y"][cut]}) for cut in (slice(0, 5), slice(5, None))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program = fg.compile(given.graph, loss=dict(given.loss), rule=rule)
        straight, halted = (fg.Learner(program, program.init(1), fg.Adam(0.01)) for _ in range(2))
        straight.fit(pieces, block=3)
        halted.fit(pieces[:1], block=3)
        halted.save(tmp_path / "half.npz")
        resumed = fg.Learner.load(tmp_path / "half.npz")
    assert resumed.program.chosen == program.chosen
    resumed.fit(pieces[1:], block=3)
    assert resumed.params.keys() == straight.params.keys()
    for name, array in straight.params.items():
        assert np.array_equal(resumed.params[name], array), name
    assert resumed.state is not None
    assert straight.state is not None
    assert resumed.state.keys() == straight.state.keys()
    assert all(np.array_equal(resumed.state[key], array) for key, array in straight.state.items())
    trained = {*program.rules, *program.plan.followers}
    start = program.init(1)
    for name, array in straight.params.items():
        assert np.array_equal(array, start[name]) is (name not in trained), name

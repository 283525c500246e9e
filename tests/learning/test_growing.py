"""Does a learner that grows lose anything: a parameter, a memory, a trace? And is each of its stages exact?"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from c_backend import skip_without
from checks import TOLERANCE, assert_like_oracle, error
from nets import declare, problem

import forwardgrad as fg
from forwardgrad import cells, oracle
from forwardgrad.graph import validate
from forwardgrad.learning.freezing import frozen
from forwardgrad.learning.growth import add_stage, grown
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.learning.transforms import Clipped

STEPS, BATCH = 12, 2


def first(size: int = 3) -> nx.MultiDiGraph[str]:
    """One stage of columns that read `x`; `late` is an input that nobody reads yet."""
    graph = declare({"x": {"op": "input", "size": 2}, "late": {"op": "input", "size": 2}})
    graph.add_node("y", op="linear", size=1, bias=True)
    graph.add_edge("late", "y", value=np.zeros((1, 2)), weight="dense")
    return add_stage(graph, "s1", ["x"], size, "y", decay=0.9)


def data(steps: int = STEPS, seed: int = 3) -> tuple[dict[str, Any], dict[str, Any]]:
    random = np.random.default_rng(seed)
    inputs = {name: 1.5 * random.normal(size=(steps, BATCH, 2)) for name in ("x", "late")}
    return inputs, {"y": random.normal(size=(steps, BATCH, 1))}


def split(arrays: dict[str, Any], at: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return {n: a[:at] for n, a in arrays.items()}, {n: a[at:] for n, a in arrays.items()}


def lively(program: fg.Program, seed: int = 0) -> dict[str, Any]:
    """Parameters of which none is zero, but for the candidates' biases of the second stage: see below."""
    random = np.random.default_rng(seed)
    params = program.init(seed)
    return {n: p + 0.3 * random.normal(size=p.shape) * (n != "s2.g.bias") for n, p in params.items()}


@pytest.mark.parametrize("backend", ["interpreter", "numpy", pytest.param("jax", marks=pytest.mark.slow), "c"])
def test_what_is_carried_over_makes_the_gradient_exact(backend: str) -> None:
    """If this fails, a trace or a value of the past is lost, or one that is new has a past.

    Columns of the second stage see `late` alone, which is zero at first. With a bias of zero their candidates are, too,
    and so is their state. So the larger network, run from the start, is one that began to be there later.
    """
    skip_without(backend)
    began = 7
    small = fg.compile(first(), {"y": "mse"}, backend=backend)
    features = cells.columnar_lstm(graph := nx.MultiDiGraph(first()), "s2", input="late", size=2)
    graph.add_edge(features, "y", weight="dense")
    large = fg.compile(graph, {"y": "mse"}, backend=backend)
    params = lively(large)
    inputs, targets = data()
    inputs["late"][:began] = 0
    before, after = zip(split(inputs, began), split(targets, began), strict=True)
    mask = np.concatenate([np.zeros(began), np.ones(STEPS - began)])
    exact = oracle.reverse(graph, params, inputs, targets, {"y": "mse"}, mask=mask).grads

    learner = fg.Learner(small, {n: params[n] for n in small.plan.parameters}, fg.SGD(1e-300))
    learner.fit([before], block=3)
    continued = grown(learner, large)
    assert (continued.seen, continued.episodes) == (began, 1)
    state, found = continued.state, {name: np.zeros_like(g) for name, g in exact.items()}
    assert state is not None
    for at in range(0, STEPS - began, 2):
        piece = [{n: a[at : at + 2] for n, a in arrays.items()} for arrays in after]
        state, step = large.step(params, *piece, state=state)
        for name, g in step.grads.items():
            found[name] += g
    bias = {name: grads.pop("s2.g.bias") for name, grads in (("found", found), ("exact", exact))}
    assert error(found, exact) <= TOLERANCE
    assert error({"": bias["found"]}, {"": bias["exact"]}) > 1e-3, "it alone acts where its columns are not yet there"
    no_past = oracle.reverse(graph, params, after[0], after[1], {"y": "mse"}).grads
    assert all(error({n: no_past[n]}, {n: exact[n]}) > 1e-3 for n in ("x->s1.i", "s1.in->s1.i") if n in exact)


@pytest.mark.parametrize(
    "optimizer", [fg.SGD(0.05, momentum=0.9), Clipped(fg.Adam(0.01), norm=1.0)], ids=["sgd", "adam"]
)
@pytest.mark.parametrize("rule", ["rtrl", "eprop", "eprop-deep"])
def test_a_stage_that_says_nothing_changes_nothing(rule: str, optimizer: Optimizer) -> None:
    """If this fails, growing disturbs what is there: parameters, the optimizer's memory, values or traces."""
    learner = fg.Learner(small := fg.compile(first(), {"y": "mse"}, rule), small.init(4), optimizer)
    early, late = zip(*(split(arrays, 5) for arrays in data()), strict=True)
    learner.fit([early], block=2)
    graph = add_stage(first(), "s2", ["x", "s1.norm.h"], 2, "y", decay=0.9)
    larger = grown(learner, fg.compile(frozen(graph, "s2*"), {"y": "mse"}, rule))
    one, other = learner.fit([late], block=2), larger.fit([late], block=2)
    assert [update.loss for update in one] == pytest.approx([update.loss for update in other], rel=1e-13)
    for name, array in learner.params.items():
        assert larger.params[name] == pytest.approx(array, rel=1e-12, abs=1e-14)
    for name, array in learner.optimizer_state.items():
        assert larger.optimizer_state[name] == pytest.approx(array, rel=1e-9, abs=1e-14)
    assert not larger.params["s2.norm.h->y"].any()
    afresh = fg.Learner(larger.program, {**larger.program.init(4), **learner.params}, optimizer)
    assert abs(afresh.fit([late], block=2)[0].loss - one[0].loss) > 1e-6


def test_each_stage_is_exact_and_keeps_two_numbers_per_synapse() -> None:
    """If this fails, a stage's traces grow with the network, or its gradient is not that of the loss."""
    graph, learner, inputs_of = first(), None, 2
    for number in range(1, 4):
        given = problem(graph, "y", steps=8, gain=1.5)
        given.params.update(lively(fg.compile(graph, {"y": "mse"}), number))
        program = assert_like_oracle(given, "rtrl")
        trained = {name for name in program.rules if not name.endswith("->y") and name != "y.bias"}
        assert trained == {
            n for n in validate(graph).trainable if n.startswith(f"s{number}.") and not n.endswith("->y")
        }
        assert all(derived.exact for derived in program.rules.values())
        assert sum(program.rules[name].bytes for name in trained) == 8 * 2 * 3 * 4 * (inputs_of + 2)
        learner = fg.Learner(program, program.init(), fg.Adam(0.02)) if learner is None else grown(learner, program)
        learner.fit([data(40, seed=number)], block=1)
        features = [f"s{stage}.norm.h" for stage in range(1, number + 1)]
        keep = [f"{feature}->y" for feature in features] + ["y.bias"]
        fixed = [name for name in validate(graph).trainable if name not in keep]
        graph, inputs_of = (
            add_stage(frozen(graph, fixed), f"s{number + 1}", ["x", *features], 3, "y", decay=0.9),
            2 + 3 * number,
        )
    assert learner is not None
    assert learner.seen == 120
    assert all(learner.params[f"s{stage}.norm.h->y"].all() for stage in (1, 2, 3))


def test_frozen_stages_stay() -> None:
    """If this fails, what was frozen moves, or its readout does not."""
    learner = fg.Learner(small := fg.compile(first(), {"y": "mse"}), small.init(), fg.Adam(0.02))
    learner.fit([data(20)], block=1)
    graph = add_stage(frozen(first(), "s1.[ifog]*"), "s2", ["s1.norm.h"], 2, "y")
    with pytest.raises(fg.GraphError, match="fits no parameter"):
        frozen(first(), "S1.*")
    later = grown(learner, fg.compile(frozen(graph, ["s1.in->*", "s1.h->*"]), {"y": "mse"}))
    later.fit([data(20)], block=1)
    moved = {name for name in learner.params if not np.array_equal(learner.params[name], later.params[name])}
    assert moved == {"s1.norm.h->y", "y.bias"}
    assert np.abs(later.params["s2.in->s2.i"] - later.program.init()["s2.in->s2.i"]).max() > 1e-3


def test_what_cannot_be_carried_over_is_refused_by_name() -> None:
    """If this fails, a trace is dropped without a word, or growth ends in an error of NumPy."""
    learner = fg.Learner(small := fg.compile(first(), {"y": "mse"}), small.init(), fg.SGD(0.1))
    learner.fit([data()], block=3)
    with pytest.raises(fg.DataError, match=r"parameter 's1.f.bias' has shape \(3,\), and \(4,\)"):
        grown(learner, fg.compile(first(4), {"y": "mse"}))
    with pytest.raises(fg.DataError, match=r"influence of parameter 's1\.\S+' on node 's1\.[ch]' differently"):
        grown(learner, fg.compile(first(), {"y": "mse"}, "hops(2)"))
    with pytest.raises(fg.DataError, match="float64"):
        grown(learner, fg.compile(first(), {"y": "mse"}, dtype="float32"))
    for reads, output, name, words in (
        (["z"], "y", "s2", "no node 'z'"),
        (["x"], "z", "s2", "no node 'z'"),
        (["x"], "y", "s1", "'s1.in' already"),
    ):
        with pytest.raises(fg.GraphError, match=words):
            add_stage(first(), name, reads, 2, output)


def test_running_norm_is_its_equations_and_passes_credit_by_its_scale() -> None:
    """If this fails, features are normalised by other statistics, or credit flows through these."""
    graph = declare({"x": {"op": "input", "size": 2}, "a": {"op": "tanh", "size": 3}, "y": {"op": "linear", "size": 1}},
                    ("x", "a", {"weight": "dense"}))  # fmt: skip
    cells.running_norm(graph, "n", input="a", size=3, decay=0.8, floor=0.4)
    graph.add_edge("n.h", "y", weight="dense")
    given = problem(graph, "y", steps=15, gain=2.0)
    given.params["n.raised.bias"][:] = 0.4
    values = oracle.forward(graph, given.params, given.inputs)
    mean, variance, floors = np.zeros((2, 3)), np.ones((2, 3)), 0
    grad = np.zeros((3, 2))
    for t, a in enumerate(values["a"]):
        mean = 0.8 * mean + 0.2 * a
        variance = 0.8 * variance + 0.2 * (a - mean) ** 2
        scale = 1 / np.sqrt(np.maximum(variance, 0.4))
        floors += int((variance < 0.4).sum())
        assert values["n.h"][t] == pytest.approx((a - mean) * scale, rel=1e-12)
        signal = 2 * (values["y"][t] - given.targets["y"][t]) / 2
        grad += ((signal @ given.params["n.h->y"]) * scale * (1 - a**2)).T @ given.inputs["x"][t]
    assert 0 < floors < 15 * 6
    program = assert_like_oracle(given, "rtrl")
    assert program.rules["x->a"].bytes == 0
    assert error({"x->a": program.gradient(given.params, given.inputs, given.targets, block=4).grads["x->a"]},
                 {"x->a": grad}) <= TOLERANCE  # fmt: skip

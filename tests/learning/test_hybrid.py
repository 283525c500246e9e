"""Do a readout by least squares and layers that learn by gradients work together as they would step by step by hand?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from nets import declare

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.learning.freezing import frozen
from forwardgrad.learning.hybrid import HybridLearner
from forwardgrad.learning.least_squares import RLS


def network(units: int = 5) -> nx.MultiDiGraph[str]:
    """A fixed reservoir, a trained leaky layer on it, and a linear readout of both."""
    graph = declare({"x": {"op": "input", "size": 1}, "y": {"op": "linear", "size": 2, "bias": True}})
    pool = cells.reservoir(graph, "pool", input="x", size=units, leak=0.3)
    top = cells.leaky_tanh(graph, "top", input=pool, size=3)
    for name in (pool, top):
        graph.add_edge(name, "y", weight="dense")
    return graph


def data(steps: int = 40, batch: int = 2) -> tuple[dict[str, Any], dict[str, Any]]:
    x = np.random.default_rng(0).normal(size=(steps + 3, batch, 1))
    return {"x": x[3:]}, {"y": np.concatenate([x[1:-2] * x[2:-1], x[:-3]], axis=2)}


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "immediate"])
def test_blocks_are_steps_of_both_methods_by_hand(rule: str) -> None:
    """If this fails, a method sees weights of another time, or the readout is trained twice."""
    graph, (inputs, targets), rls = network(), data(), RLS(forgetting=0.98, ridge=0.1)
    program = fg.compile(graph, {"y": "mse"}, rule)
    hybrid = HybridLearner(program, program.init(1), fg.SGD(0.1), rls=rls)
    updates = hybrid.fit([(inputs, targets)], block=4)

    readout = ["pool.h->y", "top.h->y", "y.bias"]
    params, state, memory = program.init(1), program.start(2), rls.start(9, 2)
    for number, at in enumerate(range(0, 40, 4)):
        piece = [{n: a[at : at + 4] for n, a in arrays.items()} for arrays in (inputs, targets)]
        values = program.run(params, piece[0], state=state)
        state, step = program.step(params, *piece, state=state)
        assert updates[number].loss == pytest.approx(step.loss / 4, rel=1e-10)
        for name in step.grads.keys() - set(readout):
            params[name] = params[name] - 0.1 * step.grads[name] / 4
        features = np.concatenate([values["pool.h"], values["top.h"], np.ones((4, 2, 1))], axis=2)
        memory = rls.update(memory, features, piece[1]["y"])
        parts = np.split(memory["weights"], [5, 8], axis=1)
        params |= dict(zip(readout, (*parts[:2], parts[2][:, 0]), strict=True))
    assert hybrid.learner.params.keys() == params.keys()
    for name, array in params.items():
        assert hybrid.learner.params[name] == pytest.approx(array, rel=1e-9, abs=1e-12)
    assert np.abs(params["pool.h->top.a"] - program.init(1)["pool.h->top.a"]).max() > 1e-3


def test_masked_steps_are_left_out() -> None:
    """If this fails, steps that nobody asks for are fitted."""
    program = fg.compile(network(), {"y": "mse"})
    inputs, targets = data()
    mask = np.ones(40)
    mask[:12] = 0
    wild = {"y": targets["y"].copy()}
    wild["y"][:12] = 1e3
    one, other = (HybridLearner(program, program.init(), fg.SGD(0.05)) for _ in range(2))
    one.fit([(inputs, targets, mask)], block=5)
    other.fit([(inputs, wild, mask)], block=5)
    for name, array in one.learner.params.items():
        assert other.learner.params[name] == pytest.approx(array, abs=1e-12)


@pytest.mark.parametrize("given", [False, True], ids=["from the file", "given"])
def test_one_that_was_saved_goes_on_bit_for_bit(given: bool, tmp_path: Path) -> None:
    """If this fails, a run that was interrupted forgets what least squares knew, or Adam, or the traces."""
    program = fg.compile(network(), {"y": "mse"}, "eprop", dtype="float32")
    inputs, targets = data()
    halves = [tuple({n: a[at : at + 20] for n, a in arrays.items()} for arrays in (inputs, targets)) for at in (0, 20)]
    whole = HybridLearner(program, program.init(), fg.Adam(0.01), rls=RLS(forgetting=0.97, ridge=0.1), clip=1.0)
    whole.fit(halves[:1], block=4)
    whole.save(tmp_path / "hybrid.npz")
    fresh = HybridLearner(program, whole.learner.params, fg.Adam(0.01), rls=RLS(forgetting=0.97, ridge=0.1), clip=1.0)
    again = HybridLearner.load(tmp_path / "hybrid.npz", program if given else None)
    updates = [each.fit(halves[1:], block=4) for each in (whole, again, fresh)]
    assert [update.loss for update in updates[0]] == [update.loss for update in updates[1]]
    for name, array in whole.learner.params.items():
        np.testing.assert_array_equal(again.learner.params[name], array)
    for name, array in whole.readout.memory.items():
        np.testing.assert_array_equal(again.readout.memory[name], array)
    assert np.abs(fresh.learner.params["top.h->y"] - whole.learner.params["top.h->y"]).max() > 1e-3
    ahead = [each.predict(inputs, go_on=True)["y"] for each in (whole, again)]
    np.testing.assert_array_equal(*ahead)


def test_a_file_of_another_learner_is_refused(tmp_path: Path) -> None:
    """If this fails, a readout goes on from nothing, or another output is taken for it."""
    program = fg.compile(network(), {"y": "mse"})
    fg.Learner(program, program.init(), fg.SGD(0.1)).save(tmp_path / "plain.npz")
    with pytest.raises(fg.FileError, match=r"(?s)nothing that can be read of a hybrid.*Use Learner\.load"):
        HybridLearner.load(tmp_path / "plain.npz")
    HybridLearner(program, program.init(), fg.SGD(0.1)).save(tmp_path / "hybrid.npz")
    other = fg.compile(network(6), {"y": "mse"})
    with pytest.raises(fg.FileError, match="another program; what differs: graph"):
        HybridLearner.load(tmp_path / "hybrid.npz", other)
    with pytest.raises(fg.FileError, match="another optimizer"):
        HybridLearner.load(tmp_path / "hybrid.npz", program, optimizer=fg.SGD(0.2))


def test_what_cannot_be_a_hybrid_is_refused() -> None:
    """If this fails, a readout is called the best one and is not."""
    alone = fg.compile(fg.load("reservoir"))
    with pytest.raises(fg.GraphError, match="nothing is trained"):
        HybridLearner(alone, alone.init(), fg.SGD(0.1))
    graph = network()
    graph.add_edge("top.h", "y", "late", weight="dense", delay=1)
    late = fg.compile(graph, {"y": "mse"})
    with pytest.raises(fg.GraphError, match="delayed value"):
        HybridLearner(late, late.init(), fg.SGD(0.1))


def test_fixed_poles_cost_nothing_and_leave_the_rest_exact() -> None:
    """If this fails, poles that are not trained are still paid for, or take credit from what is."""
    graph = fg.load("lru")
    program = fg.compile(frozen(graph, ["l1.nu.bias", "l1.theta.bias", "l1.gamma.bias"]))
    full = fg.compile(graph)
    assert full.rules.keys() - program.rules.keys() == {"l1.nu.bias", "l1.theta.bias", "l1.gamma.bias"}
    assert all(derived.exact for derived in program.rules.values())
    random = np.random.default_rng(0)
    inputs, targets = {"x": random.normal(size=(9, 1, 1))}, {"y": random.normal(size=(9, 1, 1))}
    one, other = (p.gradient(p.init(), inputs, targets, block=2).grads for p in (program, full))
    for name, g in one.items():
        np.testing.assert_array_equal(g, other[name])

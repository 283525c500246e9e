"""Does `check` pass what is right, fail what is wrong, and never pass what it has not compared?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nets import declare, small, stack, vanilla

import forwardgrad as fg
from forwardgrad import Program, oracle
from forwardgrad.errors import GraphError, RuleError
from forwardgrad.graph import library
from forwardgrad.graph.ends import ends
from forwardgrad.program import Result
from forwardgrad.testing import checking
from forwardgrad.testing.examining import Sample, examine
from forwardgrad.testing.problem import Origin


def samples(graph: Any, rule: Any = "eprop", loss: Any = None, **options: Any) -> list[Sample]:
    given = {"samples": 2, "steps": 6} | options
    loss = loss or dict.fromkeys(ends(graph)[1] or ["y"], "mse")
    found = examine(graph, loss, rule, samples=given["samples"], origin=Origin(steps=given["steps"]))
    return [finding.sample for finding in found]


@pytest.mark.parametrize("name", library.names())
@pytest.mark.parametrize("rule", ["rtrl", "eprop", "eprop-deep", "immediate"])
def test_shipped_graphs_pass(name, rule):
    """If it failed, a graph that comes with the library would not compute the gradient it claims."""
    found = samples(small(name, 3), rule, samples=2, steps=8)
    assert [sample.seed for sample in found] == [0, 1]
    for sample in found:
        assert sample.passed
        assert sample.largest > 1e-4
        assert sample.blocks == (1, 3, 8)
        assert (sample.difference is None) == any(op == "spike" for _, op in fg.load(name).nodes(data="op"))


def test_full_size():
    """If it failed, the graph of the main job as shipped would not pass its own check."""
    assert all(sample.passed for sample in samples(fg.load("leaky_stack"), "eprop-deep", samples=1, steps=4))


@pytest.mark.parametrize("loss", ["mse", "bernoulli", "cross_entropy"])
def test_every_loss_can_be_checked(loss):
    """If it failed, graphs with labels or logits could not be checked, for want of fitting targets."""
    assert all(sample.passed for sample in samples(vanilla(), loss={"y": loss}))


def spoil(monkeypatch: pytest.MonkeyPatch, change: Any, only: Any = lambda program, block: True) -> None:
    """Plant a fault: every gradient of the engine passes through `change`."""
    true = Program.gradient

    def gradient(
        self: Program,
        params: Any,
        inputs: Any,
        targets: Any,
        mask: Any = None,
        signals: Any = None,
        *,
        block: Any = "auto",
        **more: Any,
    ) -> Result:
        result = true(self, params, inputs, targets, mask, signals, block=block, **more)
        return Result(result.loss, change(result.grads)) if only(self, block) else result

    monkeypatch.setattr(Program, "gradient", gradient)


FAULTS = {
    "a factor": lambda grads: {name: g * (1 + 1e-8) for name, g in grads.items()},
    "a zero": lambda grads: grads | {"h->h": 0 * grads["h->h"]},
    "a sign": lambda grads: grads | {"h.bias": -grads["h.bias"]},
    "NaN first": lambda grads: {name: g * np.nan for name, g in grads.items()},
    "NaN in the last parameter": lambda grads: grads | {list(grads)[-1]: np.nan * grads[list(grads)[-1]]},
    "one NaN": lambda grads: grads | {"h->h": np.where(np.eye(3) > 0, np.nan, grads["h->h"])},
    "infinity": lambda grads: grads | {"h.bias": grads["h.bias"] * np.inf},
}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails(fault, monkeypatch):
    """If it failed, a broken engine would be reported as sound."""
    assert all(sample.passed for sample in samples(vanilla()))
    spoil(monkeypatch, FAULTS[fault])
    assert not any(sample.passed for sample in samples(vanilla()))


@pytest.mark.parametrize("block", [1, 3, 6])
def test_a_fault_at_one_block_length_fails(block, monkeypatch):
    """If it failed, some block length would go unchecked: with one block for all, traces are never read."""
    spoil(monkeypatch, FAULTS["a sign"], lambda program, length: length == block)
    assert not any(sample.passed for sample in samples(vanilla(), "rtrl"))


@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_a_derivative_that_is_not_the_slope_fails(value, monkeypatch):
    """If it failed, an op whose declared derivative is wrong would pass: engine and reverse oracle both use it."""
    assert samples(vanilla())[0].difference is not None
    monkeypatch.setattr(oracle, "directional_derivative", lambda *_: value)
    found = samples(vanilla())
    assert all(sample.reverse <= checking.REVERSE for sample in found)
    assert not any(sample.passed for sample in found)


def test_surrogates_are_held_against_the_reverse_oracle_only():
    """If it failed, a spiking net would fail for its surrogate, which is meant to differ from the slope."""
    found = samples(small("lif", 3))
    assert all(sample.difference is None and sample.passed for sample in found)


def test_credit_is_held_against_the_reverse_oracle_only():
    """If it failed, `credit = cut` would be taken for a wrong derivative."""
    found = samples(vanilla(credit="cut"), "rtrl")
    assert all(sample.difference is None and sample.passed for sample in found)


def test_nothing_to_compare_is_not_passed():
    """If it failed, a check in which every gradient is zero would be called passed."""
    dead = declare(
        {"x": {"op": "input", "size": 2}, "h": {"op": "relu", "size": 3}, "y": {"op": "linear", "size": 2}},
        ("x", "h", {"value": -np.zeros((3, 2))}),
        ("h", "y", {"weight": "dense"}),
    )
    for sample in samples(dead, "rtrl"):
        assert (sample.largest, sample.reverse, sample.silent) == (0.0, 0.0, ("h->y",))
        assert not sample.passed


def test_nothing_to_train_is_not_passed():
    """If it failed, a graph without trainable parameters would pass for want of anything to compare."""
    fixed = declare(
        {"x": {"op": "input", "size": 2}, "y": {"op": "linear", "size": 2}}, ("x", "y", {"value": np.eye(2)})
    )
    assert not any(sample.passed for sample in samples(fixed, "rtrl"))


def test_silent_parameters_are_named():
    """If it failed, a parameter of which nothing was compared would hide among the others."""
    graph = vanilla()
    graph.add_node("k", op="relu", size=2, bias=-100.0)
    graph.add_edge("x", "k", weight="dense")
    graph.add_edge("k", "y")
    for sample in samples(graph, "rtrl"):
        assert sample.silent == ("x->k", "k.bias")
        assert sample.passed


def test_samples_can_be_repeated_and_differ():
    """If it failed, a seed that failed could not be looked at again, or all seeds would be one."""
    one, two = samples(stack()), samples(stack())
    assert one == two
    assert one[0].largest != one[1].largest


def test_wrong_use():
    """If it failed, wrong losses or rules would end in a bare error."""
    with pytest.raises(GraphError, match="no such node"):
        samples(vanilla(), loss={"z": "mse"})
    with pytest.raises(RuleError, match="Did you mean 'eprop'"):
        samples(vanilla(), "eprob")

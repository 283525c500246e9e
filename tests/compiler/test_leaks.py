"""Is a leaky readout's influence stored per synapse where its leak commutes with its weights, and only there?"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from checks import TOLERANCE, assert_like_oracle, compiled, error
from nets import declare, problem

from forwardgrad import oracle
from forwardgrad.compiler import plan
from forwardgrad.compiler.decisions import Kind
from forwardgrad.testing import Problem


def lif(units: int = 4, inputs: int = 3, op: str = "linear", **leak: Any) -> nx.MultiDiGraph[str]:
    """Recurrent integrate-and-fire units without biases, and a leaky readout of two."""
    leak = leak or {"value": 0.8}
    return declare(
        {"x": {"op": "input", "size": inputs}, "v": {"op": "linear", "size": units}}
        | {"z": {"op": "spike", "threshold": 0.6, "dampening": 0.5, "width": 2.0}, "y": {"op": op, "size": 2}},
        ("x", "v", {"weight": "dense"}),
        ("v", "v", {"value": 0.9, "delay": 1}),
        ("z", "v", {"weight": "dense", "delay": 1}),
        ("z", "v", {"key": "reset", "value": -0.6, "delay": 1, "role": "reset"}),
        ("v", "z"),
        ("z", "y", {"weight": "dense"}),
        ("y", "y", {"delay": 1} | leak),
    )


def numbers(program: Any) -> int:
    """How many numbers of influence a sample stores."""
    return sum(array.size for key, array in program.start(1).items() if key.startswith("influence"))


def filtered(program: Any) -> bool:
    return any(decision.kind is Kind.LEAK_FILTERED for decision in program.decisions)


def without_rewriting(given: Problem, rule: Any, patch: pytest.MonkeyPatch) -> Any:
    with patch.context() as inner:
        inner.setattr(plan, "filter_sources", lambda network, product, price: (product, []))
        return compiled(given, rule)


def test_a_hundred_lif_units_store_a_trace_per_synapse(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, e-prop with a leaky readout stores twice what the paper prints, or another gradient is paid."""
    given = problem(lif(100, 40), "y", steps=9, gain=1.5)
    assert 0.02 < oracle.forward(given.graph, given.params, given.inputs)["z"].mean() < 0.9
    program, plain = compiled(given, "eprop"), without_rewriting(given, "eprop", monkeypatch)
    # Filtered inputs and spikes of the potential, a filtered trace a synapse, filtered spikes of the readout's weight.
    assert numbers(program) == 40 + 40 * 100 + 100 + 100 * 100 + 100 == 14_240
    assert numbers(plain) == 40 + 2 * 40 * 100 + 100 + 2 * 100 * 100 + 100 == 28_240
    assert filtered(program)
    assert not filtered(plain)
    for block in (1, 4, 9):
        one, other = (
            p.gradient(given.params, given.inputs, given.targets, block=block).grads for p in (program, plain)
        )
        assert all(np.abs(g).max() > 1e-6 for g in one.values())
        assert error(one, other) <= TOLERANCE


@pytest.mark.parametrize("rule", ["eprop", "eprop-deep", "eprop-random", "eprop; operator={'explicit': 0.5}"])
def test_a_leak_that_every_mode_keeps_filters_its_sources(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the rewriting depends on more than the leak, or changes a gradient."""
    given = problem(lif(), "y", steps=9, gain=2.0)
    program = assert_like_oracle(given, rule, blocks=(1, 2, 4))
    assert filtered(program)
    assert numbers(program) < numbers(without_rewriting(given, rule, monkeypatch))


@pytest.mark.parametrize(
    ("rule", "graph"),
    [
        ("immediate", lif()),
        ("eprop & window(2)", lif()),
        ("eprop & cut(['y->y'])", lif()),
        ("eprop", lif(value=0.8, credit="cut")),
        ("eprop", lif(weight="scalar")),
        ("eprop", lif(weight="scalar", trainable=False)),
        ("eprop", lif(value=[0.8, 0.7], weight="diagonal")),
        ("eprop", lif(value=0.8, op="tanh")),
        ("eprop; operator={'y->y': 0.7}", lif()),
    ],
    ids=["immediate", "window", "cut", "credit", "trained", "frozen", "per unit", "tanh", "operator"],
)
def test_it_is_left_alone_where_the_leak_does_not_commute_or_is_not_kept(rule: str, graph: Any) -> None:
    """If this fails, a trace is filtered by a leak that the rule cuts, or that is no fixed number."""
    given = problem(graph, "y", steps=9, gain=2.0)
    given.params.update({name: np.asarray(0.7) for name in given.params if name == "y->y"})
    program = assert_like_oracle(given, rule, blocks=(1, 2, 4))
    assert not filtered(program)

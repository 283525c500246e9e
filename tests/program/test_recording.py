"""Does a record say what flowed? Against the oracle, against hand-written e-prop, and without touching the gradient."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from checks import TOLERANCE, compiled, error
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import declare, gru, problem, readout_of_features, stack, vanilla

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.ops import Array
from forwardgrad.program.recording import Record
from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import automata, partitions, problems

NETS = {"vanilla": vanilla, "stack": stack, "features": readout_of_features, "gru": gru}
RULES = ["rtrl", "eprop-deep", "eprop", "local", "hops(2)", "immediate", "window(2)", 'eprop; feedback={"*": "random"}']


def recorded(given: Problem, rule: Any, block: Any = 3, **options: Any) -> tuple[fg.Program, Record]:
    program = compiled(given, rule)
    return program, program.record(given.params, given.inputs, given.targets, block=block, mask=given.mask, **options)


def probe(size: int, unit: int) -> fg.Loss:
    """A loss that is one unit of a node, so that its gradient is that unit's influence."""
    return fg.Loss(f"unit {unit}", lambda y, _: y[:, unit], lambda y, _: np.tile(np.eye(size)[unit], (len(y), 1)))


def at_step(given: Problem, t: int) -> Array:
    mask = np.zeros(given.steps)
    mask[t] = 1
    return mask


def gradient_at(given: Problem, rule: Any, t: int) -> dict[str, Array]:
    """The oracle's gradient of the loss of one step."""
    masks = given.mask if isinstance(given.mask, dict) else dict.fromkeys(given.loss, given.mask)
    ones = np.ones((given.steps, given.batch))
    mask = {
        name: at_step(given, t)[:, None] * ones * (1 if m is None else m.reshape(given.steps, -1))
        for name, m in masks.items()
    }
    return oracle.reverse(**{**given.arguments, "mask": mask}, rule=rule).grads


@pytest.mark.parametrize("net", NETS)
def test_traces_are_the_derivatives_of_nodes_by_parameters(net: str) -> None:
    """If this fails, what is shown as an eligibility trace under the exact rule is none."""
    drawn = problem(NETS[net](), "y", steps=5, batch=1)
    program, record = recorded(drawn, "rtrl", block=2)
    seen = 0
    for node, declared in program.network.nodes.items():
        target = {node: np.zeros((drawn.steps, 1, declared.size))}
        for t in range(drawn.steps):
            squares = dict.fromkeys(record.parameters, 0.0)
            for unit in range(declared.size):
                changes = {"targets": target, "loss": {node: probe(declared.size, unit)}, "mask": at_step(drawn, t)}
                for name, grad in oracle.reverse(**{**drawn.arguments, **changes}, rule="rtrl").grads.items():
                    squares[name] += float(np.square(grad).sum())
            for (name, at, mode), sizes in record.traces.items():
                if at == node and "filtered" not in mode:
                    assert sizes[t] == pytest.approx(squares[name] ** 0.5, rel=1e-9, abs=1e-12), (name, node, t)
                    seen += sizes[t] > 0
    assert seen >= 10


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("net", NETS)
def test_products_at_the_losses_are_the_gradients_of_steps(net: str, rule: str) -> None:
    """If this fails, traces and learning signals do not multiply to the gradient that the rule gives."""
    drawn = problem(NETS[net](), "y", steps=6, batch=3)
    _, record = recorded(drawn, rule, block=2)
    for t in range(drawn.steps):
        for name, grad in gradient_at(drawn, rule, t).items():
            assert record.gradients[name][t] == pytest.approx(np.linalg.norm(grad), rel=1e-9, abs=1e-12), (name, t)


@given(data=st.data(), drawn=problems())
@settings(max_examples=30, deadline=None)
def test_a_record_fits_any_graph_and_rule(data: st.DataObject, drawn: Problem) -> None:
    """If this fails, a record is wrong or breaks somewhere, changes the gradient, or depends on the blocks."""
    rule = data.draw(st.one_of(st.sampled_from(RULES[:-1]), automata()))
    lengths = data.draw(partitions(drawn.steps))
    program, record = recorded(drawn, rule, block=lengths[0])
    arguments = (drawn.params, drawn.inputs, drawn.targets)
    plain = program.gradient(*arguments, block=lengths[0], mask=drawn.mask)
    assert {name: grad.tobytes() for name, grad in record.grads.items()} == {
        name: grad.tobytes() for name, grad in plain.grads.items()
    }
    assert record.loss.sum() == pytest.approx(plain.loss, rel=1e-9, abs=1e-12)
    whole = program.record(*arguments, block=drawn.steps, mask=drawn.mask)
    for table in ("traces", "signals", "products", "edge_traces", "edge_products", "gradients"):
        one, other = getattr(record, table), getattr(whole, table)
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].shape == (drawn.steps,)
            np.testing.assert_allclose(one[key], other[key], rtol=1e-8, atol=1e-12 * max(1, other[key].max()))
    t = data.draw(st.integers(0, drawn.steps - 1))
    wanted = gradient_at(drawn, rule, t)
    scale = max([1e-3, *(float(np.linalg.norm(grad)) for grad in wanted.values())])
    for name, grad in wanted.items():
        assert abs(record.gradients[name][t] - np.linalg.norm(grad)) <= TOLERANCE * scale


def test_traces_of_eprop_are_those_of_the_paper() -> None:
    """If this fails, the traces of a spiking layer are not those of Bellec et al. 2020, eq. 24 and 28."""
    leak, kappa, steps = 0.9, 0.8, 12
    nodes = {
        "x": {"op": "input", "size": 3},
        "v": {"op": "linear", "size": 2},
        "z": {"op": "spike", "size": 2},
        "y": {"op": "linear", "size": 2},
    }
    graph = declare(
        nodes,
        ("x", "v", {"weight": "dense"}),
        ("v", "v", {"value": leak, "delay": 1}),
        ("v", "z", {}),
        ("z", "v", {"weight": "dense", "delay": 1}),
        ("z", "y", {"weight": "dense"}),
        ("y", "y", {"value": kappa, "delay": 1}),
    )
    drawn = problem(graph, "y", steps=steps, batch=1, gain=2.0)
    program, record = recorded(drawn, "eprop", block=4)
    values = program.run(drawn.params, drawn.inputs)
    psi = 0.3 * np.maximum(0, 1 - np.abs(values["v"][:, 0] - 1))
    eps, ebar = np.zeros(3), np.zeros((2, 3))
    filtered = next(mode for name, node, mode in record.traces if name == "x->v" and "filtered" in mode)
    assert psi.max() > 0
    for t in range(steps):
        eps = leak * eps + drawn.inputs["x"][t, 0]
        eligibility = psi[t][:, None] * eps
        ebar = kappa * ebar + eligibility
        (state,) = {mode for name, node, mode in record.traces if name == "x->v" and node == "v"}
        assert record.traces["x->v", "v", state][t] == pytest.approx(np.sqrt(2) * np.linalg.norm(eps))
        assert record.traces["x->v", "z", filtered][t] == pytest.approx(np.linalg.norm(ebar))


@pytest.mark.parametrize("rule", ["snap(1)", "snap(2)", "uoro", "kf-rtrl"])
def test_lossy_layouts_show_what_they_hold(rule: str) -> None:
    """If this fails, a picture shows an influence that the rule does not have."""
    drawn = problem(vanilla(), "y", steps=5, batch=2)
    arguments = (drawn.params, drawn.inputs, drawn.targets)
    program = compiled(drawn, {"*.bias": "rtrl", "h->y": "rtrl", "*": rule})
    record = program.record(*arguments, block=1)
    exact = compiled(drawn, "rtrl").record(drawn.params, drawn.inputs, drawn.targets, block=1)
    key = next(key for key in record.traces if key[:2] == ("h->h", "h"))
    of = next(key for key in exact.traces if key[:2] == ("h->h", "h"))
    if rule != "uoro":  # the first injection is whole
        assert record.traces[key][1] == pytest.approx(exact.traces[of][1])
    for name, grad in program.gradient(*arguments, block=2, draw=3).grads.items():
        kept = program.record(*arguments, block=2, keep=True, draw=3).step_gradients[name]
        np.testing.assert_allclose(kept.sum(axis=0), grad, rtol=1e-9, atol=1e-12)
    if rule == "snap(2)":
        np.testing.assert_allclose(record.traces[key], exact.traces[of])
    else:
        assert not np.allclose(record.traces[key], exact.traces[of])


def test_truncation_at_block_ends_shows() -> None:
    """If this fails, TBPTT seems to carry traces over the ends of blocks."""
    drawn = problem(vanilla(), "y", steps=6, batch=2)
    _, record = recorded(drawn, "tbptt", block=3)
    exact = compiled(drawn, "rtrl").record(drawn.params, drawn.inputs, drawn.targets, block=3)
    (key,) = (key for key in record.traces if key[:2] == ("x->h", "h"))
    (of,) = (key for key in exact.traces if key[:2] == ("x->h", "h"))
    np.testing.assert_allclose(record.traces[key][:3], exact.traces[of][:3])
    assert not np.allclose(record.traces[key][3:], exact.traces[of][3:])
    assert record.edge_traces["h->h", "h->h", "all", "all"][3] == 0


def test_only_some_parameters_and_bad_names() -> None:
    """If this fails, a long recording cannot be confined, or a misspelt name records nothing without a word."""
    drawn = problem(stack(), "y")
    program, record = recorded(drawn, "rtrl", only=["x->a1"])
    assert record.parameters == ("x->a1",)
    assert {key[0] for key in record.traces} == {"x->a1"}
    assert error(record.grads, program.gradient(drawn.params, drawn.inputs, drawn.targets).grads) <= TOLERANCE
    twice = program.record(drawn.params, drawn.inputs, drawn.targets, only=["x->a1", "x->a1"])
    assert twice.gradients["x->a1"].shape == (7,)
    assert repr(twice) == "Record(7 steps, batch 2, parameters x->a1)"
    with pytest.raises(fg.DataError, match="only is a collection of names"):
        program.record(drawn.params, drawn.inputs, drawn.targets, only="x->a1")
    with pytest.raises(fg.DataError, match="'h1->a1' was not recorded"):
        record.nodes("h1->a1")
    with pytest.raises(fg.DataError, match="'x->a3' is no trained parameter"):
        program.record(drawn.params, drawn.inputs, drawn.targets, only=["x->a3"])


def test_streams_can_be_recorded() -> None:
    """If this fails, what cannot be held in memory cannot be recorded."""
    drawn = problem(vanilla(), "y", steps=6)
    program, whole = recorded(drawn, "eprop")
    pieces = (({"x": drawn.inputs["x"][at : at + 2]}, {"y": drawn.targets["y"][at : at + 2]}) for at in range(0, 6, 2))
    record = program.record(drawn.params, pieces)
    for key, sizes in whole.traces.items():
        np.testing.assert_allclose(record.traces[key], sizes)


def test_given_signals_take_the_place_of_derivatives() -> None:
    """If this fails, a learning signal that the user gives is not the one that is shown."""
    graph: nx.MultiDiGraph[str] = vanilla()
    drawn = problem(graph, "y", steps=4, batch=2)
    program = fg.compile(
        graph, {"y": "mse"}, {"*->h*": 'eprop; feedback={"h": "signal"}', "*": "rtrl"}, dtype="float64"
    )
    signals = {"h": np.random.default_rng(1).normal(size=(4, 2, 3))}
    record = program.record(drawn.params, drawn.inputs, drawn.targets, signals=signals, block=2)
    places = [key for key in record.signals if key[0] == "h"]
    sizes = np.sqrt(np.square(signals["h"]).sum(axis=(1, 2)) / 2)
    assert any(np.allclose(record.signals[key], sizes) for key in places)

"""Does a program do what its page says: steps, sequences, streams, losses, rules by pattern, and errors that help?"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checks import TOLERANCE, assert_like_oracle, compiled, error
from nets import declare, gru, problem, readout_of_features, stack, vanilla

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.ops import losses, registry
from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import PATHS

NAMED = PATHS


def given_vanilla(**options: Any) -> tuple[Problem, fg.Program]:
    given = problem(vanilla(), "y", **options)
    return given, compiled(given, "rtrl")


def same(one: fg.program.Result, other: fg.program.Result) -> bool:
    return abs(one.loss - other.loss) < 1e-12 * abs(other.loss) and error(one.grads, other.grads) < 1e-12


# Sequences, blocks and streams.


def pieces(given: Problem, lengths: list[int]) -> Iterator[tuple[Any, ...]]:
    """The problem's sequence, cut into pieces of these lengths."""
    at = 0
    for length in lengths:
        cut = slice(at, at + length)
        piece = ({n: x[cut] for n, x in given.inputs.items()}, {n: y[cut] for n, y in given.targets.items()})
        yield piece if given.mask is None else (*piece, given.mask[cut])
        at += length


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("block", [1, 3, 100, "auto"])
def test_a_stream_of_pieces_is_the_sequence(masked: bool, block: Any) -> None:
    """If this fails, a sequence that does not fit in memory has another gradient, or masks are cut in wrong places."""
    given, program = given_vanilla(steps=12)
    if masked:
        given = replace(given, mask=np.random.default_rng(1).random((12, 2)))
    whole = program.gradient(given.params, given.inputs, given.targets, block=4, mask=given.mask)
    assert abs(whole.loss - oracle.reverse(**given.arguments).loss) < 1e-10
    for lengths in ([12], [5, 1, 6], [1] * 12):
        assert same(program.gradient(given.params, pieces(given, lengths), block=block), whole)
        listed = [list(piece) for piece in pieces(given, lengths)]
        assert same(program.gradient(given.params, listed, block=block), whole)
    unmasked = program.gradient(given.params, pieces(replace(given, mask=None), [12]), block=block)
    assert same(unmasked, whole) is not masked


def test_blocks_choose_themselves_and_the_last_one_may_be_short() -> None:
    """If this fails, the default block length depends on the sequence, or steps at its end are dropped."""
    given, program = given_vanilla(steps=37)
    whole = program.gradient(given.params, given.inputs, given.targets, block=37)
    for block in (1, 5, 36, 37, 1000, np.int64(8), "auto"):
        assert same(program.gradient(given.params, given.inputs, given.targets, block=block), whole)
    assert same(program.gradient(given.params, given.inputs, given.targets), whole)


def test_steps_add_up_to_the_gradient() -> None:
    """If this fails, learning online sees other gradients than the sequence has, or other outputs than `run`."""
    given, program = given_vanilla(steps=11)
    whole = program.gradient(given.params, given.inputs, given.targets)
    state, loss, grads, outputs = program.start(batch=2), 0.0, dict[str, Any](), []
    for inputs, targets in pieces(given, [1, 4, 2, 4]):
        state, step = program.step(given.params, inputs, targets, state=state)
        loss += step.loss
        grads = {name: g + grads[name] if grads else g for name, g in step.grads.items()}
        outputs.append(step.outputs["y"])
        assert step.outputs.keys() == {"y"}
    assert same(fg.program.Result(loss, grads), whole)
    assert np.array_equal(np.concatenate(outputs), program.run(given.params, given.inputs)["y"])


def test_run_gives_every_node_and_goes_on_from_a_state() -> None:
    """If this fails, a test after training does not go on from the trained state."""
    given, program = given_vanilla(steps=10)
    whole = program.run(given.params, given.inputs)
    expected = oracle.forward(given.graph, given.params, given.inputs)
    assert whole.keys() == expected.keys() == {"x", "h", "y"}
    assert all(np.allclose(whole[name], expected[name], rtol=0, atol=1e-13) for name in whole)
    first, then = pieces(given, [4, 6])
    state, _ = program.step(given.params, *first, state=program.start(2))
    going_on = program.run(given.params, then[0], state=state)
    assert all(np.allclose(going_on[name], whole[name][4:], rtol=0, atol=1e-14) for name in whole)
    afresh = program.run(given.params, then[0])
    assert not np.allclose(afresh["h"], going_on["h"], atol=1e-3)


def oscillator() -> nx.MultiDiGraph[str]:
    """A graph without inputs."""
    return declare(
        {"h": {"op": "tanh", "size": 2, "bias": 0.3, "initial": [0.5, -0.5]}},
        ("h", "h", {"weight": "dense", "delay": 1}),
    )


def test_a_graph_without_inputs_runs_as_long_as_it_is_told() -> None:
    """If this fails, a generator of patterns cannot be trained or run."""
    program = fg.compile(oscillator(), loss={"h": "mse"})
    params = {"h->h": np.array([[0.9, -0.8], [0.7, 0.6]]), "h.bias": np.array([0.1, -0.2])}
    targets = {"h": np.random.default_rng(0).normal(size=(9, 2, 2))}
    results = [program.gradient(params, {}, targets, block=block) for block in (1, 4, 9)]
    assert all(same(result, results[0]) for result in results)
    values = program.run(params, {}, steps=9, batch=2)["h"]
    assert values.shape == (9, 2, 2)
    assert np.isclose(np.mean((values - targets["h"]) ** 2, axis=(1, 2)).sum(), results[0].loss)
    assert program.run(params, {}, steps=5)["h"].shape == (5, 1, 2)

    def loss(weights: Any) -> float:
        return program.gradient({**params, "h->h": weights}, {}, targets).loss

    for i, j in np.ndindex(2, 2):  # the oracle runs for as long as its inputs
        e = np.zeros((2, 2))
        e[i, j] = 1e-6
        slope = (loss(params["h->h"] + e) - loss(params["h->h"] - e)) / 2e-6
        assert abs(results[0].grads["h->h"][i, j] - slope) < 1e-7
    with pytest.raises(fg.DataError, match="nothing says how long to run"):
        program.run(params, {})


# Losses.


def test_losses_of_several_nodes_add_up_also_in_the_middle_of_the_graph() -> None:
    """If this fails, a loss in the middle of the graph is lost, or counted along every path behind it."""
    given = problem(stack(), "h1", "a2", "y", steps=8)
    given = replace(given, mask={"h1": np.linspace(0, 1, 8), "y": np.ones((8, 2))})
    whole = assert_like_oracle(given, "eprop-deep")
    found = whole.gradient(given.params, given.inputs, given.targets, block=3, mask=given.mask)
    total, grads = 0.0, {name: np.zeros_like(g) for name, g in found.grads.items()}
    for node in given.loss:
        alone = replace(
            given,
            loss={node: "mse"},
            targets={node: given.targets[node]},
            mask={node: given.mask[node]} if node in given.mask else None,
        )
        part = compiled(alone, "eprop-deep").gradient(
            alone.params, alone.inputs, alone.targets, block=2, mask=alone.mask
        )
        assert any(g.any() for g in part.grads.values())
        total += part.loss
        grads = {name: grads[name] + g for name, g in part.grads.items()}
    assert same(found, fg.program.Result(total, grads))


def absolute(name: str) -> tuple[str, Any, Any]:
    return name, lambda y, t: np.abs(y - t).sum(axis=1), lambda y, t: np.sign(y - t)


def test_a_loss_may_be_passed_or_registered() -> None:
    """If this fails, users have the losses of the table only."""
    given = problem(vanilla(), "y")
    passed = replace(given, loss={"y": fg.Loss(*absolute("absolute"))})
    program = assert_like_oracle(passed, "eprop")
    found = program.gradient(given.params, given.inputs, given.targets, block=2)
    y = program.run(given.params, given.inputs)["y"]
    assert np.isclose(found.loss, np.abs(y - given.targets["y"]).sum(axis=2).mean(axis=1).sum())
    fg.register_loss(*absolute("test_program_absolute"))
    try:
        registered = compiled(replace(given, loss={"y": "test_program_absolute"}), "eprop")
        assert same(registered.gradient(given.params, given.inputs, given.targets, block=3), found)
        with pytest.raises(fg.OpError, match="registered already"):
            fg.register_loss(*absolute("test_program_absolute"))
    finally:
        losses._table.pop("test_program_absolute")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda y, t: (y - t).sum(), r"value and gradient have shapes \(\) and \(14, 2\)"),
        (lambda y, t: [[1], [1, 2]], r"value or gradient fails.\n  ValueError"),
        (lambda y, t: y + "t", r"value or gradient fails.\n  "),
    ],
)
def test_a_loss_of_the_wrong_shape_is_named(value: Any, words: str) -> None:
    """If this fails, a slip in a user's loss ends in a broadcast that nobody asked for."""
    given = problem(vanilla(), "y")
    program = fg.compile(given.graph, loss={"y": fg.Loss("mine", value, lambda y, t: y - t)})
    with pytest.raises(fg.OpError, match=f"loss 'mine': {words}"):
        program.gradient(given.params, given.inputs, given.targets)


# Ops of the user's.


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


OPS: dict[str, tuple[Any, Any, Any]] = {
    "test_swish": (  # of each unit alone
        lambda x: x * _sigmoid(x),
        lambda x, y: y + _sigmoid(x) * (1 - y),
        "diagonal",
    ),
    "test_gated": (  # two ports
        lambda x, gate: np.tanh(x) * _sigmoid(gate),
        {
            "in": lambda x, gate, y: (1 - np.tanh(x) ** 2) * _sigmoid(gate),
            "gate": lambda x, gate, y: y * (1 - _sigmoid(gate)),
        },
        {"in": "diagonal", "gate": "diagonal"},
    ),
    "test_norm": (  # mixes units
        lambda x: x / np.sqrt(1 + (x**2).sum(axis=1, keepdims=True)),
        lambda x, y: (
            (np.eye(x.shape[1]) - y[:, :, None] * y[:, None, :]) / np.sqrt(1 + (x**2).sum(axis=1))[:, None, None]
        ),
        "full",
    ),
    "test_third": (lambda x: x / 3, lambda x, y: 1 / 3, "scalar"),  # one number for all units
    "test_scaled": (  # one number a sample by one port, mixing by the other
        lambda x, gate: x * np.tanh(gate).mean(axis=1, keepdims=True),
        {
            "in": lambda x, gate, y: np.tanh(gate).mean(axis=1, keepdims=True),
            "gate": lambda x, gate, y: x[:, :, None] * (1 - np.tanh(gate) ** 2)[:, None, :] / x.shape[1],
        },
        {"in": "scalar", "gate": "full"},
    ),
}


@pytest.fixture
def own_op(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an op that is registered during a test."""
    name: str = request.param
    value, derivative, structure = OPS[name]
    fg.register_op(name, value=value, derivative=derivative, structure=structure)
    yield name
    registry._table.pop(name)


@pytest.mark.parametrize("own_op", OPS, indirect=True)
def test_an_op_of_the_users_works_under_every_rule(own_op: str) -> None:
    """If this fails, extending the table of ops takes more than one registration."""
    graph = declare(
        {
            "x": {"op": "input", "size": 2},
            "h": {"op": "linear", "size": 3, "bias": True},
            "u": {"op": own_op, "size": 3},
        }
        | {"y": {"op": "linear", "size": 2}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"value": 0.6, "delay": 1}),
        ("h", "u", {"weight": "diagonal"}),
        ("u", "h", {"weight": "dense", "delay": 2}),
        ("u", "y", {"weight": "dense"}),
    )
    if len(registry.get(own_op).ports) == 2:
        graph.add_edge("x", "u", port="gate", weight="dense")
        graph.add_edge("u", "u", port="gate", weight="diagonal", delay=1)
    given = problem(graph, "y", steps=8)
    for rule in NAMED:
        program = assert_like_oracle(given, rule)
        for name, gradient in program.gradient(given.params, given.inputs, given.targets, block=3).grads.items():
            assert np.abs(gradient).max() > 1e-4, (rule, name)
    exact = oracle.finite_difference(**given.arguments)
    assert error(oracle.reverse(**given.arguments).grads, exact.grads) < 1e-6


def test_an_op_whose_derivative_has_the_wrong_shape_is_named() -> None:
    """If this fails, a wrong structure word gives a wrong gradient in silence."""
    fg.register_op("test_wrong", value=np.tanh, derivative=lambda x, y: 1 - y * y, structure="full")
    try:
        graph = vanilla()
        graph.nodes["h"]["op"] = "test_wrong"
        given = problem(graph, "y")
        with pytest.raises(fg.OpError, match=r"op 'test_wrong': the derivative by port 'in' has shape"):
            compiled(given, "rtrl").gradient(given.params, given.inputs, given.targets)
    finally:
        registry._table.pop("test_wrong")


# Rules by pattern.


def test_each_parameter_travels_by_the_first_pattern_that_fits() -> None:
    """If this fails, a mapping of rules is read in another order, or by whole names only."""
    graph, choice = stack(), {"x->a1": "immediate", "*->a1": "eprop", "?1->a2": "near & eprop-deep", "*": "rtrl"}
    program = fg.compile(graph, loss={"y": "mse"}, rule=choice)
    assert {name: str(derived.rule) for name, derived in program.rules.items()} == {
        "x->a1": "immediate",
        "h1->a1": "eprop",
        "h1->a2": "near & eprop-deep",
        "h2->a2": "rtrl",
        "h2->y": "rtrl",
    }
    given = problem(graph, "y")
    assert_like_oracle(given, choice)
    mixed = program.gradient(given.params, given.inputs, given.targets, block=2).grads
    for name, derived in program.rules.items():
        alone = oracle.reverse(**given.arguments, rule=str(derived.rule)).grads
        assert error({name: mixed[name]}, {name: alone[name]}) < TOLERANCE
    assert error(mixed, oracle.reverse(**given.arguments, rule={**choice, "x->a1": "rtrl"}).grads) > 1e-3


def test_brackets_in_a_pattern_are_those_of_fnmatch() -> None:
    """If this fails, a set of characters in a pattern is taken literally, or case is ignored."""
    rule = {"h[1]->*": "immediate", "*": "rtrl"}
    found = fg.compile(stack(), loss={"y": "mse"}, rule=rule).rules
    assert {name for name, derived in found.items() if str(derived.rule) == "immediate"} == {"h1->a1", "h1->a2"}
    with pytest.raises(fg.RuleError, match=r"rule for 'H\*': fits no trainable parameter"):
        fg.compile(stack(), loss={"y": "mse"}, rule={"H*": "immediate", "*": "rtrl"})


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"rule": {"h->*": "rtrl"}}, fg.RuleError, "parameter 'x->h': no pattern of the rules fits it.\n  End the"),
        ({"rule": {}}, fg.RuleError, "no pattern of the rules fits it"),
        ({"rule": {"h->z": "rtrl", "*": "rtrl"}}, fg.RuleError, "rule for 'h->z': fits no trainable parameter"),
        ({"rule": {1: "rtrl"}}, fg.RuleError, "rule for 1: a pattern of parameter names is a string"),
        ({"rule": {"*": 3}}, fg.RuleError, "a rule is a text, a Rule or a path rule with start and step, got int"),
        ({"rule": "eprob"}, fg.RuleError, "unknown rule 'eprob'.\n  Did you mean 'eprop'?"),
        ({"rule": "eprop &"}, fg.RuleError, "rule 'eprop &': cannot read ''"),
        ({"rule": "cut"}, fg.RuleError, "cut is written cut(['u->v', ...])"),
        ({"rule": "cut(3)"}, fg.RuleError, "cut(3): needs names of edges"),
        ({"rule": "cut(['h->z'])"}, fg.RuleError, "the graph has no edge 'h->z'"),
        ({"rule": " "}, fg.RuleError, "a rule is empty"),
        ({"loss": {}}, fg.GraphError, "no loss is given"),
        ({"loss": "mse"}, fg.GraphError, "no loss is given.\n  Say which node has which"),
        ({"loss": {"z": "mse"}}, fg.GraphError, "loss on 'z': the graph has no such node"),
        ({"loss": {"x": "mse"}}, fg.GraphError, "loss on 'x': it is an input"),
        ({"loss": {"y": "mes"}}, fg.OpError, "unknown loss 'mes'.\n  Did you mean 'mse'?"),
        ({"loss": {"y": 3}}, fg.OpError, "unknown loss 3"),
        ({"dtype": "float16"}, fg.DataError, "dtype must be float64 or float32, got float16"),
        ({"dtype": "flaot"}, fg.DataError, "dtype must be float64 or float32, got 'flaot'"),
        ({"backend": "jaxx"}, fg.DataError, "unknown backend 'jaxx'"),
        ({"dead": "no"}, fg.DataError, "dead must be"),
        ({"graph": 3}, fg.GraphError, "a declared graph is a networkx.MultiDiGraph, got int"),
    ],
)
def test_what_cannot_be_compiled_is_refused_by_name(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    """If this fails, a slip in a call of compile ends in an error of Python's, or in another program."""
    with pytest.raises(kind) as caught:
        fg.compile(**{"graph": vanilla(), "loss": {"y": "mse"}, **options})
    assert words in str(caught.value)


# Bad arrays.


def spoilt(array: Any, value: Any, *place: int) -> Any:
    copy = np.array(array)
    copy[place] = value
    return copy


X, Y, P = "inputs", "targets", "params"
BAD: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "inputs: 'x' is missing.": lambda a: {X: {}},
    "inputs: unknown name 'xx'.\n  Did you mean 'x'?": lambda a: {X: {**a[X], "xx": 0}},
    "input 'x': nan at (time, batch, unit) = (1, 0, 1)": lambda a: {X: {"x": spoilt(a[X]["x"], np.nan, 1, 0, 1)}},
    "input 'x': inf at (time, batch, unit) = (2, 1, 0)": lambda a: {X: {"x": spoilt(a[X]["x"], np.inf, 2, 1, 0)}},
    "2), got (7, 2).\n  Arrays are (time, batch, size)": lambda a: {X: {"x": a[X]["x"][:, 0]}},
    "2), got (7, 2, 1)": lambda a: {X: {"x": a[X]["x"][:, :, :1]}},
    "got (0, 2, 2).\n  It is empty.": lambda a: {X: {"x": a[X]["x"][:0]}},
    "input 'x': expected numbers, got dtype <U": lambda a: {X: {"x": a[X]["x"].astype(str)}},
    "input 'x': expected numbers, got dtype complex128": lambda a: {X: {"x": a[X]["x"] * 1j}},
    "input 'x': is not an array; its rows have unequal lengths": lambda a: {X: {"x": [[1], [1, 2]]}},
    "input 'x': expected numbers, got dtype object": lambda a: {X: {"x": object()}},
    "targets: 'y' is missing": lambda a: {Y: {}},
    "targets: expected a mapping from names to arrays, got NoneType": lambda a: {Y: None},
    "targets: unknown name 'h'": lambda a: {Y: {**a[Y], "h": 0}},
    "target 'y': expected shape (7, 2, 2), got (3, 2, 2)": lambda a: {Y: {"y": a[Y]["y"][:3]}},
    "target 'y': expected shape (7, 2, 2), got (7, 1, 2)": lambda a: {Y: {"y": a[Y]["y"][:, :1]}},
    "target 'y': nan at (time, batch, unit) = (6, 1, 0)": lambda a: {Y: {"y": spoilt(a[Y]["y"], np.nan, 6, 1, 0)}},
    "mask: expected shape (7,) or (7, 2), got (3,)": lambda a: {"mask": np.ones(3)},
    "mask of 'y': expected shape (7,) or (7, 2), got (2, 7)": lambda a: {"mask": {"y": np.ones((2, 7))}},
    "mask: unknown name 'h'": lambda a: {"mask": {"h": np.ones(7)}},
    "mask: nan at (time, batch) = (0, 0)": lambda a: {"mask": np.full(7, np.nan)},
    "mask: expected numbers, got dtype <U": lambda a: {"mask": "all"},
    "params: 'h->h' is missing": lambda a: {P: {name: p for name, p in a[P].items() if name != "h->h"}},
    "params: unknown name 'h->g'.\n  Did you mean 'h->": lambda a: {P: {**a[P], "h->g": 0}},
    "params: expected a mapping from names to arrays, got list": lambda a: {P: [1, 2]},
    "parameter 'h->y': expected shape (2, 3), got (3, 2)": lambda a: {P: {**a[P], "h->y": a[P]["h->y"].T}},
    "parameter 'h->y': nan at index = (1, 2)": lambda a: {P: {**a[P], "h->y": spoilt(a[P]["h->y"], np.nan, 1, 2)}},
}
"""By the words of the error: what replaces some of the arguments."""


@pytest.mark.parametrize("call", ["gradient", "step"])
@pytest.mark.parametrize("words", BAD)
def test_arrays_that_do_not_fit_are_named(call: str, words: str) -> None:
    """If this fails, a slip in an array ends in an error of NumPy's, or in a number."""
    given, program = given_vanilla()
    arguments = {P: given.params, X: given.inputs, Y: given.targets}
    arguments |= {"state": program.start(2)} if call == "step" else {"block": 2}
    with pytest.raises(fg.DataError) as caught:
        getattr(program, call)(**arguments | BAD[words](arguments))
    assert words in str(caught.value)


INFLUENCE = 'influence["x->h", "h", "all"]'


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: None, "state: expected a mapping from names to arrays, got NoneType"),
        (lambda s: {}, "state: 'value[\"h\"]' is missing"),
        (lambda s: {**s, "q": 0}, "state: unknown name 'q'"),
        (
            lambda s: {**s, INFLUENCE: s[INFLUENCE][..., :1]},
            f"state {INFLUENCE!r}: expected shape (1, 2, 3, 3, 2), got",
        ),
        (lambda s: {**s, INFLUENCE: s[INFLUENCE][:, :1]}, "A state belongs to the program and batch size"),
        (lambda s: {**s, 'value["h"]': 3.0}, "state 'value[\"h\"]': expected shape"),
        (lambda s: {**s, INFLUENCE: s[INFLUENCE] * np.nan}, f"state {INFLUENCE!r}: nan at index = (0, 0, 0, 0, 0)"),
        (lambda s: {**s, INFLUENCE: s[INFLUENCE].astype(str)}, f"state {INFLUENCE!r}: expected numbers"),
        (lambda s: {key: array[:, :1] for key, array in s.items()}, "input 'x': expected shape (time, 1, 2), got"),
    ],
)
@pytest.mark.parametrize("call", ["step", "run", "reset"])
def test_a_state_that_does_not_fit_is_named(call: str, change: Any, words: str) -> None:
    """If this fails, the state of another program, or a damaged one, is taken without a word."""
    given, program = given_vanilla()
    state, _ = program.step(given.params, given.inputs, given.targets, state=program.start(2))
    calls: dict[str, Callable[[Any], Any]] = {
        "step": lambda s: program.step(given.params, given.inputs, given.targets, state=s),
        "run": lambda s: program.run(given.params, given.inputs, state=s),
        "reset": lambda s: program.reset(s, np.array([True, False])),
    }
    calls[call](state)
    wrong = change(state)
    if wrong is None and call == "run":
        return  # no state is the start
    words = "reset: where must be (1,) truth values" if call == "reset" and words.startswith("input") else words
    with pytest.raises(fg.DataError) as caught:
        calls[call](wrong)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p, a: p.start(0), "start: batch must be a whole number >= 1, got 0"),
        (lambda p, a: p.start(True), "start: batch must be a whole number >= 1, got True"),
        (lambda p, a: p.init(-1), "a seed must be a whole number >= 0, got -1"),
        (lambda p, a: p.cost(batch=0), "cost: batch must be a whole number >= 1, got 0"),
        (lambda p, a: p.cost(block=1.5), "cost: block must be a whole number >= 1, got 1.5"),
        (lambda p, a: p.run(*a[:2], steps=-1), "run: steps must be a whole number >= 1, got -1"),
        (lambda p, a: p.run(*a[:2], steps=3), "input 'x': expected shape (3, batch, 2), got (7, 2, 2)"),
        (lambda p, a: p.run(*a[:2], batch="2"), "run: batch must be a whole number >= 1, got '2'"),
        (lambda p, a: p.reset(p.start(2), [0, 1]), "reset: where must be (2,) truth values, got int64"),
        (lambda p, a: p.reset(p.start(2), np.ones(3, bool)), "truth values, got bool of shape (3,)"),
        (lambda p, a: p.reset(p.start(2), [[1], [1, 2]]), "reset: where: is not an array"),
        (lambda p, a: p.gradient(a[0], []), "gradient: the sequence is empty"),
        (
            lambda p, a: p.gradient(a[0], [3]),
            "each piece of a sequence must be (inputs, targets), with a mask and signals behind where there are any",
        ),
        (lambda p, a: p.gradient(a[0], [a[1:]], a[2]), "targets, mask and signals come with the pieces"),
        (lambda p, a: p.gradient(a[0], 3), "got int"),
        (
            lambda p, a: p.gradient(a[0], [a[1:], ({"x": a[1]["x"][:, :1]}, {"y": a[2]["y"][:, :1]})]),
            "input 'x': expected shape (time, 2, 2), got (7, 1, 2)",
        ),
        *(
            (lambda p, a, b=b: p.gradient(*a, block=b), "block must be 'auto' or a whole number >= 1")
            for b in (0, 1.5, True, "all")
        ),
    ],
)
def test_other_arguments_that_make_no_sense_are_named(call: Any, words: str) -> None:
    """If this fails, a number that makes no sense ends in an error of Python's, or in no error at all."""
    given, program = given_vanilla()
    with pytest.raises(fg.DataError) as caught:
        call(program, (given.params, given.inputs, given.targets))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full((7, 2), 2), "target 'y': label 2 at (time, batch) = (0, 0); 'y' has 2 units"),
        (spoilt(np.zeros((7, 2), int), -1, 3, 1), "target 'y': label -1 at (time, batch) = (3, 1)"),
        (np.zeros((7, 2)), "target 'y': labels are whole numbers, got dtype float64"),
        (np.zeros((7, 2, 1), int), "target 'y': expected shape (7, 2), got (7, 2, 1)"),
        ([[0], [0, 1]], "target 'y': is not an array; its rows have unequal lengths"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels: Any, words: str) -> None:
    """If this fails, a class that does not exist is read from the end of the row, or rounded."""
    given = problem(vanilla(), "y")
    program = fg.compile(given.graph, loss={"y": "cross_entropy"})
    with pytest.raises(fg.DataError) as caught:
        program.gradient(given.params, given.inputs, {"y": labels})
    assert words in str(caught.value)


@pytest.mark.parametrize("loss", ["mse", "bernoulli", "cross_entropy"])
def test_targets_behind_a_mask_of_zero_may_be_anything(loss: str) -> None:
    """If this fails, a step without a target, marked NaN or -1, spoils the gradient of all others."""
    given = problem(vanilla(), "y")
    mask = np.array([[1, 1], [1, 0], [0, 0], [1, 1], [0.5, 1], [1, 1], [0, 1]])
    target = np.random.default_rng(2).integers(0, 2, (7, 2)) if loss == "cross_entropy" else abs(given.targets["y"])
    full = replace(given, loss={"y": loss}, targets={"y": target}, mask=mask)
    holes = target.copy()
    holes[mask == 0] = -1 if loss == "cross_entropy" else np.nan
    program = assert_like_oracle(full, "eprop-deep")
    whole = program.gradient(full.params, full.inputs, full.targets, block=2, mask=mask)
    for given_mask in (mask, {"y": mask}):
        found = program.gradient(full.params, full.inputs, {"y": holes}, block=2, mask=given_mask)
        assert np.isfinite(found.loss)
        assert same(found, whole)
    with pytest.raises(fg.DataError):
        program.gradient(full.params, full.inputs, {"y": holes}, block=2)


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_single_precision_are_refused_and_not_made_infinite() -> None:
    """If this fails, an overflow on the way into float32 is a warning of NumPy's, and then a gradient of NaN."""
    given = problem(vanilla(), "y")
    program = fg.compile(given.graph, loss={"y": "mse"}, dtype="float32")
    with pytest.raises(fg.DataError, match="input 'x': inf at"):
        program.gradient(given.params, {"x": np.full((7, 2, 2), 1e300)}, given.targets)


# What a program tells.


def test_initial_parameters_are_reproducible_by_seed() -> None:
    """If this fails, two runs of one seed differ, or a parameter's numbers depend on the rest of the graph."""
    program = fg.compile(vanilla(), loss={"y": "mse"})
    first, again, other = program.init(seed=3), program.init(seed=3), program.init(seed=4)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["h->h"], other["h->h"])
    assert np.array_equal(program.init()["h->h"], program.init(0)["h->h"])
    assert not first["h.bias"].any()
    larger = vanilla()
    larger.add_edge("x", "y", weight="dense")
    beside = fg.compile(larger, loss={"y": "mse"}, dtype="float32").init(seed=3)
    assert np.array_equal(beside["h->h"], first["h->h"].astype("float32"))
    assert beside["h->h"].dtype == np.float32


def test_a_program_does_not_follow_changes_of_its_graph() -> None:
    """If this fails, a graph that is edited later changes, or breaks, what was compiled from it."""
    graph = vanilla()
    program = fg.compile(graph, loss={"y": "mse"})
    before = str(program)
    graph.remove_node("h")
    assert str(program) == before
    assert "h" in program.graph
    with pytest.raises(nx.NetworkXError):
        program.graph.remove_node("h")


def test_the_pattern_of_a_sparse_parameter() -> None:
    """If this fails, nobody knows which synapse an entry of a sparse parameter is."""
    mask = [[1, 0, 1], [0, 1, 1]]
    graph = vanilla()
    graph.remove_edge("h", "y")
    graph.add_edge("h", "y", weight="sparse", mask=mask)
    given = problem(graph, "y")
    program = assert_like_oracle(given, "rtrl")
    rows, columns = program.pattern("h->y")
    assert (rows.tolist(), columns.tolist()) == ([0, 0, 1, 1], [0, 2, 1, 2])
    dense = np.zeros((2, 3))
    dense[rows, columns] = given.params["h->y"]
    values = program.run(given.params, given.inputs)
    assert np.allclose(values["y"], values["h"] @ dense.T)
    rows[:] = 9
    assert program.pattern("h->y")[0].tolist() == [0, 0, 1, 1]
    for name in ("h->h", "q"):
        with pytest.raises(fg.GraphError, match=f"no sparse parameter '{name}'"):
            program.pattern(name)


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "immediate"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_cost_is_what_a_state_takes(rule: str, dtype: str) -> None:
    """If this fails, a user is told another price than they pay."""
    for graph in (vanilla(delay=3), stack(), gru()):
        program = fg.compile(graph, loss={"y": "mse"}, rule=rule, dtype=dtype)
        cost, state = program.cost(batch=5, block=4), program.start(5)
        by_kind = {
            kind: sum(a.nbytes for key, a in state.items() if key.startswith(kind)) for kind in ("value", "influence")
        }
        assert cost.values == by_kind["value"]
        assert sum(cost.influence.values()) == by_kind["influence"]
        assert cost.total == cost.values + by_kind["influence"] + cost.working
        assert cost.influence.keys() == program.rules.keys()
        assert program.cost(batch=5, block=8).working > cost.working > cost.values
        assert f"{by_kind['influence']:,} bytes" in str(cost)


def test_a_dearer_rule_costs_more() -> None:
    """If this fails, costs do not tell rules apart."""
    total = [fg.compile(stack(), loss={"y": "mse"}, rule=rule).cost().total for rule in ("immediate", "eprop", "rtrl")]
    assert total == sorted(set(total))


def test_the_listing_of_a_program(golden: Callable[[str, str], None]) -> None:
    """If this fails, the listing has changed: rules, layouts, exactness or what is dropped."""
    choice = {"x->a1": "immediate", "h1->a1": "eprop", "h1->a2": "eprop-deep", "*": "rtrl"}
    listed = str(fg.compile(stack(), loss={"y": "mse"}, rule=choice))
    exact = str(fg.compile(readout_of_features(), loss={"y": "mse"}, rule="eprop", dtype="float32"))
    golden(f"{listed}\n\n{exact}\n", "program_listing.txt")


# Memory.


def peak(program: fg.Program, params: Any, steps: int) -> int:
    """Peak memory of a gradient over a stream, in bytes."""

    def stream() -> Iterator[Any]:
        random = np.random.default_rng(0)
        for _ in range(steps // 100):
            yield {"x": random.normal(size=(100, 1, 1))}, {"y": random.normal(size=(100, 1, 1))}

    tracemalloc.start()
    program.gradient(params, stream())
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def assert_memory_is_constant(short: int, long: int) -> None:
    program = fg.compile(fg.load("leaky_stack"), rule="eprop")
    params = program.init(0)
    peak(program, params, 200)  # caches fill
    assert peak(program, params, long) <= 1.05 * peak(program, params, short)


def test_memory_does_not_grow_with_the_length_of_the_sequence() -> None:
    """If this fails, something of every block is kept."""
    assert_memory_is_constant(1000, 6000)


@pytest.mark.slow
def test_memory_of_fifty_thousand_steps_is_that_of_two_thousand() -> None:
    """If this fails, something of every block is kept, be it little."""
    assert_memory_is_constant(2000, 50_000)

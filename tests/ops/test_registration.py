"""Is an op called as it was registered, and is what cannot be called refused when it is registered?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from checks import assert_like_oracle, compiled, error
from nets import declare, problem

import forwardgrad as fg
from forwardgrad import ops, oracle
from forwardgrad.graph import schema
from forwardgrad.ops import Formula, Op, Option, Port, validity
from forwardgrad.structure import Structure


@pytest.fixture(autouse=True)
def _table() -> Iterator[None]:
    """Ops of a test are gone after it."""
    before = dict(ops.registry._table)
    yield
    ops.registry._table.clear()
    ops.registry._table.update(before)


def net(*names: str, **attributes: Any) -> Any:
    """A chain of recurrent nodes with these ops and a readout, every port fed from below and from the node itself."""
    nodes: dict[str, dict[str, Any]] = {"x": {"op": "input", "size": 3}}
    edges: list[tuple[Any, ...]] = []
    for place, name in enumerate(names):
        node, below = f"h{place}", f"h{place - 1}" if place else "x"
        nodes[node] = {"op": name, "size": 3, **attributes.get(node, {})}
        for port in [port.name for port in ops.get(name).ports]:
            edges.append((below, node, {"weight": "dense", "port": port}))
            edges.append((node, node, {"weight": "diagonal", "delay": 1, "port": port}))
    nodes["y"] = {"op": "linear", "size": 2}
    graph = declare(nodes, *edges, (f"h{len(names) - 1}", "y", {"weight": "dense"}))
    return problem(graph, "y", steps=5)


def assert_right(given: Any) -> None:
    """Assert that both backends give the oracle's gradient, and that this is the slope of the loss."""
    assert_like_oracle(given, "rtrl", blocks=(1, 2))
    wanted = oracle.finite_difference(**given.arguments)
    assert max(np.abs(g).max() for g in wanted.grads.values()) > 1e-3
    found = compiled(given, "rtrl").gradient(given.params, given.inputs, given.targets, block=2, mask=given.mask)
    assert error(found.grads, wanted.grads) <= 1e-6


def test_nodes_of_one_op_keep_their_own_options() -> None:
    """If this fails, all nodes of an op compute with the options of one of them."""
    fg.register_op(
        "gained_",
        value=lambda x, gain: np.tanh(gain * x),
        derivative=lambda x, y, gain: gain * (1 - y * y),
        options={"gain": 1.0},
    )
    assert_right(net("gained_", "gained_", "gained_", h0={"gain": 0.5}, h1={"gain": np.array([0.3, 2.0, 1.1])}))


@pytest.mark.parametrize(
    "names", [("x", "x, y"), ("a", "t, batch"), ("t", "np_, t"), ("y", "y, x"), ("steps", "h0, x")]
)
def test_arguments_of_a_formula_may_have_any_name(names: tuple[str, str]) -> None:
    """If this fails, a derivative reads another array than its argument stands for."""
    first = names[1].split(",")[0]
    value, slope = Formula(f"{names[0]} * np.sin({names[0]})", names[0]), f"np.sin({first}) + {first} * np.cos({first})"
    ops.add(Op("named_", value, (Port("in", Formula(slope, names[1])),)))
    assert_right(net("named_", "named_"))


@pytest.mark.parametrize("names", ["a, b", "x, z", "y, x", "t, steps"])
def test_formulas_of_two_ports_read_the_ports_that_they_name(names: str) -> None:
    """If this fails, the derivative by one port is computed from the value of the node."""
    a, b = names.split(", ")
    by_a, by_b = Formula(f"np.sin({b})", f"{names}, v"), Formula(f"{a} * np.cos({b})", f"{names}, v")
    ops.add(Op("two_", Formula(f"{a} * np.sin({b})", names), (Port("p", by_a), Port("q", by_b))))
    assert_right(net("two_", "tanh", "two_"))


def test_a_port_that_is_not_read_cannot_be_read() -> None:
    """If this fails, a derivative reads another array in place of a port that is not there."""
    with pytest.raises(LookupError, match="reads 'a'"):
        Formula("a * b", "a, b").printed([None, "h"], {})
    with pytest.raises(LookupError, match="product"):
        ops.get("mul").value.printed([None, "h"], {})  # type: ignore[attr-defined]


def test_a_formula_may_read_a_word() -> None:
    """If this fails, the word of an option becomes a name of generated source."""
    sign = "(1.0 if sign == 'plus' else -1.0)"
    slope = Formula({"plus": "np.cos(x)", "minus": "-np.cos(x)"}, "x, y", by="sign")
    options = {"sign": Option("plus", choices=("plus", "minus"))}
    ops.add(Op("signed_", Formula(f"np.sin(x) * {sign}"), (Port("in", slope),), options=options))
    assert_right(net("signed_", "signed_", h1={"sign": "minus"}))


def test_constant_derivatives_of_every_word() -> None:
    """If this fails, a derivative that is one number is not spread over units, samples and steps."""
    ops.add(Op("half_", Formula("0.5 * x"), (Port("in", Formula("0.5", "x, y")),)))
    ops.add(Op("third_", Formula("x / 3"), (Port("in", Formula("1 / 3", "x, y"), Structure.SCALAR),)))
    matrix = Formula("0.5 * np.eye(x.shape[1])", "x, y")
    ops.add(Op("full_", Formula("0.5 * x"), (Port("in", matrix, Structure.FULL),)))
    fg.register_op("called_", lambda x: 0.5 * x, lambda x, y: 0.5)
    fg.register_op("gain_", lambda x, g: g * x, lambda x, y, g: g, options={"g": 0.5})
    assert_right(net("half_", "third_", "called_", "full_", "gain_", h4={"g": np.array([0.2, 0.5, 0.9])}))


def writes(x: Any) -> Any:
    x *= 0.5
    return x


class Keeps:
    """Returns one buffer again and again."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.kept = function, dict[Any, Any]()

    def __call__(self, *arrays: Any) -> Any:
        kept = self.kept.setdefault(arrays[0].shape, np.empty(arrays[0].shape))
        kept[...] = self.function(*arrays)
        return kept


def same(x: Any) -> Any:
    return x


@pytest.mark.parametrize(
    ("value", "slope"),
    [
        (writes, lambda x, y: np.full_like(x, 0.5)),
        (Keeps(np.sin), Keeps(lambda x, y: np.cos(x))),
        (lambda x: np.sin(x).tolist(), lambda x, y: np.cos(x).tolist()),
        (same, lambda x, y: np.broadcast_to(np.float64(1.0), x.shape)),
        (functools.partial(lambda g, x: np.sin(g * x), 0.5), lambda x, y: 0.5 * np.cos(0.5 * x)),
        (np.sin, lambda x, y: np.cos(x)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_function_may_write_keep_and_return_what_it_likes(value: Any, slope: Any, dtype: str) -> None:
    """If this fails, a function changes arrays of the program, or the program those of the function."""
    fg.register_op("liked_", value, slope)
    given = net("liked_", "liked_")
    assert_right(given)
    for backend in ("numpy", "interpreter"):
        program = compiled(given, "rtrl", backend=backend, dtype=dtype)
        state, step = program.step(
            given.params, given.inputs, given.targets, given.mask, state=program.start(given.batch)
        )
        for array in [*state.values(), *step.grads.values(), *step.outputs.values()]:
            assert array.dtype == dtype


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "snap(1)", "uoro"])
@pytest.mark.parametrize("backend", ["numpy", "interpreter"])
def test_formulas_in_double_precision_stay_out_of_single(backend: str, rule: str) -> None:
    """If this fails, one constant of double precision makes a program double."""
    slope = Formula("np.where(x > 0, 1.0, 0.2)", "x, y")
    ops.add(Op("leaky_", Formula("np.where(x > 0, x, np.float64(0.2) * x)"), (Port("in", slope),)))
    ops.add(Op("step_", Formula("x > 0"), (Port("in", Formula("np.float64(0.3)", "x, y")),), smooth=False))
    given = net("leaky_", "step_", "leaky_")
    program = compiled(given, rule, backend=backend, dtype="float32")
    state, step = program.step(given.params, given.inputs, given.targets, state=program.start(given.batch))
    values = program.run(given.params, given.inputs)
    for array in [*state.values(), *step.grads.values(), *step.outputs.values(), *values.values()]:
        assert array.dtype == np.float32


def test_losses_may_write_and_return_what_they_like() -> None:
    """If this fails, a loss changes outputs or targets, or its dtype ends up in a program."""

    def value(y: Any, t: Any) -> Any:
        y -= t
        t[...] = np.nan
        return np.square(y, dtype=np.float64).sum(axis=1).tolist()

    given = net("tanh")
    sums = fg.Loss("sums_", value, Keeps(lambda y, t: 2.0 * (y - t)))
    targets = {name: array.copy() for name, array in given.targets.items()}
    for dtype in ("float32", "float64"):
        for backend in ("numpy", "interpreter"):
            program = fg.compile(given.graph, {"y": sums}, "rtrl", backend=backend, dtype=dtype)
            step = program.step(given.params, given.inputs, given.targets, state=program.start(given.batch))[1]
            assert np.array_equal(given.targets["y"], targets["y"])
            assert all(array.dtype == dtype for array in [*step.grads.values(), *step.outputs.values()])
            assert np.allclose(step.outputs["y"], program.run(given.params, given.inputs)["y"])
    wanted = oracle.finite_difference(given.graph, given.params, given.inputs, targets, {"y": sums})
    found = program.gradient(given.params, given.inputs, given.targets, block=2)
    assert error(found.grads, wanted.grads) <= 1e-6


def op(value: Any, slope: Any = "np.cos(x)", ports: str = "in", **options: Any) -> Op:
    """An op with a formula of `x, y` for each slope that is a text."""
    by = Formula(slope, "x, y") if isinstance(slope, str) else slope
    return Op("wrong_", value, tuple(Port(port, by) for port in ports.split()), options=options)


REFUSED = {
    "too few arguments": (op(Formula("x"), Formula("0.5")), "takes 1 arguments .x.; expected 2"),
    "too many arguments": (op(Formula("x", "x, z")), "takes 2 arguments .x, z.; expected 1"),
    "of another op": (op(Formula("x", "x, z"), ports="a b"), "'a', a formula, takes 2 arguments .x, y.; expected 3"),
    "an unknown name": (op(Formula("x * gain")), "reads 'gain', which is not known there"),
    "a name of generated source": (op(Formula("x * t")), "reads 't', which is not known there"),
    "unknown to NumPy": (op(Formula("np.tanhh(x)")), "reads np.tanhh, which NumPy has not.\n  Did you mean 'tanh'"),
    "no expression": (op(Formula("x *")), "is not an expression: 'x .'"),
    "a name given": (op(Formula("(t := x) * t")), "gives a name to a value"),
    "a name hidden": (op(Formula("(lambda x: x)(2 * x)")), "gives a name to a value"),
    "np as argument": (op(Formula("np", "np")), "has an argument 'np'"),
    "one name twice": (op(Formula("x", "x, x"), ports="a b"), "two arguments of one name"),
    "argument and option": (op(Formula("x"), x=Option(1.0)), "an argument and an option called 'x'"),
    "rows and steps mixed": (op(Formula("x / x.sum(axis=1, keepdims=True)")), "mixes samples, or steps"),
    "all mixed": (op(Formula("x - x.mean()")), "mixes samples, or steps"),
    "fails": (op(Formula("x.shape + 1")), "fails on arrays: TypeError"),
    "a word without text": (
        op(Formula({"p": "x"}, by="s"), s=Option("p", choices=("p", "q"))),
        "no text for s='q'",
    ),
    "words of no option": (op(Formula({"p": "x"}, by="s")), "'s', which is not an option with choices"),
    "a text": (op("np.tanh(x)"), "must be a function or a Formula, got 'np.tanh"),
    "a function of one": (op(same, lambda x: x), "cannot be called as an op is: too many positional"),
    "a function without the option": (op(same, gain=Option(1.0)), "unexpected keyword argument 'gain'"),
    "a function with the option as port": (op(lambda gain: gain, gain=Option(1.0)), "multiple values for argument"),
    "an option that every node has": (op(lambda x, size: x, size=Option(1.0)), "cannot be called 'size'"),
    "an option that is not a name": (op(same, **{"my-gain": Option(1.0)}), "the name of an option"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_called_is_refused_when_it_is_registered(case: str) -> None:
    """If this fails, a mistake in an op shows in the middle of training, or never."""
    wrong, message = REFUSED[case]
    with pytest.raises(fg.OpError, match=message) as caught:
        ops.add(wrong)
    assert str(caught.value).startswith("op 'wrong_'")
    assert "wrong_" not in ops.names()


def test_every_attribute_of_nodes_is_taken() -> None:
    """If this fails, a node's attribute can be an option of its op as well, and one value means two things."""
    assert validity.TAKEN == schema.NODE.keys() | schema.DRAWING


def test_formulas_may_go_over_lines() -> None:
    """If this fails, a long formula cannot be written over lines, with comments."""
    text = """
        np.sin(x)   # the wave
        + 0.5
    """
    ops.add(Op("lines_", Formula(text), (Port("in", Formula(" np.cos(x)", "x, y")),)))
    assert_right(net("lines_"))


def test_a_function_that_fails_is_named() -> None:
    """If this fails, an error of NumPy says nothing of the op in which it was raised."""
    fg.register_op("odd_", lambda x: x @ np.ones((7, 7)), lambda x, y: x)
    given = net("odd_")
    for backend in ("numpy", "interpreter"):
        with pytest.raises(fg.OpError, match=r"op 'odd_': value fails.\n  ValueError: matmul"):
            compiled(given, "rtrl", backend=backend).run(given.params, given.inputs)

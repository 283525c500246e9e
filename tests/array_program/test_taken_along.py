"""Are functions of users, in a printed module, the functions that a program calls, whatever their names?"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from checks import error
from test_source import alone, given

import forwardgrad as fg
from forwardgrad import ops
from forwardgrad.ops import Formula, Op, Port
from forwardgrad.structure import Structure

FACTOR = 0.5


def assert_printed(*pairs: Any, loss: fg.Loss | None = None) -> str:
    """Assert that the printed module of a chain of ops, each a value and a derivative, finds the program's gradient."""
    made = [Op(f"op{i}_", value, (Port("in", slope),)) for i, (value, slope) in enumerate(pairs)]
    graph = fg.load("elman")
    with ops.registered(*made):
        above = "h"
        for i in range(len(made)):
            graph.add_node(f"k{i}", op=f"op{i}_", size=3)
            graph.add_edge(above, f"k{i}", weight="dense")
            graph.add_edge(f"k{i}", f"k{i}", weight="diagonal", delay=1)
            above = f"k{i}"
        graph.add_edge(above, "y", weight="dense")
        program = fg.compile(graph, {"y": loss or "mse"}, "rtrl")
        params, x, y = given(program)
        source = program.source()
        assert source == program.source()
        found, grads = alone(program)["gradient"](params, x, y, block=3)
        wanted = program.gradient(params, x, y, block=3)
        assert found == pytest.approx(wanted.loss, rel=1e-12)
        assert min(np.abs(g).max() for g in wanted.grads.values()) > 0
        assert error(grads, wanted.grads) <= 1e-12
        return source


def named(name: str, argument: str, body: str, **known: Any) -> Callable[..., Any]:
    """A function of that name, in a module of its own; `known` is what else that module has."""
    import linecache

    text, filename = f"def {name}({argument}):\n    return {body}\n", f"<taken {name} {body}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    names = {"np": np, **known}
    exec(compile(text, filename, "exec"), names)
    return names[name]


CLASHES = ["f", "scaled", "times", "value", "gradient", "start", "credit", "evaluate", "rows", "ports", "fitted"]
CLASHES += ["dtype", "CACHED", "LOSSES", "OUTPUTS", "unpacked", "weights", "forward_h", "slope_h", "value_op0", "w_h_y"]


@pytest.mark.parametrize("name", CLASHES)
def test_functions_may_have_any_name(name: str) -> None:
    """If this fails, a user's function takes the place of another one, of a helper, or of a generated one."""
    text = assert_printed(
        (named(name, "x", "np.tanh(x)"), named(name, "x, y", "1 - y * y")),
        (named(name, "x", "np.sin(x)"), named(name, "x, y", "np.cos(x)")),
        loss=fg.Loss("l", named(name, "y, t", "np.square(y - t).sum(axis=1)"), named(name, "y, t", "2 * (y - t)")),
    )
    assert "NotImplementedError" not in text


def test_helpers_of_one_name_are_kept_apart() -> None:
    """If this fails, a function calls the helper of another one."""
    pairs: list[Any] = []
    for factor in (0.5, 0.8):
        helper = named("helper", "v", f"{factor} * v")
        again = named("inner", "v", "helper(v) + 0", helper=helper)
        known = {"helper": helper, "inner": again}
        pairs.append(
            (
                named("f", "x", "np.tanh(inner(x))", **known),
                named("g", "x, y", "helper(1.0) * (1 - y * y)", **known),
            )
        )
    assert "NotImplementedError" not in assert_printed(*pairs)


def test_a_function_is_known_by_the_name_that_its_callers_use() -> None:
    """If this fails, a helper that was imported under another name, or NumPy, is not found."""
    helper = named("original", "v", "0.5 * v")
    value = named("f", "x", "numpy.tanh(alias(x))", alias=helper, numpy=np)
    slope = named("f", "x, y", "alias(1.0) * (1 - y * y)", alias=helper)
    assert "NotImplementedError" not in assert_printed((value, slope))


def recursive(x, depth=3):
    return np.tanh(x) if depth == 0 else recursive(x, depth - 1)


def recursive_slope(x, y, *, one=1.0):
    return one - y * y


def test_recursion_and_literal_defaults_are_taken_along() -> None:
    """If this fails, a function that calls itself cannot be printed, or its defaults are lost."""
    assert "NotImplementedError" not in assert_printed((recursive, recursive_slope))


def test_formulas_that_are_called_are_taken_along() -> None:
    """If this fails, a formula whose derivative is not diagonal, or of a loss, is not in a printed module."""
    slope = Formula("0.5 * np.eye(a.shape[1])", "a, b")
    with ops.registered(Op("whole_", Formula("0.5 * a", "a"), (Port("in", slope, Structure.FULL),))):
        graph = fg.load("elman")
        graph.nodes["h"]["op"] = "whole_"
        square = fg.Loss("l", Formula("np.square(a - b).sum(axis=1)", "a, b"), Formula("2 * (c - b)", "c, b"))
        program = fg.compile(graph, {"y": square}, "rtrl")
        params, x, y = given(program)
        found, grads = alone(program)["gradient"](params, x, y, block=3)
        wanted = program.gradient(params, x, y, block=3)
        assert found == pytest.approx(wanted.loss)
        assert error(grads, wanted.grads) <= 1e-12


def plain(x):
    return np.tanh(x)


def reads_a_number(x):
    return np.tanh(FACTOR * x)


def defaults_to_a_name(x, factor=FACTOR):
    return np.tanh(factor * x)


def imports(x):
    import math

    return math.e * x


def decorated(function):
    @functools.wraps(function)
    def inner(x):
        return 2 * function(x)

    return inner


@functools.wraps(plain)
def wrapping(x):
    return 3 * np.tanh(x)


@decorated
def under_a_decorator(x):
    return np.tanh(x)


def closing(factor):
    def inner(x):
        return factor * np.tanh(x)

    return inner


class Called:
    def __call__(self, x):
        return np.tanh(x)

    def method(self, x):
        return np.tanh(x)


def defaults_changed(x, factor=1.0):
    return factor * np.tanh(x)


defaults_changed.__defaults__ = (2.0,)
put_together = types.FunctionType(reads_a_number.__code__.replace(co_code=plain.__code__.co_code), globals())

WITHOUT = [reads_a_number, defaults_to_a_name, imports, decorated(plain), wrapping, under_a_decorator, closing(2.0)]
WITHOUT += [Called(), Called().method, functools.partial(plain), lambda x: np.tanh(x), defaults_changed, np.tanh]


@pytest.mark.parametrize("value", WITHOUT)
def test_what_has_no_text_says_so(value: Any) -> None:
    """If this fails, a module computes something else than the function that was registered, without a word."""
    with pytest.raises(NotImplementedError, match="the value of op 'op0_'"):
        assert_printed((value, recursive_slope))

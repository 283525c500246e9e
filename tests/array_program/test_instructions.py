"""Does each instruction mean what it says? Small programs whose results are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from array_program.evaluator import Evaluator

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.checker import check
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import Argument, Number, apply
from forwardgrad.array_program.instructions import (
    Broadcast,
    Call,
    Concat,
    Contract,
    Elementwise,
    Flush,
    Gather,
    Instruction,
    Read,
    Reduce,
    ScatterAdd,
    Signs,
    Slice,
)
from forwardgrad.array_program.regions import ArrayProgram, Function, Invoke, Scan, When
from forwardgrad.array_program.text_form import text
from forwardgrad.array_program.values import Type, Value, floats
from forwardgrad.layouts import draws
from forwardgrad.ops import Array

STEPS, BATCH = 4, 2
SYMBOLS = {"steps": STEPS, "batch": BATCH, "fresh": 0}
SERIES = Value("x", floats("steps", "batch", 3))
WEIGHT = Value("w", floats(2, 3))
TABLE = Value("table", Type("int", (affine(2),)))
GRID = Value("grid", Type("int", (affine(2), affine(3))))
COUNTER = Value("counter", floats(1, "batch", 1))
ARRAYS: Mapping[str, Array] = {
    "x": np.arange(1.0, 1 + STEPS * BATCH * 3).reshape(STEPS, BATCH, 3),
    "w": np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]]),
    "counter": np.full((1, BATCH, 1), 7.0),
}
TABLES: Mapping[Value, Array] = {TABLE: np.array([1, 0]), GRID: np.array([[1, 0, 1], [0, 0, 1]])}
X, W = ARRAYS["x"], ARRAYS["w"]


def program(*functions: Function) -> ArrayProgram:
    """A well-formed program of these functions, which knows a table of indices."""
    return check(ArrayProgram("float64", functions, TABLES))


def result(builder: Builder, value: Value, **symbols: int) -> Array:
    """What a function of `x` and `w` gives that was built."""
    function = Function("f", "", (SERIES, WEIGHT, COUNTER), builder.body(value))
    (found,) = Evaluator(program(function), {"twice": lambda a: 2 * a}).run("f", ARRAYS, SYMBOLS | symbols).values()
    return found


BOUND = affine("steps") - 1

CASES: Mapping[str, tuple[Instruction, Any]] = {
    "elementwise": (Elementwise(apply("-", Argument(0), Number(1.0)), (SERIES,), SERIES.dims), X - 1),
    "fill": (Elementwise(Number(2.0), (), (affine("steps"), affine(3))), np.full((STEPS, 3), 2.0)),
    "contract": (Contract(SERIES, WEIGHT, "tbj,ij->tbi"), X @ W.T),
    "contract without a sum": (Contract(WEIGHT, SERIES, "ij,tbj->tbij"), W * X[:, :, None]),
    "contract over time": (Contract(SERIES, SERIES, "tbi,tbj->bij"), np.einsum("tbi,tbj->bij", X, X)),
    "read": (Read(SERIES, BOUND), X[-1]),
    "read before": (Read(SERIES, affine(-1), or_zero=True), np.zeros((BATCH, 3))),
    "read beyond": (Read(SERIES, affine("steps"), or_zero=True), np.zeros((BATCH, 3))),
    "slice": (Slice(SERIES, 0, affine(1), BOUND), X[1:]),
    "slice of units": (Slice(SERIES, 2, affine(1), affine(2)), X[:, :, 1:]),
    "slice backward": (Slice(SERIES, 0, affine(0), BOUND, backward=True), X[:-1][::-1]),
    "slice beyond": (
        Slice(SERIES, 0, affine(2), affine("steps"), or_zero=True),
        np.concatenate((X[2:], np.zeros((2, BATCH, 3)))),
    ),
    "slice of zeros": (Slice(SERIES, 0, affine(9), affine(2), or_zero=True), np.zeros((2, BATCH, 3))),
    "concat": (Concat((SERIES, SERIES), 2), np.concatenate((X, X), 2)),
    "broadcast": (Broadcast(WEIGHT, (affine(2), affine("batch"), affine(3)), (0, 2)), np.stack((W, W), 1)),
    "gather": (Gather(SERIES, 2, (TABLE,)), X[:, :, [1, 0]]),
    "gather by two": (Gather(WEIGHT, 0, (TABLE, TABLE)), W[[1, 0], [1, 0]]),
    "gather by a grid": (Gather(SERIES, 2, (GRID,)), X[:, :, [[1, 0, 1], [0, 0, 1]]]),
    "gather by two grids": (Gather(WEIGHT, 0, (GRID, GRID)), W[[[1, 0, 1], [0, 0, 1]], [[1, 0, 1], [0, 0, 1]]]),
    "signs": (
        Signs(3, "h->h", COUNTER, COUNTER, (affine("batch"), affine("steps"))),
        draws.signs(3, "h->h", 7, 7, (BATCH, STEPS)),
    ),
    "scatter_add": (ScatterAdd(WEIGHT, 0, (TABLE,), (affine(3),)), np.stack((W[1], W[0], 0 * W[0]))),
    "scatter_add to two": (
        ScatterAdd(WEIGHT, 0, (TABLE, TABLE), (affine(2), affine(2)), unique=True),
        np.array([[W[1], 0 * W[1]], [0 * W[0], W[0]]]),
    ),
    "reduce": (Reduce(SERIES, (0, 1)), X.sum(axis=(0, 1))),
    "flush": (Flush(Value("x", SERIES.type)), X),
    "call": (Call("twice", (SERIES,), SERIES.type), 2 * X),
}


@pytest.mark.parametrize("name", CASES)
def test_an_instruction_gives_what_it_says(name: str) -> None:
    """If this fails, readings are held to an evaluator that is wrong, or a result has another type than declared."""
    instruction, wanted = CASES[name]
    builder = Builder()
    found = result(builder, builder.add(instruction, "y"))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", CASES)
def test_an_instruction_is_printed_by_its_word(name: str) -> None:
    """If this fails, an instruction has no text, and an error cannot quote it."""
    builder = Builder()
    function = Function("f", "", (SERIES, WEIGHT), builder.body(builder.add(CASES[name][0], "y")))
    assert "  y = " in text(ArrayProgram("float64", (function,), TABLES))


def accumulated(backward: bool) -> tuple[Builder, Value]:
    """A scan whose result at a step is that of the step before plus `x`, from 100 on."""
    builder = Builder()
    body = Builder(builder)
    before = builder.fill(100.0, 1, "batch", 3)
    total = Value("total", floats(affine("steps") + 1, "batch", 3))
    last = body.add(Read(total, affine("t") + (1 if backward else 0)))
    value = body.elementwise(apply("+", Argument(0), Argument(1)), last, body.add(Read(SERIES, affine("t"))))
    builder.define((total,), Scan("t", affine("steps"), backward, (before,), body.body(value)))
    return builder, total


def test_a_scan_carries_what_it_gave() -> None:
    """If this fails, a recurrent layer forgets, or a sweep goes the wrong way."""
    wanted = np.concatenate((np.full((1, BATCH, 3), 100.0), 100 + np.cumsum(X, axis=0)))
    np.testing.assert_array_equal(result(*accumulated(backward=False)), wanted)
    wanted = np.concatenate((100 + np.cumsum(X[::-1], axis=0)[::-1], np.full((1, BATCH, 3), 100.0)))
    np.testing.assert_array_equal(result(*accumulated(backward=True)), wanted)


@pytest.mark.parametrize("fresh", [0, 1])
def test_a_choice_takes_the_body_whose_test_holds(fresh: int) -> None:
    """If this fails, a fresh state is read, or one that is not fresh is lost."""
    builder = Builder()
    then, otherwise, chosen = Builder(builder), Builder(builder), Value("y", floats("batch", 3))
    first, last = then.add(Read(SERIES, affine(0)), "first"), otherwise.add(Read(SERIES, BOUND), "last")
    builder.define((chosen,), When(-affine("fresh"), then.body(first), otherwise.body(last)))
    np.testing.assert_array_equal(result(builder, chosen, fresh=fresh), X[-1] if fresh else X[0])


def summed() -> Function:
    """A function of a block `x`: its sum over time."""
    builder = Builder()
    return Function("summed", "", (SERIES,), builder.body(builder.add(Reduce(SERIES, (0,)), "total")))


def earlier(builder: Builder) -> Value:
    """The function `summed` of all steps but the last."""
    there, shorter = Value("there", floats("batch", 3)), builder.add(Slice(SERIES, 0, affine(0), BOUND))
    builder.define((there,), Invoke("summed", (shorter,), (there.type,), (("steps", BOUND),)))
    return there


def test_a_function_is_invoked_for_a_shorter_block() -> None:
    """If this fails, what is stored at a lag is found from another step."""
    builder = Builder()
    then, otherwise, chosen = Builder(builder), Builder(builder), Value("y", floats("batch", 3))
    bodies = then.body(earlier(then)), otherwise.body(otherwise.fill(0.0, "batch", 3))
    builder.define((chosen,), When(BOUND - 1, *bodies))
    evaluator = Evaluator(program(summed(), Function("f", "", (SERIES,), builder.body(chosen))))
    np.testing.assert_array_equal(evaluator.run("f", ARRAYS, SYMBOLS)["y"], X[:-1].sum(axis=0))
    one = evaluator.run("f", {"x": X[:1]}, SYMBOLS | {"steps": 1})["y"]
    np.testing.assert_array_equal(one, np.zeros((BATCH, 3)))


def test_a_builder_makes_an_unnamed_value_once() -> None:
    """If this fails, the same product is computed again wherever it is used."""
    builder = Builder()
    product = builder.add(Contract(SERIES, WEIGHT, "tbj,ij->tbi"))
    assert Builder(builder).add(Contract(SERIES, WEIGHT, "tbj,ij->tbi")) is product
    assert builder.named(product, "a").name == "a"
    assert len(builder.statements) == 1
    assert builder.named(SERIES, "b").name == "b"  # a name is never taken away
    assert len(builder.statements) == 2


def test_a_value_that_gets_a_name_late_is_read_under_it() -> None:
    """If this fails, what one parameter reads is made nowhere, once another has given it a name."""
    builder = Builder()
    made = builder.add(Read(SERIES, affine(0)))
    then, otherwise = Builder(builder), Builder(builder)
    branches = [each.elementwise(apply("*", Argument(0), Argument(1)), made, made) for each in (then, otherwise)]
    first, second = builder.named(made, "first"), builder.named(made, "second")
    result = Value("result", made.type)
    builder.define((result,), When(BOUND, then.body(branches[0]), otherwise.body(branches[1])))
    check(ArrayProgram("float64", (Function("f", "", (SERIES,), builder.body(made, first, second, result)),)))

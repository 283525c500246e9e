"""Does each instruction mean in C what it means to the naive evaluator? And what can a name do to the source?"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_program.cases import named
from array_program.evaluator import Evaluator
from array_program.test_instructions import (
    ARRAYS,
    BOUND,
    CASES,
    COUNTER,
    SERIES,
    SYMBOLS,
    TABLE,
    TABLES,
    WEIGHT,
    X,
    accumulated,
    earlier,
    summed,
)
from c_backend import compiled_unit, in_a_hurry, needs_compiler, run_c
from checks import compiled

import forwardgrad as fg
from forwardgrad.array_program.buffers import analysed
from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.checker import check
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import VOCABULARY, Argument, Number, Tree, apply
from forwardgrad.array_program.in_c.names import comment, identifier
from forwardgrad.array_program.in_c.source import unit
from forwardgrad.array_program.instructions import Broadcast, Contract, Flush, Gather, Read, Reduce, ScatterAdd, Slice
from forwardgrad.array_program.lowering.lower import lower
from forwardgrad.array_program.regions import ArrayProgram, Function, Scan, When
from forwardgrad.array_program.values import Value, floats
from forwardgrad.backends.c_compiler import find_compiler

needs_compiler()


@pytest.fixture(autouse=True, scope="module")
def _in_a_hurry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from in_a_hurry(tmp_path_factory.mktemp("cache"))


INPUTS = (SERIES, WEIGHT, COUNTER)


def function(name: str, builder: Builder, *results: Value) -> Function:
    """A function of the arrays of `test_instructions`."""
    return Function(name, "", INPUTS, builder.body(*results))


def assert_like_the_evaluator(program: ArrayProgram, **symbols: int) -> None:
    """Assert that all functions of a program give in C what they give to the evaluator."""
    arrays = {**ARRAYS, "x": X[: symbols.get("steps", len(X))]}
    unit = compiled_unit(program)
    for each in program.functions:
        given = {name: arrays[name] for name in (value.name for value in each.inputs)}
        found = unit.run(each.name, given, SYMBOLS | symbols)
        for name, wanted in Evaluator(program).run(each.name, given, SYMBOLS | symbols).items():
            assert found[name].shape == wanted.shape, f"{each.name}: {name}"
            assert found[name].dtype == wanted.dtype, f"{each.name}: {name}"
            np.testing.assert_allclose(found[name], wanted, rtol=1e-13, atol=1e-13, err_msg=f"{each.name}: {name}")


INSTRUCTIONS = {name: case for name, case in CASES.items() if name != "call"}


@cache
def single() -> ArrayProgram:
    """A program with a function for each instruction."""
    functions: list[Function] = []
    for number, (instruction, _) in enumerate(INSTRUCTIONS.values()):
        builder = Builder()
        functions.append(function(f"f_{number}", builder, builder.add(instruction, "y")))
    return check(ArrayProgram("float64", tuple(functions), TABLES))


def test_an_instruction_gives_in_c_what_it_says() -> None:
    """If this fails, C reads an instruction in another way than the program means it."""
    unit = compiled_unit(single())
    for each, (name, (_, wanted)) in zip(single().functions, INSTRUCTIONS.items(), strict=True):
        found = unit.run(each.name, ARRAYS, SYMBOLS)["y"]
        np.testing.assert_allclose(found, wanted, rtol=1e-13, err_msg=name)


def made_of_views() -> list[Function]:
    """Functions in which views stand on views, on what is computed, and within sums."""
    functions: list[Function] = []

    def add(name: str, builder: Builder, value: Value, **others: Value) -> None:
        functions.append(function(name, builder, builder.named(value, "y"), *others.values()))

    b = Builder()
    cut = b.add(Slice(SERIES, 2, affine(1), affine(2), backward=True))
    add("slice_of_units_backward", b, b.elementwise(apply("*", Argument(0), Number(2.0)), cut))

    b = Builder()
    late = b.add(Slice(SERIES, 0, affine(-1), affine("steps"), or_zero=True))
    add("sum_of_a_shifted_series", b, b.elementwise(apply("+", Argument(0), Argument(1)), SERIES, late))

    b = Builder()
    late = b.add(Slice(SERIES, 0, affine(2), affine("steps"), backward=True, or_zero=True))
    add("product_with_a_mirrored_series", b, b.add(Contract(late, WEIGHT, "tbj,ij->tbi")))

    b = Builder()
    entries = b.add(Gather(SERIES, 2, (TABLE,)))
    add("product_of_entries", b, b.add(Contract(entries, SERIES, "tbn,tbj->bnj")))

    b = Builder()
    wide = b.add(Broadcast(WEIGHT, (affine(2), affine("batch"), affine(3)), (0, 2)))
    add("sum_of_what_is_repeated", b, b.add(Reduce(b.elementwise(apply("square", Argument(0)), wide), (1,))))

    b = Builder()
    doubled = b.elementwise(apply("*", Argument(0), Number(2.0)), SERIES)
    shifted = b.add(Slice(doubled, 0, affine(1), BOUND))
    both = b.elementwise(apply("-", Argument(0), Argument(1)), shifted, b.add(Slice(doubled, 0, affine(0), BOUND)))
    add("differences_of_what_is_computed", b, both)

    b = Builder()
    root = b.elementwise(apply("sqrt", Argument(0)), SERIES, name="root")
    more = b.elementwise(apply("*", Argument(0), Argument(0)), root)
    last = b.add(Read(root, BOUND))
    bias = b.elementwise(apply("+", Argument(0), Argument(1)), more, last)
    add("several_results_of_one_loop", b, bias, root=root, last=b.named(last, "last"))

    b = Builder()
    one = b.add(Contract(SERIES, SERIES, "tbi,tbj->tbij"))
    flushed = b.add(Flush(one))
    scattered = b.add(ScatterAdd(b.add(Slice(flushed, 3, affine(0), affine(2))), 3, (TABLE,), (affine(5),)))
    add("scattered_products", b, scattered)

    b = Builder()
    roots = b.elementwise(apply("sqrt", Argument(0)), SERIES)
    one, other = (b.add(Contract(each, SERIES, "tbi,tbj->ij")) for each in (SERIES, roots))
    third = b.add(Contract(SERIES, roots, "tbi,tbj->ij"))
    less = b.elementwise(apply("-", Argument(0), Argument(1)), one, third)
    add("difference_of_sums", b, b.elementwise(apply("*", Argument(0), Argument(1)), less, b.add(Flush(other))))

    b = Builder()
    add("one_number", b, b.add(Reduce(SERIES, (0, 1, 2))))
    return functions


AXES = (
    *("tbj,ij->tbi", "tbi,ij->tbj", "tbi,tbj->ij", "tbi,tbj->bij", "tbi,tbj->tij", "tbi,tbj->b", "tbi,tbj->"),
    *("tbi,tbj->ijb", "tbi,tbj->bji", "tbi,tbj->tbij", "tbj,ij->bti", "tbj,ij->it", "tbi,tbi->bi", "tbi,tbi->ib"),
)
"""Products of `(steps, batch, units)` with itself or with a matrix; the last ones are not sorted as usual."""


def products() -> list[Function]:
    """A function for each kind of contraction."""
    functions: list[Function] = []
    for number, axes in enumerate(AXES):
        builder = Builder()
        right = WEIGHT if axes.split("->")[0].endswith(",ij") else SERIES
        left, axes = (SERIES, axes)
        if axes.startswith("tbi,ij"):
            left = builder.add(Slice(SERIES, 2, affine(0), affine(2)))
        functions.append(function(f"product_{number}", builder, builder.add(Contract(left, right, axes), "y")))
    return functions


def regions() -> list[Function]:
    """Functions with scans, choices and calls."""
    functions = [summed()]
    for backward in (False, True):
        builder, total = accumulated(backward)
        functions.append(function("accumulated_backward" if backward else "accumulated", builder, total))
    builder = Builder()
    then, otherwise, chosen = Builder(builder), Builder(builder), Value("y", floats("batch", 3))
    none = otherwise.fill(0.0, "batch", 3)
    builder.define((chosen,), When(BOUND - 1, then.body(earlier(then)), otherwise.body(none)))
    functions.append(function("chosen", builder, chosen))
    functions.append(lagged())
    return functions


def lagged() -> Function:
    """A scan whose result at a step reads those of two and of three steps before, and hands on what is outside."""
    builder = Builder()
    outside = builder.elementwise(apply("tanh", Argument(0)), WEIGHT)
    body = Builder(builder)
    total, same = Value("total", floats("steps", "batch", 3)), Value("same", floats("steps", 2, 3))
    far = body.add(Read(total, affine("t") - 3, or_zero=True))
    near = body.add(Read(total, affine("t") - 2, or_zero=True))
    sum_ = body.elementwise(apply("+", Argument(0), Argument(1)), far, body.add(Read(SERIES, affine("t"))))
    sum_ = body.add(Flush(body.elementwise(apply("-", Argument(0), Argument(1)), sum_, near), every=2))
    built = body.body(sum_, outside)
    builder.define((total, same), Scan("t", affine("steps"), False, (None, None), built))
    return function("lagged", builder, total, same, outside)


@cache
def composed() -> ArrayProgram:
    """A program of all these."""
    return check(ArrayProgram("float64", (*regions(), *products(), *made_of_views()), TABLES))


@pytest.mark.parametrize("symbols", [{}, {"steps": 1, "fresh": 1}, {"steps": 3}], ids=str)
def test_instructions_give_together_what_they_give_one_by_one(symbols: dict[str, int]) -> None:
    """If this fails, a loop does too much at once, or axes are joined that do not lie side by side."""
    assert_like_the_evaluator(composed(), **symbols)


# Expressions.

NUMBERS = np.array([-2.5, -1.0, -0.25, 0.0, 0.25, 1.0, 3.0, 40.0, np.nan, np.inf, -np.inf])


def word_tree(word: str) -> Tree:
    """A word of the vocabulary, applied to arguments; of comparisons, the numbers that they make."""
    tree = apply(word, *(Argument(place) for place in range(VOCABULARY[word])))
    if word == "indicator":
        return apply("indicator", apply("<", Argument(0), Number(0.5)))
    if word == "where":
        return apply("where", apply("<=", Argument(0), Argument(1)), Argument(1), Argument(2))
    return apply("indicator", tree) if word in ("<", "<=", ">", ">=", "==", "!=") else tree


TREES: dict[str, Tree] = {
    **{word: word_tree(word) for word in VOCABULARY},
    "signs": apply("-", apply("negate", Argument(0)), apply("negate", apply("-", Number(-3.0), Argument(1)))),
    "binding": apply(
        "*", apply("-", Argument(0), Argument(1)), apply("/", Argument(1), apply("*", Argument(2), Number(2.0)))
    ),
    "powers": apply("**", apply("negate", Argument(0)), Number(2.0)),
    "nested": apply(
        "where",
        apply(">", apply("where", apply("<", Argument(0), Number(0.0)), Argument(1), Argument(2)), Number(0.1)),
        Number(1e-30),
        Number(1e300),
    ),
    "not a number": apply("+", Argument(0), Number(float("inf"))),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_expressions(dtype: str) -> None:
    """If this fails, a word, a literal or a bracket means something else in C."""
    size = len(NUMBERS) ** 2
    inputs = tuple(Value(name, floats(size)) for name in "abc")
    functions: list[Function] = []
    for number, tree in enumerate(TREES.values()):
        builder = Builder()
        functions.append(
            Function(f"f_{number}", "", inputs, builder.body(builder.elementwise(tree, *inputs, name="y")))
        )
    program = check(ArrayProgram(dtype, tuple(functions)))
    one, other = (grid.reshape(-1).astype(dtype) for grid in np.meshgrid(NUMBERS, NUMBERS))
    arrays = {"a": one, "b": other, "c": one[::-1].copy()}
    within = 1e-13 if dtype == "float64" else 2e-6
    unit = compiled_unit(program)
    with np.errstate(all="ignore"):
        for word, each in zip(TREES, functions, strict=True):
            found = unit.run(each.name, arrays, {})["y"]
            wanted = Evaluator(program).run(each.name, arrays, {})["y"]
            np.testing.assert_allclose(found, wanted, rtol=within, atol=1e-300, err_msg=word)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("word", "spans"), [("tanh", (0.01, 1.0, 12.0)), ("exp", (1.0, 86.0, 707.0))])
def test_functions_of_our_own_are_within_two_units_in_the_last_place(
    word: str, spans: tuple[float, ...], dtype: str
) -> None:
    """If this fails, a coefficient is wrong, or a range is not reduced as it should be."""
    random, size = np.random.default_rng(0), 200_000
    x = Value("x", floats(size))
    builder = Builder()
    body = builder.body(builder.elementwise(apply(word, Argument(0)), x, name="y"))
    program = check(ArrayProgram(dtype, (Function("f", "", (x,), body),)))
    for span in spans if dtype == "float64" else spans[:2] if word == "exp" else spans:
        values = random.uniform(-span, span, size).astype(dtype)
        found = run_c(program, "f", {"x": values}, {})["y"].astype(np.longdouble)
        wanted = getattr(np, word)(values.astype(np.longdouble))
        unit = np.spacing(np.abs(wanted).astype(dtype)).astype(np.longdouble)
        assert np.abs(found - wanted).max() > 0
        assert (np.abs(found - wanted) / unit).max() <= 2


# Source.


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["lstm", "conv_lif", "depth"])
def test_the_source_compiles_without_a_warning(name: str, dtype: str, tmp_path: Path) -> None:
    """If this fails, something is unused, shadowed by precedence, or not C99."""
    path = tmp_path / "program.c"
    path.write_text(source(compiled(named(name), "rtrl"), dtype), encoding="ascii")
    strict = ["-std=c99", "-fopenmp-simd", "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    subprocess.run([*find_compiler().command, *strict, str(path)], check=True)


def source(program: fg.Program, dtype: Any = np.float64) -> str:
    """A program as C."""
    lowered = lower(program.plan, np.dtype(dtype))
    return unit(lowered.program, analysed(lowered.program)).text


def test_a_name_is_text_in_a_comment() -> None:
    """If this fails, a name of a node ends a comment, joins two lines, or is code."""
    graph = fg.load("elman")
    hostile = ("x*/ int main(){}/*", 'y"\\', "h\n#include </etc/passwd>", "π??/", "int", "a\\\nb")
    for name in hostile:
        graph.add_node(name, op="tanh", size=2)
        graph.add_edge("x", name, weight="dense")
        graph.add_edge(name, name, weight="dense", delay=1)
        graph.add_edge(name, "y", weight="dense")
    program = fg.compile(graph, rule="rtrl")
    text = source(program)
    assert text.isascii()
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    assert not set(re.findall(r"/\*|\*/|[\\\"?]{2}|\\|\"", code))
    assert set(re.findall(r"#.*", code)) <= set(re.findall(r"#.*", source(fg.compile(fg.load("elman"), rule="rtrl"))))
    assert "main" not in re.findall(r"\w+", code)


@pytest.mark.parametrize("text", ["*/", "/*", "??/", "a\\\nb", "*\\\n/", "", "\x00\r\u2028", "x" * 500])
def test_comments_end_where_they_end(text: str) -> None:
    """If this fails, what stands after a comment is part of it, or the other way round."""
    lines = comment(text)
    whole = "\n".join(lines)
    assert whole.startswith("/* ")
    assert whole.endswith(" */")
    assert "*" not in whole[2:-2]
    assert "\\" not in whole
    assert "?" not in whole
    assert whole.isascii()


def test_identifiers_are_no_words_of_c() -> None:
    """If this fails, a node named like a keyword, a function or a macro breaks the source."""
    for word in ("int", "main", "NAN", "tanh", "π", "", "1", "a b", "__x", "_Pragma"):
        assert re.fullmatch(r"v7(_\w+)?", identifier("v", 7, word), re.ASCII)


def test_large_constants_are_not_part_of_the_source() -> None:
    """If this fails, a sparse weight of a million entries takes minutes to compile."""
    graph = fg.load("elman")
    graph.edges["x", "h", 0].update(weight="sparse", density=1.0)
    graph.nodes["x"]["size"], graph.nodes["h"]["size"] = 50, 100
    assert len(source(fg.compile(graph, rule="eprop"))) < 2**16


def test_an_array_of_another_kind_is_read_as_the_program_says() -> None:
    """If this fails, C reads an array that is not contiguous, or of another dtype, as other numbers."""
    found = run_c(single(), "f_2", {**ARRAYS, "x": np.asfortranarray(X.astype(np.float32))}, SYMBOLS)["y"]
    np.testing.assert_allclose(found, X @ ARRAYS["w"].T, rtol=1e-13)
    found = run_c(single(), "f_2", {**ARRAYS, "x": X[:, ::-1]}, SYMBOLS)["y"]
    np.testing.assert_allclose(found, X[:, ::-1] @ ARRAYS["w"].T, rtol=1e-13)

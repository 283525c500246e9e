"""Is the price of a program what its printed functions take? Memory is measured as NumPy asks for it, not timed."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from array_program.cases import Case, named, named_case
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardgrad.array_program import numpy_helpers
from forwardgrad.array_program.arithmetic import counted, operations, total
from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.checker import check
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.formulas import read
from forwardgrad.array_program.instructions import Contract, Gather, Slice
from forwardgrad.array_program.lowering.lower import lower
from forwardgrad.array_program.numpy_source import source
from forwardgrad.array_program.price import Price, Prices
from forwardgrad.array_program.regions import ArrayProgram, Function
from forwardgrad.array_program.values import Type, Value, floats
from forwardgrad.ops import Array
from forwardgrad.support import reuse
from forwardgrad.testing import Problem
from forwardgrad.testing.strategies import path_rules, problems

MIB = 2**20

ORDER = ("forward", "slopes", "advance", "credit", "gradients")
"""How an engine runs a block whose state after it is wanted too."""

MEASURED = (
    ("elman", "rtrl", "float64", 7, 16),
    ("elman", "rtrl", "float32", 1, 64),
    ("elman", "eprop", "float64", 40, 64),
    ("gru", "rtrl", "float64", 1, 4),
    ("gru", "eprop-deep", "float32", 12, 8),
    ("gru", "eprop", "float64", 7, 64),
    ("lstm", "rtrl", "float32", 3, 8),
    ("lstm", "eprop", "float32", 20, 40),
    ("leaky_stack", "eprop-deep", "float64", 9, 16),
    ("leaky_stack", "immediate", "float32", 40, 64),
    ("alif", "rtrl", "float64", 2, 4),
    ("alif", "eprop", "float32", 7, 64),
    ("lif", "rtrl", "float64", 5, 4),
    ("lif", "immediate", "float64", 30, 64),
    ("delays", "rtrl", "float64", 7, 2000),
    ("delays", "hops(2) & near", "float32", 2, 6000),
    ("elements", "rtrl", "float64", 7, 500),
    ("masked", "window(2)", "float32", 12, 1000),
    ("depth", "dsf(0.5)", "float64", 1, 4000),
    ("elman", "snap(1)", "float64", 1, 200),
    ("elman", "snap(1)", "float32", 20, 64),
    ("gru", "snap(2)", "float64", 1, 16),
    ("masked", "snap(2)", "float64", 5, 3000),
    ("elman", "uoro", "float64", 1, 100),
    ("lstm", "uoro", "float32", 7, 40),
    ("delays", "uoro", "float64", 7, 2000),
)
"""Graphs and rules, each with a dtype, steps of a block and samples."""


@pytest.fixture(autouse=True)
def without_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is held to be used again is not what a program takes."""
    monkeypatch.setattr(reuse, "empty", np.empty)


class Measured:
    """Runs the printed functions of a program in turn, and measures what they take.

    Args:
        program: the program.
        calls: the Python functions that it calls, by name.
    """

    def __init__(self, program: ArrayProgram, calls: Mapping[str, Any]) -> None:
        self.program, self.dtype = program, np.dtype(program.dtype)
        constants = {value.name: array for value, array in program.constants.items()}
        self.names: dict[str, Any] = {**vars(numpy_helpers), **constants, **calls, "np": np}
        self.names["dtype"] = self.dtype.type
        exec(source(program), self.names)

    def given(self, order: Sequence[str], symbols: Mapping[str, int]) -> dict[str, Array]:
        """What comes from outside."""
        random, given, made = np.random.default_rng(0), dict[str, Array](), set[str]()
        for function in map(self.program.function, order):
            for value in function.inputs:
                if value.name not in made and value.name not in given:
                    shape = [dim.at(symbols) for dim in value.dims]
                    given[value.name] = random.uniform(-0.1, 0.1, shape).astype(self.dtype)
            made.update(value.name for value in function.body.results)
        return given

    def peaks(self, order: Sequence[str], symbols: Mapping[str, int]) -> dict[str, int]:
        """For each function, the most bytes alive while it runs."""
        known: dict[str, Any] = {**self.given(order, symbols), **symbols}
        peaks: dict[str, int] = {}
        tracemalloc.start()
        try:
            start = tracemalloc.get_traced_memory()[0]
            for name in order:
                function = self.names[name]
                taken = function.__code__.co_varnames[: function.__code__.co_argcount]
                tracemalloc.reset_peak()
                found = function(*(known[word] for word in taken))
                peaks[name] = tracemalloc.get_traced_memory()[1] - start
                results = self.program.function(name).body.results
                found = (found,) if len(results) == 1 else found
                known |= {value.name: array for value, array in zip(results, found, strict=True)}
                del found
        finally:
            tracemalloc.stop()
        return peaks


def measured_case(case: Case, dtype: str) -> Measured:
    """The program of a case in a dtype."""
    return Measured(lower(case.plan, dtype).program, case.evaluator.calls)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(("name", "rule", "dtype", "steps", "batch"), MEASURED)
def test_price_is_what_printed_functions_take(
    name: str, rule: str, dtype: str, steps: int, batch: int, fresh: bool
) -> None:
    """If this fails, blocks are refused that would fit, or chosen that do not."""
    measured = measured_case(named_case(name, rule), dtype)
    peaks = measured.peaks(ORDER, {"steps": steps, "batch": batch, "seeds": 1, "fresh": int(fresh)})
    price = Prices(measured.program, ORDER).at(steps, batch, fresh=fresh)
    assert max(peaks.values()) > MIB
    assert price.peak == pytest.approx(max(peaks.values()), rel=0.05)
    for function, peak in peaks.items():
        assert price.peaks[function] == pytest.approx(peak, rel=0.1, abs=MIB / 8), function


@given(
    data=st.data(),
    problem=problems(),
    steps=st.sampled_from([1, 2, 5, 24]),
    fresh=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
)
@settings(max_examples=8, deadline=None)
def test_price_on_random_graphs(data: st.DataObject, problem: Problem, steps: int, fresh: bool, dtype: str) -> None:
    """If this fails, some instruction is priced as something else."""
    measured, batch = measured_case(Case(problem, data.draw(path_rules(problem.edges))), dtype), 6000 // steps
    peaks = measured.peaks(ORDER, {"steps": steps, "batch": batch, "seeds": 1, "fresh": int(fresh)})
    price = Prices(measured.program, ORDER).at(steps, batch, fresh=fresh)
    assert price.peak == pytest.approx(max(peaks.values()), rel=0.1, abs=MIB / 6)


SERIES = Value("x", floats("steps", "batch", 32))
MATRIX = Value("w", floats(32, 32))
TABLE = Value("table", Type("int", (affine(32),)))


def repeated(builder: Builder) -> Value:
    """A matrix times a part of an array whose entries do not lie one after the other."""
    cut = builder.add(Slice(Value("x2", floats("steps", "batch", 64)), 2, affine(8), affine(32)))
    return builder.add(Contract(cut, MATRIX, "tbj,ij->tbi"), "y")


def gathered(builder: Builder) -> Value:
    """A matrix times entries by a table."""
    return builder.add(Contract(builder.add(Gather(SERIES, 2, (TABLE,))), MATRIX, "tbj,ij->tbi"), "y")


def copied(builder: Builder) -> Value:
    """A matrix times a part of an array whose first axes cannot be joined as they lie."""
    cut = builder.add(Slice(Value("x2", floats("steps", 64, 32)), 1, affine(8), affine(48)))
    return builder.add(Contract(cut, MATRIX, "tbj,ij->tbi"), "y")


def windowed(builder: Builder) -> Value:
    """A range with zeros beyond the end."""
    return builder.add(Slice(SERIES, 0, affine(2), affine("steps"), or_zero=True), "y")


def written(text: str) -> Callable[[Builder], Value]:
    """An expression of `x`."""

    def build(builder: Builder) -> Value:
        return builder.elementwise(read(text, ["x"]), SERIES, name="y")

    return build


BUILT: Mapping[str, Callable[[Builder], Value]] = {
    "repeated": repeated,
    "gathered": gathered,
    "copied": copied,
    "windowed": windowed,
    **{
        text: written(text)
        for text in (
            "x * x + x",
            "x + x * x",
            "1 - x * x",
            "0.5 * (x * x)",
            "-(x * x) / x",
            "x / (x * x)",
            "(x * x) ** 2",
            "np.tanh(x * x)",
            "np.where(x > 0, x * x, 0)",
            "x * (x > 0).astype(x.dtype)",
        )
    },
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT)
def test_price_of_one_instruction(build: Callable[[Builder], Value], dtype: str) -> None:
    """If this fails, it is not known when NumPy copies, or writes a result into an operand."""
    builder = Builder()
    value = build(builder)
    body = builder.body(value)
    inputs = dict.fromkeys(v for s in body.statements for v in s.instruction.operands if not v.unnamed and v != TABLE)
    function = Function("made", "One value.", tuple(inputs), body)
    program = check(ArrayProgram(dtype, (function,), {TABLE: np.arange(32)}))
    peaks = Measured(program, {}).peaks(["made"], {"steps": 400, "batch": 25})
    assert Prices(program).at(400, 25).peak == pytest.approx(peaks["made"], rel=0.1)


def prices(name: str, rule: str) -> tuple[ArrayProgram, Prices]:
    """The program of a graph under a rule, and its prices."""
    program = named_case(name, rule).program
    return program, Prices(program)


@pytest.mark.parametrize("name", ["lstm", "delays"])
def test_what_is_known_of_long_blocks_serves_all_of_them(name: str) -> None:
    """If this fails, long blocks are priced as if some of their steps were at their ends, or shorter."""
    program, known = prices(name, "rtrl")
    longer = Prices(program)
    longer.long = 1000
    for steps in (known.long, 100):
        assert known.at(steps, 3) == longer.at(steps, 3)


def test_price_says_what_is_alive_at_its_peak() -> None:
    """If this fails, a refusal names arrays that are not there, or leaves out some that are."""
    price: Price = prices("elman", "rtrl")[1].at(5, 64)
    assert sum(price.alive.values()) == price.peak == max(price.peaks.values())
    assert max(price.alive, key=lambda name: price.alive[name]) == "carried_h_h"


def test_operations_of_a_matrix_product_and_of_a_scan() -> None:
    """If this fails, operations are those of other sizes, or of one step."""
    program = named_case("elman", "rtrl").program
    size, inputs = 32, named("elman").inputs["x"].shape[-1]
    steps, batch = 50, 64
    symbols = {"steps": steps, "batch": batch, "seeds": 1, "fresh": 0}
    found = total(operations(program, "forward_h", symbols), symbols)
    assert found == steps * batch * size * (2 * inputs + 1 + 2 * size + 2)
    outer = program.function("gradients").body.statements[0].instruction
    each, dims = counted(outer)
    assert each * np.prod([dim.at(symbols) for dim in dims]) == 2 * steps * batch * size * inputs

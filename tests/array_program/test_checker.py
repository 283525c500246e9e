"""Does the checker refuse a program in which something is wrong, and say where?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from array_program.test_instructions import BATCH, BOUND, SERIES, TABLE, WEIGHT, accumulated, earlier, program, summed

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.checker import check
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import Argument, apply
from forwardgrad.array_program.instructions import (
    Broadcast,
    Concat,
    Contract,
    Elementwise,
    Gather,
    Instruction,
    Read,
    ScatterAdd,
    Slice,
)
from forwardgrad.array_program.regions import ArrayProgram, Function, Invoke, Scan, When
from forwardgrad.array_program.values import ArrayProgramError, Type, Value, floats

STEP = floats("batch", 3)


def one(instruction: Instruction, kind: Type) -> Builder:
    """A body of one statement, which declares that type."""
    builder = Builder()
    builder.define((Value("y", kind),), instruction)
    return builder


def scanned(at: int, before: Value | None = None, whole: bool = False, or_zero: bool = False) -> Builder:
    """A scan whose result is read in it: at a step so far from the present one, or as a whole."""
    builder = Builder()
    body = Builder(builder)
    ahead = affine(0) if before is None else before.dims[0]
    total = Value("total", floats(affine("steps") + ahead, "batch", 3))
    read = Slice(total, 0, affine(0), affine(1)) if whole else Read(total, affine("t") + ahead + at, or_zero)
    body.add(read, "read")
    value = body.elementwise(Argument(0), body.add(Read(SERIES, affine("t"))), name="now")
    builder.define((total,), Scan("t", affine("steps"), False, (before,), body.body(value)))
    return builder


def carried() -> Builder:
    """A scan that follows on what has other units."""
    builder = Builder()
    body = Builder(builder)
    value = body.elementwise(Argument(0), body.add(Read(SERIES, affine("t"))), name="now")
    before = builder.fill(0.0, 1, "batch", 2)
    total = Value("y", floats(affine("steps") + 1, "batch", 3))
    builder.define((total,), Scan("t", affine("steps"), False, (before,), body.body(value)))
    return builder


def twice() -> Builder:
    """Two statements that define one name."""
    builder = Builder()
    builder.add(Read(SERIES, affine(0)), "y")
    builder.add(Read(SERIES, BOUND), "y")
    return builder


def from_a_branch() -> Builder:
    """A value of one branch, read behind it."""
    builder = Builder()
    then, otherwise = Builder(builder), Builder(builder)
    inside, other = then.add(Read(SERIES, affine(0)), "inside"), otherwise.add(Read(SERIES, affine(0)), "other")
    builder.define((Value("y", STEP),), When(BOUND, then.body(inside), otherwise.body(other)))
    builder.elementwise(Argument(0), inside, name="z")
    return builder


def unequal() -> Builder:
    """Two branches that give other types."""
    builder = Builder()
    then, otherwise = Builder(builder), Builder(builder)
    bodies = then.body(then.add(Read(SERIES, affine(0)), "a")), otherwise.body(otherwise.fill(0.0, 3))
    builder.define((Value("y", STEP),), When(BOUND, *bodies))
    return builder


def unguarded() -> Builder:
    """A function of a block that may have no step."""
    builder = Builder()
    earlier(builder)
    return builder


def invoked(*arguments: Value, name: str = "summed", produced: Type = STEP) -> Builder:
    """A call of `summed`."""
    return one(Invoke(name, arguments, (produced,)), produced)


OTHER = Value("w", floats(3, 2))
PLUS = apply("+", Argument(0), Argument(1))
UNKNOWN = Value("nothing", STEP)

FAULTS: Mapping[str, tuple[Callable[[], Builder], str]] = {
    "an undefined value": (lambda: one(Read(Value("nowhere", SERIES.type), affine(0)), STEP), "nowhere is not defined"),
    "another type": (lambda: one(Read(OTHER, affine(0)), floats(2)), r"w is read as \[3 2\], and is \[2 3\]"),
    "a name twice": (twice, "y is defined twice"),
    "a wrong declaration": (lambda: one(Read(SERIES, affine(0)), floats("batch", 2)), r"declared \[batch 2\], and is"),
    "axes that differ": (lambda: one(Contract(SERIES, WEIGHT, "tbi,ij->tbj"), SERIES.type), "axis 'i' is 3 and 2"),
    "an axis of nothing": (lambda: one(Contract(SERIES, WEIGHT, "tbj,ij->tbk"), SERIES.type), "no operand has"),
    "an axis too many": (lambda: one(Contract(SERIES, WEIGHT, "tbj,ijk->tbi"), SERIES.type), "has not the axes 'ijk'"),
    "units that differ": (
        lambda: one(Elementwise(PLUS, (SERIES, WEIGHT), SERIES.dims), SERIES.type),
        "is not the end of",
    ),
    "an argument that is not read": (
        lambda: one(Elementwise(Argument(0), (SERIES, WEIGHT), SERIES.dims), SERIES.type),
        "its arguments are not those it reads",
    ),
    "a range that leaves its axis": (
        lambda: one(Slice(SERIES, 0, affine(1), affine("steps")), SERIES.type),
        "its range leaves axis 0 of x",
    ),
    "an axis that is not there": (lambda: one(Slice(SERIES, 3, affine(0), affine(1)), SERIES.type), "has no axis 3"),
    "an index that leaves its axis": (lambda: one(Read(SERIES, affine("steps")), STEP), "its index leaves x"),
    "an index below a short block": (lambda: one(Read(SERIES, affine(1)), STEP), "its index leaves x"),
    "parts that differ": (lambda: one(Concat((SERIES, WEIGHT), 0), SERIES.type), "its parts differ beside axis 0"),
    "a repeated axis": (
        lambda: one(Broadcast(WEIGHT, (affine(2), affine(3)), (1, 0)), WEIGHT.type),
        "axes are not in order",
    ),
    "a table of numbers": (lambda: one(Gather(WEIGHT, 0, (WEIGHT,)), WEIGHT.type), "w is not a table"),
    "a table too short": (
        lambda: one(ScatterAdd(SERIES, 2, (TABLE,), (affine(3),)), SERIES.type),
        "x has 3 entries, its tables 2",
    ),
    "a carry of other units": (carried, r"follows on %\d \[1 batch 2\]"),
    "a step that is not there yet": (lambda: scanned(at=0), "at a step that is not there yet"),
    "a step before the block": (lambda: scanned(at=-1), "its index leaves total"),
    "a result read as a whole": (lambda: scanned(at=-1, whole=True), "not complete before the scan ends"),
    "a value of a branch": (from_a_branch, "inside is not defined here"),
    "branches that differ": (unequal, "its two bodies differ"),
    "a function that is not there": (lambda: invoked(SERIES, name="other"), "there is no function 'other'"),
    "an argument of another type": (lambda: invoked(WEIGHT), "summed takes"),
    "a result of another type": (lambda: invoked(SERIES, produced=floats(3)), "gives other types"),
    "a block that may be empty": (unguarded, "steps - 1 may be less than 1"),
    "an unknown symbol": (lambda: one(Read(SERIES, affine(0)), floats("samples", 3)), "declared"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_refused_where_it_is(name: str) -> None:
    """If this fails, a pass or the lowering can produce such a program and nobody notices."""
    make, problem = FAULTS[name]
    builder = make()
    with pytest.raises(ArrayProgramError, match=problem) as refused:
        program(summed(), Function("f", "", (SERIES, WEIGHT), builder.body()))
    assert str(refused.value).startswith("array program, function 'f': ")
    assert "In: " in str(refused.value)
    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.parametrize("at", [-1, -2])
def test_what_can_be_read_is_not_refused(at: int) -> None:
    """If this fails, the checker stands in the way of delays."""
    builder = scanned(at, or_zero=True)
    assert program(Function("f", "", (SERIES, WEIGHT), builder.body()))
    for backward in (False, True):
        builder, total = accumulated(backward)
        assert program(Function("f", "", (SERIES,), builder.body(total)))


def test_what_comes_out_must_be_defined_and_constants_must_fit() -> None:
    """If this fails, a function gives what it never made."""
    with pytest.raises(ArrayProgramError, match="nothing is not defined here"):
        program(Function("f", "", (SERIES,), Builder().body(UNKNOWN)))
    with pytest.raises(ArrayProgramError, match="%1 is read, and made nowhere"):
        program(Function("f", "", (Value("%1", STEP),), Builder().body()))
    with pytest.raises(ArrayProgramError, match="constant w"):
        check(ArrayProgram("float64", (), {WEIGHT: np.ones((3, BATCH))}))
    with pytest.raises(ArrayProgramError, match="two functions 'summed'"):
        program(summed(), summed())

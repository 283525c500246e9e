"""Are products right at all sizes, where tiles, panels and depths end? And would a wrong reading in C be noticed?"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from array_program.test_c_reading import assert_like_the_evaluator, composed
from c_backend import compiled_unit, in_a_hurry, needs_compiler

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.checker import check
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.in_c import entries as c_entries
from forwardgrad.array_program.in_c import kernels as c_kernels
from forwardgrad.array_program.in_c import prelude as c_prelude
from forwardgrad.array_program.in_c import statements as c_statements
from forwardgrad.array_program.in_c import storage as c_storage
from forwardgrad.array_program.in_c import sums as c_sums
from forwardgrad.array_program.in_c.loops import Index, Nest
from forwardgrad.array_program.in_c.parts import Sharing
from forwardgrad.array_program.instructions import Contract, Read
from forwardgrad.array_program.regions import ArrayProgram, Function, Scan
from forwardgrad.array_program.values import Value, floats
from forwardgrad.support import reuse

needs_compiler()

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True, scope="module")
def _in_a_hurry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from in_a_hurry(tmp_path_factory.mktemp("cache"))


SIZES = ((1, 1), (1, 40), (5, 3), (16, 70), (33, 7), (70, 300))
"""Units of targets and of sources: below, at and beyond the width of a panel, and beyond the depth of a tile."""

ROWS = ((1, 1), (1, 3), (2, 2), (5, 1), (1, 8), (3, 5), (4, 8), (97, 3))
"""Steps and samples."""


def products(targets: int, sources: int) -> list[Function]:
    """The products of a dense weight: forward, in a loop, back, and over time."""
    x, d = Value("x", floats("steps", "batch", sources)), Value("d", floats("steps", "batch", targets))
    w = Value("w", floats(targets, sources))
    functions: list[Function] = []
    for name, one, other, axes in (
        ("forward", x, w, "tbj,ij->tbi"),
        ("back", d, w, "tbi,ij->tbj"),
        ("outer", d, x, "tbi,tbj->ij"),
        ("injected", d, x, "tbi,tbj->bij"),
    ):
        builder = Builder()
        body = builder.body(builder.add(Contract(one, other, axes), "y"))
        functions.append(Function(f"{name}_{targets}_{sources}", "", (x, d, w), body))
    builder = Builder()
    step = Builder(builder)
    value = step.add(Contract(step.add(Read(x, affine("t"))), w, "bj,ij->bi"))
    y = Value("y", floats("steps", "batch", targets))
    builder.define((y,), Scan("t", affine("steps"), False, (None,), step.body(value)))
    functions.append(Function(f"stepwise_{targets}_{sources}", "", (x, d, w), builder.body(y)))
    return functions


WANTED: dict[str, Callable[[Any, Any, Any], Any]] = {
    "forward": lambda x, d, w: x @ w.T,
    "stepwise": lambda x, d, w: x @ w.T,
    "back": lambda x, d, w: d @ w,
    "outer": lambda x, d, w: np.einsum("tbi,tbj->ij", d, x),
    "injected": lambda x, d, w: np.einsum("tbi,tbj->bij", d, x),
}


def assert_products(dtype: str) -> None:
    """Assert that all of them are those of NumPy."""
    functions = [each for sizes in SIZES for each in products(*sizes)]
    unit, random = compiled_unit(check(ArrayProgram(dtype, tuple(functions)))), np.random.default_rng(0)
    for (steps, batch), each in itertools.product(ROWS, functions):
        name, targets, sources = each.name.split("_")
        shapes = ((steps, batch, int(sources)), (steps, batch, int(targets)), (int(targets), int(sources)))
        x, d, w = (random.normal(size=shape).astype(dtype) for shape in shapes)
        found = unit.run(each.name, {"x": x, "d": d, "w": w}, {"steps": steps, "batch": batch})["y"]
        wanted = WANTED[name](*(array.astype(np.float64) for array in (x, d, w)))
        within = 1e-12 if dtype == "float64" else 3e-4
        np.testing.assert_allclose(found, wanted, atol=within, err_msg=f"{each.name}, {steps} {batch}")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("options", ["-O1", "-O3 -march=native -fopenmp-simd"], ids=["portable", "native"])
def test_products_of_all_sizes(dtype: str, options: str, monkeypatch: Patch) -> None:
    """If this fails, a row, a column or a term is lost where a tile, a panel or a depth ends."""
    monkeypatch.setenv("FORWARDGRAD_CFLAGS", options)
    assert_products(dtype)


# Faults.


def slices_off_by_one(patch: Patch) -> None:
    """A part of an axis begins one entry early."""
    patch.setattr(Index, "shifted", lambda self, start: Index(self.axis, self.backward, self.start + start - 1))


def mirrored_axes_straight(patch: Patch) -> None:
    """What comes last first is read from the front."""
    patch.setattr(Index, "mirrored", lambda self, last: self)


def axes_joined_that_do_not_lie_side_by_side(patch: Patch) -> None:
    """One loop runs over two axes, whatever arrays have between them."""
    patch.setattr(Nest, "_side_by_side", lambda self, *given: True)


def zeros_beyond_an_axis_forgotten(patch: Patch) -> None:
    """What lies beyond an axis is its neighbour in memory."""
    patch.setattr(c_entries.Entries, "_if", lambda self, test, found: found)


def scans_that_begin_with_nothing(patch: Patch) -> None:
    """What was before a block is not put before it."""
    patch.setattr(c_statements.Statements, "_copied", lambda self, *given, **more: [])


def scans_in_one_direction(patch: Patch) -> None:
    """Steps are counted up where they go backward."""
    original = Sharing.of_scan

    def wrong(self: Sharing, scan: Any, results: Any, loop: Callable[[], list[str]]) -> list[str]:
        def turned() -> list[str]:
            up = "extent t = 0; t < steps; t++"
            return [line.replace("extent t = steps - 1; t >= 0; t--", up) for line in loop()]

        return original(self, scan, results, turned)

    patch.setattr(Sharing, "of_scan", wrong)


def sums_that_are_not_begun_at_zero(patch: Patch) -> None:
    """A sum goes on from what was in memory."""
    original = c_sums.sum_lines
    patch.setattr(
        c_statements, "sum_lines", lambda *given: [re.sub(r"\] = 0;$", "] += 0;", line) for line in original(*given)]
    )


def memory_used_again_too_soon(patch: Patch) -> None:
    """What is yet to be read gives way to what is made next."""
    patch.setattr(c_storage.Stores, "_is_read", lambda self, *given: False)


def symbols_of_the_caller(patch: Patch) -> None:
    """A function that is run over a shorter block runs over the whole."""
    original = c_statements.Statements._invoke
    patch.setattr(
        c_statements.Statements,
        "_invoke",
        lambda self, *given: [line for line in original(self, *given) if "there.steps" not in line],
    )


def choices_that_are_not_made(patch: Patch) -> None:
    """Of two bodies, the second one is always run."""
    original = c_statements.Statements._single
    patch.setattr(
        c_statements.Statements,
        "_single",
        lambda self, statement: [
            "if (0) {" if line.startswith("if (") and ">= 0" in line else line for line in original(self, statement)
        ],
    )


def flushed_at_every_number(patch: Patch) -> None:
    """What is not next to nothing becomes zero."""
    helpers = {**c_prelude.HELPERS, "flushed": c_prelude.HELPERS["flushed"].replace("< least", "> least")}
    patch.setattr(c_prelude, "HELPERS", helpers)


def blocks_of_sums_that_replace_each_other(patch: Patch) -> None:
    """Of a long sum, only its last part is left."""
    kernels = c_kernels.KERNELS.replace("add || p > 0", "add")
    patch.setattr(c_prelude, "KERNELS", kernels)


def slots_one_step_late(patch: Patch) -> None:
    """What a step gives is put where the next step's belongs."""
    patch.setattr(c_storage, "ahead", lambda scan, place: Affine(0))


def panels_without_their_end(patch: Patch) -> None:
    """The last columns of a matrix are left out where they fill no panel."""
    kernels = c_kernels.KERNELS.replace("j < n; j += WIDTH", "j + WIDTH <= n; j += WIDTH")
    patch.setattr(c_prelude, "KERNELS", kernels)


FAULTS = (
    panels_without_their_end,
    slices_off_by_one,
    mirrored_axes_straight,
    axes_joined_that_do_not_lie_side_by_side,
    zeros_beyond_an_axis_forgotten,
    scans_that_begin_with_nothing,
    scans_in_one_direction,
    sums_that_are_not_begun_at_zero,
    memory_used_again_too_soon,
    symbols_of_the_caller,
    choices_that_are_not_made,
    flushed_at_every_number,
    blocks_of_sums_that_replace_each_other,
    slots_one_step_late,
)


def assert_all() -> None:
    """Assert that all is as it should be, as far as these tests see."""
    assert_like_the_evaluator(composed())
    assert_products("float64")


def with_margins(shape: tuple[int, ...], dtype: Any) -> Any:
    """Memory with much room on both sides, into which a fault writes instead of into what belongs to others."""
    size, margin = math.prod(shape), 2**17
    return np.full(size + 2 * margin, np.nan, dtype)[margin : margin + size].reshape(shape)


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_fault_of_the_reading_is_noticed(plant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """If this fails, the comparison with the evaluator, or with NumPy's products, is blind to this fault."""
    monkeypatch.setenv("FORWARDGRAD_CFLAGS", "-O0")
    monkeypatch.setattr(reuse, "empty", with_margins)
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        assert_all()

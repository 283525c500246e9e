"""Are zeros passed over where a product is marked `sparse`, and nowhere else? And is it the same product?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from c_backend import in_a_hurry, run_c, skip_without

from forwardgrad.array_program import numpy_helpers
from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.checker import check
from forwardgrad.array_program.instructions import Contract
from forwardgrad.array_program.numpy_source import source
from forwardgrad.array_program.regions import ArrayProgram, Function
from forwardgrad.array_program.text_form import text
from forwardgrad.array_program.values import Misfit, Value, floats
from forwardgrad.ops import Array

BATCH = 2
SIZES = ((40, 40, 5, 8), (9, 33, 3, 3), (30, 300, 7, 90))
"""Units of target and source, and the shape of a parameter; the last is beyond the depth and width of tiles in C."""

ACTIVE = (0.0, 0.1, 0.5, 1.0)
"""Parts of rows, and of columns, that are not zeros."""


@pytest.fixture(autouse=True, scope="module")
def _in_a_hurry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from in_a_hurry(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _always_worth_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_helpers, "WORTH", 0)
    monkeypatch.setattr(numpy_helpers, "CACHED", 0)
    monkeypatch.setattr(numpy_helpers, "PART", 500)


def carrying(shape: tuple[int, ...], sparse: bool) -> ArrayProgram:
    """A program that carries an influence of this shape."""
    v, u, *rest = shape
    j, s = Value("j", floats("batch", v, u)), Value("s", floats("batch", u, *rest))
    builder = Builder()
    product = builder.add(Contract(j, s, "bvu,buij->bvij", sparse), "y")
    return check(ArrayProgram("float64", (Function("carry", "J S.", (j, s), builder.body(product)),), {}))


def product(backend: str, j: Array, s: Array, sparse: bool = True) -> Array:
    """The product as a backend computes it."""
    if backend == "numpy":
        return (numpy_helpers.carried_sparse if sparse else numpy_helpers.carried)(j, s)
    program = carrying((*j.shape[1:], *s.shape[2:]), sparse)
    return run_c(program, "carry", {"j": j, "s": s}, {"steps": 1, "batch": len(j), "fresh": 0})["y"]


def arrays(shape: tuple[int, ...], rows: float, columns: float) -> tuple[Array, Array]:
    """A Jacobian and an influence of which these parts, other units in each sample, are not zeros."""
    v, u, *rest = shape
    random = np.random.default_rng(0)
    j, s = random.normal(size=(BATCH, v, u)), random.normal(size=(BATCH, u, *rest))
    for sample in range(BATCH):
        j[sample, random.permutation(v)[int(rows * v) :]] = 0
        s[sample, random.permutation(u)[int(columns * u) :]] = 0
    return j, s


@pytest.mark.parametrize("backend", ["numpy", "c"])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_the_product_is_the_same(backend: str, shape: tuple[int, ...]) -> None:
    """If this fails, a row or a column is passed over that is not zero, or comes to another place."""
    skip_without(backend)
    for rows in ACTIVE:
        for columns in ACTIVE:
            j, s = arrays(shape, rows, columns)
            wanted = np.einsum("bvu,buij->bvij", j, s)
            np.testing.assert_allclose(product(backend, j, s), wanted, rtol=0, atol=1e-12, err_msg=f"{rows} {columns}")


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_an_entry_at_the_end_is_seen(backend: str) -> None:
    """If this fails, a look ends before the last entries of a row or a column."""
    skip_without(backend)
    j, s = arrays(SIZES[2], 0.3, 0.3)
    j[:, :, :5], s[:, :5] = 0, 0
    j[:, -1, :5], s[:, :5, -1, -1] = 2, 3
    np.testing.assert_allclose(product(backend, j, s), np.einsum("bvu,buij->bvij", j, s), rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_units_that_keep_their_own_state(backend: str) -> None:
    """A Jacobian of one entry a row, some of which read the same unit."""
    skip_without(backend)
    j, s = arrays(SIZES[0], 1.0, 0.7)
    single = np.zeros_like(j)
    for row, column in enumerate([*range(30), 3, 3, 4]):
        single[:, row, column] = j[:, row, column]
    np.testing.assert_allclose(product(backend, single, s), np.einsum("bvu,buij->bvij", single, s), rtol=0, atol=1e-13)


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_zeros_are_passed_over(backend: str) -> None:
    """If nothing is passed over, zeros meet numbers that are not finite, and the time is that of the whole product."""
    skip_without(backend)
    j, s = arrays(SIZES[0], 0.5, 0.5)
    wanted = product(backend, j, s)
    j[:, :, :10] = 0
    s[:, 10:20] = 0
    clean = product(backend, j, s)
    s[:, :10] = np.nan  # met by columns of zeros
    j[:, :, 10:20][j.any(axis=2)] = np.inf  # meet rows of zeros
    np.testing.assert_array_equal(product(backend, j, s), clean)
    assert np.isfinite(wanted).all()
    with np.errstate(invalid="ignore"):
        assert np.isnan(product(backend, j, s, sparse=False)).any()


@pytest.mark.parametrize("backend", ["numpy", "c"])
def test_where_nothing_is_zero_no_bit_differs(backend: str) -> None:
    """A look that finds nothing must leave the product that there was before."""
    skip_without(backend)
    j, s = arrays(SIZES[2], 1.0, 1.0)
    np.testing.assert_array_equal(product(backend, j, s), product(backend, j, s, sparse=False))


def test_small_products_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look takes longer than a product of a few numbers."""
    j, s = arrays(SIZES[0], 0.1, 0.1)
    total = np.zeros((BATCH, 40, 5, 8))
    bound = j.size * 40
    assert 0 < numpy_helpers.add_carried_sparse(total, j, s) < bound / 50
    monkeypatch.setattr(numpy_helpers, "WORTH", bound)
    assert numpy_helpers.add_carried_sparse(total, j, s) == bound


def test_the_mark_is_read_aloud() -> None:
    """Whoever reads a program sees which products look for zeros; a product that sums nothing has no mark."""
    marked, plain = (carrying((2, 3, 4, 5), sparse) for sparse in (True, False))
    assert "contract[bvu,buij->bvij sparse](j, s)" in text(marked)
    assert "contract[bvu,buij->bvij](j, s)" in text(plain)
    assert "carried_sparse(j, s)" in source(marked)
    assert "carried(j, s)" in source(plain)
    x = Value("x", floats("batch", 3))
    with pytest.raises(Misfit, match="no zero can be passed over"):
        Contract(x, x, "bi,bj->bij", sparse=True).types()

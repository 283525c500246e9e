"""Does a phantom do what NumPy does? Shape, type, place in memory, and whether it is a view or new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwardgrad.backends.phantom import Ledger, Numpy, Phantom

Operation = Callable[[Any], Any]
"""What is done with an array `(4, 3, 5, 5)`, or with a phantom."""

WHOLE, MASK = np.array([0, 2, 1]), np.array([True, False, True])

VIEWS: list[Operation] = [
    lambda a: a[1],
    lambda a: a[-1, 2],
    lambda a: a[np.int64(1)],
    lambda a: a[1:3],
    lambda a: a[::-1],
    lambda a: a[3:1:-1, :2],
    lambda a: a[..., 1:4],
    lambda a: a[:, None, ..., 2],
    lambda a: a[:, :, :, None],
    lambda a: a[:0],
    lambda a: a.T,
    lambda a: a.transpose(1, 2, 0, 3),
    lambda a: a.transpose((0, 2, -1, 1)),
    lambda a: np.transpose(a, (1, 0, 2, 3)),
    lambda a: a.swapaxes(0, -1),
    lambda a: np.swapaxes(a, 1, 2),
    lambda a: a.reshape(12, 25),
    lambda a: a.reshape(4, -1),
    lambda a: a.reshape((-1, 5)),
    lambda a: np.reshape(a, (2, 2, -1)),
    lambda a: a.transpose(1, 0, 2, 3).reshape(3, 4, 25),
    lambda a: a[:, 1].reshape(4, 25, 1),
    lambda a: a[:0].reshape(0, 7),
    lambda a: a.ravel(),
    lambda a: a[:1].squeeze(0),
    lambda a: np.broadcast_to(a, (2, 4, 3, 5, 5)),
    lambda a: np.broadcast_to(a[:, :1], (4, 3, 5, 5))[:, None],
    lambda a: np.broadcast_to(a[:1], (4, 3, 5, 5)).transpose(1, 0, 2, 3),
    lambda a: np.diagonal(a, axis1=2, axis2=3),
    lambda a: a[0, 0].diagonal(1),
    lambda a: np.einsum("abii...->abi...", a),
    lambda a: np.einsum("...ii->...i", a),
    lambda a: np.einsum("abcd->dcab", a),
    lambda a: a.astype(a.dtype, copy=False),
]

COPIES: list[Operation] = [
    lambda a: a.transpose(1, 0, 2, 3).reshape(12, 25),
    lambda a: a[..., :3].reshape(12, -1),
    lambda a: np.broadcast_to(a[:, :, :, :1], (4, 3, 5, 5)).reshape(-1),
    lambda a: a.copy(),
    lambda a: a.T.copy(),
    lambda a: np.copy(a.T),
    lambda a: a.T.astype("float32"),
    lambda a: a.flatten(),
    lambda a: a + 1,
    lambda a: 1 - a.T,
    lambda a: a * a[0],
    lambda a: a[:, :, 0, None] * a.transpose(0, 1, 3, 2),
    lambda a: a[:, :1] * a,
    lambda a: np.ones(5) * a.T[..., :1],
    lambda a: a / 2 + np.float32(1),
    lambda a: -a,
    lambda a: a**2,
    lambda a: a % 3,
    lambda a: abs(a),
    lambda a: a > 0,
    lambda a: (a > 0) & (a < 1),
    lambda a: (a > 0).astype(a.dtype),
    lambda a: np.tanh(a.transpose(2, 0, 1, 3)),
    lambda a: np.maximum(0, a),
    lambda a: np.logaddexp(0, a),
    lambda a: np.clip(a, -1, 1),
    lambda a: np.where(a > 0, a, 0),
    lambda a: np.where(a > 0, a.astype("float32"), np.float32(1)).astype("float32"),
    lambda a: a @ a[0, 0],
    lambda a: a[0, 0] @ a[0, 0, 0],
    lambda a: a[0, 0, 0] @ a[0, 0],
    lambda a: a[:, :1] @ a.transpose(0, 1, 3, 2),
    lambda a: a[0, 0].T @ np.ones((5, 2)),
    lambda a: np.dot(a[0, 0], a[0, 0]),
    lambda a: np.tensordot(a, a, ((0, 1), (0, 1))),
    lambda a: np.tensordot(a[0], a[0, 0], 1),
    lambda a: np.einsum("abij,abjk->abik", a, a),
    lambda a: np.einsum("abij->ij", a),
    lambda a: np.concatenate((a, a[:2])),
    lambda a: np.concatenate((a, a), axis=-1),
    lambda a: np.concatenate((a.T, a.T)),
    lambda a: np.stack([a[0], a[1]]),
    lambda a: np.stack([a[0], a[1]], axis=1),
    lambda a: a.sum(axis=0),
    lambda a: a.sum(axis=(0, 1)),
    lambda a: a.T.sum(axis=1),
    lambda a: a.sum(axis=-1, keepdims=True),
    lambda a: np.sum(a, axis=1),
    lambda a: np.add.reduce(a, axis=1),
    lambda a: a.mean(axis=(1, 2)),
    lambda a: a.max(axis=-1, keepdims=True),
    lambda a: np.amax(a, axis=0),
    lambda a: (a > 0).any(axis=1),
    lambda a: (a > 0).sum(axis=0),
    lambda a: np.zeros_like(a.T),
    lambda a: np.empty_like(a, dtype="float32"),
    lambda a: np.zeros((2, 3), "float32", like=a),
    lambda a: np.eye(3, like=a),
    lambda a: a[[0, 2]],
    lambda a: a[:, WHOLE],
    lambda a: a[:, :, WHOLE],
    lambda a: a[..., WHOLE, WHOLE],
    lambda a: a[:, WHOLE, :, WHOLE],
    lambda a: a[0, :, WHOLE],
    lambda a: a[:, 1, WHOLE],
    lambda a: a[WHOLE[:, None], WHOLE],
    lambda a: a[:, MASK],
    lambda a: a[:, np.ones((3, 5), bool)],
    lambda a: a[:, np.array(True)],
    lambda a: a[:, np.array(False)],
    lambda a: a[True],
    lambda a: a[:, WHOLE].reshape(-1),
    lambda a: a[:, :, WHOLE, None],
]

NUMBERS: list[Operation] = [
    lambda a: a.sum(),
    lambda a: (a > 0).sum(),
    lambda a: a.mean(),
    lambda a: a.max(),
    lambda a: (a > 0).any(),
]


def pair(dtype: str) -> tuple[Any, Phantom, Ledger]:
    """An array, a phantom of it, and what counts."""
    ledger = Ledger()
    return np.ones((4, 3, 5, 5), dtype), ledger.given((4, 3, 5, 5), dtype), ledger


def hold(real: Any, found: Any) -> None:
    assert (found.shape, found.dtype) == (real.shape, real.dtype)
    if real.size:
        strides = zip(real.shape, real.strides, found.form.strides, strict=True)
        assert [s // real.itemsize for n, s, _ in strides if n > 1] == [
            s for n, s in zip(found.shape, found.form.strides, strict=True) if n > 1
        ]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("operation", VIEWS)
def test_views_are_views(operation: Operation, dtype: str) -> None:
    """If this fails, prices count arrays that are not made, or that are made and forgotten."""
    array, phantom, ledger = pair(dtype)
    real, found = operation(array), operation(phantom)
    assert np.shares_memory(real, array) or not real.size
    assert found.buffer is phantom.buffer
    assert ledger.alive == 0
    hold(real, found)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("operation", COPIES)
def test_what_is_new_is_counted(operation: Operation, dtype: str) -> None:
    """If this fails, prices miss arrays, or take their sizes wrong."""
    array, phantom, ledger = pair(dtype)
    real, found = operation(array), operation(phantom)
    assert not np.shares_memory(real, array)
    hold(real, found)
    assert ledger.alive == real.nbytes
    del found
    assert ledger.alive == 0


@pytest.mark.parametrize("operation", NUMBERS)
def test_numbers_are_numbers(operation: Operation) -> None:
    """If this fails, code that reads a number off an array does not run on phantoms."""
    array, phantom, _ = pair("float32")
    assert type(operation(phantom)) is type(operation(array))


def test_results_with_a_place_take_none() -> None:
    """If this fails, prices count what is written into arrays that are there already."""
    array, phantom, ledger = pair("float64")
    held = np.empty_like(phantom)  # type: ignore[arg-type]
    before = ledger.alive
    phantom += 1
    phantom[0] -= phantom[1]
    phantom[...] = array
    phantom[:, WHOLE] = 0
    np.multiply(phantom, 2, out=held)  # type: ignore[call-overload]
    assert np.matmul(phantom, phantom, out=held) is held  # type: ignore[call-overload]
    ledger.mark()
    assert ledger.alive == ledger.peaks[-1] == before == array.nbytes


def test_temporaries_are_counted_while_they_live() -> None:
    """If this fails, a price is less than what is in work at one time."""
    array, phantom, ledger = pair("float64")
    found = (phantom + 1) * (phantom + 2)
    ledger.mark()
    assert ledger.peaks == [3 * array.nbytes]
    assert ledger.alive == found.nbytes
    ledger.mark()
    assert ledger.peaks[1:] == [array.nbytes]


def test_the_module_in_place_of_numpy_makes_phantoms() -> None:
    """If this fails, pricing a program allocates it."""
    ledger = Ledger()
    module: Any = Numpy(ledger)
    made = [module.zeros((10**6, 10**6)), module.eye(10**6), module.full((3,), 2.0, "float32"), module.arange(4)]
    assert ledger.alive == 2 * 8 * 10**12 + 12 + 32
    assert module.asarray(made[0]) is made[0]
    assert module.asarray(np.float64(1)).shape == ()
    assert module.ascontiguousarray(made[0]) is made[0]
    assert module.ascontiguousarray(made[0].T) is not made[0]
    assert module.prod((2, 3)) == 6


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_reshapes_and_orders_are_those_of_numpy(data: st.DataObject) -> None:
    """If this fails, phantoms share what arrays copy."""
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    ledger = Ledger()
    array, phantom = np.ones(shape), ledger.given(shape, "float64")
    axes = data.draw(st.permutations(range(len(shape))))
    cuts = tuple(slice(None, None, data.draw(st.sampled_from([1, 2]))) for _ in shape)
    wide = data.draw(st.booleans())
    one: Any = array
    two: Any = phantom
    one, two = one.transpose(axes)[cuts], two.transpose(axes)[cuts]
    if wide:
        one, two = np.broadcast_to(one, (2, *one.shape)), np.broadcast_to(two, (2, *two.shape))
    other = data.draw(st.permutations(range(one.ndim)))
    hold(one + 1, two + 1)
    hold(np.empty_like(one), np.empty_like(two))
    square = one.transpose(other), two.transpose(other)
    if square[0].shape == one.shape:
        hold(one * square[0], two * square[1])
    factors = data.draw(st.permutations([n for size in one.shape for n in ([2, 2] if size == 4 else [size])]))
    hold(one.reshape(factors), two.reshape(factors))
    assert np.shares_memory(one.reshape(factors), array) == (two.reshape(factors).buffer is phantom.buffer)

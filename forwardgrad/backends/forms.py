"""Where would NumPy put the items of an array? Shapes and strides of views and of what is new, without any memory."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple, cast

import numpy as np

Ints = tuple[int, ...]


class Form(NamedTuple):
    """What is known of a phantom; strides count items."""

    shape: Ints
    strides: Ints
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def picked(self, axes: Sequence[int]) -> Form:
        """The axes in another order, or some of them."""
        return Form(tuple(self.shape[a] for a in axes), tuple(self.strides[a] for a in axes), self.dtype)

    def broadcast(self, shape: Ints) -> Form:
        """The form repeated to a shape."""
        new = len(shape) - len(self.shape)
        own = zip(self.shape, self.strides, shape[new:], strict=True)
        return Form(shape, (*(0,) * new, *(0 if n == 1 else s for n, s, _ in own)), self.dtype)


@lru_cache(4096)
def contiguous(shape: Ints, dtype: np.dtype[Any]) -> Form:
    """The form of a new array, the last axis innermost."""
    return _ordered(shape, range(len(shape))[::-1], dtype)


def _ordered(shape: Ints, inner_first: Sequence[int], dtype: np.dtype[Any]) -> Form:
    strides, step = [0] * len(shape), 1
    for axis in inner_first:
        strides[axis] = step
        step *= max(shape[axis], 1)
    return Form(shape, tuple(strides), dtype)


@lru_cache(4096)
def kept(shape: Ints, given: tuple[Form, ...], dtype: np.dtype[Any]) -> Form:
    """The form of a new array whose axes lie in memory in the order in which those of given arrays do.

    This is how NumPy's iterator sorts axes (`npyiter_find_best_axis_ordering`).
    """
    strides = [form.broadcast(shape).strides for form in given]
    order: list[int] = []
    for axis in reversed(range(len(shape))):
        at = len(order)
        for place in reversed(range(len(order))):
            pairs = [(abs(s[order[place]]), abs(s[axis])) for s in strides if s[order[place]] and s[axis]]
            if any(inner <= outer for inner, outer in pairs):
                break
            if pairs:
                at = place
        order.insert(at, axis)
    return _ordered(shape, order, dtype)


@lru_cache(4096)
def alike(form: Form, dtype: np.dtype[Any]) -> Form:
    """The form of a new array that is to be like another: its axes are sorted by their strides, repeated ones too."""
    axes = range(len(form.shape))
    return _ordered(form.shape, sorted(reversed(axes), key=lambda axis: abs(form.strides[axis])), dtype)


@lru_cache(4096)
def reshaped(form: Form, shape: Ints) -> Form | None:
    """The form under another shape, or nothing where that needs a copy (NumPy's `_attempt_nocopy_reshape`)."""
    if 0 in shape:
        return contiguous(shape, form.dtype)
    old = [(n, s) for n, s in zip(form.shape, form.strides, strict=True) if n != 1]
    strides: list[int] = []
    at = first = 0
    while first < len(shape) and at < len(old):
        last, end = first + 1, at + 1
        here, there = shape[first], old[at][0]
        while here != there:
            if here < there:
                here, last = here * shape[last], last + 1
            else:
                there, end = there * old[end][0], end + 1
        if any(old[k][1] != old[k + 1][0] * old[k + 1][1] for k in range(at, end - 1)):
            return None
        steps = [old[end - 1][1]]
        for size in reversed(shape[first + 1 : last]):
            steps.append(steps[-1] * size)
        strides += reversed(steps)
        first, at = last, end
    strides += [strides[-1] if strides else 1] * (len(shape) - first)
    return Form(shape, tuple(strides), form.dtype)


@lru_cache(1024)
def reduced(form: Form, name: str, axes: Ints, keep: bool) -> Form:
    rest = [axis for axis in range(len(form.shape)) if axis not in axes]
    inner = form.picked(rest)
    found = kept(inner.shape, (inner,), getattr(np.ones(1, form.dtype), name)().dtype)
    if not keep:
        return found
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(form.shape))
    rest_of = iter(found.strides)
    return Form(shape, tuple(0 if axis in axes else next(rest_of) for axis in range(len(shape))), found.dtype)


# Indices.


def indexed(form: Form, index: Any) -> tuple[Form, bool]:
    """The form of what an index picks, and whether that is a view."""
    entries = _entries(index, len(form.shape))
    picks = [place for place, entry in enumerate(entries) if _is_array(entry)]
    shape: list[int] = []
    strides: list[int] = []
    axis = 0
    for entry in entries:
        if entry is None:
            shape.append(1)
            strides.append(0)
            continue
        if _is_truth(entry):
            continue
        size, stride = form.shape[axis], form.strides[axis]
        axis += 1
        if isinstance(entry, slice):
            cut = range(*cast("slice[Any, Any, Any]", entry).indices(size))
            shape.append(len(cut))
            strides.append(stride * cut.step)
        elif not _is_array(entry) and not -size <= operator.index(entry) < size:
            raise IndexError(f"index {entry} is out of bounds for an axis of size {size}")
    if not picks:
        return Form(tuple(shape), tuple(strides), form.dtype), True
    # A number beside arrays counts as an array. Where they do not stand together, their axes come first.
    places = [place for place, entry in enumerate(entries) if entry is not None and not isinstance(entry, slice)]
    at = places[0] if places[-1] - places[0] + 1 == len(places) else 0
    arrays: Ints = np.broadcast_shapes(*(entries[place].shape for place in picks))
    found = (*shape[:at], *arrays, *shape[at:])
    outer = range(at, at + len(arrays))  # in memory they are outermost, wherever they stand
    inner = [axis for axis in range(len(found)) if axis not in outer]
    return _ordered(found, [*reversed(inner), *reversed(outer)], form.dtype), False


def _entries(index: Any, ndim: int) -> list[Any]:
    """An index with an entry for every axis; lists and masks as arrays, of whole numbers where they are for an axis."""
    found: list[Any] = []
    for entry in cast("tuple[Any, ...]", index) if isinstance(index, tuple) else (index,):
        array = cast("Any", np.asarray(entry) if isinstance(entry, list) else entry)
        if isinstance(array, bool | np.bool_) or (getattr(array, "dtype", None) == np.bool_ and array.ndim == 0):
            found.append(np.broadcast_to(np.bool_(True), (int(array),)))  # one entry of a new axis, or none
        elif _is_array(array) and array.dtype == np.bool_:
            found += [np.broadcast_to(np.intp(0), (count_true(array),))] * array.ndim
        else:
            found.append(array)
    missing = ndim - sum(not (entry is None or entry is Ellipsis or _is_truth(entry)) for entry in found)
    at = next((place for place, entry in enumerate(found) if entry is Ellipsis), len(found))
    return [*found[:at], *[slice(None)] * missing, *found[at + 1 :]]


def count_true(mask: Any) -> int:
    """How many entries of a mask are true; what repeats is counted once."""
    repeated = [axis for axis in range(mask.ndim) if mask.strides[axis] == 0]
    own = mask[tuple(slice(1 if axis in repeated else None) for axis in range(mask.ndim))]
    return int(np.count_nonzero(own)) * prod(mask.shape[axis] for axis in repeated)


def _is_array(entry: Any) -> bool:
    return getattr(entry, "ndim", 0) > 0


def _is_truth(entry: Any) -> bool:
    """Whether an entry of an index is for no axis."""
    return _is_array(entry) and entry.dtype == np.bool_

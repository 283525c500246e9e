"""How many bytes would a computation take? It runs on phantoms: arrays of a shape, strides and type, without contents.

NumPy's functions and operators take phantoms as they take arrays. A view shares the buffer of its phantom; whatever
would allocate makes a new one, which is counted until its last reference goes. An array that NumPy happens to reuse
for a result (the first term of a long sum) is counted twice, as this depends on platform and size.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from math import prod
from typing import Any, cast

import numpy as np

from forwardgrad.backends.forms import Form, Ints, alike, contiguous, indexed, kept, reduced, reshaped


class Ledger:
    """Bytes alive, and the most there were in each part of a computation."""

    def __init__(self) -> None:
        self.alive = 0
        self._peak = 0
        self.peaks: list[int] = []

    def take(self, size: int) -> None:
        self.alive += size
        self._peak = max(self._peak, self.alive)

    def brief(self, size: int) -> None:
        """Bytes that are taken and given back."""
        self._peak = max(self._peak, self.alive + size)

    def mark(self) -> None:
        """A part of the computation ends here."""
        self.peaks.append(self._peak)
        self._peak = self.alive

    def begin(self) -> None:
        """Forget the parts so far."""
        self.mark()
        self.peaks.clear()

    def given(self, shape: Sequence[int], dtype: Any) -> Phantom:
        """A phantom of what is there already, and not counted."""
        return Phantom(contiguous(tuple(shape), np.dtype(dtype)), Buffer(self, 0))

    def made(self, form: Form) -> Phantom:
        """A phantom of a buffer of its own."""
        return Phantom(form, Buffer(self, form.nbytes))


class Buffer:
    """Memory that is counted as long as anything refers to it."""

    __slots__ = ("ledger", "size")

    def __init__(self, ledger: Ledger, size: int) -> None:
        self.ledger, self.size = ledger, size
        ledger.take(size)

    def __del__(self) -> None:
        self.ledger.alive -= self.size


@lru_cache(4096)
def _dtypes(ufunc: np.ufunc, kinds: tuple[Any, ...]) -> tuple[np.dtype[Any], ...]:
    """The types of what a universal function returns for arrays of these types and numbers of those classes."""
    ones: list[Any] = [kind(1) if isinstance(kind, type) else np.ones((1, 1), kind) for kind in kinds]
    with np.errstate(all="ignore"):
        made = ufunc(*ones)
    return tuple(np.asarray(each).dtype for each in (made if ufunc.nout > 1 else (made,)))


def _form(value: Any) -> Form:
    """The form of a phantom, an array or a number."""
    if isinstance(value, Phantom):
        return value.form
    array = np.asarray(value)
    return Form(array.shape, tuple(s // max(array.itemsize, 1) for s in array.strides), array.dtype)


def _kind(value: Any) -> Any:
    """The type of an array's items, or the class of a number, which matters as much to NumPy."""
    return cast("Any", value).dtype if isinstance(value, Phantom | np.ndarray) else cast("Any", type(value))


class Phantom(np.lib.mixins.NDArrayOperatorsMixin):
    """An array without contents.

    Args:
        form: its shape, strides and type.
        buffer: the memory it would lie in.
    """

    __slots__ = ("buffer", "form")

    def __init__(self, form: Form, buffer: Buffer) -> None:
        self.form, self.buffer = form, buffer

    # What an array tells.

    @property
    def shape(self) -> Ints:
        return self.form.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.form.dtype

    @property
    def ndim(self) -> int:
        return len(self.form.shape)

    @property
    def size(self) -> int:
        return prod(self.form.shape)

    @property
    def itemsize(self) -> int:
        return self.form.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.form.nbytes

    def __len__(self) -> int:
        return self.form.shape[0]

    def __repr__(self) -> str:
        return f"Phantom{self.form.shape}"

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a phantom has no contents")

    def __bool__(self) -> bool:
        raise TypeError("a phantom has no contents")

    # Views.

    def _view(self, form: Form) -> Phantom:
        return Phantom(form, self.buffer)

    def _made(self, form: Form) -> Phantom:
        return self.buffer.ledger.made(form)

    @property
    def T(self) -> Phantom:
        return self.transpose()

    def transpose(self, *axes: Any) -> Phantom:
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return self._view(self.form.picked([a % self.ndim for a in order or range(self.ndim)[::-1]]))

    def swapaxes(self, one: int, two: int) -> Phantom:
        order = list(range(self.ndim))
        order[one], order[two] = order[two], order[one]
        return self._view(self.form.picked(order))

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Phantom:
        (one, two), form = (axis % self.ndim for axis in (axis1, axis2)), self.form
        rest = form.picked([axis for axis in range(self.ndim) if axis not in (one, two)])
        size = min(form.shape[one] + min(offset, 0), form.shape[two] - max(offset, 0))
        strides = (*rest.strides, form.strides[one] + form.strides[two])
        return self._view(Form((*rest.shape, size), strides, form.dtype))

    def squeeze(self, axis: Any = None) -> Phantom:
        gone = range(self.ndim) if axis is None else _axes(axis, self.ndim)
        return self._view(self.form.picked([a for a in range(self.ndim) if a not in gone or self.shape[a] != 1]))

    def reshape(self, *shape: Any) -> Phantom:
        sizes = [operator.index(n) for n in (shape[0] if len(shape) == 1 and not _whole_number(shape[0]) else shape)]
        if -1 in sizes:
            sizes[sizes.index(-1)] = self.size // max(-prod(sizes), 1)
        if prod(sizes) != self.size:
            raise ValueError(f"cannot reshape a phantom of shape {self.shape} into {tuple(sizes)}")
        form = reshaped(self.form, tuple(sizes))
        return self._made(contiguous(tuple(sizes), self.dtype)) if form is None else self._view(form)

    def ravel(self) -> Phantom:
        return self.reshape(-1)

    # Indices.

    def __getitem__(self, index: Any) -> Phantom:
        form = self.form
        if type(index) is int and -form.shape[0] <= index < form.shape[0]:
            return Phantom(Form(form.shape[1:], form.strides[1:], form.dtype), self.buffer)
        form, view = indexed(form, index)
        return self._view(form) if view else self._made(form)

    def __setitem__(self, index: Any, value: Any) -> None:
        pass

    def __iter__(self) -> Iterator[Phantom]:
        return (self[at] for at in range(len(self)))

    # Copies.

    def copy(self, order: str = "C") -> Phantom:
        return self.astype(self.dtype, order)

    def astype(self, dtype: Any, order: str = "K", *, copy: bool = True) -> Phantom:
        dtype = np.dtype(dtype)
        if not copy and dtype == self.dtype:
            return self
        return self._made(contiguous(self.shape, dtype) if order == "C" else alike(self.form, dtype))

    def flatten(self) -> Phantom:
        return self._made(contiguous((self.size,), self.dtype))

    # Reductions.

    def _reduce(self, name: str, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        axes = tuple(range(self.ndim)) if axis is None else _axes(axis, self.ndim)
        form = reduced(self.form, name, axes, bool(keepdims))
        if dtype is not None:
            form = form._replace(dtype=np.dtype(dtype))
        if out is not None:
            return out
        return self._made(form) if form.shape else form.dtype.type(0)

    def sum(self, *given: Any, **named: Any) -> Any:
        return self._reduce("sum", *given, **named)

    def mean(self, *given: Any, **named: Any) -> Any:
        return self._reduce("mean", *given, **named)

    def prod(self, *given: Any, **named: Any) -> Any:
        return self._reduce("prod", *given, **named)

    def max(self, axis: Any = None, out: Any = None, **named: Any) -> Any:
        return self._reduce("max", axis, None, out, **named)

    def min(self, axis: Any = None, out: Any = None, **named: Any) -> Any:
        return self._reduce("min", axis, None, out, **named)

    def any(self, axis: Any = None, out: Any = None, **named: Any) -> Any:
        return self._reduce("any", axis, None, out, **named)

    def all(self, axis: Any = None, out: Any = None, **named: Any) -> Any:
        return self._reduce("all", axis, None, out, **named)

    # NumPy's functions.

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **named: Any) -> Any:
        if method == "reduce":
            name = _REDUCTIONS.get(ufunc, "sum")
            axis = named.pop("axis", inputs[1] if len(inputs) > 1 else 0)
            return self._reduce(name, axis, out=out and out[0], keepdims=named.pop("keepdims", False))
        if method != "__call__":
            return NotImplemented
        if out is not None:
            return out[0] if len(out) == 1 else out
        forms = tuple(_form(value) for value in inputs)
        dtypes = _dtypes(ufunc, tuple(_kind(value) for value in inputs))
        made = tuple(self._made(_result(ufunc, forms, dtype)) for dtype in dtypes)
        return made[0] if len(made) == 1 else made

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        ledger, name = self.buffer.ledger, _OLD_NAMES.get(func.__name__, func.__name__)
        if name in _CREATIONS:
            return ledger.made(_CREATIONS[name](*args, **kwargs))
        if name in _METHODS:
            return getattr(args[0], name)(*args[1:], **kwargs)
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](ledger, *args, **kwargs)
        return _entrywise(ledger, *args, **kwargs)  # what a formula may call acts entry by entry


def _whole_number(value: Any) -> bool:
    return isinstance(value, int | np.integer)


def _axes(axis: Any, ndim: int) -> Ints:
    axes = cast("tuple[int, ...]", axis) if isinstance(axis, tuple) else (axis,)
    return tuple(int(a) % ndim for a in axes)


@lru_cache(4096)
def _result(ufunc: np.ufunc, forms: tuple[Form, ...], dtype: np.dtype[Any]) -> Form:
    """The form of what a universal function makes."""
    if ufunc.signature is None:
        return kept(np.broadcast_shapes(*(form.shape for form in forms)), forms, dtype)
    if ufunc is not np.matmul:
        raise NotImplementedError(f"phantoms do not know {ufunc.__name__}")
    a, b = forms[0].shape, forms[1].shape
    outer: Ints = np.broadcast_shapes(a[:-2], b[:-2])
    if a[-1] != b[-2:][0]:
        raise ValueError(f"matmul: shapes {a} and {b} do not fit")
    return contiguous((*outer, *a[-2:-1], *(b[-1:] if len(b) > 1 else ())), dtype)


_REDUCTIONS: Mapping[np.ufunc, str] = {
    np.add: "sum",
    np.multiply: "prod",
    np.maximum: "max",
    np.minimum: "min",
    np.logical_or: "any",
    np.logical_and: "all",
}

_OLD_NAMES = {"amax": "max", "amin": "min"}

_METHODS = frozenset(
    {"reshape", "transpose", "swapaxes", "diagonal", "squeeze", "ravel", "astype"}
    | {"sum", "mean", "prod", "max", "min", "any", "all"}
)
"""Functions that are methods of their first argument."""


# Functions that make arrays: the form of what they make.


def _filled(shape: Any, dtype: Any = float, *_: Any, **__: Any) -> Form:
    return contiguous((shape,) if _whole_number(shape) else tuple(map(int, shape)), np.dtype(dtype))


def _full(shape: Any, value: Any, dtype: Any = None, *_: Any, **__: Any) -> Form:
    return _filled(shape, _form(value).dtype if dtype is None else dtype)


def _eye(rows: int, columns: int | None = None, k: int = 0, dtype: Any = float, *_: Any, **__: Any) -> Form:
    return _filled((rows, rows if columns is None else columns), dtype)


def _range(*given: Any, **named: Any) -> Form:
    return _form(np.arange(*given, **named))


def _like(array: Any, *given: Any, dtype: Any = None, **_: Any) -> Form:
    form = _form(array)
    return alike(form, form.dtype if dtype is None else np.dtype(dtype))


_CREATIONS: dict[str, Callable[..., Form]] = {
    "empty": _filled,
    "zeros": _filled,
    "ones": _filled,
    "full": _full,
    "eye": _eye,
    "identity": _eye,
    "arange": _range,
    "empty_like": _like,
    "zeros_like": _like,
    "ones_like": _like,
    "full_like": _like,
}


# Functions of phantoms.


def _entrywise(ledger: Ledger, *given: Any, **named: Any) -> Phantom:
    forms = tuple(_form(each) for each in given if isinstance(each, Phantom | np.ndarray | float | int))
    dtype = np.result_type(*(form.dtype for form in forms if form.shape))
    return ledger.made(kept(np.broadcast_shapes(*(form.shape for form in forms)), forms, dtype))


def _where(ledger: Ledger, condition: Any, one: Any, two: Any) -> Phantom:
    kinds = [value.dtype if isinstance(value, Phantom) else value for value in (one, two)]
    forms = tuple(_form(each) for each in (condition, one, two))
    return ledger.made(kept(np.broadcast_shapes(*(form.shape for form in forms)), forms, np.result_type(*kinds)))


def _concatenate(ledger: Ledger, arrays: Sequence[Any], axis: int = 0, **_: Any) -> Phantom:
    forms = tuple(_form(array) for array in arrays)
    shape = list(forms[0].shape)
    shape[axis] = sum(form.shape[axis] for form in forms)
    whole = tuple(form._replace(shape=tuple(shape)) for form in forms)
    return ledger.made(kept(tuple(shape), whole, np.result_type(*(form.dtype for form in forms))))


def _stack(ledger: Ledger, arrays: Sequence[Any], axis: int = 0, **_: Any) -> Phantom:
    forms = [_form(array) for array in arrays]
    shape = list(forms[0].shape)
    shape.insert(axis % (len(shape) + 1), len(forms))
    return ledger.made(contiguous(tuple(shape), np.result_type(*(form.dtype for form in forms))))


def _broadcast_to(ledger: Ledger, array: Any, shape: Any, **_: Any) -> Phantom:
    return Phantom(array.form.broadcast((shape,) if _whole_number(shape) else tuple(shape)), array.buffer)


def _tensordot(ledger: Ledger, a: Any, b: Any, axes: Any = 2) -> Any:
    """As NumPy does it: transposed, reshaped (which may copy), multiplied."""
    a, b = (each if isinstance(each, Phantom) else ledger.given(each.shape, each.dtype) for each in (a, b))
    ones, twos = (range(a.ndim - axes, a.ndim), range(axes)) if isinstance(axes, int) else axes
    ones, twos = ([ones], [twos]) if _whole_number(ones) else (list(ones), list(twos))
    ones, twos = [axis % a.ndim for axis in ones], [axis % b.ndim for axis in twos]
    left = [axis for axis in range(a.ndim) if axis not in ones]
    right = [axis for axis in range(b.ndim) if axis not in twos]
    size = prod(a.shape[axis] for axis in ones)
    one = a.transpose([*left, *ones]).reshape(-1, size)
    two = b.transpose([*twos, *right]).reshape(size, -1)
    return (one @ two).reshape([*(a.shape[axis] for axis in left), *(b.shape[axis] for axis in right)])


def _einsum(ledger: Ledger, subscripts: str, *operands: Any, out: Any = None, **_: Any) -> Any:
    """One operand of which nothing is summed is viewed."""
    if out is not None:
        return out
    given, wanted = subscripts.replace(" ", "").split("->")
    sizes: dict[str, int] = {}
    steps: dict[str, int] = {}
    rest: Ints = ()
    for term, operand in zip(given.split(","), operands, strict=True):
        form, labels, before = _form(operand), term.replace("...", ""), term.split("...")[0]
        axes = list(range(len(form.shape)))
        count = len(axes) - len(labels)
        middle, at = axes[len(before) : len(before) + count], [*axes[: len(before)], *axes[len(before) + count :]]
        rest = np.broadcast_shapes(rest, tuple(form.shape[axis] for axis in middle))
        for axis, label in [*zip(at, labels, strict=True), *((axis, f".{k}") for k, axis in enumerate(middle))]:
            sizes[label] = max(sizes.get(label, 1), form.shape[axis])
            steps[label] = steps.get(label, 0) + form.strides[axis]
    names: list[str] = []  # one an axis of the result
    for part in wanted.partition("..."):
        names += [f".{k}" for k in range(len(rest))] if part == "..." else list(part)
    shape = tuple(sizes[name] for name in names)
    dtype = np.result_type(*(_form(operand).dtype for operand in operands))
    if len(operands) == 1 and set(names) == set(sizes):
        return Phantom(Form(shape, tuple(steps[name] for name in names), dtype), operands[0].buffer)
    return ledger.made(contiguous(shape, dtype))


def _dot(ledger: Ledger, a: Any, b: Any, out: Any = None) -> Any:
    return np.matmul(a, b, out=out)


def _copy(ledger: Ledger, array: Any, order: str = "K", subok: bool = False) -> Any:
    return array.copy(order)


def _shape(ledger: Ledger, array: Any) -> Ints:
    return array.shape


def _nothing(ledger: Ledger, *given: Any, **named: Any) -> None:
    """What writes into an array takes no memory."""


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "where": _where,
    "concatenate": _concatenate,
    "stack": _stack,
    "broadcast_to": _broadcast_to,
    "tensordot": _tensordot,
    "einsum": _einsum,
    "copy": _copy,
    "dot": _dot,
    "shape": _shape,
    "fill_diagonal": _nothing,
    "copyto": _nothing,
}


class Numpy:
    """What stands in place of the module `numpy`: what it makes are phantoms.

    Args:
        ledger: counts them.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return partial(self._made, _CREATIONS[name]) if name in _CREATIONS else getattr(np, name)

    def _made(self, make: Callable[..., Form], *given: Any, **named: Any) -> Phantom:
        return self._ledger.made(make(*given, **named))

    def asarray(self, value: Any, dtype: Any = None, **named: Any) -> Any:
        if not isinstance(value, Phantom):
            return np.asarray(value, dtype, **named)
        return value.astype(value.dtype if dtype is None else dtype, copy=False)

    def array(self, value: Any, dtype: Any = None, **named: Any) -> Any:
        if not isinstance(value, Phantom):
            return np.array(value, dtype, **named)
        return value.astype(value.dtype if dtype is None else dtype)

    def broadcast_to(self, value: Any, shape: Any) -> Any:
        known = isinstance(value, Phantom)
        return np.broadcast_to(value if known else self._ledger.given(value.shape, value.dtype), shape)

    def ascontiguousarray(self, value: Any, dtype: Any = None) -> Any:
        if not isinstance(value, Phantom):
            return np.ascontiguousarray(value, dtype)
        dtype = value.dtype if dtype is None else np.dtype(dtype)
        whole = reshaped(value.form, (value.size,))
        same = whole is not None and whole.strides == (1,) and dtype == value.dtype
        return value if same else value.astype(dtype, "C")

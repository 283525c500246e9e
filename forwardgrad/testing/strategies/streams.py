"""Which streams do users bring? One sequence in pieces, from a generator that does with its arrays what it likes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from hypothesis import strategies as st

from forwardgrad.ops import Array
from forwardgrad.testing.problem import Problem
from forwardgrad.testing.strategies.blocks import partitions

HABITS = ("new", "views", "refilled", "spoiled")
"""What a stream does with its arrays: makes new ones; hands out views of one; fills one buffer again for every piece;
or makes new ones, and writes nonsense into them once it is asked for more."""

LAYOUTS = ("C", "F", "strided", "reversed", "read-only", "swapped", "list")
"""How arrays lie in memory: in an order of axes, with gaps, backwards, not to be written into, with the bytes of each
number in the order that is not this machine's; or nested lists."""

DTYPES = ("float64", "float32", "float16", "int64", "uint8", "bool")
"""The types of numbers; the sequence is rounded to what the type can hold."""


class StreamBroke(Exception):
    """What a stream raises that fails on its way."""


@dataclass(frozen=True)
class PieceStream:
    """A sequence, and how it is handed over.

    Args:
        problem: the sequence in plain arrays, as it is meant.
        lengths: steps of the pieces.
        habit, layout, dtype: words of `HABITS`, `LAYOUTS` and `DTYPES`.
        breaks: the number of pieces after which it raises `StreamBroke`; or `None`.
        episodes: how many pieces each episode has; between episodes a learner is reset.
    """

    problem: Problem
    lengths: tuple[int, ...]
    habit: str
    layout: str
    dtype: str
    breaks: int | None = None
    episodes: tuple[int, ...] = ()

    def whole(self, first: int = 0, last: int | None = None) -> Problem:
        """The problem with the steps of some pieces alone, in plain arrays that nobody changes."""
        ends = [0, *itertools.accumulate(self.lengths)]
        span = slice(ends[first], ends[len(self.lengths) if last is None else last])
        given = self.problem
        parts = (_each(part, lambda a: a[span].copy()) for part in (given.inputs, given.targets, given.mask))
        inputs, targets, mask = parts
        return replace(given, inputs=inputs, targets=targets, mask=mask, origin=None)

    def pieces(self, first: int = 0, last: int | None = None) -> Iterator[Any]:
        """The pieces from one to another, as the stream hands them over: `[inputs, targets, mask]`.

        Raises:
            StreamBroke: where it is to break.
        """
        given = self.problem
        whole: list[Any] = [given.inputs, given.targets, given.mask]
        ends = [0, *itertools.accumulate(self.lengths)]
        room = given.steps if self.habit == "views" else max(self.lengths)
        buffers: list[Any] = [_each(part, lambda a: self._buffer(a, room)) for part in whole]
        if self.habit == "views":
            _together(lambda buffer, part: _write(buffer, part, 0), buffers, whole)
        piece: list[Any] = []
        for number in range(first, len(self.lengths) if last is None else last):
            if number == self.breaks:
                raise StreamBroke(f"after {number} pieces")
            start, stop = ends[number], ends[number + 1]
            if self.habit in ("new", "spoiled"):
                buffers = [_each(part, lambda a, size=stop - start: self._buffer(a, size)) for part in whole]
            if self.habit != "views":
                parts = [_each(part, lambda a, at=start, end=stop: a[at:end]) for part in whole]
                _together(lambda buffer, part: _write(buffer, part, 0), buffers, parts)
            at = start if self.habit == "views" else 0
            piece[:] = [_each(b, lambda a, at=at, size=stop - start: self._handed(a, at, size)) for b in buffers]
            yield piece if self.habit == "refilled" else list(piece)
            if self.habit in ("refilled", "spoiled"):
                for buffer in buffers:
                    _each(buffer, _spoil)

    def _buffer(self, like: Array, steps: int) -> Any:
        """An array in the layout, or a list, of that many steps."""
        shape, dtype = (steps, *like.shape[1:]), np.dtype(self.dtype if like.dtype.kind == "f" else like.dtype)
        if self.layout == "list":
            return np.zeros(shape, dtype).tolist()
        if self.layout == "swapped":
            return np.zeros(shape, dtype.newbyteorder())
        if self.layout == "F":
            return np.zeros(shape, dtype, order="F")
        if self.layout == "strided":
            return np.zeros((2 * steps, *like.shape[1:]), dtype)[::2]
        made = np.zeros(shape, dtype)
        return made[::-1] if self.layout == "reversed" else made

    def _handed(self, buffer: Any, at: int, steps: int) -> Any:
        """The part of a buffer that is handed over."""
        part = buffer[at : at + steps]
        if self.layout == "read-only":
            part.flags.writeable = False
        return part


def _each(part: Any, change: Callable[[Any], Any]) -> Any:
    """A mapping with each of its arrays changed; or one array; or none."""
    if isinstance(part, Mapping):
        return {name: _each(array, change) for name, array in cast("Mapping[str, Any]", part).items()}
    return None if part is None else change(part)


def _together(act: Callable[[Any, Any], None], one: Any, two: Any) -> None:
    """Act on the arrays of two nested collections of the same form."""
    if isinstance(two, Mapping):
        for name, array in cast("Mapping[str, Any]", two).items():
            _together(act, one[name], array)
    elif isinstance(two, list):
        for first, second in zip(one, cast("list[Any]", two), strict=True):
            _together(act, first, second)
    elif two is not None:
        act(one, two)


def _write(buffer: Any, part: Array, at: int) -> None:
    if isinstance(buffer, list):
        buffer[at : at + len(part)] = part.tolist()
    else:
        buffer[at : at + len(part)] = part


def _spoil(buffer: Any) -> None:
    if isinstance(buffer, list):
        buffer[:] = [None] * len(cast("list[Any]", buffer))
    else:
        buffer[...] = 7 if buffer.dtype.kind in "biu" else np.nan


@st.composite
def streams(draw: st.DrawFn, problem: Problem, *, breaks: bool = False) -> PieceStream:
    """A stream of a problem, in pieces of unequal length; the problem's numbers are rounded to the type that it holds.

    Args:
        draw: given by Hypothesis.
        problem: the sequence.
        breaks: whether it raises on its way.

    >>> from hypothesis import Phase, find, settings
    >>> once = settings(phases=[Phase.generate])  # what is drawn first, without looking for less
    >>> from forwardgrad.testing.strategies import problems
    >>> stream = find(problems().flatmap(streams), lambda stream: stream.habit == "refilled", settings=once)
    >>> sum(stream.lengths) == stream.problem.steps
    True
    """
    lengths = tuple(draw(partitions(problem.steps)))
    dtype = draw(st.sampled_from(DTYPES))
    rounded = replace(
        problem,
        inputs={name: _rounded(3 * array, dtype) for name, array in problem.inputs.items()},
        targets={name: _rounded(array, dtype) for name, array in problem.targets.items()},
        mask=_each(problem.mask, lambda array: _rounded(array, dtype)),
        origin=None,
    )
    return PieceStream(
        rounded,
        lengths,
        draw(st.sampled_from(HABITS)),
        draw(st.sampled_from(LAYOUTS)),
        dtype,
        draw(st.integers(0, len(lengths) - 1)) if breaks else None,
        tuple(draw(partitions(len(lengths)))),
    )


def _rounded(array: Array, dtype: str) -> Array:
    """Numbers that the type can hold, in double precision; labels as they are."""
    if array.dtype.kind != "f":
        return array
    if dtype.startswith("float"):
        return array.astype(dtype).astype(np.float64)
    least = -np.inf if dtype == "int64" else 0.0
    return np.clip(np.rint(array), least, 1.0 if dtype == "bool" else 9.0)

"""Feedback: what brings credit back over an edge in place of its weight. Matrices that are drawn, learned or given."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardgrad.errors import RuleError, did_you_mean
from forwardgrad.graph.parameters import stream
from forwardgrad.ops import Array
from forwardgrad.support.attributes import show

SCALED = ("random", "adaptive")
"""The words that may have a standard deviation in brackets."""

WORDS = ("exact", *SCALED, "signal")

_WRITTEN = re.compile(r"\s*(\w+)\s*\((.*)\)\s*", re.DOTALL)


KINDS = {
    "exact": "credit comes back by the weights themselves",
    "random": "a matrix drawn once, of the variance of initial weights",
    "random(s)": "the same, normal with standard deviation s; Bellec et al. take 1",
    "adaptive": "a matrix that learns as the weight does (Kolen & Pollack 1994): the parameter `u->v.feedback`",
    "adaptive(s)": "the same, which starts normal with standard deviation s",
    "an array": "a matrix of yours, of the shape of the weight: a list of rows in text, any array in Python",
    "signal": "learning signals of yours on nodes, in place of the gradients of losses",
}
"""What may stand for some edges, or nodes, and what it means."""


class Matrix:
    """A feedback array of the user's. Two of the same entries are equal; it cannot be changed.

    >>> Matrix([[1, 2]]) == Matrix(np.array([[1.0, 2.0]]))
    True
    >>> Matrix([[1, 2]])
    [[1.0, 2.0]]
    """

    __slots__ = ("_key", "array")

    def __init__(self, given: Any) -> None:
        self.array: Array = np.array(given, dtype=np.float64)
        self.array.flags.writeable = False
        self._key = (self.array.shape, self.array.tobytes())

    @property
    def order(self) -> tuple[tuple[int, ...], bytes]:
        """A key to sort by."""
        return self._key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Matrix) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return repr(self.array.tolist())

    def __str__(self) -> str:
        return f"array {self.array.shape}"

    def __reduce__(self) -> Any:
        return Matrix, (self.array,)


@dataclass(frozen=True)
class Feedback:
    """What brings credit back over some edges.

    Args:
        kind: `exact`, the weight itself; `random`, a matrix drawn once; `adaptive`, a parameter that learns as the
            weight does; `fixed`, a matrix of the user's; `signal`, learning signals of the user's for a node.
        scale: the standard deviation of the entries of a random matrix, and of what an adaptive one starts from; `None`
            for that of initial weights.
        matrix: of `fixed`.
    """

    kind: str
    scale: float | None = None
    matrix: Matrix | None = None


EXACT = Feedback("exact")


def value(pattern: str, given: Any) -> str | Matrix:
    """A value of the coordinate `feedback` in its plain form: a word, a word with a number in brackets, or an array.

    Args:
        pattern: the edges or nodes that it is for, for errors.
        given: a word such as `random` or `random(1.0)`, or an array of the shape of the weight that it replaces.

    Raises:
        RuleError: if it is none of these.

    >>> value("h->y", "random( 1 )"), value("h->y", [0.5, 2])
    ('random(1.0)', [0.5, 2.0])
    """
    if isinstance(given, Matrix):
        return given
    if not isinstance(given, str):
        return _matrix(pattern, given)
    written = _WRITTEN.fullmatch(given)
    word = given.strip() if written is None else written[1]
    if word not in WORDS:
        raise RuleError(f"unknown feedback {given!r}.", did_you_mean(given, WORDS))
    if written is None:
        return word
    scale = _scale(written[2])
    if word not in SCALED or scale is None:
        raise RuleError(
            f"feedback on {pattern!r}: cannot read {given!r}.",
            "A standard deviation greater than 0 may follow random and adaptive: random(1.0).",
        )
    return f"{word}({scale!r})"


def meaning(plain: str | Matrix) -> Feedback:
    """What a value in its plain form means."""
    if isinstance(plain, Matrix):
        return Feedback("fixed", matrix=plain)
    written = _WRITTEN.fullmatch(plain)
    return Feedback(plain) if written is None else Feedback(written[1], float(written[2]))


def random_feedback(edge: str, shape: tuple[int, ...], seed: int, scale: float | None = None) -> Array:
    """A feedback array shaped like the weight it stands for.

    Normal. Its standard deviation is `scale`, or such that the variance is the one that initial weights have by
    default: 2 / (in + out) for a dense weight, 1 otherwise. Bellec et al. 2020, doi 10.1038/s41467-020-17236-y, take 1.

    Args:
        edge: name of the edge: every edge has a stream of its own, apart from that of its initial weight.
        shape: of the weight's array.
        seed: of the rule.
        scale: the standard deviation.

    >>> random_feedback("h->y", (2, 3), seed=0).shape
    (2, 3)
    """
    if scale is None:
        scale = math.sqrt(2 / sum(shape)) if len(shape) == 2 else 1.0
    # Not the stream of the edge's own weight, of which normal numbers of one seed would be a multiple.
    return scale * stream(seed, f"feedback of {edge}").standard_normal(shape)


def fixed_feedback(edge: str, shape: tuple[int, ...], feedback: Feedback, seed: int) -> Array:
    """The array that brings credit back where it does not learn: one that is drawn, or the user's.

    Args:
        edge, shape, seed: as for `random_feedback`.
        feedback: of kind `random` or `fixed`.
    """
    if feedback.matrix is not None:
        return feedback.matrix.array
    return random_feedback(edge, shape, seed, feedback.scale)


def _scale(text: str) -> float | None:
    try:
        scale = float(text)
    except ValueError:
        return None
    return scale if 0 < scale < math.inf else None


def _matrix(pattern: str, given: Any) -> Matrix:
    try:
        array = np.asarray(given)
        numbers = array.dtype.kind in "fiu" and array.size > 0
        if numbers and np.isfinite(array).all():
            return Matrix(array)
    except (TypeError, ValueError, OverflowError, RecursionError, RuntimeError):
        pass
    raise RuleError(
        f"feedback on {pattern!r} must be a word or an array of finite numbers, got {show(given)}.",
        f"Known words: {', '.join(WORDS)}.",
    )

"""Expressions in C: trees of the vocabulary, and forms of a block's symbols, as C99 of one dtype."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forwardgrad.array_program.dimensions import Affine
from forwardgrad.array_program.expressions import (
    ADDED,
    ATOM,
    INFIX,
    MULTIPLIED,
    NEGATED,
    Argument,
    Number,
    Spelled,
    Tree,
)
from forwardgrad.array_program.values import Dimensions

CHOSEN = -1
"""How strongly `a ? b : c` binds."""

OWN: Mapping[str, str] = {
    **{"sign": "sign_of", "square": "squared", "maximum": "larger", "minimum": "smaller", "logaddexp": "log_of_sum"},
    **{"**": "pow", "abs": "fabs", "exp": "exp_of", "tanh": "tanh_of"},
}
"""Words whose function in C has another name: one of our own, of `c_prelude`, or one of `math.h`."""

OURS = frozenset({"sign_of", "squared", "larger", "smaller", "log_of_sum", "exp_of", "tanh_of"})
"""Those of our own, which have one name for both dtypes."""


@dataclass(frozen=True)
class Dialect:
    """How C spells numbers of a dtype.

    Args:
        dtype: `float64` or `float32`.
    """

    dtype: str

    @property
    def single(self) -> bool:
        """Whether numbers are of single precision."""
        return self.dtype == "float32"

    @property
    def size(self) -> int:
        """The bytes of a number."""
        return 4 if self.single else 8

    @property
    def suffix(self) -> str:
        """What functions of `math.h` and literals end in."""
        return "f" if self.single else ""

    def number(self, value: float) -> Spelled:
        """A literal."""
        if math.isnan(value):
            return Spelled("NAN")
        if math.isinf(value):
            return Spelled("INFINITY") if value > 0 else Spelled("-INFINITY", NEGATED)
        text = repr(float(value))
        if self.single:
            with np.errstate(over="ignore"):
                rounded = np.float32(value)
            if not np.isfinite(rounded):
                return self.number(float(rounded))
            text = f"{rounded}f"
        return Spelled(text, ATOM if text[0] != "-" else NEGATED)

    def least(self, ones: bool) -> str:
        """Below what an entry is flushed, as in `numpy_helpers.flush`."""
        exponent = (93 if self.single else 515) if ones else (120 if self.single else 1016)
        return f"0x1p-{exponent}{self.suffix}"

    def spelled(self, tree: Tree, arguments: Sequence[Spelled]) -> Spelled:
        """The text of an expression."""
        if isinstance(tree, Number):
            return self.number(tree.value)
        if isinstance(tree, Argument):
            return arguments[tree.place]
        parts = [self.spelled(operand, arguments) for operand in tree.operands]
        if tree.word in INFIX and tree.word not in OWN:
            binding = INFIX[tree.word]
            left, right = (
                part.within(binding + 1 if place else max(binding, ADDED)) for place, part in enumerate(parts)
            )
            return Spelled(f"{left} {tree.word} {right}", binding)
        match tree.word:
            case "negate":
                return Spelled(f"-{parts[0].within(ATOM)}", NEGATED)
            case "indicator" | "cast":
                return Spelled(f"(real)({parts[0].text})", NEGATED)
            case "where":
                test, one, other = (part.within(ADDED) for part in parts)
                return Spelled(f"{test} ? {one} : {other}", CHOSEN)
            case word:
                name = OWN.get(word, word)
                function = name if name in OURS else f"{name}{self.suffix}"
                return Spelled(f"{function}({', '.join(part.text for part in parts)})")


def form(affine: Affine) -> Spelled:
    """A number of the block; indices of scans have their own names.

    >>> form(Affine(-1, (("steps", 1), ("t", -2)))).text
    'steps - 2 * t - 1'
    """
    terms = [(factor, symbol if abs(factor) == 1 else f"{abs(factor)} * {symbol}") for symbol, factor in affine.terms]
    terms.sort(key=lambda term: term[0] < 0)
    if affine.constant or not terms:
        terms.append((affine.constant, str(abs(affine.constant))))
    (sign, first), *rest = terms
    text = f"{'-' if sign < 0 else ''}{first}" + "".join(f" {'-' if s < 0 else '+'} {word}" for s, word in rest)
    if rest:
        return Spelled(text, ADDED)
    return Spelled(text, NEGATED if sign < 0 else MULTIPLIED if "*" in text else ATOM)


def product(dims: Dimensions) -> Spelled:
    """The number of entries of an array of these dimensions.

    >>> product((Affine(2), Affine(1, (("steps", 1),)), Affine(3))).text
    '6 * (steps + 1)'
    """
    number = math.prod(dim.constant for dim in dims if not dim.terms)
    factors = [form(dim) for dim in dims if dim.terms]
    if number == 0 or not factors:
        return Spelled(str(number))
    texts = [*([str(number)] if number != 1 else []), *(factor.within(MULTIPLIED) for factor in factors)]
    if len(texts) == 1:
        return factors[0]
    return Spelled(" * ".join(texts), MULTIPLIED)

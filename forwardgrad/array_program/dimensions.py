"""Dimensions and indices: whole numbers, or affine forms of a block's symbols such as `steps - 2`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

KNOWN = 2**12
"""Forms that are remembered with what was made of them: a program has few, and reads them over and over."""

Bounds = Mapping[str, tuple[int, int | None]]
"""The smallest and the largest value of each symbol, as far as it has a largest."""

SYMBOLS: Bounds = {"steps": (1, None), "batch": (1, None), "seeds": (1, None), "fresh": (0, 1)}
"""What a program is run with: the length of the block, the samples, the seeds of a sweep, and 1 for a fresh state."""


class Affine(NamedTuple):
    """A whole number, or a sum of symbols times whole numbers.

    Args:
        constant: the number.
        terms: each symbol with its factor, which is not 0, sorted by symbol.

    >>> str(affine("steps") - 2), str(affine(3) - "steps"), str(affine("steps") + affine("t") + 1)
    ('steps - 2', '3 - steps', 'steps + t + 1')
    """

    constant: int = 0
    terms: tuple[tuple[str, int], ...] = ()

    def __add__(self, other: Affine | int | str) -> Affine:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Affine(self.constant + other, self.terms) if isinstance(other, int) else _sum(self, affine(other))

    def __neg__(self) -> Affine:
        return Affine(-self.constant, tuple((symbol, -factor) for symbol, factor in self.terms))

    def __sub__(self, other: Affine | int | str) -> Affine:
        return self + -(other if isinstance(other, int) else affine(other))

    def replaced(self, symbols: Mapping[str, Affine]) -> Affine:
        """The form with other forms in place of symbols."""
        total = Affine(self.constant)
        for symbol, factor in self.terms:
            form = symbols.get(symbol, Affine(0, ((symbol, 1),)))
            total += Affine(form.constant * factor, tuple((s, f * factor) for s, f in form.terms))
        return total

    def at(self, symbols: Mapping[str, int]) -> int:
        """Its value."""
        return self.constant + sum(factor * symbols[symbol] for symbol, factor in self.terms)

    def least(self, bounds: Bounds) -> int | None:
        """Its smallest value, given the bounds of its symbols; `None` if it has none."""
        total = self.constant
        for symbol, factor in self.terms:
            bound = bounds[symbol][0 if factor > 0 else 1]
            if bound is None:
                return None
            total += factor * bound
        return total

    @property
    def never_negative(self) -> bool:
        """Whether it is 0 or more whatever a program is run with."""
        least = self.least(SYMBOLS)
        return least is not None and least >= 0

    def __str__(self) -> str:
        return _text(self)


@lru_cache(KNOWN)
def affine(form: Affine | int | str) -> Affine:
    """A form from a number or a symbol."""
    if isinstance(form, Affine):
        return form
    return Affine(form) if isinstance(form, int) else Affine(0, ((form, 1),))


@lru_cache(KNOWN)
def _sum(one: Affine, other: Affine) -> Affine:
    factors = dict(one.terms)
    for symbol, factor in other.terms:
        factors[symbol] = factors.get(symbol, 0) + factor
    return Affine(one.constant + other.constant, tuple(sorted((s, f) for s, f in factors.items() if f)))


@lru_cache(KNOWN)
def _text(form: Affine) -> str:
    parts = [(factor, symbol if abs(factor) == 1 else f"{abs(factor)} * {symbol}") for symbol, factor in form.terms]
    parts.sort(key=lambda part: part[0] < 0)
    if form.constant or not parts:
        parts.insert(len(parts) if parts and parts[0][0] > 0 else 0, (form.constant, str(abs(form.constant))))
    text = "".join(f" {'-' if sign < 0 else '+'} {word}" for sign, word in parts)
    return text[3:] if text.startswith(" + ") else f"-{text[3:]}"

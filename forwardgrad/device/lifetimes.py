"""Lifetimes: which arrays of a step can lie in the same memory, because the one ends before the other begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """An array of a step.

    Args:
        size: its entries.
        first, last: the parts of the step in which it is made and last read.
    """

    size: int
    first: int
    last: int


def packed(spans: Mapping[str, Span]) -> tuple[dict[str, int], int]:
    """Where each array begins, and the entries that all of them take together. Large ones are placed first.

    >>> packed({"a": Span(4, 0, 1), "b": Span(2, 1, 2), "c": Span(3, 2, 3)})
    ({'a': 0, 'b': 4, 'c': 0}, 6)
    """
    places: dict[str, int] = {}
    for name, span in sorted(spans.items(), key=lambda item: -item[1].size):
        beside = sorted(
            (places[other], places[other] + spans[other].size)
            for other in places
            if spans[other].first <= span.last and span.first <= spans[other].last
        )
        start = 0
        for first, end in beside:
            if start + span.size <= first:
                break
            start = max(start, end)
        places[name] = start
    whole = max((places[name] + span.size for name, span in spans.items()), default=0)
    return {name: places[name] for name in spans}, whole

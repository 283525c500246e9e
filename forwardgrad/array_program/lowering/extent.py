"""How much would a plan be as a program? Every product of a Jacobian with an influence is written out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from forwardgrad.compiler.plan import Plan

MOST = 100_000
"""Products up to which a plan is lowered, which takes about 0.2 ms for each of them."""


def is_small(plan: Plan) -> bool:
    """Whether a plan is lowered. Larger ones, of a hundred layers that all act on each other, are interpreted."""
    return next(islice(_products(plan), MOST, None), None) is None


def _products(plan: Plan) -> Iterator[tuple[int, int]]:
    """The targets of influence, each with every place whose influence is carried to it, at each of their lags."""
    for places in plan.entries.values():
        for target in places:
            for place in places:
                if place in plan.words[target]:
                    yield from ((target, place) for _ in range(plan.depth[target] * plan.depth[place]))

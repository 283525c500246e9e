"""What an experiment is: runs that differ in setting and seed, and the part of the page that is made from them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.results import Results

Setting = Mapping[str, Any]
"""What distinguishes one run from another besides the seed, as plain data for JSON."""


@dataclass(frozen=True)
class Published:
    """A number of somebody else's.

    Args:
        value: as it is printed there.
        source: paper, and table or figure.
        refereed: whether that was refereed; in words where it is not known.
    """

    value: str
    source: str
    refereed: str


NOTHING = Published("none", "", "")
"""Where we know of no published number."""


@dataclass(frozen=True)
class Experiment:
    """A question, and the runs that answer it.

    Args:
        name: its module here, and the name of its results.
        title: the heading of its part of the page.
        minutes: the budget, on two cores, for all seeds.
        fixed: what holds for all runs; results that were made with something else are not mixed with these.
        settings: what distinguishes runs.
        seeds: how many runs each setting gets unless another number is asked for.
        run: `run(seed=seed, **fixed, **setting)` gives the findings of one run as plain data.
        page: text and tables, made from results.
        gist: a published level and our own, each in a few words, for the table that begins the page.
        draw: draws results on an empty figure of matplotlib; `None` if there is nothing to draw.
        height: of that figure, which is 11 inches wide.
        quick: values of `fixed` for a first look, in seconds.
    """

    name: str
    title: str
    minutes: float
    fixed: Mapping[str, Any]
    settings: Sequence[Setting]
    seeds: int
    run: Callable[..., dict[str, Any]]
    page: Callable[[Results], str]
    gist: Callable[[Results], tuple[str, str]]
    draw: Callable[[Results, Any], None] | None = None
    height: float = 4.5
    quick: Mapping[str, Any] = field(default_factory=dict[str, Any])


def grid(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """All combinations, the last name varying fastest.

    >>> grid(task=["a"], m=[1, 2])
    [{'task': 'a', 'm': 1}, {'task': 'a', 'm': 2}]
    """
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]

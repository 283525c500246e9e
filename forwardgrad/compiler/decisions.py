"""What did the compiler decide, and why? One record a decision; tests assert their kinds, listings print them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The kinds of decisions."""

    CUT_BY_RULE = "cut by rule"
    CUT_BY_CREDIT = "cut by credit"
    KEPT_BY_CREDIT = "kept by credit"
    MODES_MERGED = "modes merged"
    PLACE_DROPPED = "no kept path to a loss"
    LEAK_FILTERED = "leak filters its sources"
    LAYOUT = "layout"


@dataclass(frozen=True)
class Decision:
    """One decision of the compiler.

    Args:
        kind: what was decided.
        subject: the edge, place or influence it was decided of.
        reason: the fact it follows from.
    """

    kind: Kind
    subject: str
    reason: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.kind.value} ({self.reason})"

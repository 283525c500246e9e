"""How does a person read what was derived? One line a parameter: rule, layouts, exact or what it drops, price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forwardgrad.rules import Rule
from forwardgrad.structure import Structure


@dataclass(frozen=True)
class Derived:
    """What was derived for one parameter.

    Args:
        parameter: its name.
        rule: the rule, as it was asked for.
        layouts: per stored influence, named `"node (mode)"`, its structure word.
        shapes: the shape of each for one sample and one lag.
        lags: how many past steps of each are stored.
        exact: whether the gradient is exact with respect to the declared derivatives, by proof on the product.
        dropped: the edges at which credit is dropped.
        reasons: what else keeps the gradient from being exact, in words.
        bytes: of influence, per sample.
    """

    parameter: str
    rule: Rule
    layouts: Mapping[str, Structure]
    shapes: Mapping[str, tuple[int, ...]]
    lags: Mapping[str, int]
    exact: bool
    dropped: tuple[str, ...]
    reasons: tuple[str, ...]
    bytes: int

    @property
    def stored(self) -> str:
        """The stored influences as text, such as `h (state): diagonal (8, 3)`."""
        parts = [
            f"{name}: {word} {'x'.join(map(str, self.shapes[name])) or '1'}"
            + (f" x {self.lags[name]} lags" if self.lags[name] > 1 else "")
            for name, word in self.layouts.items()
        ]
        return "; ".join(parts) or "nothing"

    @property
    def verdict(self) -> str:
        """`exact`, or the edges at which credit is dropped and what else stands in the way."""
        drops = ["drops " + ", ".join(self.dropped)] if self.dropped else []
        return "exact" if self.exact else "; ".join([*drops, *self.reasons])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns of text."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    return "\n".join(line.rstrip() for line in lines)


def listing(title: str, derived: Sequence[Derived]) -> str:
    """The listing of a program: a title, and a line a parameter."""
    rows = [[d.parameter, str(d.rule), d.stored, d.verdict, f"{d.bytes:,}"] for d in derived]
    return title + "\n\n" + table(["parameter", "rule", "stores influence on", "gradient", "bytes/sample"], rows)

"""Tables of the page in Markdown, and what they say of numbers of others."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.experiment import Published


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table.

    >>> print(table(["rule", "loss"], [["`rtrl`", "0.45"]]))
    | rule | loss |
    | --- | --- |
    | `rtrl` | 0.45 |
    """
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


HEADS = ("published", "source", "refereed")
"""The columns about the number of others."""


def cells(published: Published) -> tuple[str, str, str]:
    """These columns."""
    return published.value, published.source, published.refereed


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> listed(["rtrl", "eprop", "ostl"]), listed([])
    ('`rtrl`, `eprop` and `ostl`', 'none')
    """
    quoted = [f"`{name}`" for name in names]
    return " and ".join(filter(None, (", ".join(quoted[:-1]), *quoted[-1:]))) or "none"

"""Which layouts are there? The table by name, and how one is read from the text of a rule."""

from __future__ import annotations

import keyword
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from forwardgrad.errors import RuleError, did_you_mean
from forwardgrad.layouts.layout import Layout

_table: dict[str, Layout] = {}


def add(layout: Layout, *, replace: bool = False) -> Layout:
    """Enter a layout into the table.

    Raises:
        RuleError: if the name is taken (and `replace` is false), or is not a legal name.
    """
    if not isinstance(layout.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", layout.name):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RuleError(f"layout {layout.name!r}: a name is lower-case letters, digits and underscores.")
    if keyword.iskeyword(layout.name):
        raise RuleError(f"layout {layout.name!r}: Python reserves this word, so that no rule could be written with it.")
    if layout.name in _table and not replace:
        raise RuleError(
            f"layout {layout.name!r} is registered already.", "Pass replace=True to put another in its place."
        )
    _table[layout.name] = layout
    return layout


@contextmanager
def registered(*layouts: Layout) -> Generator[None]:
    """Layouts that are in the table for the time of a `with` block only; errors as for `add`."""
    entered: list[str] = []
    try:
        for layout in layouts:
            entered.append(add(layout).name)
        yield
    finally:
        for name in entered:
            _table.pop(name, None)


def get(text: Any) -> tuple[Layout, Any]:
    """The layout that a text names, and its argument.

    Raises:
        RuleError: if there is none, or its argument is not legal.

    >>> layout, n = get("snap(2)")
    >>> layout.name, n
    ('snap', 2)
    """
    match = re.fullmatch(r"\s*([a-z][a-z0-9_]*)\s*(?:\(([^()]*)\))?\s*", text) if isinstance(text, str) else None
    name, argument = match.groups() if match else (text, None)
    layout = _table.get(name) if isinstance(name, str) else None
    if layout is None:
        raise RuleError(f"unknown layout {text!r}.", did_you_mean(text, [each.form for each in _table.values()]))
    return layout, layout.read(argument)


def names() -> list[str]:
    """The names of all registered layouts, in the order in which they came."""
    return list(_table)

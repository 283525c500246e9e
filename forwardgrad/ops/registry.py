"""Which ops are there? The table by name, and the one way to add to it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from forwardgrad.errors import OpError, did_you_mean
from forwardgrad.ops.op import Op
from forwardgrad.ops.validity import check

_table: dict[str, Op] = {}


def add(op: Op, *, replace: bool = False) -> Op:
    """Enter an op into the table.

    Raises:
        OpError: if the name is taken (and `replace` is false), or the op is inconsistent.
    """
    if not op.name.isidentifier():
        raise OpError(f"op {op.name!r}: a name is letters, digits and underscores.")
    if op.name in _table and not replace:
        raise OpError(f"op {op.name!r} is registered already.", "Pass replace=True to put another in its place.")
    check(op)
    _table[op.name] = op
    return op


@contextmanager
def registered(*found: Op) -> Generator[None]:
    """Ops that are in the table for the time of a `with` block only; errors as for `add`.

    >>> from forwardgrad.ops import Formula, Port
    >>> halve = Op("halve", Formula("0.5 * a", "a"), (Port("in", Formula("0.5", "a, y")),))
    >>> with registered(halve):
    ...     get("halve").name
    'halve'
    >>> "halve" in names()
    False
    """
    entered: list[str] = []
    try:
        for op in found:
            entered.append(add(op).name)
        yield
    finally:
        for name in entered:
            _table.pop(name, None)


def get(name: object) -> Op:
    """The op of that name.

    Raises:
        OpError: if there is none.
    """
    if isinstance(name, str) and name in _table:
        return _table[name]
    raise OpError(f"unknown op {name!r}.", did_you_mean(name, _table))


def names() -> list[str]:
    """The names of all registered ops, sorted."""
    return sorted(_table)

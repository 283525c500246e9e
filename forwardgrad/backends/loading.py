"""How is a text of functions executed? Compiled once, and shown by tracebacks as long as any of its functions lives."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any
from weakref import finalize

from forwardgrad.graph import Node
from forwardgrad.ops import Array

_numbers = count(1)


class _Shown:
    """What the functions hold on to: tracebacks show their lines as long as any of them is there."""


def load(text: str, names: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    """The functions of a text.

    Args:
        text: source that this package has written.
        names: what it reads.
    """
    filename = f"<forwardgrad program {next(_numbers)}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    found: dict[str, Any] = {**names, "<shown>": _Shown()}
    finalize(found["<shown>"], linecache.cache.pop, filename, None)
    exec(compile(text, filename, "exec"), found)
    return found


def by_rows(node: Node, port: str) -> Callable[..., Array]:
    """An op that is no formula, for arrays `(..., size)`: its value, or its derivative by a port."""

    def rows(arrays: tuple[Array, ...]) -> list[Array]:
        return [array.reshape(-1, array.shape[-1]) for array in arrays]

    def value(*ports: Array) -> Array:
        return node.op.evaluate(rows(ports), node.options).reshape(ports[0].shape)

    def slope(*ports_and_value: Array) -> Array:
        *ports, y = rows(ports_and_value)
        found = node.op.jacobian(port, node.ports, ports, y, node.options)
        return found.reshape(*ports_and_value[0].shape[:-1], *found.shape[1:])

    return slope if port else value

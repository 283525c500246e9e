"""How does a user add an op or a loss? One call each; the result works under every rule.

>>> import numpy as np
>>> swish = register_op(
...     "swish_example",
...     value=lambda x: x / (1 + np.exp(-x)),
...     derivative=lambda x, y: y + (1 - y) / (1 + np.exp(-x)),
...     structure="diagonal",
... )
>>> swish.ports[0].name
'in'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from forwardgrad import losses, ops
from forwardgrad.errors import OpError, did_you_mean
from forwardgrad.structure import Structure


def register_op(
    name: str,
    value: Callable[..., Any],
    derivative: Callable[..., Any] | Mapping[str, Callable[..., Any]],
    structure: str | Mapping[str, str] = "diagonal",
    *,
    options: Mapping[str, float | str | ops.Option] | None = None,
    smooth: bool = True,
    shape: str = "ellipse",
    replace: bool = False,
) -> ops.Op:
    """Register an op.

    Args:
        name: the word used in a node's `op` attribute.
        value: `value(*ports, **options)`; ports and result are arrays `(rows, size)`.
        derivative: `derivative(*ports, y, **options)`, `y` being the value. One function for an op with the single
            port `in`, or `{port: function}` in the order in which `value` takes them.
        structure: structure word of the derivative (`zero`, `scalar`, `diagonal`, `full`), or `{port: word}`.
            It fixes the derivative's shape: a number or `(rows, 1)`; `(rows, size)`; `(rows, size, size)`.
        options: node attributes with their defaults.
        smooth: `False` for a surrogate derivative; finite differences then refuse the graph.
        shape: Graphviz shape.
        replace: put it in place of a registered op of that name.

    Returns:
        The registered op.

    Raises:
        OpError: if the name is taken, or derivative and structure name different ports, or a word is unknown.
    """
    by_port = dict(derivative) if isinstance(derivative, Mapping) else {"in": derivative}
    words = dict(structure) if isinstance(structure, Mapping) else dict.fromkeys(by_port, structure)
    for port in set(by_port) ^ set(words):
        raise OpError(
            f"op {name!r}: port {port!r} needs a derivative and a structure word, and has one of them.",
            did_you_mean(port, set(by_port) | set(words)),
        )
    try:
        ports = tuple(ops.Port(port, by_port[port], Structure.of(words[port])) for port in by_port)
    except ValueError as error:
        raise OpError(f"op {name!r}: {error}.") from None
    return ops.add(
        ops.Op(
            name,
            value,
            ports,
            options={key: o if isinstance(o, ops.Option) else ops.Option(o) for key, o in (options or {}).items()},
            smooth=smooth,
            shape=shape,
        ),
        replace=replace,
    )


def register_loss(
    name: str,
    value: Callable[[ops.Array, ops.Array], Any],
    gradient: Callable[[ops.Array, ops.Array], Any],
    *,
    labels: bool = False,
    replace: bool = False,
) -> losses.Loss:
    """Register a loss: `value(y, target) -> (rows,)` and `gradient(y, target) -> (rows, size)`, per sample.

    Raises:
        OpError: if the name is taken.
    """
    return losses.add(losses.Loss(name, value, gradient, labels), replace=replace)

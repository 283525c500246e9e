"""How does a user add an op, a loss or a layout? One call each; ops and losses work under every rule.

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

from forwardgrad import layouts, ops
from forwardgrad.errors import OpError, RuleError, did_you_mean
from forwardgrad.layouts import trial
from forwardgrad.layouts.compressed import Compression
from forwardgrad.ops import losses
from forwardgrad.structure import Structure
from forwardgrad.support.attributes import show


def register_op(
    name: str,
    value: Callable[..., Any],
    derivative: Callable[..., Any] | Mapping[str, Callable[..., Any]],
    structure: str | Mapping[str, str] = "diagonal",
    *,
    options: Mapping[str, float | str | ops.Option] | None = None,
    smooth: bool = True,
    vanishes: bool = False,
    shape: str = "ellipse",
    replace: bool = False,
) -> ops.Op:
    """Register an op.

    Args:
        name: the word used in a node's `op` attribute.
        value: `value(*ports, **options)`; ports and result are arrays `(rows, size)`. An `ops.Formula`, which is text,
            runs on every backend; a function of Python does not.
        derivative: `derivative(*ports, y, **options)`, `y` being the value. One function for an op with the single
            port `in`, or `{port: function}` in the order in which `value` takes them.
        structure: structure word of the derivative (`zero`, `scalar`, `diagonal`, `full`), or `{port: word}`.
            It fixes the derivative's shape: a number or `(rows, 1)`; `(rows, size)`; `(rows, size, size)`.
        options: node attributes with their defaults.
        smooth: `False` for a surrogate derivative; finite differences then refuse the graph.
        vanishes: whether the derivative may be exactly 0 over a range of values. Full influence is then carried
            without multiplying zeros, where that pays.
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
        ports = tuple(ops.Port(port, by_port[port], Structure.of(words[port]), vanishes=vanishes) for port in by_port)
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


def register_layout(
    name: str,
    compress: Callable[..., Any],
    *,
    keeps: str,
    argument: str = "",
    example: float | None = None,
    legal: Callable[[Any], bool] = lambda _: True,
    random: bool = False,
    expand: Callable[..., Any] | None = None,
    stores: Callable[..., Any] | None = None,
    source: str = "",
    replace: bool = False,
) -> layouts.Layout:
    """Register a lossy layout: a compression of influence at the end of each block.

    `compress(influence)` gets the influence of one parameter on one place, `(batch, ...)`, as it would be stored
    without loss: in full, one number a synapse, or as the filtered input (`docs/design.md`, section 5). It gets a copy.
    Compression comes before the losses of the block's last step are read, as in the layouts of the library.

    Args:
        name: the word in `layout=name`, or `layout=name(argument)`.
        compress: `compress(influence)`; the argument comes second, and last a `numpy.random.Generator`, if it draws. It
            returns what is stored, an array like the influence.
        keeps: what it keeps, in one line.
        argument: what the number in brackets is called; none if there is none.
        example: a legal argument, with which the functions are tried; a whole number (`1`) where it must be one.
        legal: whether an argument is. One at which it fails is not.
        random: whether it draws. Then a rule's `seed` counts, and every block of every sequence has a draw of its own.
        expand, stores: for an array of another shape: `expand(stored, shape)` makes it an influence of that shape
            again; `stores(shape)` is the shape of what is stored, both for one sample. The argument comes last.
            A sequence begins with zeros in place of what is stored, of which `expand` must make zeros.
        source: where it comes from.
        replace: put it in place of a layout of yours of that name. Programs compiled before keep the one they have.

    Returns:
        The registered layout.

    Raises:
        RuleError: if the name is taken, or a function cannot be called so, returns another shape, mixes samples, draws
            from elsewhere, or makes an influence of zeros.

    >>> rounded = register_layout("rounded_example", lambda s: s.round(2), keeps="two digits of every entry")
    >>> import forwardgrad as fg
    >>> fg.compile(fg.load("elman"), rule="rtrl; layout=rounded_example").rules["h->h"].exact
    False
    """
    if bool(argument) is not (example is not None):
        raise RuleError(f"layout {name!r}: argument and example go together, and one of them is missing.")
    if replace and name in {layout.name for layout in layouts.SHIPPED}:
        raise RuleError(f"layout {name!r} is the library's own, which its rules mean.", "Choose another name.")
    if not isinstance(keeps, str) or not keeps.strip() or not keeps.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RuleError(f"layout {name!r}: keeps must say in one line what it keeps, got {show(keeps)}.")
    number = None if example is None else layouts.Argument(argument, example, legal)
    compression = Compression(name, compress, expand, stores, random)
    made = layouts.Layout(
        name,
        compression.traces,
        keeps=keeps,
        source=source,
        compression=lambda given: f"influence is compressed by {made.text(given)}, which keeps {keeps}",
        argument=number,
        random=random,
        as_spelled=True,
    )
    trial.check(compression, number)
    return layouts.add(made, replace=replace)

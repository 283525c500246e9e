"""The largest of neighbours: max pooling, by selections and maxima of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import networkx as nx

from forwardgrad.cells.cell import Cell
from forwardgrad.errors import GraphError
from forwardgrad.support.attributes import sizes
from forwardgrad.weights.windows import Windows


def max_pool(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    shape: int | Sequence[int],
    *,
    kernel: int | Sequence[int] = 2,
    stride: int | Sequence[int] | None = None,
) -> str:
    """Add a layer of the largest value in each window, channel by channel; nothing of it is trained.

    The entries of a window are selected one by one, and pairs of them compared. Where both of a pair are equal, each
    has half of the credit.

    Source: Riesenhuber & Poggio 1999, doi 10.1038/14819.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.0`, `name.1` and so on for the entries of a window, `name.max1` and
            so on for maxima of pairs, and `name.h`.
        input: name of the node that feeds it.
        shape: that of the input: a number of units, or channels and the axes behind them.
        kernel: entries of a window, a number for all axes or one for each.
        stride: from one window to the next, in the same way; as large as a window unless given. What does not fill a
            window at the end of an axis is left out.

    Returns:
        The name of the output node, `name.h`, of shape channels and windows along each axis.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=8)
    >>> max_pool(g, "p", input="x", shape=8)
    'p.h'
    >>> g.nodes["p.h"]["size"]
    4
    """
    cell = Cell(graph, "max_pool", name, 1)
    given = {"shape": shape, "kernel": kernel, "stride": kernel if stride is None else stride}
    for key, value in given.items():
        if wrong := sizes(1)(value):
            raise GraphError(f"{cell.place}: {key!r} must be {wrong}, got {value!r}.")
    channels, *space = [1, shape] if isinstance(shape, int) else (int(axis) for axis in shape)
    if not space:
        raise GraphError(f"{cell.place}: 'shape' has channels and no axis.", "Give it as a number, or as [1, units].")
    windows = Windows.read(cell.place, given, len(space))
    table = windows.table(cell.place, tuple(space))
    size = channels * len(table)
    parts = [cell.node(str(entry), "linear", size=size) for entry in range(table.shape[1])]
    for entry, part in enumerate(parts):
        units = [int(channel * prod(space) + unit) for channel in range(channels) for unit in table[:, entry]]
        cell.edge(cell.input(input), part, weight="take", indices=units)
    count = 0
    while len(parts) > 2:
        count += 1
        larger = cell.node(f"max{count}", "maximum", size=size)
        cell.multiply(larger, a=parts[0], b=parts[1])
        parts = [*parts[2:], larger]
    shaped = [channels, *windows.places(cell.place, tuple(space))]
    h = cell.node("h", "maximum" if len(parts) == 2 else "linear", size=size, shape=shaped)
    if len(parts) == 2:
        cell.multiply(h, a=parts[0], b=parts[1])
    else:
        cell.edge(parts[0], h)
    return cell.add(h)

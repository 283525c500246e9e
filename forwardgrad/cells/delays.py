"""Layers that remember what they read, and not what they were: the delay line."""

from __future__ import annotations

from typing import Any

import networkx as nx

from forwardgrad.cells.cell import Cell


def delay_line(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    taps: int = 4,
    dilation: int = 1,
    nonlinearity: str = "tanh",
    init: Any = "glorot",
) -> str:
    """Add a layer that reads a line of delays, a causal convolution in time.

        h(t) = tanh(sum_k W_k x(t - k dilation) + b), k from 0 to taps - 1

    No cycle is closed, so exact RTRL stores nothing for it.

    Source: Waibel et al. 1989, doi 10.1109/29.21701; dilated: van den Oord et al. 2016, arXiv 1609.03499.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its node is `name.h`.
        input: name of the node that feeds it.
        size: number of units.
        taps: how many steps of the input it reads, from 1 to 1000.
        dilation: how many steps apart they are, at least 1.
        nonlinearity: op of the units.
        init: how each W_k is drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> delay_line(g, "l1", input="x", size=8, taps=2)
    'l1.h'
    """
    cell = Cell(graph, "delay_line", name, size)
    taps, dilation = cell.whole("taps", taps, 1, 1000), cell.whole("dilation", dilation, 1)
    h = cell.node("h", cell.function("nonlinearity", nonlinearity), bias=True)
    for tap in range(taps):
        cell.feed(h, input, init, key=tap, delay=tap * dilation)
    return cell.add(h)

"""Units less their running mean, divided by their running deviation."""

from __future__ import annotations

from typing import Any

import networkx as nx

from forwardgrad.cells.cell import Cell


def running_norm(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    decay: float = 0.999,
    floor: float = 1e-4,
) -> str:
    """Add a layer that normalises each unit by what it has been so far; nothing of it is trained.

        m(t) = decay m(t-1) + (1 - decay) x(t)
        v(t) = decay v(t-1) + (1 - decay) (x(t) - m(t))^2
        h(t) = (x(t) - m(t)) / sqrt(max(v(t), floor))

    from m = 0 and v = 1. Mean and variance take no credit: to it h is x times a number. They are a part of the state,
    and start again where it does.

    Source: Javed et al. 2023, arXiv 2302.05326, and the code of its authors, in which `decay` is 0.99999 for streams
    of millions of steps, and the variance itself is kept above its floor.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.seen`, `.mean`, `.centred`, `.away`, `.squared`, `.variance`,
            `.raised`, `.log`, `.scale` and `.h`.
        input: name of the node that feeds it.
        size: its number of units.
        decay: of mean and variance, from 0 to 1. At 1 they stay as they are.
        floor: the least variance, greater than 0.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> running_norm(g, "n", input="x", size=3)
    'n.h'
    """
    cell = Cell(graph, "running_norm", name, size)
    decay = cell.leak(decay, "decay")
    floor = cell.number("floor", floor, "a number greater than 0", lambda value: value > 0)
    source = cell.input(input)
    seen, mean = cell.node("seen", "stop"), cell.node("mean", "linear")
    centred, away = cell.node("centred", "linear"), cell.node("away", "linear")
    squared, variance = cell.node("squared", "square"), cell.node("variance", "linear", initial=1.0)
    fixed: dict[str, Any] = {"bias": floor, "bias_port": "b", "bias_trainable": False}
    raised, log = cell.node("raised", "maximum", **fixed), cell.node("log", "log")
    scale, h = cell.node("scale", "exp"), cell.node("h", "mul")
    cell.edge(source, seen)
    cell.decay(mean, decay)
    cell.edge(seen, mean, value=1.0 - decay)
    for unit, value in ((centred, source), (away, seen)):
        cell.edge(value, unit)
        cell.edge(mean, unit, value=-1.0)
    cell.edge(away, squared)
    cell.decay(variance, decay)
    cell.edge(squared, variance, value=1.0 - decay)
    cell.edge(variance, raised, port="a")
    cell.edge(raised, log)
    cell.edge(log, scale, value=-0.5)
    cell.multiply(h, value=centred, scale=scale)
    return cell.add(h)

"""Layers of tanh units: fully connected in time, and leaky."""

from __future__ import annotations

from typing import Any

import networkx as nx

from forwardgrad.cells.cell import Cell


def elman(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    init: Any = "glorot",
    recurrent_init: Any = "orthogonal",
) -> str:
    """Add a layer of tanh units, fully connected in time: `h(t) = tanh(W x(t) + U h(t-1) + b)`.

    Source: Elman 1990, doi 10.1207/s15516709cog1402_1.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its node is `name.h`.
        input: name of the node that feeds it.
        size: number of units.
        init: how W is drawn.
        recurrent_init: how U is drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> elman(g, "l1", input="x", size=8)
    'l1.h'
    """
    cell = Cell(graph, "elman", name, size)
    h = cell.node("h", "tanh", bias=True)
    cell.read(h, input, h, init, recurrent_init)
    return cell.add(h)


def leaky_tanh(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    leak: float = 0.5,
    trainable: bool = False,
    init: Any = "glorot",
    recurrent_init: Any = "orthogonal",
) -> str:
    """Add a layer of leaky-integrator units.

        a(t) = tanh(W x(t) + U h(t-1) + b)
        h(t) = leak h(t-1) + (1 - leak) a(t)

    With a trainable leak every unit has its own, and the same equation is written as `d(t) = h(t-1) - a(t)`,
    `h(t) = a(t) + leak d(t)`, so that the parameter occurs once. Nothing keeps a trained leak inside (0, 1).

    Source: Jaeger et al. 2007, doi 10.1016/j.neunet.2007.04.016, whose leaking rate is `1 - leak`.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.a`, `name.h`, and `name.d` for a trainable leak.
        input: name of the node that feeds it.
        size: number of units.
        leak: the part of the state that stays, from 0 to 1; a trainable leak starts there.
        trainable: whether the leak is a parameter, `(size,)`.
        init: how W is drawn.
        recurrent_init: how U is drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> leaky_tanh(g, "l1", input="x", size=8, leak=0.9)
    'l1.h'
    """
    cell = Cell(graph, "leaky_tanh", name, size)
    leak = cell.leak(leak)
    a, h = cell.node("a", "tanh", bias=True), cell.node("h", "linear")
    cell.read(a, input, h, init, recurrent_init)
    if cell.truth("trainable", trainable):
        d = cell.node("d", "linear")
        cell.edge(h, d, delay=1)
        cell.edge(a, d, value=-1.0)
        cell.edge(d, h, weight="diagonal", init=leak, param=f"{name}.leak")
        cell.edge(a, h)
    else:
        cell.edge(h, h, value=leak, delay=1)
        cell.edge(a, h, value=1.0 - leak)
    return cell.add(h)

"""Layers of rate units: fully connected in time, leaky, of low rank, and of two populations."""

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
        cell.decay(h, leak)
        cell.edge(a, h, value=1.0 - leak)
    return cell.add(h)


def low_rank(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    rank: int = 2,
    nonlinearity: str = "tanh",
    init: Any = "glorot",
    recurrent_init: Any = "glorot",
) -> str:
    """Add a layer whose recurrent matrix is a product of two factors, both trained, through a narrow linear node.

        k(t) = M h(t-1)
        h(t) = tanh(W x(t) + N k(t) + b)

    M is `(rank, size)` and N `(size, rank)`. Any edge can be written in this way, as two edges and a node between.

    Source: Mastrogiuseppe & Ostojic 2018, doi 10.1016/j.neuron.2018.07.003, where time is continuous.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.k` and `name.h`.
        input: name of the node that feeds it.
        size: number of units.
        rank: of the recurrent matrix, at least 1.
        nonlinearity: op of the units.
        init: how W is drawn.
        recurrent_init: how M and N are drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> low_rank(g, "l1", input="x", size=8, rank=2)
    'l1.h'
    """
    cell = Cell(graph, "low_rank", name, size)
    k = cell.node("k", "linear", size=cell.whole("rank", rank, 1))
    h = cell.node("h", cell.function("nonlinearity", nonlinearity), bias=True)
    cell.feed(h, input, init)
    cell.edge(h, k, weight="dense", delay=1, init=recurrent_init)
    cell.edge(k, h, weight="dense", init=recurrent_init)
    return cell.add(h)


def ei_pair(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    inhibitory: int | None = None,
    leak: float = 0.8,
    nonlinearity: str = "relu",
    init: Any = "glorot",
    recurrent_init: Any = None,
) -> str:
    """Add two populations of leaky rate units: one that excites, and one that inhibits.

        e(t) = leak e(t-1) + (1 - leak) relu(W_e x(t) + W_ee e(t-1) - W_ei i(t-1) + b_e)
        i(t) = leak i(t-1) + (1 - leak) relu(W_i x(t) + W_ie e(t-1) - W_ii i(t-1) + b_i)

    The four recurrent matrices start with entries of 0 or more, so that each unit has one sign (Dale's law). Training
    keeps it where the optimizer does: `Constrained(Adam(0.01), {"l1.*->l1.to_?": nonnegative()})`, both from
    `forwardgrad.learning.constraints`, for a cell of name `l1`. The minus sign of i is that of the node `name.minus`.

    A rule that drops edges which mix units, such as e-prop, trains what drives the second population only where the
    readout reads `name.i` too.

    Source: Wilson & Cowan 1972, doi 10.1016/S0006-3495(72)86068-5; as a network that is trained, Song et al. 2016,
    doi 10.1371/journal.pcbi.1004792, where weights are rectified.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are the drives `name.to_e` and `name.to_i`, the rates `name.e` and `name.i`,
            and `name.minus` (-i).
        input: name of the node that feeds it.
        size: number of excitatory units.
        inhibitory: number of inhibitory units; a quarter as many, and at least one, unless given.
        leak: the part of a rate that stays, from 0 to 1.
        nonlinearity: op of the drives.
        init: how the two W from the input are drawn.
        recurrent_init: how the recurrent matrices are drawn: `uniform(0, 1 / units)`, with the number of units that a
            matrix reads, unless given.

    Returns:
        The name of the output node, `name.e`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> ei_pair(g, "l1", input="x", size=8)
    'l1.e'
    """
    cell = Cell(graph, "ei_pair", name, size)
    leak, op = cell.leak(leak), cell.function("nonlinearity", nonlinearity)
    units = max(1, cell.size // 4) if inhibitory is None else cell.whole("inhibitory", inhibitory, 1)
    e, i, minus = (cell.node(name, "linear", size=n) for name, n in (("e", cell.size), ("i", units), ("minus", units)))
    cell.edge(i, minus, value=-1.0)
    for rate, drive, count in ((e, "to_e", cell.size), (i, "to_i", units)):
        driven = cell.node(drive, op, size=count, bias=True)
        cell.feed(driven, input, init)
        for source, many in ((e, cell.size), (minus, units)):
            drawn = f"uniform(0, {1 / many!r})" if recurrent_init is None else recurrent_init
            cell.edge(source, driven, weight="dense", delay=1, init=drawn)
        cell.decay(rate, leak)
        cell.edge(driven, rate, value=1.0 - leak)
    return cell.add(e)

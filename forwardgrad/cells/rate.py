"""Layers of tanh units: fully connected in time, leaky, and leaky without being trained."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np

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


def reservoir(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    leak: float = 0.0,
    spectral_radius: float = 0.9,
    density: float = 1.0,
    seed: int = 0,
    init: Any = "uniform(-0.5, 0.5)",
) -> str:
    """Add a reservoir, a layer of leaky-integrator units none of whose weights are trained (an echo state network).

        a(t) = tanh(W x(t) + U h(t-1))
        h(t) = leak h(t-1) + (1 - leak) a(t)

    U is drawn here, normal at a part of its entries, and scaled to its spectral radius. W is drawn with the parameters
    of the program, and fixed.

    Source: Jaeger et al. 2007, doi 10.1016/j.neunet.2007.04.016, whose leaking rate is `1 - leak`.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.a` and `name.h`.
        input: name of the node that feeds it.
        size: number of units.
        leak: the part of the state that stays, from 0 to 1.
        spectral_radius: largest size of an eigenvalue of U, at least 0. Where the entries that are drawn hold no cycle,
            as may happen to small and sparse ones, every eigenvalue is 0, and U is left as drawn.
        density: the part of the entries of U that are drawn, from 0 to 1.
        seed: of U.
        init: how W is drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> reservoir(g, "l1", input="x", size=8, leak=0.5)
    'l1.h'
    """
    cell = Cell(graph, "reservoir", name, size)
    leak, density = (
        cell.leak(leak),
        cell.number("density", density, "a number from 0 to 1", lambda part: 0 <= part <= 1),
    )
    radius = cell.number("spectral_radius", spectral_radius, "a number >= 0", lambda value: value >= 0)
    random = cell.draw(seed, cell.size**2)
    a, h = cell.node("a", "tanh"), cell.node("h", "linear")
    drawn = random.normal(size=(cell.size, cell.size)) * (random.uniform(size=(cell.size, cell.size)) < density)
    largest = np.abs(np.linalg.eigvals(drawn)).max()
    cell.feed(a, input, init, trainable=False)
    cell.edge(h, a, value=drawn * (radius / largest if largest > 1e-6 else 1.0), weight="dense", delay=1)
    cell.decay(h, leak)
    cell.edge(a, h, value=1.0 - leak)
    return cell.add(h)

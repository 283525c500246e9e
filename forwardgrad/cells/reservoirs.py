"""Layers that are driven and not trained: one reservoir, or several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.cells.cell import Cell
from forwardgrad.errors import GraphError


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
    density = cell.number("density", density, "a number from 0 to 1", lambda part: 0 <= part <= 1)
    random = cell.draw(seed, cell.size**2)
    return cell.add(_driven(cell, "", input, cell.leak(leak), _radius(cell, spectral_radius), density, random, init))


def parallel_reservoirs(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    reservoirs: int = 2,
    leak: float | Sequence[float] = 0.0,
    spectral_radius: float | Sequence[float] = 0.9,
    density: float = 1.0,
    seed: int = 0,
    init: Any = "uniform(-0.5, 0.5)",
) -> str:
    """Add reservoirs that stand side by side: each reads the input and itself, and none another.

    Each is that of `reservoir`; with leaks of their own they are memories on as many time scales. Their states follow
    each other in the output.

    Source: Gallicchio et al. 2017, doi 10.1016/j.neucom.2016.12.089, who compare such groups with stacks.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.1.a`, `name.1.h`, `name.2.a` and so on, and `name.h`.
        input: name of the node that feeds it.
        size: number of units of each.
        reservoirs: how many, from 1 to 1000.
        leak: the part of the state that stays, from 0 to 1: one number, or one for each reservoir.
        spectral_radius: largest size of an eigenvalue of each U, at least 0: one number, or one for each reservoir.
        density: the part of the entries of each U that are drawn, from 0 to 1.
        seed: of all U.
        init: how each W is drawn.

    Returns:
        The name of the output node, `name.h`, of `reservoirs * size` units.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> parallel_reservoirs(g, "l1", input="x", size=8, leak=[0.0, 0.9])
    'l1.h'
    """
    cell = Cell(graph, "parallel_reservoirs", name, size)
    count = cell.whole("reservoirs", reservoirs, 1, 1000)
    leaks = [cell.leak(each) for each in _each(cell, "leak", leak, count)]
    radii = [_radius(cell, each) for each in _each(cell, "spectral_radius", spectral_radius, count)]
    density = cell.number("density", density, "a number from 0 to 1", lambda part: 0 <= part <= 1)
    random = cell.draw(seed, count * cell.size**2)
    states = [
        _driven(cell, f"{number}.", input, leak, radius, density, random, init)
        for number, (leak, radius) in enumerate(zip(leaks, radii, strict=True), start=1)
    ]
    h = cell.node("h", "concat")
    for part, state in enumerate(states):
        cell.edge(state, h, port=str(part))
    return cell.add(h)


def _each(cell: Cell, key: str, given: Any, count: int) -> list[Any]:
    """What is given for each of some reservoirs."""
    found = [given] * count if np.ndim(given) == 0 else list(given)
    if len(found) != count:
        raise GraphError(f"{cell.place}: {key!r} has {len(found)} numbers for {count} reservoirs.", "Give one of each.")
    return found


def _radius(cell: Cell, given: Any) -> float:
    return cell.number("spectral_radius", given, "a number >= 0", lambda value: value >= 0)


def _driven(
    cell: Cell,
    prefix: str,
    input: str,
    leak: float,
    radius: float,
    density: float,
    random: np.random.Generator,
    init: Any,
) -> str:
    """Note the nodes and edges of one reservoir, and return its state."""
    a, h = cell.node(f"{prefix}a", "tanh"), cell.node(f"{prefix}h", "linear")
    drawn = random.normal(size=(cell.size, cell.size)) * (random.uniform(size=(cell.size, cell.size)) < density)
    largest = np.abs(np.linalg.eigvals(drawn)).max()
    cell.feed(a, input, init, trainable=False)
    cell.edge(h, a, value=drawn * (radius / largest if largest > 1e-6 else 1.0), weight="dense", delay=1)
    cell.decay(h, leak)
    cell.edge(a, h, value=1.0 - leak)
    return h

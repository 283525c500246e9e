"""Layers whose units, or pairs of them, only ever see their own past: IndRNN, LRU and RTU.

Units do not mix in time. So the influence of a weight stays with the units that it enters, and exact RTRL stores one
number, or a pair of them, per synapse.
"""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.cells.cell import Cell
from forwardgrad.errors import GraphError


def indrnn(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    nonlinearity: str = "relu",
    init: Any = "glorot",
    recurrent_init: Any = "uniform(0, 1)",
) -> str:
    """Add a layer of independently recurrent units: `h(t) = relu(W x(t) + u * h(t-1) + b)`.

    Source: Li et al. 2018, arXiv 1803.04831, equation 2.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its node is `name.h`.
        input: name of the node that feeds it.
        size: number of units.
        nonlinearity: op of the units.
        init: how W is drawn.
        recurrent_init: how u, `(size,)`, is drawn.

    Returns:
        The name of the output node, `name.h`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> indrnn(g, "l1", input="x", size=8)
    'l1.h'
    """
    cell = Cell(graph, "indrnn", name, size)
    h = cell.node("h", cell.function("nonlinearity", nonlinearity), bias=True)
    cell.feed(h, input, init)
    cell.edge(h, h, weight="diagonal", delay=1, init=recurrent_init)
    return cell.add(h)


def lru(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    r_min: float = 0.0,
    r_max: float = 1.0,
    max_phase: float = 2 * math.pi,
    seed: int = 0,
    init: Any = "lecun",
) -> str:
    """Add a layer of linear recurrent units: complex numbers that turn, shrink and are fed, and a real readout of them.

        lambda = exp(-exp(nu) + i exp(theta))
        h(t) = lambda * h(t-1) + exp(gamma) * B x(t)
        y(t) = Re(C h(t)) + D x(t)

    A complex number is a pair of real nodes, so h = h1 + i h2, B = B1 + i B2 and C = C1 - i C2; nu, theta and gamma are
    `(size,)` and trained.

    Source: Orvieto et al. 2023, arXiv 2303.06349, equations 3 to 8 and lemma 3.2.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.nu`, `.theta` and `.gamma` (exp of the parameters, which are their
            biases), `.r`, `.cos` and `.sin`, `.re` and `.im` (lambda), `.b1` and `.b2` (B x), `.fed1` and `.fed2`
            (exp(gamma) * B x), `.re_h1`, `.im_h2`, `.im_h1`, `.re_h2` (lambda times h), `.h1`, `.h2` and `.y`.
        input: name of the node that feeds it.
        size: number of complex units, and of outputs.
        r_min: smallest size of lambda at first, from 0.
        r_max: largest size of lambda at first, up to 1.
        max_phase: largest angle of lambda at first, greater than 0.
        seed: of the first lambda, uniform on that ring.
        init: how B1, B2, C1, C2 and D are drawn.

    Returns:
        The name of the output node, `name.y`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> lru(g, "l1", input="x", size=8, r_min=0.9)
    'l1.y'
    """
    cell = Cell(graph, "lru", name, size)
    nu, theta, squared = _ring(cell, r_min, r_max, max_phase, seed)
    _, re, im = _lambda(cell, nu, theta)
    gamma = cell.node("gamma", "exp", bias=0.5 * np.log1p(-squared))
    h1, h2 = _turned(cell, input, init, re, im, gamma, "linear")
    return _output(cell, h1, h2, init, input)


def rtu(
    graph: nx.MultiDiGraph[str],
    name: str,
    input: str,
    size: int,
    *,
    linear: bool = True,
    nonlinearity: str = "tanh",
    r_min: float = 0.0,
    r_max: float = 1.0,
    max_phase: float = 2 * math.pi,
    seed: int = 0,
    init: Any = "lecun",
) -> str:
    """Add a layer of recurrent trace units: pairs of numbers that turn and shrink, and a readout of them.

        r, phi = exp(-exp(nu)), exp(theta)
        h1(t) = r cos(phi) * h1(t-1) - r sin(phi) * h2(t-1) + sqrt(1 - r^2) * B1 x(t)
        h2(t) = r sin(phi) * h1(t-1) + r cos(phi) * h2(t-1) + sqrt(1 - r^2) * B2 x(t)
        y(t) = C1 f(h1(t)) + C2 f(h2(t)) + b

    Those are linear units; the other kind applies f to the right sides of h1 and h2, and not in y. What the paper calls
    the output is [f(h1), f(h2)]; y is what a next layer reads of it. nu and theta are `(size,)` and trained.

    Source: Elelimy et al. 2024, arXiv 2409.01449, section 4.

    Args:
        graph: the graph it is added to.
        name: name of the cell; its nodes are `name.nu`, `.theta` (exp of the parameters, which are their biases), `.r`,
            `.cos` and `.sin`, `.re` and `.im` (r cos, r sin), `.r_squared`, `.rest` (1 - r^2), `.gamma` (its root),
            `.b1`, `.b2`, `.fed1`, `.fed2` (gamma * B x), `.re_h1`, `.im_h2`, `.im_h1`, `.re_h2` (products), `.h1`,
            `.h2`, `.f1` and `.f2` (of linear units) and `.y`.
        input: name of the node that feeds it.
        size: number of pairs, and of outputs.
        linear: whether f stands outside of the recurrence.
        nonlinearity: the op f.
        r_min: smallest r at first, from 0.
        r_max: largest r at first, up to 1.
        max_phase: largest angle at first, greater than 0.
        seed: of the first r and angles, uniform on that ring.
        init: how B1, B2, C1 and C2 are drawn.

    Returns:
        The name of the output node, `name.y`.

    Raises:
        GraphError: if a name is taken, the input is unknown, or an argument is illegal; nothing is added then.

    >>> g = nx.MultiDiGraph()
    >>> g.add_node("x", op="input", size=3)
    >>> rtu(g, "l1", input="x", size=8, linear=False)
    'l1.y'
    """
    cell = Cell(graph, "rtu", name, size)
    nu, theta, _ = _ring(cell, r_min, r_max, max_phase, seed)
    r, re, im = _lambda(cell, nu, theta)
    squared, rest, gamma = cell.node("r_squared", "square"), cell.node("rest", "one_minus"), cell.node("gamma", "sqrt")
    for source, target in ((r, squared), (squared, rest), (rest, gamma)):
        cell.edge(source, target)
    outside, nonlinearity = cell.truth("linear", linear), cell.function("nonlinearity", nonlinearity)
    h1, h2 = _turned(cell, input, init, re, im, gamma, "linear" if outside else nonlinearity)
    if outside:
        f1, f2 = cell.node("f1", nonlinearity), cell.node("f2", nonlinearity)
        cell.edge(h1, f1)
        cell.edge(h2, f2)
        h1, h2 = f1, f2
    return _output(cell, h1, h2, init)


def _ring(cell: Cell, r_min: Any, r_max: Any, max_phase: Any, seed: Any) -> tuple[Any, Any, Any]:
    """First values of nu and theta, uniform on a ring of the plane, and the squares of the radii."""
    low = cell.number("r_min", r_min, "a number from 0 to 1", lambda r: 0 <= r <= 1)
    high = cell.number("r_max", r_max, "a number from 0 to 1", lambda r: 0 <= r <= 1)
    phase = cell.number("max_phase", max_phase, "a number greater than 0", lambda angle: angle > 0)
    if low >= high:
        raise GraphError(f"{cell.place}: 'r_min' must be less than 'r_max', got {low:g} and {high:g}.")
    random = cell.draw(seed, cell.size)
    least, most = np.nextafter([0.0, 1.0], [1.0, 0.0])  # logarithms of neither radius are infinite
    squared = np.clip(random.uniform(low**2, high**2, cell.size), least, most)
    return np.log(-0.5 * np.log(squared)), np.log(phase * np.clip(random.uniform(size=cell.size), least, 1)), squared


def _lambda(cell: Cell, nu: Any, theta: Any) -> tuple[str, str, str]:
    """Note the nodes of lambda: its size, its real and its imaginary part."""
    decay, angle, r = cell.node("nu", "exp", bias=nu), cell.node("theta", "exp", bias=theta), cell.node("r", "exp")
    cos, sin = cell.node("cos", "cos"), cell.node("sin", "sin")
    re, im = cell.node("re", "mul"), cell.node("im", "mul")
    cell.edge(decay, r, value=-1.0)
    cell.edge(angle, cos)
    cell.edge(angle, sin)
    cell.multiply(re, size=r, angle=cos)
    cell.multiply(im, size=r, angle=sin)
    return r, re, im


def _turned(cell: Cell, input: str, init: Any, re: str, im: str, gamma: str, op: str) -> tuple[str, str]:
    """Note a pair of states that is multiplied by lambda and fed."""
    h1, h2 = cell.node("h1", op), cell.node("h2", op)
    for own, drive in ((h1, "1"), (h2, "2")):
        b, fed = cell.node(f"b{drive}", "linear"), cell.node(f"fed{drive}", "mul")
        cell.feed(b, input, init)
        cell.multiply(fed, gain=gamma, drive=b)
        cell.edge(fed, own)
    for product, factor, state, target in (
        ("re_h1", re, h1, h1),
        ("im_h2", im, h2, h1),
        ("im_h1", im, h1, h2),
        ("re_h2", re, h2, h2),
    ):
        node = cell.node(product, "mul")
        cell.multiply(node, factor=factor, state=(state, 1))
        if product == "im_h2":
            cell.edge(node, target, value=-1.0)
        else:
            cell.edge(node, target)
    return h1, h2


def _output(cell: Cell, h1: str, h2: str, init: Any, skipped: str | None = None) -> str:
    """Add all, with a dense readout of the pair, and of the input if it is given; a bias where it is not."""
    y = cell.node("y", "linear", **({} if skipped else {"bias": True}))
    cell.edge(h1, y, weight="dense", init=init)
    cell.edge(h2, y, weight="dense", init=init)
    if skipped:
        cell.feed(y, skipped, init)
    return cell.add(y)

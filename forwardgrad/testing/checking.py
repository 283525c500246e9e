"""Random parameters and data to check a program on, and its slope by central differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from forwardgrad import oracle
from forwardgrad.ops import Array
from forwardgrad.ops import losses as loss_table
from forwardgrad.program import Program

REVERSE = 1e-10
"""Largest relative error against reverse accumulation that passes, in float64."""

DIFFERENCE = 1e-6
"""Largest relative error against central differences that passes."""


def usual_blocks(steps: int) -> tuple[int, ...]:
    """The block lengths a check compares: one step, about a third of the sequence, and all of it.

    >>> usual_blocks(12)
    (1, 5, 12)
    """
    return tuple(dict.fromkeys((1, 1 + steps // 3, steps)))


def smooth(program: Program) -> bool:
    """Whether central differences of the loss find the gradient: no surrogate derivative, and no credit cut by hand.

    >>> import forwardgrad as fg
    >>> smooth(fg.compile(fg.load("elman"))), smooth(fg.compile(fg.load("lif"), rule="eprop"))
    (True, False)
    """
    nodes, edges = program.network.nodes.values(), program.network.edges.values()
    return all(node.op.smooth for node in nodes) and not any(edge.credit for edge in edges)


def random_params(program: Program, random: np.random.Generator, seed: int) -> dict[str, Array]:
    """The initial parameters of a seed, trained ones moved a little, so that none is zero or an identity."""
    return {
        name: p + 0.1 * random.standard_normal(np.shape(p)) * (name in program.rules)
        for name, p in program.init(seed).items()
    }


def random_data(
    program: Program, random: np.random.Generator, steps: int, batch: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """White noise as inputs, and targets within what every loss takes."""
    nodes = program.network.nodes
    inputs = {name: random.standard_normal((steps, batch, nodes[name].size)) for name in program.network.inputs}
    targets: dict[str, Array] = {}
    for name, loss in program.losses.items():
        size = nodes[name].size
        labels = loss_table.get(loss).labels
        targets[name] = (
            random.integers(size, size=(steps, batch)) if labels else random.uniform(0, 1, (steps, batch, size))
        )
    return inputs, targets


def slope_error(
    exact: Program,
    params: Mapping[str, Array],
    inputs: Mapping[str, Array],
    targets: Mapping[str, Array],
    seed: int,
    mask: Any = None,
) -> float:
    """How far a program is from the slope of the loss along a random direction, by a central difference; relative.

    The direction has unit length, so that large graphs are moved no further than small ones.

    Args:
        exact: a program that should give the exact gradient, on a graph that is `smooth`.
        params, inputs, targets, mask: as for `Program.gradient`.
        seed: of the direction.

    Raises:
        OpError: if the graph is not `smooth`.

    >>> import forwardgrad as fg
    >>> program = fg.compile(fg.load("elman"))
    >>> random = np.random.default_rng(0)
    >>> params = random_params(program, random, 0)
    >>> slope_error(program, params, *random_data(program, random, steps=4, batch=1), seed=0) < DIFFERENCE
    True
    """
    random = np.random.default_rng([seed, 1])
    direction = {name: random.standard_normal(params[name].shape) for name in exact.rules}
    length = np.sqrt(sum(float(np.sum(d * d)) for d in direction.values()))
    direction = {name: d / length for name, d in direction.items()}
    block = max(1, len(next(iter(targets.values()))) // 3)
    grads = exact.gradient(params, inputs, targets, block=block, mask=mask).grads
    found = sum(float(np.sum(grads[name] * d)) for name, d in direction.items())
    wanted = oracle.directional_derivative(exact.graph, params, inputs, targets, exact.losses, direction, mask)
    size = np.sqrt(sum(float(np.sum(g * g)) for g in grads.values()))
    return abs(found - wanted) / max(abs(wanted), 1e-3 * size, 1e-12)

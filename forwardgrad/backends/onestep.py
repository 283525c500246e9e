"""The sweep from a stored place over a block of one step, such that only what is read of its Jacobian is made.

Over longer blocks a Jacobian is a product of many matrices, and an array of its own. Over one step it is mostly one
matrix, scaled: see `layouts/jacobians.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forwardgrad.backends.route import Stop
from forwardgrad.compiler.factors import Factor
from forwardgrad.graph import Edge
from forwardgrad.layouts.jacobians import Diagonal, Jacobian, total


@dataclass(frozen=True)
class Factors:
    """By what credit is multiplied in a block of one step.

    Args:
        slope: `slope(node, port)`: the derivative of a node by a port: a number, or `(batch, ...)` as its word says.
        weight: `weight(edge, factor)`: a number, `(size,)`, `(target, source)`; `None` for an identity.
    """

    slope: Callable[[str, str], Any]
    weight: Callable[[Edge, Factor], Any]


@dataclass
class StepJacobians:
    """What such a sweep finds.

    Args:
        boundary: per place and lag, the Jacobian of the stored place by it, that many steps before.
        ports: per place and port, the Jacobian by that in the step itself.
    """

    boundary: dict[tuple[int, int], Jacobian] = field(default_factory=dict[tuple[int, int], Jacobian])
    ports: dict[tuple[int, str | None], Jacobian] = field(default_factory=dict[tuple[int, "str | None"], Jacobian])


def step_jacobians(stops: Sequence[Stop], target: int, factors: Factors, dtype: Any) -> StepJacobians:
    """Sweep from a stored place.

    Args:
        stops: the way to go (`route`).
        target: the place.
        factors: what to multiply by.
        dtype: of all arrays, as a class.
    """
    found = StepJacobians()
    for stop in stops:
        parts: list[Jacobian] = [Diagonal(np.ones(stop.size, dtype))] if stop.place == target else []
        for link in stop.links:
            if link.delay == 0 and (b := found.ports.get(link.port)) is not None:
                parts.append(_over(b, factors.weight(link.edge, link.factor), link.elementwise, stop.size, dtype))
        if not parts:
            continue
        adjoint = total(parts)
        for gate in stop.gates:
            port = adjoint
            if gate.port is not None:
                port = _over(adjoint, factors.slope(stop.node, gate.port), not gate.mixes, stop.size, dtype)
            found.ports[stop.place, gate.port] = port
    for stop in stops:
        by_lag: dict[int, list[Jacobian]] = {}
        for link in stop.links:
            if link.delay and (b := found.ports.get(link.port)) is not None:
                part = _over(b, factors.weight(link.edge, link.factor), link.elementwise, stop.size, dtype)
                by_lag.setdefault(link.delay, []).append(part)
        found.boundary |= {(stop.place, lag): total(parts) for lag, parts in by_lag.items()}
    return found


def _over(adjoint: Jacobian, factor: Any, elementwise: bool, size: int, dtype: Any) -> Jacobian:
    """An adjoint times a factor: entry by entry, or a matrix; `None` is the identity."""
    if factor is None:
        return adjoint
    if not elementwise:
        return adjoint.times(factor)
    if isinstance(factor, float):
        factor = dtype(factor)
    shape = np.shape(factor)
    return adjoint.scaled(factor if shape[-1:] == (size,) else np.broadcast_to(factor, (*shape[:-1], size)))

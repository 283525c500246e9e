"""How does credit flow back through a block? One reverse sweep over the product, with a seed axis.

It is the only differentiation code. Seeded by the losses it gives the gradients inside the block and the adjoints of
the block's boundary. Seeded by a stored place at the block's end it gives that place's Jacobian and injections.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from forwardgrad.backends.route import Stop
from forwardgrad.backends.tape import Tape
from forwardgrad.backends.weights import pull
from forwardgrad.ops import Array
from forwardgrad.support.blas import matmul

Ports = dict[tuple[int, str | None], dict[int, Array]]


@dataclass
class Adjoints:
    """What a sweep finds; each adjoint is `(batch, seeds, size)`.

    Args:
        ports: per place and port, the adjoint of the port at the steps where there is one, the last step first.
        boundary: per place and lag, the adjoint of the place that many steps before the block.
        held: per place at which the sweep was told to end, the adjoint that arrived there.
    """

    ports: Ports = field(default_factory=Ports)
    boundary: dict[tuple[int, int], Array] = field(default_factory=dict[tuple[int, int], Array])
    held: dict[int, Array] = field(default_factory=dict[int, Array])

    def at_port(self, place: int, port: str | None) -> tuple[list[int], Array] | None:
        """The steps at which a port has an adjoint, and the adjoints, `(steps, batch, seeds, size)`."""
        found = self.ports.get((place, port))
        return (list(found), np.stack(list(found.values()))) if found else None


def sweep(
    tape: Tape, stops: Sequence[Stop], seeds: Mapping[tuple[int, int], Array], ends: Collection[int] = ()
) -> Adjoints:
    """Reverse accumulation over a block, and over the steps before it that kept delayed edges read.

    Args:
        tape: the block's forward pass.
        stops: the way to go (`route`).
        seeds: the adjoints given from outside, `(batch, seeds, size)`, by place and step.
        ends: places at which the sweep ends in the last step of the block.
    """
    found = Adjoints()
    first = -max((stop.depth for stop in stops), default=0)
    for t in range(max((t for _, t in seeds), default=-1), first - 1, -1):
        for stop in stops:
            if t < -stop.depth:
                continue
            adjoint = _pulled(tape, found.ports, stop, t, seeds.get((stop.place, t)))
            if adjoint is None:
                continue
            if t == tape.steps - 1 and stop.place in ends:
                found.held[stop.place] = adjoint
            elif t < 0:
                found.boundary[stop.place, -t] = adjoint
            else:
                _through_op(tape, found.ports, stop, t, adjoint)
    return found


def _pulled(tape: Tape, ports: Ports, stop: Stop, t: int, seed: Array | None) -> Array | None:
    """The adjoint of a place at a step: its seed, and what its kept edges bring back."""
    total = _wide(seed, stop.size) if seed is not None and stop.widen_seed else seed
    for link in stop.links:
        b = ports.get(link.port, {}).get(t + link.delay)
        if b is None:
            continue
        if link.widen_before:
            b = _wide(b, link.size)
        b = pull(link.elementwise, tape.weights.of(link.edge, link.factor), b)
        if link.widen_after:
            b = _wide(b, stop.size)
        total = b if total is None else total + b
    return total


def _through_op(tape: Tape, ports: Ports, stop: Stop, t: int, adjoint: Array) -> None:
    """Note the adjoints of a node's ports, given the adjoint of its value."""
    for gate in stop.gates:
        b = _wide(adjoint, stop.size) if gate.widen else adjoint
        if gate.port is not None:
            jacobian = tape.jacobian(stop.node, gate.port)[t]
            b = matmul(b, jacobian) if gate.mixes else b * jacobian[:, None]
        ports.setdefault((stop.place, gate.port), {})[t] = b


def _wide(adjoint: Array, size: int) -> Array:
    """A compact adjoint with a seed per unit."""
    return np.eye(size, dtype=adjoint.dtype) * adjoint

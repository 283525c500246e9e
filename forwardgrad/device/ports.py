"""Ports: where inputs, targets and predictions of each node begin in the arrays that a device hands over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forwardgrad.program import Program

Ranges = Mapping[str, tuple[int, int]]
"""For each node, where its numbers begin and how many there are."""


@dataclass(frozen=True)
class Ports:
    """The numbers of a sample.

    Args:
        inputs, targets, outputs: of each node, where its numbers begin and how many there are. A target of a loss on
            labels is one number.
    """

    inputs: Ranges
    targets: Ranges
    outputs: Ranges

    @staticmethod
    def size(ranges: Ranges) -> int:
        """How many numbers there are in all."""
        return sum(size for _, size in ranges.values())


def ports(program: Program) -> Ports:
    """The ports of a program, its nodes in their order."""
    nodes = program.network.nodes
    outputs = {name: nodes[name].size for name in program.losses}
    targets = {name: 1 if loss.labels else nodes[name].size for name, loss in program.losses.items()}
    return Ports(*map(_ranges, ({name: nodes[name].size for name in program.network.inputs}, targets, outputs)))


def _ranges(sizes: Mapping[str, int]) -> Ranges:
    found: dict[str, tuple[int, int]] = {}
    first = 0
    for name, size in sizes.items():
        found[name] = first, size
        first += size
    return found

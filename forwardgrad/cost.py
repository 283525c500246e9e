"""What does a program cost? Bytes of influence, activations and one block, known before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardgrad.compiler import Plan
from forwardgrad.structure import Structure

BLOCK_BUDGET = 256 * 2**20
"""Bytes that the arrays of one block may take where the block length is chosen by itself."""


@dataclass(frozen=True)
class Cost:
    """What a program stores, in bytes.

    Args:
        batch: number of samples.
        block: steps per block.
        influence: per trainable parameter, between blocks.
        values: the past values that delayed edges read, between blocks.
        working: the arrays of one block: values, ports, adjoints (an estimate).
    """

    batch: int
    block: int
    influence: Mapping[str, int]
    values: int
    working: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.influence.values()) + self.values + self.working

    def __str__(self) -> str:
        return (
            f"batch {self.batch}, block {self.block}: influence {sum(self.influence.values()):,} bytes, "
            f"values {self.values:,}, one block about {self.working:,}"
        )


def block_bytes(plan: Plan, batch: int, block: int, dtype: Any) -> int:
    """About how many bytes the arrays of one block take."""
    nodes = plan.network.nodes
    tape = sum(node.size * (1 + 2 * len(node.ports)) for node in nodes.values())
    losses = sum(nodes[place.node].size for place in plan.product.places)
    widest = max((_seeded(plan, target) for target in plan.stored), default=0)
    return batch * block * (tape + losses + widest) * np.dtype(dtype).itemsize


def _seeded(plan: Plan, target: int) -> int:
    """Numbers per sample and step in the adjoints of the sweep from a stored place."""
    size = plan.network.nodes[plan.product.places[target].node].size
    return sum(
        plan.network.nodes[plan.product.places[place].node].size * (size if word is Structure.FULL else 1)
        for place, word in plan.words[target].items()
    )


def choose_block(plan: Plan, batch: int, dtype: Any) -> int:
    """A block length from the program, the batch and memory, never from the length of the sequence.

    A block costs about one sweep a seed, and carrying the influence once: about as many steps as the widest sweep has
    seeds balances the two (Schmidhuber 1992). Between 16 and 128, and less where memory is short.
    """
    sizes = [plan.network.nodes[plan.product.places[target].node].size for target in plan.stored]
    block = min(128, max([16, *sizes]))
    while block > 1 and block_bytes(plan, batch, block, dtype) > BLOCK_BUDGET:
        block //= 2
    return block

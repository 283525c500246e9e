"""Which problems are drawn? A graph with losses, and the seed that its parameters and data come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import networkx as nx
from hypothesis import strategies as st

from forwardgrad.graph import Network, validate
from forwardgrad.ops.losses import Loss
from forwardgrad.testing.problem import MASKS, Origin, Problem
from forwardgrad.testing.strategies.brought import brought_losses
from forwardgrad.testing.strategies.graphs import SEEDS, graphs

LOSSES = ("mse", "mse", "bernoulli", "cross_entropy")
"""The losses drawn, `mse` more often; `cross_entropy` where there are two units."""


@st.composite
def problems(
    draw: st.DrawFn,
    *,
    least_steps: int = 4,
    most_steps: int = 12,
    max_batch: int = 3,
    losses: Sequence[str] = LOSSES,
    masks: bool = True,
    brought: bool = False,
    **knobs: Any,
) -> Problem:
    """A graph with losses, parameters and data. A failure prints the graph as TOML, and the command that replays it.

    Args:
        draw: given by Hypothesis.
        least_steps, most_steps: bounds of the length of the sequence.
        max_batch: largest batch.
        losses: what to draw each node's loss from.
        masks: whether losses may be masked.
        brought: whether ops and losses may be such as users bring (`brought_ops`, `brought_losses`).
        knobs: those of `graphs`.

    >>> from hypothesis import Phase, find, settings
    >>> once = settings(phases=[Phase.generate])  # what is drawn first, without looking for less
    >>> print(find(problems(), lambda problem: True, settings=once))
    Problem of 4 steps, batch 1. problem.toml:
    <BLANKLINE>
    edges = [
        { from = "x0", to = "n0", weight = "dense" },
    ]
    <BLANKLINE>
    [graph]
    format = 1
    <BLANKLINE>
    [graph.loss]
    n0 = "mse"
    <BLANKLINE>
    [nodes.x0]
    op = "input"
    size = 1
    <BLANKLINE>
    [nodes.n0]
    op = "linear"
    size = 1
    <BLANKLINE>
    replay: forwardgrad check problem.toml --rule RULE --samples 1 --seed 0 --steps 4 --batch 1 --numbers tame
    """
    graph = draw(graphs(brought=brought, **knobs))
    network = validate(graph)
    loss: dict[str, str | Loss] = dict(_losses(draw, network, losses))
    if brought:
        loss |= {name: draw(brought_losses()) for name in loss if draw(st.booleans())}
    steps, batch = draw(st.integers(least_steps, most_steps)), draw(st.integers(1, max_batch))
    mask = draw(st.sampled_from(["none", *MASKS] if len(loss) > 1 else ["none", *MASKS[:-1]])) if masks else "none"
    return Problem.tame(graph, loss, Origin(draw(SEEDS), steps, batch, mask, "tame"))


def _losses(draw: st.DrawFn, network: Network, losses: Sequence[str]) -> dict[str, str]:
    """Losses on some nodes, and on every node that none of them can be reached from."""
    graph = nx.DiGraph((edge.source, edge.target) for edge in network.edges.values())
    graph.add_nodes_from(network.nodes)
    chosen: list[str] = []
    for name in reversed(network.order):
        if name in network.inputs:
            continue
        reached = {name, *nx.descendants(graph, name)}
        if reached.isdisjoint(chosen) or draw(st.integers(0, 99)) >= 85:
            chosen.append(name)
    return {name: _loss(draw, network.nodes[name].size, losses) for name in chosen}


def _loss(draw: st.DrawFn, size: int, losses: Sequence[str]) -> str:
    fitting = [loss for loss in losses if loss != "cross_entropy" or size > 1]
    return draw(st.sampled_from(fitting or ["mse"]))

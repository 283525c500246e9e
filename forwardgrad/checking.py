"""Does the engine give the oracles' gradient on given parameters and data? And random ones to ask it on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardgrad import losses as loss_table
from forwardgrad import oracle
from forwardgrad.ops import Array
from forwardgrad.program import Program

REVERSE = 1e-10
"""Largest relative error against reverse accumulation that passes, in float64."""

DIFFERENCE = 1e-6
"""Largest relative error against central differences that passes."""


@dataclass(frozen=True)
class Sample:
    """One comparison.

    Args:
        seed: of parameters and data.
        blocks: the block lengths compared, all but the last shorter than the sequence.
        reverse: largest error against `oracle.reverse`, relative to the largest entry of the gradient.
        difference: relative error of the exact gradient along a random direction against a central difference, or
            `None` where a declared derivative is not that of the value, or `credit` cuts.
        largest: largest entry of the reference gradient: zero would make the comparison empty.
        silent: parameters whose reference gradient is zero throughout.
    """

    seed: int
    blocks: tuple[int, ...]
    reverse: float
    difference: float | None
    largest: float
    silent: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all errors are small, and there was something to compare."""
        # Written such that NaN does not pass.
        same = self.difference is None or self.difference <= DIFFERENCE
        return self.largest > 0 and self.reverse <= REVERSE and same


def compare(
    program: Program,
    exact: Program | None,
    rule: Any,
    seed: int,
    params: Mapping[str, Array],
    inputs: Mapping[str, Array],
    targets: Mapping[str, Array],
    mask: Any,
    signals: Mapping[str, Array] | None,
) -> Sample:
    """Compare the engine with both oracles on parameters and data.

    Args:
        program: what is checked.
        exact: the same graph under `rtrl`, to be held against central differences; `None` leaves that out.
        rule: the program's rule, as the oracle reads it.
        seed: of the direction of the differences.
        params, inputs, targets, mask, signals: as for `Program.gradient`.

    Raises:
        RuleError: if the rule's layout is lossy.

    >>> import forwardgrad as fg
    >>> program = fg.compile(fg.load("elman"))
    >>> random = np.random.default_rng(0)
    >>> params = random_params(program, random, 0)
    >>> inputs, targets = random_data(program, random, steps=4, batch=1)
    >>> compare(program, program, "rtrl", 0, params, inputs, targets, None, None).passed
    True
    """
    loss, steps = program.losses, len(next(iter(targets.values())))
    blocks = usual_blocks(steps)
    wanted = oracle.reverse(program.graph, params, inputs, targets, loss, rule, mask, block=blocks[-1], signals=signals)
    largest = _largest(wanted.grads.values())
    differences: list[Array] = []
    for block in blocks:
        found = program.gradient(params, inputs, targets, block=block, mask=mask, signals=signals, draw=0).grads
        # Only a rule that carries nothing depends on the block length.
        own = oracle.reverse(program.graph, params, inputs, targets, loss, rule, mask, block=block, signals=signals)
        differences += [found[name] - g for name, g in own.grads.items()]
    error = _largest(differences) / (largest or 1.0)
    own_params = {name: params[name] for name in program.network.parameters}
    difference = None if exact is None else slope_error(exact, own_params, inputs, targets, seed, mask)
    silent = tuple(name for name, g in wanted.grads.items() if not g.any())
    return Sample(seed, blocks, error, difference, largest, silent)


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


def _largest(arrays: Iterable[Array]) -> float:
    """The largest entry of all in size; NaN where there is one, which `max` would lose."""
    return float(np.max([np.abs(array).max() for array in arrays], initial=0.0))


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

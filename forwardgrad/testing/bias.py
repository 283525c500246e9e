"""Is a random estimate of the gradient right on average? The mean over seeds, held to a stated bound."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, cast

import numpy as np

from forwardgrad.compiling import compile
from forwardgrad.errors import CheckError, RuleError, VacuousError
from forwardgrad.layouts import LOSSLESS
from forwardgrad.ops import Array
from forwardgrad.program import Program
from forwardgrad.rules.rule import Rule
from forwardgrad.rules.table import rule as read_rule
from forwardgrad.testing.comparing import SMALLEST, gradient, reference
from forwardgrad.testing.problem import Problem
from forwardgrad.testing.vacuity import Vacuity, refuse, silent_spikes, zero_gradient

LEAST_SEEDS = 50
"""Seeds below which the mean is not taken for normal."""


@dataclass(frozen=True)
class Bias:
    """What `assert_unbiased` found.

    Args:
        seeds: how many estimates were averaged.
        entries: how many numbers the gradient has.
        distance: the largest distance of the mean from the reference, in standard errors of the mean.
        bound: the distance that passes.
        resolution: the largest bias that would have passed, relative to the largest entry of the reference.
    """

    seeds: int
    entries: int
    distance: float
    bound: float
    resolution: float


def assert_unbiased(
    rule: Any,
    problem: Problem,
    *,
    seeds: int = 300,
    block: int = 1,
    odds: float = 1e-3,
    resolution: float = 0.5,
    allow: Collection[str] = (),
    progress: Callable[[], Any] | None = None,
) -> Bias:
    """Assert that the mean over seeds of a random estimate (`uoro`, `kf-rtrl`) is the gradient of the rule's paths.

    Every entry of the mean of `seeds` estimates must lie within `bound` standard errors of the reference, where

        bound = t^-1(1 - odds / (2 entries))

    with Student's t of `seeds - 1` degrees of freedom, so that a rule without bias fails with odds of about `odds` (a
    normal approximation of means, and Bonferroni's bound over the entries; fewer than 50 seeds are refused). Seeds are
    0, 1, ..., so that a result can be repeated. A bias of less than `bound` standard errors passes: that much, relative
    to the largest entry, must stay below `resolution`, or the check says nothing.

    Args:
        rule: a rule with a random layout, such as `uoro` or `kronecker`, or a mapping as for `compile`.
        problem: a graph with parameters and data; a larger batch means less noise.
        seeds: how many estimates to average.
        block: steps per block.
        odds: of failing without bias.
        resolution: the largest bias, relative to the largest entry of the gradient, that may go unseen.
        allow: kinds of vacuity (`Vacuity`) not to refuse.
        progress: called after every seed.

    Returns:
        How far the mean was from the reference, and how much would have passed.

    Raises:
        CheckError: if an entry lies outside; the message names it, the mean, the reference and the bound.
        VacuousError: if estimates are not random, too few, or nothing would have been compared.
        RuleError: if no layout is random.

    >>> import forwardgrad as fg
    >>> graph = fg.load("elman")
    >>> graph.nodes["h"]["size"] = 2
    >>> given = Problem.of(fg.compile(graph), steps=3, batch=8)
    >>> found = assert_unbiased("uoro", given, seeds=100)
    >>> found.distance < found.bound < 5
    True
    """
    lossless = _compiled(problem, _each(rule, _without_noise))
    wanted = reference(lossless, problem)
    if not any(each.kept.random for each in _rules(rule)):
        raise RuleError(f"rule {str(rule)!r} draws nothing at random: its layout is not random.")
    few = VacuousError(Vacuity.TOO_FEW_SEEDS, f"{seeds} seeds say nothing about a mean.", "Give at least 50.")
    refuse([zero_gradient(lossless, wanted), silent_spikes(lossless, problem)], allow)
    refuse([few if seeds < LEAST_SEEDS else None], ())
    if block >= problem.steps:
        raise VacuousError(Vacuity.ONE_BLOCK, f"a block of {block} steps is the whole sequence: nothing is compressed.")
    drawn = [_estimate(problem, _each(rule, _seeded(seed)), block, wanted, progress) for seed in range(seeds)]
    exact = np.concatenate([g.ravel() for g in wanted.values()])
    names = [(name, index) for name, g in wanted.items() for index in np.ndindex(g.shape)]
    return _judge(str(rule), np.asarray(drawn), exact, names, odds, resolution, allow)


def _judge(
    rule: str, drawn: Array, exact: Array, names: list[Any], odds: float, resolution: float, allow: Collection[str]
) -> Bias:
    seeds, scale = len(drawn), max(SMALLEST, float(np.abs(exact).max()))
    mean, error = drawn.mean(axis=0), drawn.std(axis=0, ddof=1) / np.sqrt(seeds)
    bound = _quantile(1 - odds / (2 * len(exact)), seeds - 1)
    if not np.max(error) > 1e-9 * scale:
        silent = VacuousError(Vacuity.NO_NOISE, f"rule {rule!r}: all {seeds} seeds give one estimate.")
        refuse([silent], allow)
    distance = np.nan_to_num(np.abs(mean - exact) / np.maximum(error, 1e-12 * scale), nan=np.inf)
    seen = bound * float(np.max(error)) / scale
    worst = int(np.argmax(np.where(np.abs(mean - exact) <= 1e-10 * scale, 0.0, distance)))
    if not (distance[worst] <= bound or abs(mean[worst] - exact[worst]) <= 1e-10 * scale):
        name, index = names[worst]
        raise CheckError(
            f"rule {rule!r} is biased: parameter {name!r} at {list(index)} is {mean[worst]:.6g} on average over "
            f"{seeds} seeds, the gradient is {exact[worst]:.6g}.",
            f"That is {distance[worst]:.1f} standard errors; {bound:.1f} are allowed, by which a rule without bias "
            f"fails with odds of {odds:g}.",
        )
    if not seen <= resolution:
        need = int(np.ceil(seeds * (seen / resolution) ** 2))
        text = f"{seeds} seeds would not see a bias of {seen:.0%} of the largest entry."
        refuse([VacuousError(Vacuity.TOO_FEW_SEEDS, text, f"Give about {need:,} seeds, or a larger batch.")], allow)
    return Bias(seeds, len(exact), float(distance[worst]), bound, seen)


def _quantile(odds: float, freedom: int) -> float:
    """Of Student's t, by its expansion about the normal distribution (Abramowitz & Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(odds)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _rules(rule: Any) -> list[Rule]:
    changed = _each(rule, lambda each: each)
    return list(changed.values()) if isinstance(changed, dict) else [changed]


def _each(rule: Any, change: Callable[[Rule], Rule]) -> Rule | dict[str, Rule]:
    if isinstance(rule, Mapping):
        given = cast("Mapping[str, Any]", rule)
        return {pattern: change(read_rule(each)) for pattern, each in given.items()}
    return change(read_rule(rule))


def _without_noise(rule: Rule) -> Rule:
    return replace(rule, layout=LOSSLESS.name, name="")


def _seeded(seed: int) -> Callable[[Rule], Rule]:
    def change(rule: Rule) -> Rule:
        return replace(rule, seed=seed, name="") if rule.kept.random else rule

    return change


def _compiled(problem: Problem, rule: Any) -> Program:
    return compile(problem.graph, problem.loss, rule, dead="ignore")


def _estimate(problem: Problem, rule: Any, block: int, wanted: Any, progress: Callable[[], Any] | None) -> Array:
    grads = gradient(_compiled(problem, rule), problem, block)
    if progress is not None:
        progress()
    return np.concatenate([grads[name].ravel() for name in wanted])

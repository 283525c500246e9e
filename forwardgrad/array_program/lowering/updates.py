"""Updates as expressions: how SGD and Adam change a parameter, and the numbers that these read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from forwardgrad.array_program.expressions import Argument, Number, Tree, apply


@dataclass(frozen=True)
class Update:
    """How a parameter changes, entry by entry.

    Args:
        settings: the names of the numbers that it reads.
        memory: what is remembered of each parameter.
        trees: the new parameter, and what is remembered then; none leaves parameters as they are. Their arguments are
            the parameter, its gradient, what is remembered, and the numbers.
        clipped: whether gradients are scaled before such that their joint norm is at most the number `LIMIT`.
    """

    settings: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()
    trees: tuple[Tree, ...] = ()
    clipped: bool = False


@dataclass(frozen=True)
class Schedule:
    """An update, and what the numbers that it reads are.

    Args:
        update: how a parameter changes.
        fixed: numbers that stay.
        counted: numbers that depend on how many updates there have been, the next one included; `None`: none do.
    """

    update: Update
    fixed: Mapping[str, float]
    counted: Callable[[int], Mapping[str, float]] | None = None


def _sgd(config: Mapping[str, Any]) -> Schedule:
    """Gradient descent, with momentum if asked for."""
    rate, momentum = config["learning_rate"], config["momentum"]
    fixed = {"rate": rate, "keep": 1 - rate * config["weight_decay"]}
    parameter, gradient = Argument(0), Argument(1)
    if not momentum:
        trees = (_moved(parameter, gradient, Argument(2), Argument(3)),)
        return Schedule(Update(("rate", "keep"), (), trees), fixed)
    rates, factor = (Argument(3), Argument(4)), Argument(5)
    change = apply("+", apply("*", factor, Argument(2)), gradient)
    trees = (_moved(parameter, change, *rates), change)
    return Schedule(Update(("rate", "keep", "factor"), ("momentum",), trees), {**fixed, "factor": momentum})


def _adam(config: Mapping[str, Any]) -> Schedule:
    """Adam, with decoupled weight decay if asked for."""
    rate, beta1, beta2 = config["learning_rate"], config["beta1"], config["beta2"]
    words = ("rate", "keep", "beta1", "rest1", "beta2", "rest2", "epsilon", "bias1", "bias2")
    parameter, gradient, *memory = (Argument(place) for place in range(4))
    *rates, b1, r1, b2, r2, epsilon, c1, c2 = (Argument(4 + place) for place in range(len(words)))
    first = apply("+", apply("*", b1, memory[0]), apply("*", r1, gradient))
    second = apply("+", apply("*", b2, memory[1]), apply("*", apply("*", r2, gradient), gradient))
    root = apply("+", apply("sqrt", apply("/", second, c2)), epsilon)
    trees = (_moved(parameter, apply("/", apply("/", first, c1), root), *rates), first, second)
    fixed = {"rate": rate, "keep": 1 - rate * config["weight_decay"], "epsilon": config["epsilon"]}
    fixed |= {"beta1": beta1, "rest1": 1 - beta1, "beta2": beta2, "rest2": 1 - beta2}

    def counted(count: int) -> Mapping[str, float]:
        return {"bias1": 1 - beta1**count, "bias2": 1 - beta2**count}

    return Schedule(Update(words, ("first", "second"), trees), fixed, counted)


def _moved(parameter: Tree, change: Tree, rate: Tree, keep: Tree) -> Tree:
    return apply("-", apply("*", keep, parameter), apply("*", rate, change))


SCHEDULES: Mapping[str, Callable[[Mapping[str, Any]], Schedule]] = {"sgd": _sgd, "adam": _adam}
"""Optimizers by the names in their `config`."""


LIMIT = "limit"
"""The number that is the largest joint norm of gradients."""


def schedule(config: Mapping[str, Any] | None, clip: float | None = None) -> Schedule | None:
    """The update of an optimizer with these settings; `None` if there is none. Without settings nothing is updated.

    Args:
        config: of the optimizer.
        clip: largest joint norm of the gradients that it gets, or `None`.
    """
    if config is None:
        return Schedule(Update(), {})
    make = SCHEDULES.get(config["name"])
    if make is None or clip is None:
        return None if make is None else make(config)
    plain = make(config)
    return replace(plain, update=replace(plain.update, clipped=True), fixed={**plain.fixed, LIMIT: clip})


def scale(square: Tree, limit: Tree) -> Tree:
    """The factor of gradients whose squares have this sum, such that their norm is within a limit.

    Source: Pascanu, Mikolov & Bengio 2013 (arXiv 1211.5063), algorithm 1.
    """
    norm = apply("sqrt", square)
    return apply("where", apply(">", norm, limit), apply("/", limit, norm), Number(1.0))

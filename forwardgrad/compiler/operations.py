"""How many operations does a parameter's influence take a step? Counted on the plan, before anything runs."""

from __future__ import annotations

from collections.abc import Callable

from forwardgrad.compiler.plan import Plan
from forwardgrad.structure import Structure


def flops(plan: Plan, name: str, numbers: Callable[[int], int]) -> int:
    """Floating-point operations of one step of one sample, with blocks of one step.

    Counted are the products and sums of carrying the influence (Jacobian x influence, per pair of stored places that
    one step connects), of injecting, and of reading the gradient off. What parameters share is not counted: the forward
    pass, and the sweeps that find the Jacobians.

    Args:
        plan: the derived algorithm.
        name: the parameter.
        numbers: how many numbers are carried on a place, per lag.
    """
    stored = set(plan.entries[name])
    held = {place: numbers(place) for place in stored}
    products = 2 * sum(held.values())  # injected, and read off
    for target in stored:
        for source in plan.one_step_before[target] & stored:
            seeds = plan.size(target) if plan.words[target][source] is Structure.FULL else 1
            products += seeds * held[source]
    return 2 * products

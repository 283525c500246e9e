"""How many operations does a parameter's influence take a step? Counted on the plan, before anything runs."""

from __future__ import annotations

from collections.abc import Callable

from forwardgrad.compiler.plan import Plan


def flops(plan: Plan, name: str, numbers: Callable[[int], int], products: Callable[[int, int], int]) -> int:
    """Floating-point operations of one step of one sample, with blocks of one step.

    Counted are the products and sums of carrying the influence (Jacobian x influence, per pair of stored places that
    one step connects), of injecting, and of reading the gradient off. What parameters share is not counted: the forward
    pass, and the sweeps that find the Jacobians.

    Args:
        plan: the derived algorithm.
        name: the parameter.
        numbers: how many numbers are carried on a place, per lag.
        products: how many multiplications carry the influence on a place (the second) over to another (the first).
    """
    stored = set(plan.entries[name])
    count = 2 * sum(numbers(place) for place in stored)  # injected, and read off
    for target in stored:
        count += sum(products(target, source) for source in plan.one_step_before[target] & stored)
    return 2 * count

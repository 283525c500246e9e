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
    stored = plan.entries[name]
    products = 0
    for target in stored:
        products += 2 * numbers(target)  # injected, and read off
        for source in _one_step_before(plan, target):
            if source in stored:
                seeds = plan.size(target) if plan.words[target][source] is Structure.FULL else 1
                products += seeds * numbers(source)
    return 2 * products


def _one_step_before(plan: Plan, target: int) -> set[int]:
    """The places from which one delayed arc and then instantaneous ones lead to a place."""
    entering = plan.product.entering
    found, queue, before = {target}, [target], set[int]()
    while queue:
        for arc in entering[queue.pop()]:
            if arc.delay:
                before.add(arc.source)
            elif arc.source not in found:
                found.add(arc.source)
                queue.append(arc.source)
    return before

"""What a program costs, and the refusal of what would cost more memory than it may."""

from __future__ import annotations

from collections.abc import Mapping

from forwardgrad.backends import State
from forwardgrad.backends.processes import machines
from forwardgrad.compiler import make_plan
from forwardgrad.explain.derivation import Derived
from forwardgrad.program import budget
from forwardgrad.program.cost import Cost, working_bytes
from forwardgrad.program.derived import derive
from forwardgrad.program.execution import Execution
from forwardgrad.rules.table import Rule
from forwardgrad.rules.table import rule as read_rule

AMPLE = 4
"""As many times the cost of blocks of one step are enough for each step of a block, with room to spare."""


def price(execution: Execution, derived: Mapping[str, Derived], batch: int, block: int, last: bool) -> Cost:
    """What a block stores and computes; after the last block of a sequence no influence is needed."""
    plan, dtype = execution.plan, execution.dtype
    influence = {name: batch * each.bytes for name, each in derived.items()}
    operations = {name: batch * each.flops for name, each in derived.items()}
    entries = sum(plan.network.history(name) * node.size for name, node in plan.network.nodes.items())
    working = working_bytes(plan, batch, block, dtype, last)
    return Cost(batch, block, influence, operations, entries * batch * dtype.itemsize, working)


def refuse_too_large(
    execution: Execution,
    derived: Mapping[str, Derived],
    rules: Mapping[str, Rule],
    block: tuple[int, int, bool],
    max_memory: int | str | None,
    held: State | None,
    what: str,
) -> None:
    """Raise `MemoryBudgetError` if a block costs more memory than it may.

    Args:
        execution, derived: the program.
        rules: the rule of each trainable parameter.
        block: its batch, its steps, and whether no block comes after it.
        max_memory: bytes that it may cost, also as a text; by default most of what is free.
        held: the state before it, where there is one already.
        what: names the call in the error.
    """
    limit = budget.usual() if max_memory is None else budget.size_of(max_memory)
    if limit is None:
        return
    limit *= machines() if max_memory is None and execution.devices is not None else 1
    limit += sum(array.nbytes for array in (held or {}).values())
    batch, steps, _ = block
    if steps > 1 and AMPLE * steps * price(execution, derived, batch, 1, False).total <= limit:
        return  # no need to find out exactly

    def under(rule: str) -> Cost:
        others = dict.fromkeys(rules, read_rule(rule))
        plan = make_plan(execution.plan.network, tuple(execution.losses), others)
        other = Execution(plan, execution.losses, execution.dtype, execution.backend, execution.devices)
        return price(other, derive(other, others), *block)

    names = {name: str(rule) for name, rule in rules.items()}

    def shorter(steps: int) -> Cost:
        return price(execution, derived, batch, steps, False)

    budget.hold(what, price(execution, derived, *block), limit, under, names, shorter)

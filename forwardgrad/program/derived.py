"""What was derived for each trained parameter."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType

from forwardgrad.backends import Devices
from forwardgrad.compiler.keys import influence_key
from forwardgrad.compiler.operations import flops
from forwardgrad.errors import RuleError
from forwardgrad.explain.derivation import Derived
from forwardgrad.program.execution import Execution
from forwardgrad.rules.table import Rule

MOST_LAGS = 2**17
"""The most lags at which influence may be carried, over all parameters: a block goes through them one by one."""


def derive(execution: Execution, rules: Mapping[str, Rule]) -> dict[str, Derived]:
    """What was derived for each trained parameter; raises `RuleError` if influence is carried at too many lags."""
    derived = {name: _derive(execution, name, rules[name]) for name in execution.plan.entries}
    lags = {name: sum(each.lags.values()) for name, each in derived.items()}
    if sum(lags.values()) > MOST_LAGS:
        name = max(lags, key=lags.__getitem__)
        raise RuleError(
            f"delays: influence would be carried at {sum(lags.values()):,} lags, more than {MOST_LAGS:,}; "
            f"at {lags[name]:,} of parameter {name!r}.",
            "Shorten the longest delay inside a recurrent layer, or take a rule that drops its credit.",
        )
    return derived


def _itemsize(execution: Execution, name: str, part: int | str, shape: tuple[int, ...]) -> int:
    """Bytes of an entry of what a parameter keeps, of shape `(lags, ...)`."""
    key = influence_key(execution.plan, name, part)
    return (execution.devices or Devices()).itemsize(key, (shape[0], 1, *shape[1:]), execution.dtype)


def _derive(execution: Execution, name: str, rule: Rule) -> Derived:
    plan, traces = execution.plan, execution.engine.traces[name]
    shapes = {part: shape for part, shape in traces.shapes().items() if isinstance(part, int)}
    places = plan.product.places
    labels = {place: f"{places[place].node} ({places[place].label})" for place in shapes}
    return Derived(
        parameter=name,
        rule=rule,
        layouts=MappingProxyType({labels[place]: plan.layouts[name, place] for place in shapes}),
        shapes=MappingProxyType({labels[place]: shape[1:] for place, shape in shapes.items()}),
        lags=MappingProxyType({labels[place]: shape[0] for place, shape in shapes.items()}),
        exact=not plan.dropped[name] and not plan.reasons[name],
        dropped=plan.dropped[name],
        reasons=plan.reasons[name],
        bytes=sum(prod(shape) * _itemsize(execution, name, part, shape) for part, shape in traces.shapes().items()),
        flops=flops(plan, name, traces.carried, traces.products),
        plan=plan,
    )

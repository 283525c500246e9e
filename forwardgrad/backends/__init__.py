"""Backends: how a plan is executed. The interpreter defines the semantics; generated source does the same faster."""

from collections.abc import Callable
from typing import Any

from forwardgrad.backends.engine import Engine, State
from forwardgrad.backends.generated import Generated
from forwardgrad.backends.interpreted import Interpreted
from forwardgrad.compiler import Plan

BACKENDS = {"numpy": Generated, "interpreter": Interpreted}
"""The backends by name."""


def _lowered(plan: Plan, dtype: Any) -> Engine:
    from forwardgrad.backends.lowered import LoweredEngine  # with all that makes array programs

    return LoweredEngine(plan, dtype)


ENGINES: dict[str, Callable[[Plan, Any], Engine]] = {**BACKENDS, "array-program": _lowered}
"""These, and one that is not for users yet: array programs know no lossy layouts, and are slower."""

__all__ = ["BACKENDS", "ENGINES", "Engine", "Generated", "Interpreted", "State"]

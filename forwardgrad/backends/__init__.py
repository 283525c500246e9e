"""Backends: how a plan is executed. The interpreter defines the semantics; printed NumPy does the same faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forwardgrad.array_program.lowering.extent import is_small
from forwardgrad.backends.engine import Engine, State
from forwardgrad.backends.interpreted import Interpreted
from forwardgrad.backends.lowered import LoweredEngine
from forwardgrad.compiler import Plan


def _numpy(plan: Plan, dtype: Any) -> Engine:
    """Printed NumPy, unless it would be too much to write."""
    return LoweredEngine(plan, dtype) if is_small(plan) else Interpreted(plan, dtype)


def _jax(plan: Plan, dtype: Any) -> Engine:
    """JAX, which is imported when it is first asked for."""
    from forwardgrad.backends.jax_engine import JaxEngine

    return JaxEngine(plan, dtype)


def _c(plan: Plan, dtype: Any) -> Engine:
    """C, for which the machine's compiler is looked for when it is first asked for."""
    from forwardgrad.backends.c_engine import CEngine

    return CEngine(plan, dtype)


BACKENDS: dict[str, Callable[[Plan, Any], Engine]] = {"numpy": _numpy, "interpreter": Interpreted, "jax": _jax, "c": _c}
"""The backends by name."""

__all__ = ["BACKENDS", "Engine", "Interpreted", "LoweredEngine", "State"]

"""Backends: how a plan is executed. The interpreter defines the semantics; printed NumPy does the same faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forwardgrad.array_program.lowering.extent import is_small
from forwardgrad.backends.devices import Devices
from forwardgrad.backends.engine import Engine, State
from forwardgrad.backends.interpreted import Interpreted
from forwardgrad.backends.lowered import LoweredEngine
from forwardgrad.backends.sharded_arrays import ShardedArray
from forwardgrad.compiler import Plan
from forwardgrad.errors import DataError


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


def engine(backend: str, plan: Plan, dtype: Any, devices: Devices | None = None) -> Engine:
    """The engine of a backend, on one device or on a grid of them; raises `DataError` where it runs on one only."""
    if devices is None:
        return BACKENDS[backend](plan, dtype)
    if backend != "jax" and devices.traces:
        raise DataError(
            f"traces: the backend {backend!r} has no numbers of two bytes; it keeps influence in the program's dtype.",
            f"Take backend='jax' for traces={devices.traces!r}.",
        )
    if backend != "jax":
        raise DataError(f"devices: the backend {backend!r} runs on one.", "Take backend='jax' for many.")
    from forwardgrad.backends.jax_devices import DevicesEngine

    return DevicesEngine(plan, dtype, devices)


__all__ = ["BACKENDS", "Devices", "Engine", "Interpreted", "LoweredEngine", "ShardedArray", "State", "engine"]

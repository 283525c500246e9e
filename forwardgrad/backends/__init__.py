"""Backends: how a plan is executed. The interpreter defines the semantics; generated source does the same faster."""

from forwardgrad.backends.engine import Engine, State
from forwardgrad.backends.generated import Generated
from forwardgrad.backends.interpreted import Interpreted

BACKENDS = {"numpy": Generated, "interpreter": Interpreted}
"""The backends by name."""

__all__ = ["BACKENDS", "Engine", "Generated", "Interpreted", "State"]

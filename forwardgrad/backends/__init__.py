"""Backends: how a plan is executed. The interpreter defines the semantics."""

from forwardgrad.backends.interpreter import Interpreter, Memory

__all__ = ["Interpreter", "Memory"]

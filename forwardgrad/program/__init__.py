"""What a user holds after compiling: a `Program`, what it gives, and how its blocks are executed."""

from forwardgrad.backends import State
from forwardgrad.program.execution import Step
from forwardgrad.program.program import Program
from forwardgrad.program.sequence import Result

__all__ = ["Program", "Result", "State", "Step"]

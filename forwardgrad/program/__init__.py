"""What a user holds after compiling: a `Program`, what it gives, and how its blocks are executed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forwardgrad.backends import State
    from forwardgrad.program.execution import Prediction, Step
    from forwardgrad.program.program import Program
    from forwardgrad.program.sequence import Result
    from forwardgrad.program.stream import Stream, StreamStep
else:  # its modules are read one by one by those that it is made of
    from forwardgrad.support.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "execution": ["Prediction", "State", "Step"],
            "program": ["Program"],
            "sequence": ["Result"],
            "stream": ["Stream", "StreamStep"],
        },
    )

__all__ = ["Prediction", "Program", "Result", "State", "Step", "Stream", "StreamStep"]

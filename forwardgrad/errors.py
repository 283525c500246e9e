"""Which errors do users see, and how do they read?

Every error of the library is a `ForwardgradError`. Its message has one headline (what was being done, with the
user's own names), then indented lines: what was expected, and one suggestion.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ForwardgradError(Exception):
    """Base class of all errors raised on purpose by forwardgrad.

    Args:
        headline: what was being done, to which node or edge, and what is wrong with it.
        details: further lines, printed indented: what was expected, what to do.

    >>> print(GraphError("node 'h': size must be positive, got 0.", "Give a whole number of units."))
    node 'h': size must be positive, got 0.
      Give a whole number of units.
    """

    def __init__(self, headline: str, *details: str) -> None:
        super().__init__("\n  ".join([headline, *(line for line in details if line)]))


class GraphError(ForwardgradError, ValueError):
    """A declared graph, a cell or one of their attributes is malformed."""


class OpError(ForwardgradError, ValueError):
    """An op is registered wrongly or returns what it must not."""


class RuleError(ForwardgradError, ValueError):
    """A learning rule is unknown, malformed or cannot serve this graph."""


class DataError(ForwardgradError, ValueError):
    """Arrays given at run time (inputs, targets, masks, parameters, states) do not fit the program."""


class ProcessError(ForwardgradError, RuntimeError):
    """Of several processes that run a program together, one has ended, or cannot be reached."""


class NonFiniteError(DataError, ArithmeticError):
    """A value, an influence, a gradient or an updated parameter overflowed or is not a number.

    What was before the block is as it was.

    Args:
        what: the first that did, in the user's own names, such as `the value of node 'h'`.
        how: what became of it.
        step: at which, counted from 0 at the beginning of the sequence, or of a learner's stream.

    >>> print(NonFiniteError("the value of node 'h'", "is not finite: inf at index (0, 2)", 37).later(100))
    step 137: the value of node 'h' is not finite: inf at index (0, 2).
      The run has diverged: try a lower learning rate, smaller weights, or clip gradients by their norm.
    """

    def __init__(self, what: str, how: str, step: int) -> None:
        super().__init__(
            f"step {step}: {what} {how}.",
            "The run has diverged: try a lower learning rate, smaller weights, or clip gradients by their norm.",
        )
        self.what, self.how, self.step = what, how, step

    def __reduce__(self) -> tuple[type[NonFiniteError], tuple[str, str, int]]:
        return NonFiniteError, (self.what, self.how, self.step)

    def later(self, steps: int) -> NonFiniteError:
        """The same, that many steps later."""
        return NonFiniteError(self.what, self.how, self.step + steps)


class MemoryBudgetError(ForwardgradError, MemoryError):
    """A program takes more memory than it may, or than there is; what was handed over is as it was."""


class FileError(ForwardgradError, ValueError):
    """A file cannot be read or written."""


class RenderError(ForwardgradError, RuntimeError):
    """A picture cannot be drawn."""


class MissingExtraError(ForwardgradError, ImportError):
    """An optional dependency is not installed."""


class CompilerError(ForwardgradError, RuntimeError):
    """The machine's C compiler does not work, or what it compiled cannot be loaded."""


class CheckError(ForwardgradError, AssertionError):
    """A property that `forwardgrad.testing` asserts does not hold."""


class VacuousError(ForwardgradError, AssertionError):
    """A check of `forwardgrad.testing` would have passed whatever the program does: it had nothing to compare.

    Args:
        kind: which emptiness it is, a word of `forwardgrad.testing.Vacuity`.
        headline, details: as for every error.

    >>> VacuousError("one block", "one block of 4 steps is the whole sequence.").kind
    'one block'
    """

    def __init__(self, kind: str, headline: str, *details: str) -> None:
        super().__init__(headline, *details)
        self.kind = kind


class DeadParameterWarning(UserWarning):
    """A trainable parameter has no kept path to any loss; its gradient is zero."""


class MergedLayersWarning(UserWarning):
    """A delayed edge back from a later layer makes one recurrent layer of two, and a rule stores less because of it."""


class UnverifiedWarning(UserWarning):
    """`compile(verify=True)` could not compare all that a program decided; the message says what it left out."""


class NonFiniteWarning(RuntimeWarning):
    """A block of a stream overflowed; the learner did not learn from it, and went on."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A line that suggests the nearest known word, and lists the known ones where they are few.

    >>> did_you_mean("tahn", ["tanh", "relu"])
    "Did you mean 'tanh'? Known: relu, tanh."
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(word)[:100], names, n=1)
    question = f"Did you mean {near[0]!r}? " if near else ""
    listing = f"Known: {', '.join(names)}." if names and len(names) <= 30 else ""
    return (question + listing).strip()

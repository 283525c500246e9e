"""What is a layout? How influence is kept between blocks, as one registration."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from forwardgrad.errors import RuleError
from forwardgrad.layouts.traces import Planned, Traces


@dataclass(frozen=True)
class Argument:
    """The number in brackets after a layout's name.

    Args:
        name: how it is called: `n` in `snap(n)`.
        example: a legal value, a whole number where the argument must be one.
        legal: whether a value is.
        condition: the same in words: `n >= 1`.
    """

    name: str
    example: int | float
    legal: Callable[[Any], bool] = lambda _: True
    condition: str = ""

    @property
    def whole(self) -> bool:
        """Whether it is a whole number."""
        return isinstance(self.example, Integral)

    def allows(self, value: Any) -> bool:
        """Whether a value is legal; one at which `legal` fails is not."""
        try:
            return abs(value) < MOST and bool(self.legal(value))
        except Exception:  # a function of a user's: 1 / n > 2, say, at 0
            return False


@dataclass(frozen=True)
class Layout:
    """How influence is kept between blocks.

    Args:
        name: the word by which rules ask for it.
        traces: makes what holds one parameter's influence, from a derived algorithm, the parameter's name and a dtype.
        keeps: what it keeps, in one line.
        source: where it comes from.
        compression: what becomes of influence at the end of a block, given the argument; for the equations.
        argument: the number in brackets, if it takes one.
        lossless: whether the gradient is that of the rule's paths, at every block length.
        random: whether it draws at random, and so has a seed and counts what it draws.
        as_spelled: whether its gradient changes where delays are spelled differently.
        by_synapse: whether synapses that share an entry of the parameter are kept apart in what is stored in full.
    """

    name: str
    traces: Callable[[Planned, str, Any], Traces]
    keeps: str
    source: str
    compression: Callable[[Any], str] = lambda _: ""
    argument: Argument | None = None
    lossless: bool = False
    random: bool = False
    as_spelled: bool = False
    by_synapse: bool = False

    @property
    def form(self) -> str:
        """How it is written, with the name of its argument."""
        return self.text(self.argument.name if self.argument else None)

    @property
    def example(self) -> str:
        """How it is written, with an argument."""
        return self.text(self.argument.example if self.argument else None)

    def text(self, argument: Any) -> str:
        """How it is written with an argument."""
        return self.name if argument is None else f"{self.name}({argument})"

    def read(self, given: str | None) -> Any:
        """The argument, from the text in brackets.

        Raises:
            RuleError: if it is missing, superfluous, or not legal.
        """
        wanted, value = self.argument, None
        if wanted is None and given is None:
            return None
        if wanted is not None and given is not None:
            with contextlib.suppress(ValueError):
                value = int(given) if wanted.whole else float(given)
        if wanted is None or value is None or not wanted.allows(value):
            condition = f" with {wanted.condition}" if wanted is not None and wanted.condition else ""
            hint = "" if wanted is None else f"Such as {self.example}."
            raise RuleError(f"layout {self.text(given)!r}: write {self.form}{condition}.", hint)
        return value


MOST = 10**9
"""What an argument is smaller than."""

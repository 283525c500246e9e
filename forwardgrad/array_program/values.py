"""Values: named arrays with a dtype and dimensions, each of them defined once; and the error of a wrong program."""

from __future__ import annotations

from typing import NamedTuple

from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.errors import ForwardgradError

Dimensions = tuple[Affine, ...]

UNNAMED = "%"
"""How the name of a value begins that has none in the user's words: it is printed where it is used."""


class ArrayProgramError(ForwardgradError):
    """An array program is not well formed. This is a defect of the compiler, not of the graph."""


class Misfit(ArrayProgramError):
    """An instruction does not fit what it stands among; the checker adds where that is."""


class Type(NamedTuple):
    """A dtype (`float`, which is the program's own, `int` or `bool`) and dimensions.

    >>> print(floats("steps", "batch", 3))
    [steps batch 3]
    """

    dtype: str
    dims: Dimensions

    def __str__(self) -> str:
        words = [str(dim) if " " not in str(dim) else f"({dim})" for dim in self.dims]
        return f"{'' if self.dtype == 'float' else self.dtype}[{' '.join(words)}]"


def floats(*dims: Affine | int | str) -> Type:
    """The type of an array of the program's dtype."""
    return Type("float", tuple(map(affine, dims)))


class Value(NamedTuple):
    """An array of a program, known by its name.

    Args:
        name: unique in its function.
        type: its dtype and dimensions.
    """

    name: str
    type: Type

    @property
    def dims(self) -> Dimensions:
        """Its dimensions."""
        return self.type.dims

    @property
    def unnamed(self) -> bool:
        """Whether it has no name in the user's words."""
        return self.name.startswith(UNNAMED)

    def __str__(self) -> str:
        return self.name

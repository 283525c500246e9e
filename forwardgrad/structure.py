"""Which shape can a Jacobian have, and what becomes of it in products and sums?

A structure word bounds a Jacobian between two nodes: `zero < scalar < diagonal < full`. `scalar` is a number per
sample times the identity, `diagonal` is elementwise, `full` mixes units. The words form a chain, so that products and
sums of Jacobians stay inside it.
"""

from __future__ import annotations

from enum import IntEnum


class Structure(IntEnum):
    """A structure word; the order is that of inclusion.

    >>> Structure.of("diagonal") < Structure.FULL
    True
    """

    ZERO = 0
    SCALAR = 1
    DIAGONAL = 2
    FULL = 3

    @staticmethod
    def of(word: str | Structure) -> Structure:
        """The structure of that name; raises `ValueError` for an unknown one."""
        if isinstance(word, Structure):
            return word
        try:
            return Structure[word.upper()]
        except KeyError:
            raise ValueError(f"unknown structure word {word!r}; known: zero, scalar, diagonal, full") from None

    def __str__(self) -> str:
        return self.name.lower()


def compose(outer: Structure, inner: Structure) -> Structure:
    """The structure of a product of two Jacobians.

    >>> str(compose(Structure.SCALAR, Structure.DIAGONAL)), str(compose(Structure.ZERO, Structure.FULL))
    ('diagonal', 'zero')
    """
    if Structure.ZERO in (outer, inner):
        return Structure.ZERO
    return max(outer, inner)


def join(*words: Structure) -> Structure:
    """The structure of a sum of Jacobians; an empty sum is `zero`.

    >>> str(join(Structure.SCALAR, Structure.DIAGONAL)), str(join())
    ('diagonal', 'zero')
    """
    return max(words, default=Structure.ZERO)

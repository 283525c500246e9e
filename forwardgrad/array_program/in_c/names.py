"""Names in C: identifiers that are neither words of C nor macros, and comments that nothing ends early."""

from __future__ import annotations

import re
import textwrap

LONGEST = 40
"""Characters of a word that are kept."""


def identifier(kind: str, number: int, words: str) -> str:
    """An identifier: what it is, a number that nothing else of that kind has, and words for the reader.

    >>> identifier("v", 3, "l1_h"), identifier("v", 4, "*/ int main")
    ('v3_l1_h', 'v4_int_main')
    """
    word = re.sub(r"\W+", "_", words, flags=re.ASCII).strip("_")[:LONGEST]
    return f"{kind}{number}_{word}" if word else f"{kind}{number}"


def comment(text: str, margin: str = "") -> list[str]:
    """The lines of a comment. What could end it, continue a line or be a trigraph is taken out.

    >>> comment("The value of h*/ + 1.")
    ['/* The value of h / + 1. */']
    """
    lines = [re.sub(r"[^\w .,:;()\[\]<>=+'/-]", " ", line, flags=re.ASCII) for line in text.splitlines()]
    wrapped = [part for line in lines for part in textwrap.wrap(line, 110 - len(margin))] or [""]
    return [
        f"{margin}{'/* ' if place == 0 else '   '}{line}{' */' if place == len(wrapped) - 1 else ''}"
        for place, line in enumerate(wrapped)
    ]

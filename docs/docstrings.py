"""How docstrings are read for the API reference: examples become blocks of code, and shared items are split."""

from __future__ import annotations

import re
from typing import Any

import griffe

SHARED = re.compile(r"^( +)(\w+(?:, \w+)+):( .*(?:\n\1 +\S.*)*)", re.MULTILINE)
"""An item of Args that describes several arguments, such as `mean, deviation: of those samples.`"""


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(split(obj.docstring.value))


def split(text: str) -> str:
    """One item for each argument, of those that share one.

    >>> split("Args:\\n    a, b: numbers.").split("\\n")
    ['Args:', '    a: numbers.', '    b: numbers.']
    """
    return SHARED.sub(lambda item: "\n".join(f"{item[1]}{name}:{item[3]}" for name in item[2].split(", ")), text)


def fenced(text: str) -> str:
    """Doctest examples as fenced blocks, which Markdown would take for quotations.

    >>> fenced("Text.\\n\\n>>> 1 + 1\\n2").split("\\n")
    ['Text.', '', '```pycon', '>>> 1 + 1', '2', '```']
    """
    lines: list[str] = []
    inside = False
    for line in text.split("\n"):
        if not inside and line.startswith(">>> "):
            lines.append("```pycon")
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        lines.append(line)
    return "\n".join(lines + ["```"] * inside)

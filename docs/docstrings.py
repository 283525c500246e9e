"""How docstrings are read for the API reference: examples become blocks of code, and shared lines are split."""

from __future__ import annotations

import re
from typing import Any

import griffe

SHARED = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+):(?= )", re.MULTILINE)
"""A line of Args that describes several arguments, such as `mean, deviation: of those samples.`"""


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(split(obj.docstring.value))


def split(text: str) -> str:
    """One line for each argument, the second and later ones referring to the first.

    >>> print(split("Args:\\n    a, b: numbers."))
    Args:
        a: numbers.
        b: see `a`.
    """
    lines: list[str] = []
    pending: list[str] = []
    for line in text.split("\n"):
        shared = SHARED.match(line)
        if pending and (not line.strip() or shared or re.match(r"^ {0,4}\S", line)):
            lines += pending
            pending = []
        if shared:
            first, *others = shared["names"].split(", ")
            pending = [f"{shared['indent']}{name}: see `{first}`." for name in others]
            line = f"{shared['indent']}{first}:{line[shared.end() :]}"
        lines.append(line)
    return "\n".join(lines + pending)


def fenced(text: str) -> str:
    """Doctest examples as fenced blocks, which Markdown would take for quotations.

    >>> print(fenced("Text.\\n\\n>>> 1 + 1\\n2").replace("```", "~~~"))
    Text.
    <BLANKLINE>
    ~~~pycon
    >>> 1 + 1
    2
    ~~~
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

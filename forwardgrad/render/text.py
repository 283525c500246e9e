r"""How is a name that anybody chose drawn as text, and as nothing but text?

Graphviz reads labels in three layers: quoting of the DOT language, backslash escapes (`\N` is the node's name), and
HTML entities (`&lt;` is drawn as `<`). Labels are escaped for all three and are never HTML-like, since engines drop
those, or blank their neighbours, without a word. Characters that cannot be seen are drawn as Python writes them.
"""

from __future__ import annotations

import graphviz

LIMIT = 60
"""Characters of a name that are drawn; the rest becomes an ellipsis."""


def shorten(text: str, limit: int = LIMIT) -> str:
    """The text, its end replaced by an ellipsis where it is longer than the limit.

    >>> shorten("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= limit else text[: limit - 1] + "…"


def plain(text: str, limit: int = LIMIT) -> str:
    r"""Escape one line of untrusted text for use in a label or a tooltip.

    >>> print(plain('a\n"b" <c> \\N &lt;'))
    a\\n"b" <c> \\N &amp;lt;
    """
    seen = "".join(c if c.isprintable() else repr(c)[1:-1] for c in shorten(text, limit))
    return seen.replace("\\", "\\\\").replace("&", "&amp;")


def lines(*texts: str, limit: int = LIMIT) -> str:
    r"""A label of several lines; empty ones are left out.

    >>> print(lines("h", "", "tanh"))
    h\ntanh
    """
    return graphviz.nohtml("\\n".join(plain(text, limit) for text in texts if text))


def power(delay: int) -> str:
    """A delay as the power of the unit delay.

    >>> power(1), power(12)
    ('z⁻¹', 'z⁻¹²')
    """
    return "z⁻" + str(delay).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def count(number: int, word: str) -> str:
    """A number and its word.

    >>> count(1, "edge"), count(3, "edge")
    ('1 edge', '3 edges')
    """
    return f"{number} {word}" if number == 1 else f"{number} {word}s"

"""What plots are made with, and text of anybody's choice that is drawn as text and as nothing but text."""

from __future__ import annotations

import io
from typing import Any

from forwardgrad.errors import MissingExtraError


def matplotlib(what: str) -> tuple[Any, Any]:
    """What makes a figure, and what prints one as PNG to a buffer.

    Args:
        what: the picture that is to be drawn, as an error names it.

    Raises:
        MissingExtraError: without the extra `plot`.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(f'{what} needs matplotlib: pip install "forwardgrad[plot]"') from error

    def print_png(figure: Any, buffer: io.BytesIO) -> None:
        FigureCanvasAgg(figure).print_png(buffer)

    return Figure, print_png


def literal(text: str) -> str:
    r"""A text that matplotlib draws letter by letter.

    What stands between two dollars would be read as mathematics, and a label that begins with an underscore would be
    left out of legends. What cannot be seen is drawn as Python writes it.

    >>> literal("a$b$"), literal("_hidden"), literal("two\nlines")
    ('a\\$b\\$', ' _hidden', 'two\\nlines')
    """
    seen = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return (" " if seen.startswith("_") else "") + seen.replace("$", r"\$")

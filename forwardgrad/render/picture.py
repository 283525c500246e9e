"""A picture: DOT text that a notebook shows, drawn by whichever engine is there."""

from __future__ import annotations

from typing import Any

import graphviz

from forwardgrad.errors import RenderError
from forwardgrad.render import engines


class Picture(graphviz.Digraph):
    """DOT text under `source`; notebooks show it through our own engines, so that no `dot` needs to be installed."""

    def svg(self, timeout: float = engines.TIMEOUT) -> str:
        """The picture as SVG; raises `RenderError` if no engine can draw it."""
        return engines.render(self.source, "svg", timeout=timeout).decode("utf-8", "replace")

    def __repr__(self) -> str:
        return f"Picture({len(self.body)} lines of DOT; .source, .svg(), or render.write(picture, 'NAME.svg'))"

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **_: Any) -> dict[str, bytes | str]:
        """What a notebook shows: the picture, or the reason why there is none."""
        try:
            found: dict[str, bytes | str] = {"image/svg+xml": self.svg(), "text/plain": repr(self)}
        except RenderError as error:
            found = {"text/plain": f"{self!r}\n{error}"}
        kept = {kind: shown for kind, shown in found.items() if include is None or kind in include}
        return {kind: shown for kind, shown in kept.items() if exclude is None or kind not in exclude}

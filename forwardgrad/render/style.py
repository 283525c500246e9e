"""Which colours, lines and fonts mean what, in every picture?"""

from __future__ import annotations

from collections.abc import Sequence

import graphviz

from forwardgrad.render.picture import Picture
from forwardgrad.render.text import lines

INK = "#24292f"
"""A trained weight of this step."""

FIXED = "#7a838d"
"""A weight that is not trained."""

DELAYED = "#0550ae"
"""A trained weight that reads an earlier step."""

STATE_GROUND = "#ddeaf9"
"""Ground of a node whose own past is read back."""

SHARED = ("#d55e00", "#009e73", "#cc79a7", "#b8860b", "#7b3fa0", "#a40e26")
"""One colour per shared parameter, in turn; most of them tell apart also for the colour-blind (Okabe & Ito 2008)."""

DELAYED_NOTE = "dashed: reads an earlier step"
STATE_NOTE = "blue ground: holds a state"
FIXED_NOTE = "grey: not trained"
SHARED_NOTE = "other colours: one shared parameter each"

_FONT = "Helvetica,Arial,sans-serif"


def canvas(title: str | None, notes: Sequence[str]) -> Picture:
    """An empty drawing with a title and a legend under it."""
    drawing = Picture("forwardgrad")
    texts = (lines(title or "", limit=120), lines("  ·  ".join(note for note in notes if note), limit=400))
    drawing.attr(
        "graph",
        rankdir="LR",
        fontname=_FONT,
        fontsize="11",
        fontcolor="#57606a",
        label=graphviz.nohtml("".join(f"{text}\\l" for text in texts if text)),
        labelloc="b",
        labeljust="l",
        nodesep="0.35",
        ranksep="0.45",
        tooltip="forwardgrad",
    )
    drawing.attr("node", fontname=_FONT, fontsize="11", color=INK, fontcolor=INK, fillcolor="white", style="filled")
    drawing.attr("edge", fontname=_FONT, fontsize="9", color=INK, fontcolor=INK, arrowsize="0.7")
    return drawing


def cluster(label: str, identity: str) -> dict[str, str]:
    """The attributes of a layer's frame."""
    return {
        "label": label,
        "id": identity,
        "tooltip": label,
        "color": "#d0d7de",
        "fontcolor": "#57606a",
        "style": "rounded",
        "labelloc": "t",
        "labeljust": "l",
    }


def edge(*, delayed: bool, trained: bool, shared: int | None = None) -> dict[str, str]:
    """The attributes of an edge; `shared` counts the shared parameters."""
    color = INK
    if delayed:
        color = DELAYED
    if not trained:
        color = FIXED
    if shared is not None:
        color = SHARED[shared % len(SHARED)]
    return {"color": color, "fontcolor": color, **({"style": "dashed"} if delayed else {})}


def connect(drawing: graphviz.Digraph, source: str, target: str, *, back: bool, **attributes: str) -> None:
    """Draw an arrow from source to target; `back` tells the layout that it closes a loop.

    Such an arrow is written from its head to its tail, with `dir=back`. It looks the same, but the layout then sees
    no loops, so that ranks follow the instant edges. (The other way, `constraint=false`, keeps it out of the ordering
    that avoids crossings, and the recurrent edges of gated cells become unreadable.)
    """
    if back and source != target:
        drawing.edge(target, source, dir="back", **attributes)
    else:
        drawing.edge(source, target, **attributes)

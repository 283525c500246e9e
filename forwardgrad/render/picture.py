"""A picture: nodes, edges and a legend, as DOT text, and drawn by whichever engine is there.

Every picture of a network is laid out by one *skeleton*, the same nodes and edges with the room that labels of any kind
of picture need. So a node has one place in all of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import graphviz

from forwardgrad.errors import RenderError
from forwardgrad.render import engines, layout, style
from forwardgrad.render.style import Key, Line
from forwardgrad.render.text import lines
from forwardgrad.support import atomic


@dataclass(frozen=True)
class _Node:
    identity: str
    frame: str | None
    attributes: Mapping[str, str]
    slot: Mapping[str, str]


@dataclass(frozen=True)
class _Edge:
    identity: str
    ends: tuple[str, str]
    attributes: Mapping[str, str]
    slot: Mapping[str, str] | None
    twin: int = 0
    hidden: bool = False


class Picture:
    """What `render.graph` and its relatives return. A notebook shows it as it is.

    Attributes:
        source: DOT text, for any Graphviz. Equal pictures have equal text.

    Args:
        title: a line under the picture.
        legend: what its lines and shapes mean.
        spacing: attributes of the layout that differ from the usual ones.
    """

    def __init__(self, title: str | None, legend: Sequence[Key], **spacing: str) -> None:
        self.title, self.legend = title or "", tuple(legend)
        self._spacing = {"rankdir": "LR", "nodesep": "0.3", "ranksep": "0.4", **spacing}
        self._frames: dict[str, Mapping[str, str]] = {}
        self._nodes: list[_Node] = []
        self._edges: list[_Edge] = []
        self._columns: list[list[str]] = []

    def frame(self, identity: str, label: str) -> None:
        """Add the frame of a layer."""
        self._frames[identity] = {"label": label, "id": identity, "tooltip": label}

    def node(self, identity: str, label: str, slot: str = "", frame: str | None = None, **attributes: str) -> None:
        """Add a node.

        Args:
            identity: its name and id.
            label: what is written on it.
            slot: a label that takes the room which is left for it; by default its own.
            frame: the frame in which it stands.
            attributes: of DOT.
        """
        look = {"label": label, "id": identity, **attributes}
        if look.get("shape") == "plaintext":
            look["class"] = f"bare {look.get('class', '')}".strip()
        room = {
            "label": slot or label,
            **{key: look[key] for key in ("shape", "fontsize", "width", "height") if key in look},
        }
        self._nodes.append(_Node(identity, frame, look, room))

    def edge(
        self,
        source: str,
        target: str,
        line: Line,
        *,
        identity: str = "",
        label: str = "",
        slot: str = "",
        back: bool = False,
        twin: int = 0,
        **attributes: str,
    ) -> None:
        """Add an edge.

        Args:
            source, target: where it begins and ends.
            line: its look.
            identity: its id.
            label: what is written on it.
            slot: a label that takes the room which is left for it; by default its own.
            back: whether it closes a loop. It is then written from its target to its source with `dir=back`: it looks
                the same, but the layout sees no loops, so that ranks follow the instant edges.
            twin: counts the edges that are drawn beside the one with the same ends and id before them.
            attributes: of DOT.
        """
        back = back and source != target
        hints = {key: value for key, value in attributes.items() if key == "constraint"}
        room = {"label": slot or label, "id": identity, **({"dir": "back"} if back else {}), **hints}
        head, tail = ("arrowtail", "arrowhead") if back else ("arrowhead", "arrowtail")
        arrows = {head: line.tip} if line.tip != "normal" else {}
        if line.root:
            arrows |= {tail: line.root, "dir": "both"} | ({head: line.tip} if back else {})
        look = {"label": label, "id": identity, **line.attributes, **({"dir": "back"} if back else {}), **arrows}
        look["id"] = f"{identity}_{twin}" if twin else identity
        ends = (target, source) if back else (source, target)
        self._edges.append(_Edge(identity, ends, {**look, **attributes}, None if twin else room, twin))

    def hint(self, above: str, below: str, **attributes: str) -> None:
        """Add an edge that is not drawn, for the layout alone."""
        room = {"style": "invis", **attributes}
        self._edges.append(_Edge("", (above, below), {"style": "invis"}, room, hidden=True))

    def column(self, identities: Sequence[str]) -> None:
        """Nodes of one column."""
        self._columns.append(list(identities))

    @property
    def source(self) -> str:
        """DOT text that any Graphviz lays out; nodes may then stand elsewhere than in other pictures of the network."""
        drawing = self._canvas()
        texts = [lines(self.title, limit=120), *(lines(str(key), limit=400) for key in self.legend)]
        label = graphviz.nohtml("".join(f"{text}\\l" for text in texts if text))
        drawing.attr("graph", label=label, labelloc="b", labeljust="l", **self._spacing)
        self._compose(drawing, [(node.identity, node.frame, node.attributes) for node in self._nodes], self._columns)
        for edge in self._edges:
            drawing.edge(*edge.ends, **{**((edge.slot or {}) if edge.hidden else {}), **edge.attributes})
        return drawing.source

    def skeleton(self) -> str:
        """DOT text with only what the layout depends on."""
        drawing = self._canvas()
        drawing.attr("graph", **self._spacing)
        self._compose(drawing, [(node.identity, node.frame, node.slot) for node in self._nodes], self._columns)
        for edge in self._edges:
            if edge.slot is not None:
                drawing.edge(*edge.ends, **edge.slot)
        return drawing.source

    def _placed(self, timeout: float, legend: bool) -> str:
        """DOT text with a place for everything."""
        found = layout.laid_out(self.skeleton(), timeout)
        drawing = self._canvas()
        for identity, attributes in self._frames.items():
            for row, where in enumerate(found.frames.get(identity, ())):
                frame = graphviz.Digraph(f"cluster_{identity}_{row}")
                frame.attr("graph", **_FRAME, **attributes, **where)
                drawing.subgraph(frame)
        for node in self._nodes:
            drawing.node(node.identity, **{**node.attributes, **found.node(node.identity, node.attributes)})
        for edge in self._edges:
            if not edge.hidden:
                for attributes in found.edge(edge.identity, edge.twin, edge.attributes):
                    drawing.edge(*edge.ends, **{**edge.attributes, **attributes})
        if legend:
            layout.add_legend(drawing, found, self.title, self.legend)
        return drawing.source

    def _canvas(self) -> graphviz.Digraph:
        drawing = graphviz.Digraph("forwardgrad")
        ink = style.LIGHT["ink"]
        about = {"fontname": style.FONT, "fontsize": "11", "fontcolor": style.LIGHT["soft"], "tooltip": "forwardgrad"}
        drawing.attr("graph", **about, **{"class": style.SCOPE})
        drawing.attr(
            "node", fontname=style.FONT, fontsize="11", color=ink, fontcolor=ink, fillcolor="white", style="filled"
        )
        drawing.attr("edge", fontname=style.FONT, fontsize="9", color=ink, fontcolor=ink, arrowsize="0.7")
        return drawing

    def _compose(
        self,
        drawing: graphviz.Digraph,
        nodes: Sequence[tuple[str, str | None, Mapping[str, str]]],
        columns: Sequence[Sequence[str]],
    ) -> None:
        for number, (identity, attributes) in enumerate(self._frames.items()):
            frame = graphviz.Digraph(f"cluster_{number}")
            frame.attr("graph", **_FRAME, **attributes)
            for name, of, look in nodes:
                if of == identity:
                    frame.node(name, **look)
            drawing.subgraph(frame)
        for name, of, look in nodes:
            if of is None:
                drawing.node(name, **look)
        for number, names in enumerate(columns):
            column = graphviz.Digraph(f"column_{number}")
            column.attr("graph", rank="same")
            for name in names:
                column.node(name)
            drawing.subgraph(column)

    def render(self, format: str, timeout: float = engines.TIMEOUT, *, legend: bool = True) -> bytes:
        """The picture in a format.

        Args:
            format: `svg`, `png` or `pdf`.
            timeout: seconds that each of layout and drawing may take.
            legend: whether to draw title and legend.

        Raises:
            RenderError: if no engine can draw it.
        """
        drawn = engines.render(self._placed(timeout, legend), format, timeout=timeout, placed=True)
        return _styled(drawn) if format == "svg" else drawn

    def svg(self, timeout: float = engines.TIMEOUT, *, legend: bool = True) -> str:
        """The picture as SVG, for light and dark screens; raises `RenderError` if no engine can draw it."""
        return self.render("svg", timeout, legend=legend).decode("utf-8", "replace")

    def __len__(self) -> int:
        """How many edges it has."""
        return len(self._edges)

    def __repr__(self) -> str:
        return f"Picture({len(self._nodes)} nodes; .source, .svg(), or render.write(picture, 'NAME.svg'))"

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **_: Any) -> dict[str, str]:
        """What a notebook shows: the picture, or the reason why there is none."""
        try:
            found = {"image/svg+xml": self.svg(), "text/plain": repr(self)}
        except RenderError as error:
            found = {"text/plain": f"{self!r}\n{error}"}
        kept = {kind: shown for kind, shown in found.items() if include is None or kind in include}
        return {kind: shown for kind, shown in kept.items() if exclude is None or kind not in exclude}


_FRAME = {
    "color": style.LIGHT["frame"],
    "fontcolor": style.LIGHT["soft"],
    "fontsize": "11",
    "style": "rounded",
    "labelloc": "t",
    "labeljust": "l",
}


def _styled(svg: bytes) -> bytes:
    """With the stylesheet of the visual code."""
    end = svg.index(b">", svg.index(b"<svg")) + 1
    fitting = svg[: end - 1] + b' style="max-width:100%;height:auto">'
    return fitting + f"\n<style>{style.stylesheet()}</style>".encode() + svg[end:]


def write(picture: Picture, path: str | os.PathLike[str], *, timeout: float = engines.TIMEOUT) -> Path:
    """Write a picture to a file, whole or not at all.

    Args:
        picture: what `render.graph` and its relatives return.
        path: where to; the suffix says what: `.svg`, `.png`, `.pdf`, or `.dot` and `.gv` for the text.
        timeout: seconds that the layout may take.

    Returns:
        The path.

    Raises:
        RenderError: if the suffix is unknown; or if the picture cannot be drawn: then its text lies beside it, with
            the suffix `.dot`.
        FileError: if the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in engines.SUFFIXES:
        raise RenderError(
            f"cannot draw {str(path)!r}: unknown suffix {suffix!r}.", f"Known: {', '.join(engines.SUFFIXES)}."
        )
    text = picture.source.encode("utf-8", "replace")
    if suffix in (".dot", ".gv"):
        atomic.write_bytes(path, text)
        return path
    try:
        drawn = picture.render(suffix[1:], timeout)
    except RenderError as error:
        beside = path.with_suffix(".dot")
        atomic.write_bytes(beside, text)
        raise RenderError(str(error), f"Its text is in {str(beside)!r}.") from error
    atomic.write_bytes(path, drawn)
    return path

"""Where everything in a picture stands: laid out once, and a strip that is too long wrapped into rows, as text is.

Lengths are points; y goes up, as in Graphviz.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import hypot, sqrt
from typing import Any

import graphviz

from forwardgrad.render import engines, style
from forwardgrad.render.style import Key
from forwardgrad.render.text import lines, shorten

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""

Place = tuple[float, float, float, float]
"""Of a node: the x and y of its middle, width and height."""

ASPECT = 1.7
"""Width by height of a screen, and of a page on its side: what a strip is wrapped to."""

LONG = 1500.0
"""Strips up to this length are not wrapped, nor are those that are less than twice `ASPECT` times as long as high."""

GAP = 34.0
"""Between rows."""


@dataclass(frozen=True)
class Spline:
    """The piece of an edge in one row.

    Args:
        points: 3 n + 1 Bézier control points.
        first, last: the tips of the arrows before and after them, where there are any.
        begins, ends: whether the piece has the edge's beginning, and its end.
        label: the middle of the label, if it is in this row.
    """

    points: tuple[Point, ...]
    first: Point | None
    last: Point | None
    begins: bool
    ends: bool
    label: Point | None

    def moved(self, dx: float, dy: float) -> Spline:
        """The same somewhere else."""

        def move(point: Point | None) -> Point | None:
            return None if point is None else (point[0] + dx, point[1] + dy)

        points = tuple((x + dx, y + dy) for x, y in self.points)
        return Spline(points, move(self.first), move(self.last), self.begins, self.ends, move(self.label))


@dataclass(frozen=True)
class Layout:
    """Where everything stands.

    Args:
        nodes: by id, middle, width and height.
        edges: by id, the pieces of the edge, one a row.
        frames: by id, attributes of the frame's pieces, one a row.
        box: around all of it.
    """

    nodes: Mapping[str, Place]
    edges: Mapping[str, tuple[Spline, ...]]
    frames: Mapping[str, tuple[Mapping[str, str], ...]]
    box: Box

    def node(self, identity: str, look: Mapping[str, str]) -> dict[str, str]:
        """The attributes of DOT that place a node; one with two outlines has the outer one where others have theirs."""
        x, y, width, height = self.nodes[identity]
        less = 8.0 if look.get("peripheries") == "2" else 0.0
        size = {"width": f"{(width - less) / 72:.4f}", "height": f"{(height - less) / 72:.4f}", "fixedsize": "true"}
        return {"pos": f"{x:.2f},{y:.2f}", **size}

    def edge(self, identity: str, twin: int, look: Mapping[str, str]) -> list[dict[str, str]]:
        """The attributes that place the pieces of an edge; a twin is drawn below it."""
        placed: list[dict[str, str]] = []
        for number, piece in enumerate(self.edges[identity]):
            piece = piece.moved(0.0, -7.0 * twin)
            shown = {"pos": _pos(piece, look), "id": f"{look['id']}_r{number}" if number else look["id"]}
            if piece.label is None:
                shown["label"] = ""
            else:
                x, y = piece.label
                shown["lp"] = f"{x:.2f},{y + 2:.2f}"
            placed.append(shown)
        return placed


def _pos(piece: Spline, look: Mapping[str, str]) -> str:
    """A spline as Graphviz reads it, room made for an arrow at its beginning where the look has one at both ends."""
    points, first, last = list(piece.points), piece.first, piece.last
    if look.get("dir") == "both":
        if piece.begins and first is None:
            first, points[0] = points[0], _towards(points[0], points[1], 5.0)
        if piece.ends and last is None:
            last, points[-1] = points[-1], _towards(points[-1], points[-2], 5.0)
    text = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    ends = [f"{letter},{at[0]:.2f},{at[1]:.2f}" for letter, at in (("s", first), ("e", last)) if at is not None]
    return " ".join([*ends, text])


def _towards(start: Point, then: Point, length: float) -> Point:
    """The point at a distance from the first, on the way to the second."""
    dx, dy = then[0] - start[0], then[1] - start[1]
    scale = length / (hypot(dx, dy) or 1.0)
    return start[0] + scale * dx, start[1] + scale * dy


@lru_cache(maxsize=64)
def laid_out(skeleton: str, timeout: float) -> Layout:
    """The layout of a skeleton; raises `RenderError` if no engine can make it.

    Args:
        skeleton: DOT text in which edges and frames have ids.
        timeout: seconds that it may take.
    """
    found: Any = json.loads(engines.positions(skeleton, timeout), strict=False)
    objects = found.get("objects", [])
    nodes = {
        str(one["name"]): (*_point(one["pos"]), 72 * float(one["width"]), 72 * float(one["height"]))
        for one in objects
        if "pos" in one
    }
    edges = {one["id"]: _spline(one) for one in found.get("edges", []) if "id" in one and "pos" in one}
    frames = {
        one["id"]: (_box(one["bb"]), _point(one["lp"]) if "lp" in one else None)
        for one in objects
        if "bb" in one and "id" in one
    }
    rows = _rows(nodes, [box for box, _ in frames.values()], _box(found["bb"]))
    return _wrapped(nodes, edges, frames, rows)


def _point(text: str) -> Point:
    x, y = text.split(",")[:2]
    return float(x), float(y)


def _box(text: str) -> Box:
    left, bottom, right, top = map(float, text.split(","))
    return left, bottom, right, top


def _spline(edge: Any) -> Spline:
    first = last = None
    points: list[Point] = []
    for word in str(edge["pos"]).split(";")[0].split():
        if word.startswith("e,"):
            last = _point(word[2:])
        elif word.startswith("s,"):
            first = _point(word[2:])
        else:
            points.append(_point(word))
    return Spline(tuple(points), first, last, True, True, _point(edge["lp"]) if edge.get("lp") else None)


def _rows(nodes: Mapping[str, Place], frames: Sequence[Box], box: Box) -> list[tuple[float, float]]:
    """The stretches of x into which a strip is cut: never through a node or a frame."""
    left, bottom, right, top = box
    length, height = right - left, top - bottom
    if length <= LONG or length < 2 * ASPECT * height:
        return [(left, right)]
    tall = max((frame[3] - frame[1] for frame in frames), default=height)
    count = max(2, round(sqrt(length / ASPECT / (tall + GAP))))
    spans = [(x - w / 2, x + w / 2) for x, _, w, _ in nodes.values()] + [(frame[0], frame[2]) for frame in frames]
    gaps: list[float] = []
    reach = left
    for begin, end in sorted(spans):
        if begin > reach + 4:
            gaps.append(max(begin - 14, (begin + reach) / 2))
        reach = max(reach, end)
    cuts: list[float] = []
    for number in range(1, count):
        wanted = left + length * number / count
        nearest = min(gaps, key=lambda gap: abs(gap - wanted), default=None)
        if nearest is not None and nearest not in cuts:
            cuts.append(nearest)
    rows = list(pairwise([left, *sorted(cuts), right]))
    lengths = [end - begin for begin, end in rows]
    return rows if min(lengths) > max(lengths) / 3 and max(lengths) < 0.7 * length else [(left, right)]


def _wrapped(
    nodes: Mapping[str, Place],
    edges: Mapping[str, Spline],
    frames: Mapping[str, tuple[Box, Point | None]],
    rows: Sequence[tuple[float, float]],
) -> Layout:
    """Every stretch below the one before it."""
    pieces = {identity: _cut(spline, [end for _, end in rows[:-1]]) for identity, spline in edges.items()}
    moves: list[Point] = []
    bottom = GAP
    for number, (begin, end) in enumerate(rows):
        reach = [(y - h / 2, y + h / 2) for x, y, _, h in nodes.values() if begin <= x < end]
        reach += [(low, high) for (left, low, _, high), _ in frames.values() if begin <= left < end]
        for piece in (piece for of in pieces.values() for at, piece in of if at == number):
            reach += [(y - 3, y + 3) for _, y in piece.points]
            reach += [(piece.label[1] - 12, piece.label[1] + 12)] if piece.label else []
        high = max((high for _, high in reach), default=0.0)
        moves.append((-begin, bottom - GAP - high))
        bottom += -GAP - high + min((low for low, _ in reach), default=0.0)

    def row(x: float) -> int:
        return next((n for n, (_, end) in enumerate(rows) if x < end), len(rows) - 1)

    placed: dict[str, Place] = {}
    for identity, (x, y, width, height) in nodes.items():
        dx, dy = moves[row(x)]
        placed[identity] = (x + dx, y + dy, width, height)
    framed: dict[str, tuple[Mapping[str, str], ...]] = {}
    for identity, (box, label) in frames.items():
        dx, dy = moves[row(box[0])]
        bounds = f"{box[0] + dx:.2f},{box[1] + dy:.2f},{box[2] + dx:.2f},{box[3] + dy:.2f}"
        framed[identity] = ({"bb": bounds, **({"lp": f"{label[0] + dx:.2f},{label[1] + dy:.2f}"} if label else {})},)
    drawn = {identity: tuple(piece.moved(*moves[at]) for at, piece in of) for identity, of in pieces.items()}
    return Layout(placed, drawn, framed, (0.0, bottom, max(end - begin for begin, end in rows), 0.0))


def _cut(spline: Spline, cuts: Sequence[float]) -> list[tuple[int, Spline]]:
    """The pieces of a spline between some values of x, each with the number of its stretch."""

    def row(x: float) -> int:
        return sum(x >= cut for cut in cuts)

    curves: list[tuple[Point, Point, Point, Point]] = []
    for start in range(0, len(spline.points) - 1, 3):
        a, b, c, d = spline.points[start : start + 4]
        curves += _split((a, b, c, d), cuts)
    runs: list[tuple[int, list[Point]]] = []
    for a, b, c, d in curves:
        at = row((a[0] + 3 * b[0] + 3 * c[0] + d[0]) / 8)
        if runs and runs[-1][0] == at:
            runs[-1][1].extend((b, c, d))
        else:
            runs.append((at, [a, b, c, d]))
    last = len(runs) - 1
    held = next((n for n, (at, _) in enumerate(runs) if spline.label and at == row(spline.label[0])), 0)
    return [
        (
            at,
            Spline(
                tuple(points),
                spline.first if n == 0 else None,
                spline.last if n == last else None,
                n == 0,
                n == last,
                spline.label if n == held else None,
            ),
        )
        for n, (at, points) in enumerate(runs)
    ]


def _split(curve: tuple[Point, Point, Point, Point], cuts: Iterable[float]) -> list[tuple[Point, Point, Point, Point]]:
    """A Bézier curve as several, none of which crosses a value of x (by halving, down to a tenth of a point)."""
    lows, highs = min(x for x, _ in curve), max(x for x, _ in curve)
    crossed = [cut for cut in cuts if lows + 0.1 < cut < highs - 0.1]
    if not crossed or hypot(curve[0][0] - curve[3][0], curve[0][1] - curve[3][1]) < 0.1:
        return [curve]
    a, b, c, d = curve
    ab, bc, cd = _middle(a, b), _middle(b, c), _middle(c, d)
    abc, bcd = _middle(ab, bc), _middle(bc, cd)
    middle = _middle(abc, bcd)
    return [*_split((a, ab, abc, middle), crossed), *_split((middle, bcd, cd, d), crossed)]


def _middle(a: Point, b: Point) -> Point:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2


# The legend.

SAMPLE, LINE = 34.0, 17.0
"""Length of a sample, and height of a line of the legend."""


def add_legend(drawing: graphviz.Digraph, found: Layout, title: str, keys: Sequence[Key]) -> None:
    """Draw title and legend below everything."""
    left, bottom, right, _ = found.box
    width = max(right - left, 520.0)
    y = bottom - 26
    if title:
        _text(drawing, "title", shorten(title, 130), left, y, width, "12", style.LIGHT["ink"])
        y -= LINE + 3
    x = left
    for number, key in enumerate(keys):
        sampled = key.line is not None or bool(key.node)
        needs = (SAMPLE + 6 if sampled else 0) + _width(key.text) + 18
        if x > left and (x + needs > left + width or not sampled):
            x, y = left, y - LINE
        _sample(drawing, f"key{number}", key, x, y)
        _text(drawing, f"key{number}", key.text, x + (SAMPLE + 6 if sampled else 0), y, _width(key.text))
        x += needs if sampled else width


def _width(text: str) -> float:
    return 5.3 * len(text) + 8


def _text(
    drawing: graphviz.Digraph,
    identity: str,
    text: str,
    x: float,
    y: float,
    width: float,
    size: str = "10",
    color: str = style.LIGHT["soft"],
) -> None:
    """Text that begins at x."""
    place = {"pos": f"{x + width / 2:.2f},{y:.2f}", "width": f"{width / 72:.4f}", "height": "0.2", "fixedsize": "true"}
    label = graphviz.nohtml(lines(text, limit=400) + "\\l")
    look = {"shape": "plaintext", "style": "", "margin": "0", "fontsize": size, "fontcolor": color}
    drawing.node(f"{identity}_text", label=label, tooltip=" ", **{"class": "bare soft"}, **look, **place)


def _sample(drawing: graphviz.Digraph, identity: str, key: Key, x: float, y: float) -> None:
    if key.node:
        less = 0.11 if key.node.get("peripheries") == "2" else 0.0
        size = {"width": f"{0.4 - less:.2f}", "height": f"{0.2 - less:.2f}", "fixedsize": "true"}
        place = {"pos": f"{x + SAMPLE / 2:.2f},{y:.2f}", **size}
        drawing.node(identity, label="", shape="box", tooltip=" ", **key.node, **place)
    if key.line is None:
        return
    for end, at in (("a", x), ("b", x + SAMPLE)):
        point = {"shape": "point", "style": "invis", "width": "0.01", "pos": f"{at:.2f},{y:.2f}"}
        drawing.node(f"{identity}{end}", label="", tooltip=" ", **point)
    begin = x + 5 if key.line.root else x
    third = (SAMPLE - 6) / 3
    points = [(begin + third * n * (x + SAMPLE - 6 - begin) / (SAMPLE - 6), y) for n in range(4)]
    pos = f"{f's,{x:.2f},{y:.2f} ' if key.line.root else ''}e,{x + SAMPLE:.2f},{y:.2f} "
    pos += " ".join(f"{at:.2f},{height:.2f}" for at, height in points)
    arrows = {"dir": "both", "arrowtail": key.line.root} if key.line.root else {}
    about = {"id": identity, "tooltip": " ", "arrowhead": key.line.tip, "pos": pos}
    drawing.edge(f"{identity}a", f"{identity}b", **about, **key.line.attributes, **arrows)

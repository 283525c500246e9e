"""Does a node stand in one place in all pictures of a network, is a long one wrapped, and is all seen in the dark?"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import drawn_graphs as graphs
import networkx as nx
import numpy as np
import pytest
from nets import stack
from test_engines import SVG, needs_engine

import forwardgrad as fg
from forwardgrad import render
from forwardgrad.graph import library
from forwardgrad.render import layout, style

pytestmark = needs_engine


def deep(layers: int = 12) -> nx.MultiDiGraph[str]:
    """A stack of leaky layers, each with a recurrent weight; the last is read by the first, and the first by `y`."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    before = "x"
    for k in range(layers):
        graph.add_node(f"a{k}", op="tanh", size=3, bias=True, layer=f"l{k}")
        graph.add_node(f"h{k}", op="linear", size=3, layer=f"l{k}")
        graph.add_edge(before, f"a{k}", weight="dense")
        graph.add_edge(f"a{k}", f"h{k}", value=0.1)
        graph.add_edge(f"h{k}", f"h{k}", value=0.9, delay=1)
        graph.add_edge(f"h{k}", f"a{k}", weight="dense", delay=1)
        before = f"h{k}"
    graph.add_node("y", op="linear", size=2)
    graph.add_edge(before, "y", weight="dense")
    graph.add_edge("h0", "y", weight="dense")
    graph.add_edge(before, "a0", weight="dense", delay=1, role="topdown")
    return graph


def boxes(svg: str) -> dict[str, tuple[float, ...]]:
    """Left, top, right and bottom of the outermost outline of every node of a network."""
    found = {}
    for group in ET.fromstring(svg.encode()).iter(f"{SVG}g"):
        if re.fullmatch(r"n\d+", group.get("id") or ""):
            text = " ".join(
                part.get("points") or part.get("d") or ""
                for tag in ("polygon", "path")
                for part in group.iter(f"{SVG}{tag}")
            )
            numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", text)]
            x, y = numbers[::2], numbers[1::2]
            found[group.get("id") or ""] = (min(x), min(y), max(x), max(y)) if x else ()
    return found


def pictures(graph: Any, rule: str = "eprop") -> dict[str, render.Picture]:
    program = fg.compile(graph, {"y": "mse"}, rule, dead="ignore")
    random = np.random.default_rng(0)
    inputs, targets = {"x": random.normal(size=(4, 1, 2))}, {"y": random.normal(size=(4, 1, 2))}
    name = next(iter(program.rules))
    record = program.record(program.init(0), inputs, targets, only=[name])
    return {
        "graph": render.graph(graph),
        "credit": render.credit(program, name),
        "exact": render.credit(fg.compile(graph, {"y": "mse"}, "rtrl", dead="ignore"), name),
        "flow": render.flow(record, 2, name),
    }


@pytest.mark.parametrize("graph", [stack(), deep()], ids=["stack", "deep"])
def test_a_node_has_one_place(graph: Any) -> None:
    """If this fails, a reader looks for a node anew in every picture."""
    drawn = {kind: boxes(picture.svg(legend=False)) for kind, picture in pictures(graph).items()}
    for kind, found in drawn.items():
        assert found.keys() == drawn["graph"].keys()
        for name, box in found.items():
            assert np.allclose(box, drawn["graph"][name], atol=0.1), (kind, name)
    assert len({picture.skeleton() for picture in pictures(graph).values()}) == 1


def test_it_is_laid_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, every picture of a network takes the time of a layout."""
    layout.laid_out.cache_clear()
    calls: list[str] = []
    real = layout.engines.positions
    monkeypatch.setattr(layout.engines, "positions", lambda *given: calls.append("") or real(*given))
    for picture in pictures(stack()).values():
        picture.svg()
    assert len(calls) == 1


def test_long_networks_are_wrapped() -> None:
    """If this fails, twelve layers are a strip that nobody can read on a screen or a page."""
    picture = render.graph(deep())
    svg = picture.svg()
    left, top, right, bottom = map(float, re.findall(r'viewBox="([^"]*)"', svg)[0].split())
    assert 1 < (right - left) / (bottom - top) < 2.2
    assert right - left < 2000
    found = layout.laid_out(picture.skeleton(), 60.0)
    assert len(found.nodes) == len(deep())
    for identity, pieces in found.edges.items():
        assert pieces[0].begins
        assert pieces[-1].ends
        assert sum(piece.label is not None for piece in pieces) == 1, identity
        for piece in pieces:
            assert all(-1 <= x <= found.box[2] - found.box[0] + 1 for x, _ in piece.points)
    assert max(len(pieces) for pieces in found.edges.values()) > 2  # the skip connection passes through all rows


def test_short_networks_are_not_wrapped() -> None:
    """If this fails, a picture of a few nodes is torn into rows."""
    for graph in (stack(), fg.load("lstm"), fg.load("alif")):
        found = layout.laid_out(render.graph(graph).skeleton(), 60.0)
        assert all(len(pieces) == 1 for pieces in found.edges.values())


def test_nothing_overlaps_when_wrapped() -> None:
    """If this fails, one row is drawn over another."""
    found = layout.laid_out(render.graph(deep(20)).skeleton(), 60.0).nodes
    spans = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in found.values()]
    for k, (left, low, right, high) in enumerate(spans):
        for other in spans[k + 1 :]:
            apart = right <= other[0] or other[2] <= left or high <= other[1] or other[3] <= low
            assert apart


def test_many_repeated_nodes_fold_into_layers() -> None:
    """If this fails, a deep network of many nodes is a carpet of boxes."""
    large = graphs.chain(150, layers=12)
    source = render.graph(large).source
    assert "one node per layer" in source
    assert "13 nodes" in source
    assert "n149" in render.graph(large, cap=None).source
    assert "one node per layer" not in render.graph(graphs.chain(90, layers=12)).source


def test_arrows_that_share_an_edge_lie_beside_each_other() -> None:
    """If this fails, a cut is hidden below the arrow by which the parameter enters."""
    svg = render.credit(fg.compile(fg.load("lif"), rule="eprop"), "z->v").svg()
    paths = dict(re.findall(r'<g id="(e\d+(?:_\d)?)" class="edge[^>]*>.*?<path[^>]* d="([^"]*)"', svg, re.DOTALL))
    twins = [name for name in paths if re.fullmatch(r"e\d+_1", name)]
    assert twins
    for name in twins:
        heights = [
            np.mean([float(number) for number in re.findall(r",(-?[\d.]+)", paths[one])])
            for one in (name, name.removesuffix("_1"))
        ]
        assert abs(heights[0] - heights[1]) > 4


@pytest.mark.parametrize("name", library.names())
def test_labels_fit_into_their_nodes(name: str) -> None:
    """If this fails, the text of a node runs over its outline."""
    graph = fg.load(name)
    for rule in ("rtrl", "eprop"):
        program = fg.compile(graph, rule=rule)
        for parameter in list(program.rules)[:4]:
            svg = render.credit(program, parameter).svg(legend=False)
            places = boxes(svg)
            for group in ET.fromstring(svg.encode()).iter(f"{SVG}g"):
                identity = group.get("id") or ""
                if not places.get(identity):
                    continue
                left, top, right, bottom = places[identity]
                for text in group.iter(f"{SVG}text"):
                    said, half = "".join(text.itertext()), 2.6 * len("".join(text.itertext()))  # of Helvetica
                    x, y = float(text.get("x") or 0), float(text.get("y") or 0)
                    assert left <= x - half, (parameter, said)
                    assert x + half <= right, (parameter, said)
                    assert top + 8 <= y <= bottom - 1, (parameter, said)


def test_the_dark_has_colours_for_all_roles() -> None:
    """If this fails, a static picture is black on black, or white paper in a dark page."""
    sheet = style.stylesheet()
    assert "prefers-color-scheme:dark" in sheet
    for kind, picture in pictures(stack()).items():
        svg = picture.svg()
        assert f"<style>{sheet}</style>" in svg, kind
        assert 'class="graph forwardgrad"' in svg
        used = {word for words in re.findall(r'class="(?:edge|node) ([^"]*)"', svg) for word in words.split()}
        assert used, kind
        for role in used - {"soft", "learning", "weight", "bare"}:
            assert f".{role} " in sheet, (kind, role)
    for light, dark in style.PALETTE.values():
        assert light != dark


def _luminance(color: str) -> float:
    """As WCAG 2 defines it."""
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_are_seen(scheme: int) -> None:
    """If this fails, a line or a label cannot be told from its ground: 3 for lines, 4.5 for text, as WCAG 2 asks."""
    of = {name: pair[scheme] for name, pair in style.PALETTE.items()}
    for name in ("passive", "delayed", "kept", "cut", "enters", *(f"shared{n}" for n in range(style.SHARED))):
        assert _contrast(of[name], of["ground"]) >= 3, name
    for ground in ("ground", "state", "stored", *(f"trace{n}" for n in range(style.TRACES + 1))):
        assert _contrast(of["ink"], of[ground]) >= 4.5, ground
    assert _contrast(of["soft"], of["ground"]) >= 4.5


def test_roles_differ_in_more_than_colour() -> None:
    """If this fails, kept and cut look alike to some, and on paper."""
    looks = {fate: style.credit(fate, False) for fate in ("kept", "cut", "dead", "enters", "passive")}
    shapes = {(look.tip, look.root, look.attributes["style"], look.attributes["penwidth"]) for look in looks.values()}
    assert len(shapes) == len(looks)
    for fate in ("kept", "cut", "enters", "passive"):
        assert style.credit(fate, True).attributes["style"] == "dashed"


@pytest.mark.parametrize("name", [*graphs.NAMES, *graphs.UNSEEN], ids=lambda name: repr(name[:20]))
def test_drawn_pictures_hold_names_as_text(name: str) -> None:
    """If this fails, a name injects an element into a picture, or a rule into its stylesheet."""
    graph = graphs.named(name)
    graph.add_node("out", op="linear", size=2)
    graph.add_edge(name, "out", weight="dense")
    program = fg.compile(graph, {"out": "mse"}, "eprop", dead="ignore")
    for picture in (render.graph(graph, title=name), render.credit(program, name)):
        root = ET.fromstring(picture.svg().encode())
        assert not list(root.iter(f"{SVG}script"))
        assert len(list(root.iter(f"{SVG}style"))) == 1
        assert {part.tag.removeprefix(SVG) for part in root.iter()} <= {
            *("svg", "style", "g", "title", "a", "text", "path", "polygon", "polyline", "ellipse"),
        }
        drawn = ["".join(text.itertext()).replace("\xa0", " ") for text in root.iter(f"{SVG}text")]
        assert (graphs.UNSEEN.get(name) or name).replace("\xa0", " ") in drawn

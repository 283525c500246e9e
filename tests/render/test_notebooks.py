"""Does everything display itself in a notebook, with no `dot` installed, and is every name in it only text?"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import drawn_graphs as graphs
import pytest
from nets import problem, stack, vanilla
from test_engines import needs_engine, no_engine  # noqa: F401

import forwardgrad as fg
from forwardgrad import render
from forwardgrad.errors import RenderError
from forwardgrad.render import engines
from forwardgrad.testing import gradient_report

needs_engine_of_python = pytest.mark.skipif(
    not set(engines.available()) - {"dot"}, reason="needs the extra render: pip install 'forwardgrad[render]'"
)


class Tags(HTMLParser):
    """The tags of a text, and whether each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def found(name: str = "h") -> dict[str, Any]:
    """All that has a table, of a graph in which a name stands wherever one can."""
    graph = graphs.named(name)
    graph.add_node("out", op="linear", size=2)
    graph.add_edge(name, "out", weight="dense")
    given = problem(graph, "out", steps=3, batch=1)
    program = fg.compile(given.graph, given.loss, "eprop", dead="ignore")
    return {
        "program": program,
        "derived": program.rules[name],
        "record": program.record(given.params, given.inputs, given.targets),
        "audit": fg.audit(given.graph, given.params, given.inputs, given.targets, given.loss, ["eprop"]),
        "report": gradient_report(program, given),
    }


@pytest.mark.parametrize("name", [*graphs.NAMES, *graphs.UNSEEN], ids=lambda name: repr(name[:20]))
def test_tables_show_names_as_text(name: str) -> None:
    """If this fails, a graph from somebody else runs a script in the notebook of whoever looks at it."""
    for what, shown in found(name).items():
        tags = Tags(shown._repr_html_()).tags
        assert set(tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "pre"}, what
        assert "\n" not in repr(shown), what


def test_tables_say_what_texts_say() -> None:
    """If this fails, a notebook shows other numbers than a terminal."""
    shown = found()
    program, audit, report = shown["program"], shown["audit"], shown["report"]
    for text, table in ((str(program), program), (audit.table(), audit), (str(report), report)):
        cells = re.findall(r"<t[dh](?: [^>]*)?>(.*?)</t[dh]>", table._repr_html_())
        for cell in filter(None, cells):
            assert cell.replace("&gt;", ">") in text
        assert len(cells) > 10
    assert f"{shown['derived'].bytes:,}" in shown["derived"]._repr_html_()
    assert shown["derived"].equation.splitlines()[0] in shown["derived"]._repr_html_().replace("&gt;", ">")


def test_short_forms_are_short() -> None:
    """If this fails, the last line of a cell fills the screen."""
    given = problem(stack(), "y", steps=5)
    program = fg.compile(given.graph, given.loss, "eprop")
    page = render.report(program, given.params, given.inputs, given.targets, audit=False)
    for shown in (program, program.rules["x->a1"], gradient_report(program, given), page, render.graph(given.graph)):
        assert len(repr(shown)) < 200
        assert type(shown).__name__ in repr(shown)
    assert repr(program.rules["x->a1"]).startswith("Derived(x->a1: eprop, drops ")


def test_equations_are_bare_mathematics() -> None:
    """If this fails, a notebook shows the source of an equation, or prose set as mathematics."""
    derived = fg.compile(fg.load("lif"), rule="eprop").rules["z->v"]
    shown = derived.equations._repr_latex_()
    assert re.fullmatch(r"\$\$\\begin\{aligned\}\n.*\n\\end\{aligned\}\$\$", shown, re.DOTALL)
    assert shown[2:-2] in derived.latex()
    assert "declared derivative" not in shown
    assert "declared derivative" in derived.latex()


@pytest.mark.parametrize("name", graphs.NAMES, ids=repr)
def test_equations_hold_no_tags(name: str) -> None:
    """Some notebooks put the text of an equation into their page as it is."""
    shown = found(name)["derived"].equations._repr_latex_()
    assert shown.count("$$") == 2
    assert not re.search(r"<[/!?a-zA-Z]", shown)


def test_rows_are_what_pandas_takes() -> None:
    """If this fails, results cannot be taken into a table of another library."""
    given = problem(vanilla(), "y", steps=4)
    audit = fg.audit(given.graph, given.params, given.inputs, given.targets, given.loss, ["rtrl", "eprop", "reservoir"])
    rows = audit.rows()
    assert len({tuple(row) for row in rows}) == 1
    for row in rows:
        line = audit.line(row["parameter"], row["rule"])
        assert row["cosine"] == (line.cosine.mean if line.trained else None)
        assert row["removes"] == (line.removed[row["edge"]].mean if row["edge"] else None)
    assert {(row["parameter"], row["rule"]) for row in rows} == {(line.parameter, line.rule) for line in audit.lines}
    program = fg.compile(given.graph, given.loss, "eprop")
    record = program.record(given.params, given.inputs, given.targets)
    for row in record.rows():
        sizes = record.nodes(row["parameter"])[row["node"]]
        assert (row["trace"], row["product"]) == (sizes.trace[row["step"]], sizes.product[row["step"]])
    assert len(record.rows()) == 4 * sum(len(record.nodes(name)) for name in record.parameters)


@needs_engine
def test_pictures_show_themselves() -> None:
    """If this fails, a notebook shows DOT text, or nothing."""
    picture = render.graph(graphs.stack())
    shown = picture._repr_mimebundle_()
    assert set(shown) == {"image/svg+xml", "text/plain"}
    assert "<svg" in str(shown["image/svg+xml"])
    assert picture._repr_svg_() == shown["image/svg+xml"]
    assert set(picture._repr_mimebundle_(include=["text/plain"])) == {"text/plain"}
    assert set(picture._repr_mimebundle_(exclude=["text/plain"])) == {"image/svg+xml"}


def test_without_an_engine_a_picture_says_what_to_install(no_engine: None) -> None:  # noqa: F811
    """If this fails, a cell ends in a traceback of another library."""
    shown = render.graph(graphs.stack())._repr_mimebundle_()
    assert set(shown) == {"text/plain"}
    assert 'pip install "forwardgrad[render]"' in str(shown["text/plain"])
    with pytest.raises(RenderError, match="no engine can"):
        render.graph(graphs.stack()).svg()


CELLS = {
    "graph": "render.graph(fg.load('leaky_stack'))",
    "credit": "render.credit(program, 'h1->a1')",
    "unrolled": "render.unrolled(program, 'h1->a1', 2)",
    "flow": "render.flow(record, 2)",
    "program": "program",
    "derived": "program.rules['h1->a1']",
    "equations": "program.rules['h1->a1'].equations",
    "record": "record",
    "report": "fg.testing.gradient_report(program)",
    "audit": "fg.audit(program.graph, program.init(), x, y, rules=['rtrl', 'eprop'])",
    "page": "render.report(program, program.init(), x, y, rules=['rtrl'])",
}
"""What the last line of a cell is, by what it shows."""


KINDS = {**dict.fromkeys(("graph", "credit", "unrolled", "flow"), "image/svg+xml"), "equations": "text/latex"}


@pytest.fixture
def no_dot(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A path without the folders that hold a `dot`."""
    folders = [at for at in os.environ["PATH"].split(os.pathsep) if shutil.which("dot", path=at) is None]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    yield
    assert shutil.which("dot") is None


@needs_engine_of_python
@pytest.mark.usefixtures("no_dot")
@pytest.mark.filterwarnings("ignore")  # of the packages that run a notebook
def test_a_notebook_without_dot(tmp_path: Path) -> None:
    """If this fails, the first cell of a newcomer's notebook raises `ExecutableNotFound`, or shows only text."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    begin = """
import numpy as np
import forwardgrad as fg
from forwardgrad import render
program = fg.compile(fg.load("leaky_stack"), rule="eprop")
x, y = {"x": np.ones((4, 1, 1))}, {"y": np.zeros((4, 1, 1))}
record = program.record(program.init(), x, y)
"""
    cells = [nbformat.v4.new_code_cell(source) for source in (begin, *CELLS.values())]
    notebook = nbformat.v4.new_notebook(cells=cells)
    where = {"metadata": {"path": tmp_path}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    for what, cell in zip(CELLS, notebook.cells[1:], strict=True):
        shown = cell.outputs[-1]["data"]
        assert set(shown) == {KINDS.get(what, "text/html"), "text/plain"}, what
        assert len(shown["text/plain"]) < 2000

"""Does a page say what was recorded, ask nobody for anything, and answer to keys, slider and address?"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import drawn_graphs as graphs
import networkx as nx
import numpy as np
import pytest
from nets import problem, vanilla
from pages import Reader, a_page, data_of, numbers, paged  # noqa: F401
from test_engines import needs_engine, no_engine  # noqa: F401

import forwardgrad as fg
from forwardgrad import render
from forwardgrad.errors import DataError, FileError, RenderError, RuleError
from forwardgrad.render import paging
from forwardgrad.render.report import Page
from forwardgrad.testing import Problem

pytestmark = needs_engine


def test_it_is_whole_html_that_asks_for_nothing(page: Page) -> None:
    """If this fails, a page is broken, or tells somebody that it was opened."""
    read = Reader(page.text)
    assert read.open == []
    for tag, attributes in read.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "image", "use")
        for name, value in attributes.items():
            assert name not in ("src", "href", "action", "style", "xlink:href"), (tag, name)
            assert not name.startswith("on")
            assert "://" not in (value or "") or name.startswith("xmlns")
    (policy,) = (meta["content"] for meta in read.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    (style,) = read.texts["style"]
    script = read.texts["script"][-1]
    for text, kind in ((style, "style-src"), (script, "script-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_everything_that_is_moved_has_a_name(page: Page) -> None:
    """If this fails, a screen reader says `slider` and no more."""
    text = page.text
    for name in ("rule", "beside", "parameter", "measure", "step"):
        assert re.search(rf"<label>[\w ]+ <(select|input)[^>]* id=\"{name}\"", text), name
    assert '<html lang="en">' in text
    assert 'aria-live="polite"' in text
    assert text.count("<h1>") == 1
    assert "<h1>A stack &amp; &lt;more&gt;</h1>" in text


def test_its_numbers_are_those_of_the_record(page: Page) -> None:
    """If this fails, a page shows what was not recorded."""
    data, seen = data_of(page), 0
    assert [rule["name"] for rule in data["rules"]] == ["eprop", "rtrl", "eprop-deep"]
    for rule in data["rules"]:
        record = page.records[rule["name"]]
        assert data["total"] == record.steps == len(data["steps"])
        np.testing.assert_allclose(numbers(data["loss"]), record.loss, rtol=1e-6)
        for name, found in zip(data["parameters"], rule["parameters"], strict=True):
            np.testing.assert_allclose(numbers(found["gradient"]), record.gradients[name], rtol=1e-6, atol=1e-12)
            for kind, sizes in (("nodes", record.nodes(name)), ("edges", record.edges(name))):
                assert {data[kind][int(index)] for index in found[kind]} == set(sizes)
                for index, rows in found[kind].items():
                    one = sizes[data[kind][int(index)]]
                    for what, row in rows.items():
                        np.testing.assert_allclose(numbers(row), getattr(one, what), rtol=1e-6, atol=1e-12)
                        seen += 1
    assert seen > 100


def test_rules_are_compared_by_the_gradients_of_steps(page: Page) -> None:
    """If this fails, rules seem to agree that do not, or the other way round."""
    data = data_of(page)
    cosines = data["rules"][0]["parameters"][0]["cosines"]
    assert set(cosines) == {"1", "2"}
    first, exact = page.records["eprop"], page.records["rtrl"]
    name = data["parameters"][0]
    for t, cosine in enumerate(numbers(cosines["1"])):
        a, b = (record.step_gradients[name][t].ravel() for record in (first, exact))
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        assert cosine == pytest.approx(a @ b / norms if norms else np.nan, abs=1e-6, nan_ok=True)
    assert np.nanmin(numbers(cosines["1"])) < 0.999 < np.nanmax(numbers(cosines["1"]))


def test_the_audit_stands_on_it(page: Page) -> None:
    """If this fails, the table of the audit says something else than the audit."""
    assert page.audit is not None
    line = page.audit.line("x->a1", "eprop")
    row = re.findall(r'<tr><th scope="row">x-&gt;a1</th><td>eprop</td>(.*?)</tr>', page.text)[0]
    assert re.findall("<td>(.*?)</td>", row)[:3] == [str(line.cosine), str(line.ratio), str(line.error)]
    assert 'id="audit-title"' not in paged(audit=False).text


def test_long_runs_are_thinned_and_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a page of a long run cannot be opened, or hides that it is not the whole run."""
    given = problem(vanilla(), "y", steps=60, batch=1)
    monkeypatch.setattr(paging, "MOST", 300)
    page = paged((), given=given)
    data, record = data_of(page), page.records["eprop"]
    assert data["steps"][0] == 0
    assert data["steps"][-1] == 59
    assert 2 <= len(data["steps"]) < 60
    assert f"60 steps were run, {len(data['steps'])} are shown" in page.text
    rows = data["rules"][0]["parameters"][0]["nodes"]
    for index, parts in rows.items():
        sizes = record.nodes(data["parameters"][0])[data["nodes"][int(index)]]
        found, wanted = numbers(parts["trace"]), sizes.trace[data["steps"]]
        assert not parts["trace"]["wide"]
        np.testing.assert_allclose(found, wanted, atol=0.51 * sizes.trace.max() / 65535)
    monkeypatch.setattr(paging, "MOST", 400_000)
    assert len(data_of(paged((), given=given))["steps"]) == 60


def test_a_page_of_thousands_of_steps_stays_small() -> None:
    """If this fails, sharing a page means sending tens of megabytes."""
    page = paged(("rtrl",), given=problem(vanilla(), "y", steps=5000, batch=1), audit=False, block=500)
    assert len(page.text) < 4_000_000
    assert len(data_of(page)["steps"]) <= 2000


HOSTILE = [
    "</script><script>alert(1)</script>",
    "%%DATA%% %%SCRIPT%%",
    "<!--",
    "&lt;b&gt;",
    "__proto__",
    '"\\',
    "日本\u2028語",
]


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_names_are_text_and_nothing_else(name: str) -> None:
    """If this fails, a graph from somebody else runs a script in the browser of whoever opens its page."""
    graph = graphs.named(name)
    graph.add_node("out", op="linear", size=2)
    graph.add_edge(name, "out", weight="dense")
    page = paged(given=problem(graph, "out", steps=3, batch=1), title=name)
    read = Reader(page.text)
    assert read.open == []
    assert len(read.of("script")) == 2
    seen = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
    assert seen in data_of(page)["nodes"]
    assert "alert(1)</script>" not in page.text


def test_odd_programs_have_pages() -> None:
    """If this fails, some rules cannot be looked at."""
    mapping = {"x->h": "rtrl", "h->h": "uoro", "*": "eprop"}
    given = problem(vanilla(), "y", steps=6)
    page = paged([mapping, "snap(1)", "reservoir", "tbptt"], given=given, block=1)
    assert "h->h: uoro" in list(page.records)[1]
    untrained = data_of(page)["rules"][3]["parameters"]
    assert untrained[data_of(page)["parameters"].index("h->h")] is None
    single = paged((), given=problem(vanilla(), "y", steps=1), audit=False)
    assert data_of(single)["steps"] == [0]
    masked = Problem(given.graph, given.loss, given.params, given.inputs, given.targets, np.zeros(given.steps))
    assert data_of(paged((), given=masked, audit=False))["total"] == 6


def test_the_same_rule_twice_is_shown_once() -> None:
    """If this fails, a page compares a rule with itself."""
    assert list(paged(("eprop", "rtrl", "bptt")).records) == ["eprop", "rtrl"]


def test_what_has_no_page_is_named(no_engine: None) -> None:  # noqa: F811
    """If this fails, an hour of recording ends without a word about the missing engine."""
    with pytest.raises(RenderError, match="no engine can"):
        paged()


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    """If this fails, bad arguments give an empty page or an error of somebody else."""
    large: nx.MultiDiGraph[str] = graphs.chain(301, layers=0)
    with pytest.raises(RenderError, match="too large for a report: 302 nodes"):
        paged((), rule="immediate", given=problem(large, "h300", steps=2))
    with pytest.raises(DataError, match="'nope' is no trained parameter"):
        paged(only=["nope"])
    with pytest.raises(DataError, match="no parameter is followed"):
        paged(only=[])
    with pytest.raises(RuleError, match="nope"):
        paged(["nope"])
    with pytest.raises(FileError):
        paged((), audit=False).write(tmp_path / "no folder" / "page.html")


class Named(fg.PathRule):
    """Rules that are called alike."""

    def __init__(self, far: bool) -> None:
        self.far = far

    def start(self, node: Any) -> str:
        return "all"

    def step(self, mode: Any, edge: Any, target: Any) -> str | None:
        return None if edge.delay and not self.far else "all"

    def __str__(self) -> str:
        return "mine"


def test_rules_of_one_name_are_told_apart() -> None:
    """If this fails, a rule is left out without a word."""
    page = paged([Named(True), Named(False)], audit=False)
    assert list(page.records) == ["eprop", "mine", "mine (2)"]


def test_rules_with_needs_of_their_own() -> None:
    """If this fails, a rule cannot be looked at beside others since these need less than it does."""
    given = problem(vanilla(), "y", steps=6)
    signals = {"h": np.ones((6, 2, 3))}
    page = paged(["eprop-adaptive", 'eprop; feedback={"h": "signal"}'], given=given, signals=signals)
    assert len(page.records) == 3


def test_streams_and_misspelt_names_are_refused() -> None:
    """If this fails, bad arguments end in an error of Python's own, or in a page that leaves things out."""
    given = problem(vanilla(), "y", steps=6)
    program = fg.compile(given.graph, given.loss, "eprop")
    with pytest.raises(DataError, match="arrays by node"):
        render.report(program, given.params, iter([]), None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError):
        render.report(program, given.params, given.inputs, {"y": 3})
    with pytest.raises(DataError, match="'x->hh' is no trained parameter"):
        paged(given=given, only=["x->hh", "x->h"])
    with pytest.raises(DataError, match="only is a collection"):
        paged(given=given, only="x->h")

"""Does a page say what was recorded, ask nobody for anything, and answer to keys, slider and address?"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import re
import struct
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser
import drawn_graphs as graphs
import networkx as nx
import numpy as np
import pytest
from nets import problem, stack, vanilla
from test_engines import needs_engine, no_engine  # noqa: F401

import forwardgrad as fg
from forwardgrad import render
from forwardgrad.errors import DataError, FileError, RenderError, RuleError
from forwardgrad.render.fates import fates
from forwardgrad.render.report import Page
from forwardgrad.testing import Problem

pytestmark = needs_engine
needs_chromium = pytest.mark.skipif(
    browser.installed() is None, reason="no Chromium here: install the package chromium"
)
pages = importlib.import_module("forwardgrad.render.report")  # whose name is that of a function, too
VOID = {"meta", "input", "br", "link", "img", "hr"}


class Reader(HTMLParser):
    """Tags with their attributes, the texts of some, and whether what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def paged(rules: Any = ("rtrl",), rule: Any = "eprop", given: Problem | None = None, **options: Any) -> Page:
    given = problem(stack(), "y", steps=12) if given is None else given
    program = fg.compile(given.graph, given.loss, rule, dead="ignore")
    options = {"block": 5, "mask": given.mask, **options}
    return render.report(program, given.params, given.inputs, given.targets, rules=rules, **options)


def data_of(page: Page) -> Any:
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.text, re.DOTALL)[0])


def numbers(series: Any) -> list[float]:
    raw = base64.b64decode(series["bytes"])
    return [x * series["scale"] for (x,) in struct.iter_unpack("<f" if series["wide"] else "<H", raw)]


@pytest.fixture(scope="module")
def page() -> Page:
    return paged(("rtrl", "eprop-deep"), title="A stack & <more>")


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
    monkeypatch.setattr(pages, "MOST", 300)
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
    monkeypatch.setattr(pages, "MOST", 400_000)
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


# In a browser.


@pytest.fixture(scope="module")
def written(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page.write(tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    found = browser.Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture
def quiet(tab: browser.Browser, written: Path) -> Iterator[browser.Browser]:
    """A tab in which nothing is complained about and nothing asked for but the file."""
    tab.complaints.clear()
    tab.requests.clear()
    yield tab
    assert tab.complaints == []
    assert {address.split("#")[0] for address in tab.requests} <= {written.as_uri(), "about:blank"}


NOW = "document.getElementById('now').textContent"
TABLE = "[...document.querySelectorAll('#numbers tbody tr')].map(r => [...r.children].map(c => c.textContent))"


def shown(tab: browser.Browser, page: Page, rule: str, name: str, t: int) -> None:
    """The table is that of a record."""
    nodes, edges = page.records[rule].nodes(name), page.records[rule].edges(name)
    rows = {first: rest for first, *rest in tab.run(TABLE)}
    assert set(rows) == {*nodes, *edges}
    for at, (trace, signal, product) in rows.items():
        sizes = (nodes | edges)[at]
        assert float(trace) == pytest.approx(sizes.trace[t], rel=5e-3, abs=1e-9)
        assert float(product) == pytest.approx(sizes.product[t], rel=5e-3, abs=1e-9)
        assert (signal == "–") == (at in edges)


@needs_chromium
@pytest.mark.parametrize(
    ("t", "rule", "name"), [(0, "eprop", "x->a1"), (7, "rtrl", "h1->a1"), (11, "eprop-deep", "h2->y")]
)
def test_the_address_says_what_is_shown(
    quiet: browser.Browser, written: Path, page: Page, t: int, rule: str, name: str
) -> None:
    """If this fails, a link to a step shows another one."""
    quiet.open(written, f"#t={t}&rule={rule}&param={name.replace('>', '%3E')}")
    assert quiet.run(NOW) == f"{t} of 0–11"
    assert quiet.run("document.getElementById('rule').selectedOptions[0].text") == rule
    shown(quiet, page, rule, name, t)
    quiet.run("location.hash = '#t=3'")
    quiet.until(f"{NOW} === '3 of 0–11'")
    shown(quiet, page, rule, name, 3)


@needs_chromium
def test_nonsense_in_the_address_does_no_harm(quiet: browser.Browser, written: Path) -> None:
    """If this fails, a mangled link shows an empty page."""
    for fragment in ("#t=NaN", "#t=1e99&rule=nope&param=__proto__", "#t=-5", "#&&&=", "#t=4.4"):
        quiet.open(written, fragment)
        assert re.fullmatch(r"\d+ of 0–11", quiet.run(NOW))
    assert quiet.run(NOW) == "4 of 0–11"


@needs_chromium
def test_keys_and_slider_move_in_time(quiet: browser.Browser, written: Path, page: Page) -> None:
    """If this fails, a page is of no use without a mouse."""
    quiet.open(written, "#t=2")
    moves = [("ArrowRight", 3), ("ArrowRight", 4), ("ArrowLeft", 3), ("End", 3), ("PageDown", 3), ("Home", 3)]
    moves += [("slider", 3), ("End", 11), ("PageDown", 1), ("PageUp", 11), ("Home", 0)]
    for key, then in moves:
        if key == "slider":  # outside of it these keys scroll the page
            quiet.run("document.getElementById('step').focus()")
            continue
        quiet.press(key)
        assert quiet.run(NOW) == f"{then} of 0–11", key
        assert f"t={then}" in quiet.run("location.hash")
    quiet.run(
        "(() => { const s = document.getElementById('step'); s.value = 6; s.dispatchEvent(new Event('input')); })()"
    )
    assert quiet.run(NOW) == "6 of 0–11"
    shown(quiet, page, "eprop", "x->a1", 6)
    quiet.run("document.getElementById('step').focus()")
    quiet.press("ArrowRight")
    assert quiet.run(NOW) == "7 of 0–11"
    assert quiet.run("document.getElementById('step').getAttribute('aria-valuetext')") == "step 7, the last is 11"
    quiet.until("document.getElementById('said').textContent === 'Step 7'")


@needs_chromium
def test_it_plays_to_the_end_and_stops(quiet: browser.Browser, written: Path) -> None:
    """If this fails, playing does not start, or never ends."""
    quiet.open(written, "#t=8")
    quiet.press("p")
    assert quiet.run("document.getElementById('play').getAttribute('aria-pressed')") == "true"
    quiet.until(f"{NOW} === '11 of 0–11'")
    quiet.until("document.getElementById('play').getAttribute('aria-pressed') === 'false'")


@needs_chromium
def test_rules_beside_each_other_show_where_they_differ(quiet: browser.Browser, written: Path, page: Page) -> None:
    """If this fails, a reader does not see what an approximation leaves out."""
    quiet.open(written, "#t=9&rule=eprop&beside=rtrl&param=h1-%3Ea1")
    assert quiet.run("document.querySelectorAll('#pictures svg').length") == 2
    marked = set(quiet.run("[...document.querySelectorAll('#numbers tr.differs th')].map(e => e.textContent)"))
    wanted: set[str] = set()
    for sizes in ("nodes", "edges"):
        first, other = (getattr(page.records[rule], sizes)("h1->a1") for rule in ("eprop", "rtrl"))
        for name in first.keys() | other.keys():
            if name not in first or name not in other:
                wanted.add(name)
                continue
            for what in ("trace", "signal", "product"):
                a, b = getattr(first[name], what), getattr(other[name], what)
                if a is not None and abs(a[9] - b[9]) > 0.01 * max(a[9], b[9], 1e-12):
                    wanted.add(name)
    assert marked == wanted
    assert wanted
    ids = quiet.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    carried = quiet.run(
        "[...document.querySelectorAll('#pictures svg')].map(s => s.querySelectorAll('.edge.carries').length)"
    )
    assert carried == [len(page.records[rule].edges("h1->a1")) for rule in ("eprop", "rtrl")]


@needs_chromium
def test_a_click_on_a_plot_goes_there(quiet: browser.Browser, written: Path) -> None:
    """If this fails, peaks are seen and cannot be gone to."""
    quiet.open(written)
    script = (
        "(() => { const s = document.querySelector('#plots svg'); s.scrollIntoView({block: 'center'}); "
        "const r = s.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; })()"
    )
    left, top, width, height = quiet.run(script)
    quiet.click(left + width * 0.5, top + height / 2)
    assert quiet.run(NOW) in ("5 of 0–11", "6 of 0–11")


@needs_chromium
def test_a_page_inside_another_works(quiet: browser.Browser, page: Page, written: Path) -> None:
    """If this fails, a notebook shows a page that cannot be moved."""
    outer = written.with_name("notebook.html")
    outer.write_text(
        f"<body>{page._repr_html_()}<script>document.documentElement.dataset.ready = 'yes'</script></body>"
    )
    tab = quiet
    tab.open(outer)
    inside = "document.querySelector('iframe').contentDocument"
    tab.until(f"{inside}.documentElement?.dataset.ready === 'yes'")
    slide = f"const s = {inside}.getElementById('step'); s.value = 6; s.dispatchEvent(new Event('input'));"
    tab.run(f"(() => {{ {slide} }})()")
    assert tab.run(f"{inside}.getElementById('now').textContent") == "6 of 0–11"
    tab.until(f"{inside}.getElementById('said').textContent === 'Step 6'")
    tab.requests.clear()


@needs_chromium
def test_runs_that_are_about_to_diverge_can_be_looked_at(quiet: browser.Browser, written: Path) -> None:
    """If this fails, the page is blank when it is wanted most: numbers beyond single precision are still numbers."""
    given = problem(vanilla(), "y", steps=6)
    params = {**given.params, "h->y": given.params["h->y"] * 1e60}
    program = fg.compile(given.graph, given.loss, "eprop")
    bad = render.report(program, params, given.inputs, given.targets, rules=["rtrl"], block=2)
    path = bad.write(written.with_name("diverging.html"))
    quiet.open(path, "#t=3&size=product&beside=rtrl")
    assert re.search(r"loss \d\.\d+e\+1\d\d", quiet.run("document.querySelector('#numbers caption').textContent"))
    assert quiet.run("document.querySelectorAll('#plots polyline').length") > 4
    quiet.requests.clear()


@needs_chromium
def test_entries_and_cuts_are_marked(quiet: browser.Browser, written: Path, page: Page) -> None:
    """If this fails, an edge that is cut looks like one to which credit never comes."""
    quiet.open(written, "#rule=eprop&beside=rtrl&param=h1-%3Ea1")
    marked = "[...document.querySelectorAll('#pictures svg')].map(s => s.querySelectorAll('.edge.{}').length)"
    cuts = [arc.edge for arc in fates(fg.compile(stack(), {"y": "mse"}, "eprop"), "h1->a1").arcs if arc.target is None]
    assert quiet.run(marked.format("cut")) == [len(set(cuts)), 0]
    assert quiet.run(marked.format("enters")) == [1, 1]
    assert quiet.run("[...document.querySelectorAll('text.size')].filter(e => e.textContent.includes('▸')).length") == 0


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

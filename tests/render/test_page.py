"""Does a page in a browser answer to keys, slider, pointer and address, and show what was recorded?"""

from __future__ import annotations

import re
from pathlib import Path

import browser
import pytest
from nets import problem, stack, vanilla
from pages import a_file, a_page, a_quiet_tab, a_tab, data_of, needs_chromium  # noqa: F401
from test_engines import needs_engine

import forwardgrad as fg
from forwardgrad import render
from forwardgrad.render.fates import fates
from forwardgrad.render.report import Page

pytestmark = [needs_engine, needs_chromium]

PICTURES = "[...document.querySelectorAll('#pictures svg')]"
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


@pytest.mark.parametrize(
    ("t", "rule", "name"), [(0, "eprop", "x->a1"), (7, "rtrl", "h1->a1"), (11, "eprop-deep", "h2->y")]
)
def test_the_address_says_what_is_shown(
    quiet: browser.Browser, written: Path, page: Page, t: int, rule: str, name: str
) -> None:
    """If this fails, a link to a step shows another one."""
    quiet.open(written, f"#t={t}&rule={rule}&beside=&param={name.replace('>', '%3E')}")
    assert quiet.run(NOW) == f"{t} of 0–11"
    assert quiet.run("document.getElementById('rule').selectedOptions[0].text") == rule
    shown(quiet, page, rule, name, t)
    quiet.run("location.hash = '#t=3'")
    quiet.until(f"{NOW} === '3 of 0–11'")
    shown(quiet, page, rule, name, 3)


def test_nonsense_in_the_address_does_no_harm(quiet: browser.Browser, written: Path) -> None:
    """If this fails, a mangled link shows an empty page."""
    for fragment in ("#t=NaN", "#t=1e99&rule=nope&param=__proto__", "#t=-5", "#&&&=", "#t=4.4"):
        quiet.open(written, fragment)
        assert re.fullmatch(r"\d+ of 0–11", quiet.run(NOW))
    assert quiet.run(NOW) == "4 of 0–11"


def test_keys_and_slider_move_in_time(quiet: browser.Browser, written: Path, page: Page) -> None:
    """If this fails, a page is of no use without a mouse."""
    quiet.open(written, "#t=2&beside=")
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


def test_it_plays_to_the_end_and_stops(quiet: browser.Browser, written: Path) -> None:
    """If this fails, playing does not start, or never ends."""
    quiet.open(written, "#t=8")
    quiet.press("p")
    assert quiet.run("document.getElementById('play').getAttribute('aria-pressed')") == "true"
    quiet.until(f"{NOW} === '11 of 0–11'")
    quiet.until("document.getElementById('play').getAttribute('aria-pressed') === 'false'")


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
        "[...document.querySelectorAll('#pictures svg')].map(s => s.querySelectorAll('.edge.kept').length)"
    )
    assert carried == [len(page.records[rule].edges("h1->a1")) for rule in ("eprop", "rtrl")]


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


def test_entries_and_cuts_are_marked(quiet: browser.Browser, written: Path, page: Page) -> None:
    """If this fails, an edge that is cut looks like one to which credit never comes."""
    quiet.open(written, "#rule=eprop&beside=rtrl&param=h1-%3Ea1")
    marked = "[...document.querySelectorAll('#pictures svg')].map(s => s.querySelectorAll('.edge.{}').length)"
    cuts = [arc.edge for arc in fates(fg.compile(stack(), {"y": "mse"}, "eprop"), "h1->a1").arcs if arc.target is None]
    assert quiet.run(marked.format("cut")) == [len(set(cuts)), 0]
    assert quiet.run(marked.format("enters")) == [1, 1]
    assert quiet.run("[...document.querySelectorAll('text.size')].filter(e => e.textContent.includes('▸')).length") == 0


def test_a_second_rule_is_shown_at_first(quiet: browser.Browser, written: Path) -> None:
    """If this fails, a reader has to know that there is something to compare with."""
    quiet.open(written)
    assert quiet.run("document.querySelectorAll('#pictures svg').length") == 2
    rows = quiet.run(TABLE.replace("#numbers", "#differ"))
    cosines = [float(row[1]) for row in rows]
    assert cosines == sorted(cosines)
    by_name = {row[0]: row for row in rows}
    assert by_name["x->a1"][3] == "h1->a1, h2->a2, h2->h2"
    quiet.run("[...document.querySelectorAll('#differ button')].find(b => b.textContent === 'h2->y').click()")
    assert quiet.run("document.getElementById('parameter').selectedOptions[0].text") == "h2->y"
    quiet.open(written, "#rule=rtrl")
    assert quiet.run("document.getElementById('beside').selectedOptions[0].text") == "eprop"


def test_what_the_network_does_comes_first(quiet: browser.Browser, written: Path, page: Page) -> None:
    """If this fails, a page hides the network behind its learning rule."""
    quiet.open(written)
    titles = quiet.run("[...document.querySelectorAll('h2')].map(e => e.textContent)")
    assert titles[:2] == ["What the network does", "Where credit goes"]
    assert quiet.run("document.querySelectorAll('#activity canvas[role=img]').length") == len(data_of(page)["nodes"])
    captions = quiet.run("[...document.querySelectorAll('#doing figcaption')].map(e => e.textContent)")
    assert captions[0].startswith("y [0] — NMSE")
    assert captions[-1].startswith("loss — mean per step")
    texts_of = "s => [...s.querySelectorAll('text')].map(t => t.textContent)"
    words = quiet.run(f"[...document.querySelectorAll('#doing svg')].map({texts_of})")
    assert all("step" in texts for texts in words)
    assert all(len([text for text in texts if re.fullmatch(r"-?[\d.e+-]+", text)]) >= 4 for texts in words)
    assert "mse" in words[-1]


def test_pictures_zoom_and_move_together(quiet: browser.Browser, written: Path) -> None:
    """If this fails, a large network cannot be read on a page, or two rules show different parts of it."""
    quiet.open(written)
    windows = f"{PICTURES}.map(s => s.getAttribute('viewBox').split(' ').map(Number))"
    whole = quiet.run(windows)
    assert whole[0] == whole[1]
    quiet.run("document.getElementById('in').click()")
    near = quiet.run(windows)
    assert near[0] == near[1]
    assert near[0][2] < whole[0][2]
    left, top, width, height = quiet.run(
        "(() => { const s = document.querySelector('#pictures svg'); s.scrollIntoView({block: 'center'}); "
        "const r = s.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; })()"
    )
    quiet.drag(left + width / 2, top + height / 2, 60, 0)
    moved = quiet.run(windows)
    assert moved[0] == moved[1]
    assert moved[0][0] < near[0][0]
    quiet.run("document.getElementById('whole').click()")
    assert quiet.run(windows) == whole


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone(quiet: browser.Browser, written: Path, scheme: str) -> None:
    """If this fails, a page is wider than a small screen, or black on black on a dark one."""
    quiet.ask("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    quiet.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        quiet.open(written)
        assert quiet.run("document.documentElement.scrollWidth") == 390
        small = "[...document.querySelectorAll('#doing text')].map(e => e.getBoundingClientRect().height)"
        assert min(quiet.run(small)) >= 9
        style = "getComputedStyle(document.querySelector('{}')).{}"
        ground = quiet.run(style.format("body", "backgroundColor"))
        assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(13, 17, 23)")
        assert quiet.run(style.format("#pictures .node text", "fill")) != ground
        assert quiet.run(style.format("#pictures .edge.kept path", "stroke")) == (
            "rgb(17, 99, 41)" if scheme == "light" else "rgb(86, 211, 100)"
        )
    finally:
        quiet.ask("Emulation.clearDeviceMetricsOverride")
        quiet.ask("Emulation.setEmulatedMedia", features=[])


def test_every_role_of_a_picture_is_in_the_legend(quiet: browser.Browser, written: Path) -> None:
    """If this fails, a line or a mark on a page is not explained on it."""
    quiet.open(written, "#rule=eprop&beside=rtrl&param=h1-%3Ea1")
    roles = ("kept", "cut", "enters", "passive")
    for role in roles:
        assert quiet.run(f"document.querySelectorAll('.legend .edge.{role}').length") >= 1
        assert quiet.run(f"document.querySelectorAll('#pictures .edge.{role}').length") >= 1
    bars = "[...document.querySelectorAll('#pictures .edge.cut path.bar')]"
    shown_as = quiet.run(f"{bars}.map(e => getComputedStyle(e).display)")
    assert set(shown_as) == {"inline"}
    assert quiet.run("document.querySelectorAll('#pictures .node.stores').length") >= 1
    assert quiet.run("document.querySelectorAll('#pictures .node.learning').length") == 2

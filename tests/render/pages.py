"""Pages that the tests look at, in Python and in a browser."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser
import pytest
from nets import problem, stack

import forwardgrad as fg
from forwardgrad import render
from forwardgrad.render.report import Page
from forwardgrad.testing import Problem

needs_chromium = pytest.mark.skipif(
    browser.installed() is None, reason="no Chromium here: install the package chromium"
)
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


@pytest.fixture(scope="module", name="page")
def a_page() -> Page:
    return paged(("rtrl", "eprop-deep"), title="A stack & <more>")


@pytest.fixture(scope="module", name="written")
def a_file(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page.write(tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture(scope="module", name="tab")
def a_tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    found = browser.Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture(name="quiet")
def a_quiet_tab(tab: browser.Browser, written: Path) -> Iterator[browser.Browser]:
    """A tab in which nothing is complained about and nothing asked for but the file."""
    tab.complaints.clear()
    tab.requests.clear()
    yield tab
    assert tab.complaints == []
    assert {address.split("#")[0] for address in tab.requests} <= {written.as_uri(), "about:blank"}

"""Is the documentation site complete, and does it build offline without a warning? With the extra `docs`."""

from __future__ import annotations

import doctest
import os
import re
import runpy
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PARTS = (
    *("bridges.nir", "bridges.river", "bridges.sklearn", "bridges.torch"),
    *("cells", "learning.tasks", "oracle", "render", "rl", "testing"),
)
MODULES = ("forwardgrad", *(f"forwardgrad.{name}" for name in PARTS))
ELSEWHERE = {"forwardgrad.oracle", "forwardgrad.render", "forwardgrad.testing"}
"""Public names of `forwardgrad` that are modules, with a page each."""
REPEATED = {
    *("forwardgrad.testing.CheckError", "forwardgrad.testing.VacuousError"),
    *("forwardgrad.bridges.nir.from_nir", "forwardgrad.bridges.nir.to_nir"),
}
"""Names that `forwardgrad` has as well, and which are listed as its own."""


def listed() -> Counter[str]:
    """How often each name is listed in the API reference."""
    pages = (ROOT / "docs" / "reference").glob("*.md")
    return Counter(re.findall(r"^::: (\S+)$", "\n".join(page.read_text(encoding="utf-8") for page in pages), re.M))


def public() -> set[str]:
    """Every public name, in the words in which it is imported."""
    names = {f"{module}.{name}" for module in MODULES for name in import_module(module).__all__}
    data = vars(import_module("forwardgrad.data")).items()
    own = {name for name, value in data if getattr(value, "__module__", "") == "forwardgrad.data"}
    return names | {f"forwardgrad.data.{name}" for name in own if not name.startswith("_")}


def test_every_public_name_is_listed_exactly_once() -> None:
    """If this fails, the API reference lacks a name, or has one that is gone."""
    found = listed()
    assert set(found) == public() - ELSEWHERE - REPEATED
    assert set(found.values()) == {1}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    # A proxy that is not there: whatever asks the network fails.
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | offline | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert built.returncode == 0, built.stderr[-3000:]
    return folder


def pages(site: Path) -> dict[str, str]:
    """The HTML of each page, by its place in the site."""
    return {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}


def test_the_site_loads_nothing_from_outside(site: Path) -> None:
    """If this fails, the pages are incomplete without a network, and tell others who reads them."""
    loaded = r"<(?:link|script|img|iframe|source)\b[^>]*?(?:href|src)=[\"']?((?:https?:)?//[^\"' >]+)"
    found = pages(site)
    assert len(found) > 25
    assert not {name: urls for name, html in found.items() if (urls := re.findall(loaded, html))}
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url|@import)\s*\(?[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style


def test_the_home_page_is_the_readme_with_its_pictures(site: Path) -> None:
    """If this fails, the page differs from the README, or its links lead to files that are not on the site."""
    home = pages(site)["index.html"]
    headings = re.findall(r"^## (.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert len(headings) > 5
    assert all(re.search(rf"<h2 [^>]*>{heading}<", home) for heading in headings)
    for target in re.findall(r"(?:src|href)=\"([^\"#?:]+)\"", home):
        assert (site / target).exists(), target


def test_examples_of_docstrings_are_code(site: Path) -> None:
    """If this fails, examples are shown as quotations, which nobody can copy."""
    found = {name: html for name, html in pages(site).items() if name.startswith("reference/")}
    assert not [name for name, html in found.items() if "<blockquote>" in html]
    assert found["reference/cells.html"].count('<span class="gp">&gt;&gt;&gt; </span>') >= 16 * 3


def test_docstrings_are_rewritten_as_documented() -> None:
    """Two functions change docstrings before they are shown; their examples say how."""
    pytest.importorskip("griffe")
    names = runpy.run_path(str(ROOT / "docs" / "docstrings.py"))
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False)
    for name in ("split", "fenced"):
        for test in finder.find(names[name], name, globs=dict(names)):
            runner.run(test)
    assert runner.summarize(verbose=False) == doctest.TestResults(0, 2)


def test_notebooks_are_pages(site: Path) -> None:
    """If this fails, the notebooks can be downloaded and not read."""
    for notebook in (ROOT / "docs" / "notebooks").glob("*.ipynb"):
        page = (site / "notebooks" / f"{notebook.stem}.html").read_text(encoding="utf-8")
        assert page.count('class="highlight"') >= 8


@pytest.mark.parametrize("argument", ["source", "target", "key"])
def test_arguments_that_share_a_line_are_all_listed(site: Path, argument: str) -> None:
    """`source, target, key: as in the declared graph` describes three."""
    items: Any = re.search(r"id=\"forwardgrad.EdgeView\".*?</ul>", pages(site)["reference/forwardgrad.html"], re.S)
    assert re.search(rf"<b><code>{argument}</code></b>.*?as in the declared graph", items[0], re.S)

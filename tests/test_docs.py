"""Is what the documentation says still so? Files, attributes, code and commands that it names."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path

import networkx as nx
import pytest

import forwardgrad as fg
from forwardgrad import cli
from forwardgrad.cli.command_line import COMMANDS
from forwardgrad.graph import Network, validate
from forwardgrad.graph.schema import EDGE, NODE
from forwardgrad.rules.table import TABLE

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "forwardgrad"
HOWTO = tuple(sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "howto").glob("*.md")))
PAGES = (
    "design",
    "system",
    "learners",
    "devices",
    "performance",
    "accelerators",
    "gallery",
    "trust",
    "laser",
    "results",
    "comparison",
)
RUN = ("docs/tutorial.md", "docs/learners.md", *HOWTO)
"""Pages all of whose blocks are run, and print what stands under them."""
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{name}.md" for name in PAGES),
    *HOWTO,
)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The fenced code blocks of a document in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text(name), re.MULTILINE | re.DOTALL)


def modules() -> set[str]:
    """All modules of the package, by path; a subpackage is named by its folder."""
    paths = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    return {path for path in paths if path == "__init__.py" or not path.endswith("/__init__.py")}


def described() -> list[str]:
    """The modules that docs/system.md has a line about, in its order."""
    return re.findall(r"^- `([\w/]+\.py)`: ", text("docs/system.md"), re.MULTILINE)


def test_system_page_has_a_line_for_every_module_and_for_no_other() -> None:
    """A newcomer's page that leaves files out, or names files that are gone, misleads."""
    found = described()
    assert len(found) == len(set(found))
    assert set(found) == modules()


def test_modules_import_only_from_above() -> None:
    """The page says so; and a cycle of imports would break it first."""
    place = {module: index for index, module in enumerate(described())}
    below: list[str] = []
    for module in place:
        for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "forwardgrad":
                continue
            path = "/".join((node.module or "").split(".")[1:])
            for name in node.names:
                member = f"{path}/{name.name}.py".lstrip("/")
                imported = member if member in place else f"{path}.py"
                if place.get(imported, -1) > place[module]:
                    below.append(f"{module} imports {imported}")
    assert not below


@pytest.mark.parametrize("attribute", [*NODE, *EDGE])
def test_design_page_has_a_row_for_every_attribute(attribute: str) -> None:
    """The tables of attributes are what users declare graphs by."""
    assert re.search(rf"^\| `{attribute}` \| ", text("docs/design.md"), re.MULTILINE)


@pytest.mark.parametrize("name", TABLE)
def test_design_page_has_a_row_for_every_named_rule(name: str) -> None:
    """A rule that is not defined in words can be checked against nothing."""
    page = text("docs/design.md")
    assert re.search(rf"^\| `{name}[`(]", page, re.MULTILINE) or (name in ("all", "near") and f"`{name}`: " in page)


@pytest.mark.usefixtures("tables_as_before")
@pytest.mark.parametrize("name", ["README.md", *RUN, "docs/design.md", "docs/laser.md"])
def test_python_blocks_run_one_after_another(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Code that a reader copies must work, and print what stands under it."""
    if name == "docs/laser.md":
        pytest.importorskip("reservoirpy")
    if name == "docs/howto/nir.md":
        pytest.importorskip("nir")
    names: dict[str, object] = {}
    for block in blocks(name, "python"):
        exec(compile(block, name, "exec"), names)
    printed = capsys.readouterr().out
    shown = blocks(name, "text")
    if name not in RUN:
        shown = [block for block in shown if block.startswith(("Program:", "untrained", "h1->a1", "eps_"))]
    assert len(shown) == {"README.md": 3, "docs/laser.md": 1}.get(name, len(shown))
    for block in shown:
        assert block in printed
    if name == "README.md":  # how often exactly depends on how a machine rounds
        reached = re.findall(r"right answers: (\d+)%", printed + text(name))
        assert min(map(int, reached)) >= 90
        assert len(reached) == 2


def test_pytorch_blocks_run() -> None:
    """The page for those who come from PyTorch copies weights: its outputs must be those of PyTorch."""
    pytest.importorskip("torch")
    page = text("docs/howto/from_pytorch.md")
    names: dict[str, object] = {}
    for block in re.findall(r"^```python(?: title=\"PyTorch\")?\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/howto/from_pytorch.md", "exec"), names)
    assert page.count('title="PyTorch"') == 3


def drawn(network: Network) -> tuple[dict[str, tuple[object, ...]], dict[str, tuple[object, ...]]]:
    """What a network is, such that two can be compared; fixed values to ten digits."""
    nodes = {name: (node.op.name, node.size, node.ports, node.bias, node.layer) for name, node in network.nodes.items()}
    edges = {
        name: (edge.kind, edge.delay, edge.param, None if edge.value is None else f"{float(edge.value):.10g}")
        for name, edge in network.edges.items()
    }
    return nodes, edges


def test_the_graph_of_the_readme_is_the_shipped_one_that_its_picture_shows() -> None:
    """The README says that it is `leaky_stack`, and shows a picture of that."""
    names: dict[str, nx.MultiDiGraph[str]] = {}
    by_hand = next(block for block in blocks("README.md", "python") if "orthogonal" in block)
    exec(f"import networkx as nx\n{by_hand}", names)
    ours, shipped = validate(names["graph"]), validate(fg.load("leaky_stack"))
    assert drawn(ours) == drawn(shipped)
    assert {p.name: p.init for p in ours.parameters.values()} == {p.name: p.init for p in shipped.parameters.values()}
    picture = text("docs/images/leaky_stack.svg")
    assert all(f">{name}</text>" in picture for name in ours.nodes)


def commands() -> list[str]:
    """Every command of the documents that calls `forwardgrad`, its shell variables filled in."""
    found: list[str] = []
    for name in DOCUMENTS:
        lines = [line for block in blocks(name, "sh") for line in block.splitlines()]
        lines += re.findall(r"`((?:\.venv/bin/)?forwardgrad [^`|]+)`", text(name))
        for line in lines:
            found += re.findall(r"(?:^|\s)(?:\.venv/bin/)?forwardgrad ([^;&|]+)", line)
    return [command.replace("$rule", "eprop").replace("$seed", "1") for command in found]


def test_commands_of_the_documents_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that a reader copies must not end in a usage message. None of them is executed here."""
    asked: list[str] = []
    for name in COMMANDS:
        module = import_module(f"forwardgrad.cli.{name}")
        monkeypatch.setattr(module, "run", lambda given, name=name: asked.append(name) or 0)
    found = commands()
    for command in found:
        words = shlex.split(command, comments=True)
        if len(words) == 1 and words[0] in ("train", "explain", "check", "audit", "render"):
            words.append("leaky_stack")  # named in passing, without its graph
        if len(words) == 1 and words[0] in ("predict", "evaluate"):
            words += ["runs/wave", "--data", "wave.csv"]
        if words == ["rl"]:
            words.append("memory_chain")
        if words == ["export"]:
            words += ["leaky_stack", "-o", "learner"]
        if words == ["--version"]:
            continue
        assert cli.main(words) == 0
    assert {"train", "check", "render"} <= set(asked)


def test_readme_shows_what_the_main_job_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line by line, all numbers aside: this job is smaller than that of the README."""
    pytest.importorskip("reservoirpy")
    pytest.importorskip("matplotlib")
    if not fg.render.available():
        pytest.skip("no layout engine")
    monkeypatch.chdir(tmp_path)
    job = "train leaky_stack --data laser --rule eprop-deep --out runs/laser --passes 2 --train-samples 400"
    assert cli.main(shlex.split(job)) == 0
    printed = capsys.readouterr().out
    (shown,) = (block for block in blocks("README.md", "text") if "test NMSE" in block)
    assert without_numbers(shown) == without_numbers(printed)


def without_numbers(text: str) -> str:
    return re.sub(r"\d[\d.,]*", "#", text)


def test_readme_has_exactly_two_commands_that_set_up() -> None:
    """One runs the main job, one the tests, each on one line and with extras that exist."""
    lines = [line for block in blocks("README.md", "sh") for line in block.splitlines() if "pip install" in line]
    assert len(lines) == 2
    job, tests = lines
    assert "forwardgrad train leaky_stack --data laser --rule eprop-deep" in job
    assert tests.endswith("&& .venv/bin/pytest")
    extras = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    for line in lines:
        wanted = re.search(r'-e "\.\[([\w,-]+)\]"', line)
        assert wanted is not None
        assert set(wanted[1].split(",")) <= set(extras)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    """Links and paths of files in the repository."""
    folder = (ROOT / name).parent
    prose = re.sub(r"^```.*?^```$", "", text(name), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+)\)", prose):
        assert (folder / target).exists(), target
    for path in re.findall(r"`((?:forwardgrad|tests|examples|graphs|docs|\.ci)/[\w./-]*)`", text(name)):
        assert (ROOT / path).exists(), path


def test_no_file_holds_a_path_of_one_machine() -> None:
    """What is published must mean something on every machine, and to every reader."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    # Put together here, so that this file does not hold them.
    machine = "|".join(re.escape(f"/{folder}/") for folder in ("tmp", "work", "root"))
    forbidden = re.compile(rf"(?<![\w.])(?:{machine})|\bshared/(?:design|style|learning|ecosystem)", re.IGNORECASE)
    found: list[str] = []
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
                if forbidden.search(line):
                    found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert not found


def test_the_gallery_is_the_one_that_its_command_makes() -> None:
    """If this fails, a shipped graph has no pictures, or those of another; make them: python docs/make_gallery.py"""
    made = runpy.run_path(str(ROOT / "docs" / "make_gallery.py"))
    assert text("docs/gallery.md") == made["page"]()

"""What importing forwardgrad costs, and that no name is lost by importing late."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import forwardgrad as fg
from forwardgrad import testing

PACKAGES = [fg, testing, fg.program]
HEAVY = ["numpy", "networkx"]
FOREIGN = [
    "hypothesis",
    "matplotlib",
    "graphviz",
    "tqdm",
    "forwardgrad.render",
    "forwardgrad.testing",
    "forwardgrad.cli",
]


def imported_by(code: str, of: list[str]) -> list[str]:
    """Those of some modules that are imported in a new process after it has executed code."""
    script = f"import sys\n{code}\nprint(*(name for name in {of!r} if name in sys.modules))"
    ended = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    return ended.stdout.split()


def test_importing_forwardgrad_imports_nothing_that_is_slow() -> None:
    """Every script, and every start of the command line, would wait for it."""
    assert imported_by("import forwardgrad", [*HEAVY, *FOREIGN]) == []


def test_compiling_and_running_draws_nothing_and_tests_nothing() -> None:
    """Who trains needs no pictures. NumPy shows that modules can be noticed here at all."""
    code = "import forwardgrad as fg\nprogram = fg.compile(fg.load('elman'))\nprogram.start()\nprogram.init()"
    assert imported_by(code, [*HEAVY, *FOREIGN]) == HEAVY


def test_the_plugin_costs_other_users_of_hypothesis_nothing() -> None:
    """Hypothesis imports and calls it in every test session of an environment with forwardgrad in it."""
    pytest.importorskip("hypothesis")
    code = "import hypothesis\nfrom forwardgrad.testing.plugin import register\nregister()"
    assert imported_by(code, ["forwardgrad.testing.plugin", "forwardgrad.rules.rule", *HEAVY]) == [
        "forwardgrad.testing.plugin"
    ]


@pytest.mark.parametrize("first", ["import hypothesis", "import forwardgrad as fg; fg.Rule, fg.testing.Problem"])
def test_hypothesis_draws_our_types_whichever_is_imported_first(first: str) -> None:
    """By the plugin alone: a user registers nothing."""
    pytest.importorskip("hypothesis")
    code = f"""{first}
from hypothesis import find, strategies as st
from forwardgrad.testing.plugin import register
register()
import forwardgrad as fg
assert str(find(st.from_type(fg.PathRule), lambda rule: True)) == "all"
assert str(find(st.from_type(fg.Rule), lambda rule: True)) == "all"
assert find(st.from_type(fg.testing.Problem), lambda problem: True).batch == 1
"""
    assert imported_by(code, HEAVY) == HEAVY


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_what_type_checkers_read_is_what_is_imported(package: ModuleType) -> None:
    """A name in one list only would be an error for pyright, or when it is used."""
    assert package.__file__ is not None
    static: dict[str, str] = {}
    for node in ast.walk(ast.parse(Path(package.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            static |= {name.name: node.module or "" for name in node.names}
    assert sorted(package.__all__) == sorted(static.keys() - {"TYPE_CHECKING", "lazily"})
    for name in package.__all__:
        found = getattr(package, name)
        assert found is (sys.modules.get(f"{static[name]}.{name}") or getattr(sys.modules[static[name]], name))
        assert name in dir(package)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_no_function_has_the_name_of_a_module(package: ModuleType) -> None:
    """Importing the module would put it in the place of the function."""
    functions = [name for name in package.__all__ if not isinstance(getattr(package, name), ModuleType)]
    assert package.__file__ is not None
    modules = {path.stem for path in Path(package.__file__).parent.iterdir()}
    assert not modules & set(functions)


def test_modules_are_attributes_and_other_names_are_errors() -> None:
    """As they were when everything was imported at once."""
    assert imported_by("import forwardgrad as fg\nassert fg.graph.validate and fg.program.Result", ["numpy"]) == [
        "numpy"
    ]
    with pytest.raises(AttributeError, match="module 'forwardgrad' has no attribute 'complie'"):
        _ = fg.complie  # pyright: ignore


def test_the_oracle_imports_nothing_that_it_checks() -> None:
    """A fault that both share would go unnoticed."""
    checked = ["forwardgrad.compiler", "forwardgrad.backends", "forwardgrad.array_program", "forwardgrad.program"]
    assert imported_by("import forwardgrad.oracle", ["forwardgrad.rules.table", *checked]) == [
        "forwardgrad.rules.table"
    ]


@pytest.mark.parametrize("words", [["--help"], ["graphs", "--help"]], ids=" ".join)
def test_help_needs_no_other_command(words: list[str]) -> None:
    """Who asks how a command is called would wait for what trains, tests and draws."""
    code = f"""import contextlib, io
from forwardgrad.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main({words})"""
    others = ["forwardgrad.cli.train", "forwardgrad.cli.render", "forwardgrad.training", *FOREIGN[:-1]]
    assert imported_by(code, ["forwardgrad.cli", *others]) == ["forwardgrad.cli"]

"""Are drawn problems small when they fail, printed so that they can be replayed, and known to Hypothesis?"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

import forwardgrad as fg
from forwardgrad import cli
from forwardgrad.graph import validate
from forwardgrad.testing import Origin, Problem
from forwardgrad.testing.strategies import graphs, problems, rule_texts


@given(drawn=problems())
@settings(max_examples=60)
def test_a_printed_problem_is_the_problem(drawn: Problem, tmp_path_factory: pytest.TempPathFactory) -> None:
    """If it failed, the graph and the seed that a failure prints would lead to another problem."""
    path = tmp_path_factory.mktemp("drawn") / "problem.toml"
    path.write_text(drawn.toml, encoding="utf-8")
    assert drawn.origin is not None
    graph = fg.load(path)
    program = fg.compile(graph, rule="rtrl", dead="ignore")
    again = Problem.of(program, drawn.origin)
    assert set(graph.graph["loss"]) == set(drawn.loss)
    for name in ("params", "inputs", "targets"):
        one, two = getattr(drawn, name), getattr(again, name)
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[key], two[key]) for key in one)
    masks = [p.mask if isinstance(p.mask, dict) else {"": p.mask} for p in (drawn, again)]
    assert masks[0].keys() == masks[1].keys()
    assert all(np.array_equal(masks[0][key], masks[1][key]) for key in masks[0])


@pytest.mark.filterwarnings("ignore::forwardgrad.DeadParameterWarning")
@given(drawn=problems(max_nodes=3), rule=rule_texts())
@settings(max_examples=10)
def test_a_printed_command_runs(drawn: Problem, rule: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """If it failed, the line that a failure prints would end in a usage message."""
    import shlex

    path = tmp_path_factory.mktemp("drawn") / "problem.toml"
    path.write_text(drawn.toml, encoding="utf-8")
    words = shlex.split(drawn.command(rule).replace("problem.toml", str(path)))
    assert words[0] == "forwardgrad"
    assert cli.main([*words[1:], "--json"]) in (0, 1)  # 1 where the whole gradient is zero


def test_a_failure_prints_the_graph_and_the_command(tmp_path: Path) -> None:
    """If it failed, a user would get arrays instead of a graph to read and a command to run."""
    (tmp_path / "test_it.py").write_text(
        "from hypothesis import given, settings\n"
        "from forwardgrad.testing.strategies import problems\n"
        "@given(problem=problems())\n"
        "@settings(database=None)\n"
        "def test_it(problem):\n"
        "    assert not any(e.get('delay') for _, _, e in problem.graph.edges(data=True))\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_it.py")]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path)
    assert found.returncode == 1, found.stdout
    assert "[nodes.n0]" in found.stdout
    assert "replay: forwardgrad check problem.toml --rule RULE --samples 1 --seed 0 --steps 4 --batch 1" in found.stdout
    assert "array(" not in found.stdout


def test_failures_shrink_to_what_a_person_can_read() -> None:
    """If it failed, a fault of one edge would be shown on a graph of a dozen."""
    spiking = find(graphs(), lambda g: any(a["op"] == "spike" for _, a in g.nodes(data=True)))
    assert (len(spiking), spiking.number_of_edges()) == (2, 1)
    shared = find(graphs(), lambda g: any("param" in e for _, _, e in g.edges(data=True)))
    assert len(shared) <= 3
    assert shared.number_of_edges() == 2


KNOBS: dict[str, tuple[dict[str, Any], Any]] = {
    "nodes": ({"min_nodes": 3, "max_nodes": 4}, lambda n, g: 3 <= len(n.nodes) - len(n.inputs) <= 4),
    "delays": ({"max_delay": 1}, lambda n, g: all(e.delay <= 1 for e in n.edges.values())),
    "sizes": ({"max_size": 1}, lambda n, g: all(v.size == 1 for v in n.nodes.values())),
    "smooth": ({"smooth": True}, lambda n, g: all(v.op.smooth for v in n.nodes.values())),
    "spiking": ({"spiking": True}, lambda n, g: n.nodes["n0"].op.name == "spike"),
    "kinds": ({"kinds": ("dense",)}, lambda n, g: {e.kind for e in n.edges.values()} <= {"dense"}),
    "sharing": ({"sharing": False}, lambda n, g: all(len(p.edges) < 2 for p in n.parameters.values())),
    "roles": ({"roles": False}, lambda n, g: not any(e.role for e in n.edges.values())),
    "credit": ({"credit": False}, lambda n, g: not any(e.credit for e in n.edges.values())),
    "feedback": ({"feedback": False}, lambda n, g: not any(e.source == e.target for e in n.edges.values())),
    "components": (
        {"components": 1, "max_nodes": 4},
        lambda n, g: len({e.source for e in n.edges.values() if e.source == e.target}) <= 1,
    ),
    "deep": (
        {"deep": True, "min_nodes": 3, "max_nodes": 3, "smooth": True},
        lambda n, g: (
            all(any(e.source == f"n{i}" for e in n.into[f"n{i + 1}"]) for i in range(2))
            or {"exp", "square"} & {v.op.name for v in n.nodes.values()}
        ),
    ),
}


@pytest.mark.parametrize("knob", KNOBS)
@given(data=st.data())
@settings(max_examples=30)
def test_knobs_do_what_they_say(knob: str, data: st.DataObject) -> None:
    """If it failed, a property could not be tested on the graphs that it is about."""
    options, holds = KNOBS[knob]
    graph = data.draw(graphs(**options))
    assert holds(validate(graph), graph)


@given(drawn=problems(losses=("bernoulli",), masks=False))
@settings(max_examples=20)
def test_losses_and_masks_can_be_chosen(drawn: Problem) -> None:
    """If it failed, the knobs of problems would do nothing."""
    assert set(drawn.loss.values()) == {"bernoulli"}
    assert drawn.mask is None


def test_hypothesis_knows_the_types() -> None:
    """If it failed, `st.from_type` would build problems of nonsense, or rules that are none, or fail."""
    code = (
        "from hypothesis import find, strategies as st\n"
        "from forwardgrad import PathRule, Rule\n"
        "from forwardgrad.testing import Problem\n"
        "print(find(st.from_type(Problem), lambda p: True).steps, find(st.from_type(PathRule), lambda r: True))\n"
        "print(find(st.from_type(Rule), lambda r: True).layout)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert found.stdout.splitlines() == ["4 all", "lossless"], found.stderr


def test_without_hypothesis_one_line_says_so() -> None:
    """If it failed, the core would need Hypothesis, or its absence would end in a traceback of ours."""
    code = (
        "import sys\n"
        "sys.modules['hypothesis'] = None\n"
        "import forwardgrad as fg\n"
        "fg.testing.assert_op('tanh')\n"
        "try:\n    fg.testing.strategies\n"
        "except fg.MissingExtraError as error:\n    print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    wanted = 'testing.strategies needs Hypothesis: pip install "forwardgrad[testing]"\n'
    assert found.stdout.endswith(wanted), found.stderr


def test_an_origin_is_checked() -> None:
    """If it failed, a slip in a word would draw other numbers without a word."""
    with pytest.raises(fg.DataError, match="Did you mean 'time'"):
        Origin(mask="tim")
    program = fg.compile(fg.load("elman"))
    one, two = Problem.of(program, seed=1), Problem.of(program, seed=2)
    assert not np.array_equal(one.params["h->h"], two.params["h->h"])
    assert replace(one, origin=None).command() == ""
    assert "params: " in repr(replace(one, origin=None))


@given(drawn=problems(masks=False))
@settings(max_examples=20)
def test_a_problem_whose_numbers_were_changed_says_so(drawn: Problem) -> None:
    """If it failed, the command would be printed for numbers that it does not draw."""
    assert drawn.as_drawn
    changed = replace(drawn, mask=np.ones(drawn.steps))
    assert not changed.as_drawn
    assert "replay (its numbers were changed since): " in repr(changed)
    assert "mask: array(" in repr(changed)

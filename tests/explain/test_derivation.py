"""Do the printed equations say what the program does? They are evaluated here, and compared with its gradient."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import declare, problem, vanilla

import forwardgrad as fg
from forwardgrad import cli
from forwardgrad.explain.notation import LIMIT
from forwardgrad.testing.strategies import path_rules, problems
from tests.explain.evaluated import assert_equations_hold, bare

RULES = ["rtrl", "eprop", "eprop-deep", "ostl", "immediate", "hops(2)", "rtrl; autapses=implicit"]


@pytest.mark.parametrize("rule", [*RULES, "eprop-random", "rtrl; operator={'implicit': 0.7}"])
@pytest.mark.parametrize("name", ["lif", "leaky_stack", "elman", "lstm", "gru"])
def test_equations_of_shipped_graphs_give_the_gradient(name: str, rule: str) -> None:
    """If this fails, a printed equation is not what is computed."""
    graph = fg.load(name)
    for node in graph:
        if graph.nodes[node].get("size") == 32:
            graph.nodes[node]["size"] = 3
    given = problem(graph, "y", steps=5, gain=2.0)
    program = assert_equations_hold(given, rule)
    assert all(d.equation.count("\n") for d in program.rules.values() if d.layouts)


@given(st.data())
@settings(max_examples=12)
def test_equations_of_random_graphs_give_the_gradient(data: st.DataObject) -> None:
    """If this fails, some graph or rule is put into equations that are not what is computed."""
    given_ = data.draw(problems(max_nodes=5, least_steps=5, most_steps=6, max_batch=1))
    assert_structure(assert_equations_hold(given_, data.draw(path_rules(given_.edges))))


def assert_structure(program: fg.Program) -> None:
    """Assert that each stored place has one line, and that only weights of kept edges are multiplied by."""
    plan = program.plan
    names = {name for arc in plan.product.arcs for name in (arc.edge, plan.network.edges[arc.edge].param)}
    for name, derived in program.rules.items():
        found = derived.equations
        left = [line.left for line in (*found.influence, *found.signals)]
        assert len({bare(symbol) for symbol in left}) == len(left)
        nodes = {symbol.name for symbol in left}
        stored = {plan.product.places[place].node for place in plan.entries[name]}
        filtered = {note.text.rpartition(" leak of ")[2] for note in found.notes}
        assert stored <= nodes | filtered
        for line in (*found.influence, *found.signals):
            weights = {factor.name for term in line.right for factor in term.factors if factor.kind in ("W", "w")}
            assert weights <= names


def test_equations_read_as_text_where_python_shows_them() -> None:
    """If this fails, a terminal, and a page without mathematics, show the fields of a data class."""
    equations = fg.compile(fg.load("elman"), rule="eprop").rules["h->h"].equations
    assert repr(equations) == equations.text()


def test_equations_read_like_the_papers(golden: Callable[[str, str], None]) -> None:
    """If this fails, the equations that a reader knows from the papers are printed in another form."""
    wanted = {
        ("lif", "eprop"): ["z->v", "x->v", "z->y", "y.bias"],
        ("leaky_stack", "eprop-deep"): ["x->a1", "h1->a2", "a1.bias"],
        ("elman", "rtrl"): ["h->h", "x->h", "h.bias"],
        ("elman", "eprop-random"): ["h->h"],
        ("lstm", "eprop"): ["x->l1.i", "l1.h->l1.o"],
        ("gru", "eprop"): ["x->l1.n", "l1.h->l1.r"],
        ("lif", "hops(2)"): ["z->v"],
        ("leaky_stack", "snap(2)"): ["h1->a1"],
        ("elman", "rtrl; autapses=implicit, layout=uoro"): ["h->h"],
    }
    parts: list[str] = []
    for (graph, rule), names in wanted.items():
        program = fg.compile(fg.load(graph), rule=rule)
        parts += [f"{graph}, {rule}, {name}\n\n{program.rules[name].equation}\n" for name in names]
    golden("\n".join(parts), "equations.txt")


def test_latex_of_shipped_graphs(golden: Callable[[str, str], None]) -> None:
    """If this fails, the LaTeX of an equation has changed."""
    wanted = (("lif", "eprop", "z->v"), ("elman", "rtrl", "h->h"))
    found = [fg.compile(fg.load(graph), rule=rule).rules[name].latex() for graph, rule, name in wanted]
    golden("\n\n".join(found) + "\n", "equations.tex")


def test_tied_delayed_and_parallel_edges_and_several_losses() -> None:
    """If this fails, a site, a delay, an edge or a loss is missing from an equation."""
    graph = declare(
        {
            "x": {"op": "input", "size": 2},
            "a": {"op": "tanh", "size": 2},
            "b": {"op": "linear", "size": 2},
            "y": {"op": "linear", "size": 1},
        },
        ("x", "a", {"weight": "dense", "param": "tied"}),
        ("a", "b", {"weight": "dense", "param": "tied", "delay": 3}),
        ("a", "a", {"weight": "diagonal", "delay": 2}),
        ("a", "b", {"weight": "scalar"}),
        ("a", "b", {"key": "other", "value": -0.5, "delay": 1}),
        ("b", "y", {"weight": "dense"}),
    )
    program = assert_equations_hold(problem(graph, "b", "y", steps=8), "rtrl")
    text = program.rules["tied"].equation
    for part in ("(t-3)", "(t-2)", "dE/db", "dE/dy"):
        assert part in text
    assert_structure(program)


def test_what_happens_besides_is_said() -> None:
    """If this fails, a lossy layout or a dropped influence reads like the exact recursion."""
    said = {
        "snap(3)": "n - 1 = 2 transitions",
        "uoro": "a b^T",
        "kf-rtrl": "Kronecker",
        "tbptt": "dropped",
    }
    for rule, words in said.items():
        rules = {"h->h": rule, "*": "rtrl"}
        assert words in fg.compile(vanilla(), loss={"y": "mse"}, rule=rules).rules["h->h"].equation.splitlines()[-1]
    given_ = fg.compile(vanilla(), loss={"y": "mse"}, rule="rtrl; feedback=signal").rules["h->h"].equation
    assert "the learning signal that is given" in given_
    adaptive = fg.compile(vanilla(), loss={"y": "mse"}, rule="eprop-adaptive").rules["h->h"].equation
    assert "B_{h->y}: adaptive feedback" in adaptive
    assert "W_{h->y}" not in adaptive


def test_untrained_parameters_are_listed_and_have_no_equation() -> None:
    """If this fails, a frozen reservoir looks trained, or vanishes from the listing."""
    program = fg.compile(fg.load("elman"), rule="reservoir")
    assert "h->h" not in program.rules
    assert [line for line in str(program).splitlines() if line.startswith("h->h") and "untrained (reservoir)" in line]


HOSTILE = ["a_b", "c^2", "\\input{x}", "50%", "$", "#1 & ~", "}{", "line\nbreak", "it's"]


@pytest.mark.parametrize("name", HOSTILE)
def test_latex_of_hostile_names(name: str) -> None:
    """If this fails, a name of the user's breaks the document that its equation stands in, or a line of text."""
    graph = declare(
        {"x": {"op": "input", "size": 1}, name: {"op": "tanh", "size": 2}, "y": {"op": "linear", "size": 1}},
        ("x", name, {"weight": "dense"}),
        (name, name, {"weight": "dense", "delay": 1}),
        (name, "y", {"weight": "dense"}),
    )
    derived = fg.compile(graph, loss={"y": "mse"}, rule="hops(2)").rules[f"{name}->{name}"]
    latex = derived.latex()
    bare = re.sub(r"\\[\\{}_^%$#&]", "", latex)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert not re.search(r"[%#~]", bare)
    assert bare.count("&") == bare.count("&=")
    assert bare.count("$") % 2 == 0
    assert "\\input" not in latex
    assert "\nbreak" not in derived.equation


def test_dozens_of_places_stay_readable() -> None:
    """If this fails, the equation of a long chain runs over pages, or the compiler runs out of stack."""
    graph = declare({"x": {"op": "input", "size": 1}})
    for i in range(60):
        graph.add_node(f"n{i}", op="tanh", size=1)
        graph.add_edge(f"n{i - 1}" if i else "x", f"n{i}", weight="dense")
        graph.add_edge(f"n{i}", f"n{i}", weight="dense", delay=1)
    text = fg.compile(graph, loss={"n59": "mse"}, rule="rtrl").rules["x->n0"].equation
    assert "... and 20 more" in text
    assert len(text.splitlines()) < 3 * LIMIT


def test_explain_prints_equations(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, the command line shows other equations than the program, or those of other parameters."""
    derived = fg.compile(fg.load("lif"), rule="eprop").rules["z->v"]
    assert cli.main(["explain", "lif", "--rule", "eprop", "--param", "z->*"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {line}\n" in printed for line in derived.equation.splitlines())
    assert "dE/dW_{x->v}" not in printed
    assert cli.main(["explain", "lif", "--rule", "eprop", "--param", "z->v", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["parameters"].values()
    assert (found["equation"], found["latex"]) == (derived.equation, derived.latex())
    assert cli.main(["explain", "lif", "--rule", "eprop", "--param", "q"]) == 2
    assert "fits no trained parameter" in capsys.readouterr().err

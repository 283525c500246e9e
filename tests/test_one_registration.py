"""Ops, layouts and rules are one registration each: no other file asks for one of them by its name or class."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad import layouts, ops
from forwardgrad.ops import Formula, Op
from forwardgrad.rules import paths, table

PACKAGE = Path(fg.__file__).parent

NAMES = {*ops.names(), *layouts.names(), *table.RULES}

CLASSES = {
    name for name, value in vars(paths).items() if isinstance(value, type) and value.__module__ == paths.__name__
}

FREE = {"NodeView", "EdgeView", "PathRule"}
"""What every path rule is, or sees."""

OWN = ("ops/", "layouts/", "rules/")
"""The folders in which ops, layouts and rules are registered."""

GRAPHS = "testing/strategies/graphs.py"
"""It draws graphs of the shipped ops, as a user writes them: by name."""

ELSEWHERE = [
    path for path in sorted(PACKAGE.rglob("*.py")) if not str(path.relative_to(PACKAGE)).startswith((*OWN, GRAPHS))
]


def asked(source: str) -> Iterator[str]:
    """The names and classes that a text tells apart."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            words = [side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side] for side in sides]
            found = [word.value for each in words for word in each if isinstance(word, ast.Constant)]
            yield from (word for word in found if isinstance(word, str) and word in NAMES)
        elif isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant) and node.value.value in NAMES:
            yield str(node.value.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"isinstance", "issubclass"}:
            names = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
            yield from names & (CLASSES - FREE)


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_op_layout_or_rule_is_asked_for_by_name(path: Path) -> None:
    """If this fails, an op, a layout or a rule of a user's own cannot do what the shipped one of that name does."""
    assert list(asked(path.read_text())) == []


def test_what_is_asked_for_is_found() -> None:
    """If this fails, the test above cannot fail."""
    source = "if op == 'mul' or op.name in ('tanh', 'snap'): isinstance(rule, Hops | Cut)"
    assert sorted(asked(source)) == ["Cut", "Hops", "mul", "snap", "tanh"]


def test_ops_of_a_user_are_a_source_and_a_product_by_what_they_declare() -> None:
    """If this fails, what `input` and `mul` do hangs on their names, and an op of a user's own cannot do it."""
    source, product = Op("sensor", Formula("x"), given=True), replace(ops.get("mul"), name="gate")
    programs = {}
    with ops.registered(source, product):
        for outside, gate in (("input", "mul"), ("sensor", "gate")):
            g = nx.MultiDiGraph()
            g.add_node("x", op=outside, size=2)
            for name, op in {"a": "tanh", "b": "sigmoid", "y": gate}.items():
                g.add_node(name, op=op, size=2)
            g.add_edge("x", "a", weight="dense")
            g.add_edge("y", "b", weight="dense", delay=1)
            g.add_edge("x", "b", weight="dense")
            g.add_edge("a", "y", port="left")
            g.add_edge("b", "y", port="right")
            programs[outside] = fg.compile(g, {"y": "mse"})
        one, other = programs.values()
        assert str(one.rules["x->a"].equations) == str(other.rules["x->a"].equations)
        assert other.network.inputs == ("x",)
        inputs, targets = {"x": np.ones((3, 1, 2))}, {"y": np.zeros((3, 1, 2))}
        assert other.gradient(one.init(), inputs, targets).loss == one.gradient(one.init(), inputs, targets).loss

"""Does a block-diagonal weight do what the same matrix with zeros does, at every step from a file to a checkpoint?"""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from checks import assert_like_oracle, error

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.graph import validate
from forwardgrad.testing.problem import Origin, Problem
from forwardgrad.verification import verify

MASK = np.kron(np.eye(3), np.ones((2, 2)))


def graph(**weight: object) -> nx.MultiDiGraph[str]:
    """Six recurrent units in three groups, fed by nine inputs in three groups."""
    found: nx.MultiDiGraph[str] = nx.MultiDiGraph(loss={"y": "mse"})
    found.add_node("x", op="input", size=9)
    found.add_node("h", op="tanh", size=6, bias=True)
    found.add_node("y", op="linear", size=2)
    found.add_edge("x", "h", weight="block", blocks=3)
    found.add_edge("h", "h", delay=1, **weight)
    found.add_edge("h", "y", weight="dense")
    return found


BLOCK = {"weight": "block", "blocks": 3}


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "eprop-deep", "snap(1)", "immediate"])
def test_gradients_are_those_of_the_oracle(rule: str) -> None:
    """Under every rule, in both backends, in blocks shorter than the sequence."""
    problem = Problem.tame(graph(**BLOCK), {"y": "mse"}, Origin(seed=1, steps=7))
    if rule != "snap(1)":
        assert_like_oracle(problem, rule, blocks=(1, 3))
        return
    given = {"inputs": problem.inputs, "targets": problem.targets, "block": 1}
    mask = {"weight": "sparse", "mask": MASK}
    one, other = (fg.compile(graph(**weight), rule=rule) for weight in (BLOCK, mask))
    found = [program.gradient(problem.params, **given).grads for program in (one, other)]
    assert error(found[0], found[1]) == 0
    assert np.abs(found[0]["h->h"]).max() > 1e-3


def test_gradients_are_slopes_of_the_loss() -> None:
    """Finite differences know nothing of blocks but the values."""
    problem = Problem.tame(graph(**BLOCK), {"y": "mse"}, Origin(seed=2, steps=5))
    wanted = oracle.finite_difference(**problem.arguments).grads
    found = fg.compile(problem.graph).gradient(problem.params, problem.inputs, problem.targets, block=2).grads
    assert np.abs(wanted["x->h"]).max() > 1e-3
    assert error(found, wanted) < 1e-6


def test_it_is_the_sparse_matrix_of_its_blocks() -> None:
    """Entry (b, i, j) in the order of `numpy.ravel`: an array of blocks is what a user has."""
    blocks = np.arange(12.0).reshape(3, 2, 2)
    edge = validate(graph(**BLOCK)).edges["h->h"]
    assert edge.pattern is not None
    matrix = np.zeros((6, 6))
    matrix[edge.pattern.rows, edge.pattern.columns] = blocks.ravel()
    wanted = np.zeros((6, 6))
    for b, block in enumerate(blocks):
        wanted[2 * b : 2 * b + 2, 2 * b : 2 * b + 2] = block
    assert np.array_equal(matrix, wanted)
    assert fg.compile(graph(**BLOCK)).init()["x->h"].shape == (18,)


def test_exact_influence_costs_what_the_same_mask_costs() -> None:
    """A kind of its own must not lose the zeros."""
    costs = [fg.compile(graph(**weight)).cost().influence for weight in (BLOCK, {"weight": "sparse", "mask": MASK})]
    assert costs[0] == costs[1]


def test_files_pictures_equations_and_checkpoints_know_it(tmp_path: Path) -> None:
    """A kind that works only in Python is half a kind."""
    declared = graph(**BLOCK)
    for name in ("g.toml", "g.json"):
        fg.save(declared, tmp_path / name)
        assert fg.load(tmp_path / name).edges["h", "h", 0]["blocks"] == 3
    assert "block 6×6, 12 entries" in fg.render.graph(declared).source
    program = fg.compile(declared, rule="eprop")
    assert "h->h" in str(program)
    assert program.rules["h->h"].equations
    learner = (
        program.learner(fg.SGD(0.1))
        if hasattr(program, "learner")
        else fg.Learner(program, program.init(), fg.SGD(0.1))
    )
    learner.fit([({"x": np.ones((3, 1, 9))}, {"y": np.ones((3, 1, 2))})])
    learner.save(tmp_path / "l.npz")
    assert np.array_equal(fg.Learner.load(tmp_path / "l.npz", program).params["h->h"], learner.params["h->h"])
    assert verify(program).passed


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ({"weight": "block"}, "weight 'block' needs a number of blocks"),
        ({"weight": "block", "blocks": 4}, "4 blocks do not divide sizes 6"),
        ({"weight": "block", "blocks": 0}, "attribute 'blocks' must be a whole number >= 1"),
        ({"weight": "dense", "blocks": 2}, "'blocks' belongs to weight 'block', got weight 'dense'"),
        ({"weight": "block", "blocks": 3, "density": 0.5}, "'density' belongs to weight 'sparse', got weight 'block'"),
        ({"weight": "block", "blocks": 3, "value": np.ones((6, 6))}, r"needs value of shape \(12,\)"),
        (
            {"weight": "block", "blocks": 3, "value": np.ones((3, 2, 2))},
            r"(?s)got \(3, 2, 2\).*A block weight is an array of its entries in row-major order",
        ),
        ({"blocks": 3, "value": np.ones(12)}, "'blocks' belongs to weight 'block', got no 'weight'"),
    ],
)
def test_what_does_not_fit_is_refused(weight: dict[str, object], message: str) -> None:
    """In the user's words."""
    with pytest.raises(fg.GraphError, match=message):
        validate(graph(**weight))


def test_a_matrix_that_does_not_fit_is_refused() -> None:
    """One block of 60,000 by 60,000 units: a table of 80 GiB, which the system may grant and then kill for."""
    large: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    large.add_node("x", op="input", size=60_000)
    large.add_node("y", op="linear", size=60_000)
    large.add_edge("x", "y", weight="block", blocks=1)
    with pytest.raises(fg.GraphError, match=r"1 blocks of shape \(60000, 60000\) do not fit into memory"):
        validate(large)


def test_messages_name_the_kind_that_the_graph_names() -> None:
    """The form in which the engine keeps its entries is no word of the user's."""
    with pytest.raises(fg.RuleError, match="parameter 'x->h' is a block weight on 1 edge"):
        fg.compile(graph(**BLOCK), rule="kf-rtrl")
    unequal = graph(**BLOCK)
    unequal.add_edge("x", "h")
    with pytest.raises(fg.GraphError, match=r"A 'dense', 'sparse', 'block'.* weight connects nodes of unequal size"):
        validate(unequal)

"""Sparse RTRL: is the gradient exact where units are silent, and is less computed then?

Subramoney 2023, arXiv 2303.05641.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from c_backend import in_a_hurry, skip_without
from checks import TOLERANCE, error
from nets import declare, problem

import forwardgrad as fg
from forwardgrad import cells, ops, oracle
from forwardgrad.array_program import numpy_helpers
from forwardgrad.device import export
from forwardgrad.testing import Problem

STEPS, UNITS = 7, 12


@pytest.fixture(autouse=True, scope="module")
def _in_a_hurry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from in_a_hurry(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _always_worth_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_helpers, "WORTH", 0)
    monkeypatch.setattr(numpy_helpers, "CACHED", 0)
    monkeypatch.setattr(numpy_helpers, "PART", 64)


def egru() -> Problem:
    """Events with a narrow surrogate: most units are silent, and all of them keep a state."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=3)
    h = cells.egru(graph, "l", input="x", size=UNITS, reset="after", threshold=0.2, width=0.15)
    cells.readout(graph, "y", input=h, size=2)
    return problem(graph, "y", steps=STEPS, gain=1.5)


def rectified() -> Problem:
    """Two recurrent layers of rectified units, the lower with a sparse weight, the upper with a scalar one."""
    mask = (np.random.default_rng(0).random((UNITS, UNITS)) < 0.3).astype(int)
    graph = declare(
        {
            "x": {"op": "input", "size": 3},
            "h": {"op": "relu", "size": UNITS, "bias": True},
            "k": {"op": "relu", "size": 5},
            "y": {"op": "linear", "size": 2},
        },
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"weight": "sparse", "mask": mask, "delay": 1}),
        ("h", "k", {"weight": "dense"}),
        ("k", "k", {"weight": "dense", "delay": 2}),
        ("k", "k", {"weight": "scalar", "delay": 1, "key": "own"}),
        ("k", "y", {"weight": "dense"}),
    )
    return problem(graph, "y", steps=STEPS)


def lif() -> Problem:
    """Units that spike, as in Bellec et al., with a surrogate that is zero far from the threshold."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=3)
    z = cells.lif(graph, "l", input="x", size=UNITS, threshold=0.6, width=0.4)
    cells.readout(graph, "y", input=z, size=2)
    return problem(graph, "y", steps=STEPS, gain=2.0)


PROBLEMS = {"egru": egru, "lif": lif, "rectified": rectified}


RUNS = [(name, backend) for name in PROBLEMS for backend in ("numpy", "c", "interpreter")]


@pytest.mark.parametrize(("name", "backend"), [*RUNS, ("lif", "jax")])
def test_the_gradient_is_exact(name: str, backend: str) -> None:
    """If this fails, what is passed over was not zero."""
    skip_without(backend)
    given = PROBLEMS[name]()
    program = fg.compile(given.graph, loss=given.loss, backend=backend)
    wanted = oracle.reverse(**given.arguments, rule="rtrl")
    assert all(np.abs(grad).max() > 1e-4 for grad in wanted.grads.values())
    for block in (1,) if backend == "jax" else (1, 3, STEPS):  # JAX compiles each length
        found = program.gradient(given.params, given.inputs, given.targets, block=block)
        assert error(found.grads, wanted.grads) <= TOLERANCE, f"block {block}"


def counted(given: Problem, block: int = 1) -> Any:
    """What a program leaves out, and of what."""
    program = fg.compile(given.graph, loss=given.loss)
    return program.activity(given.params, given.inputs, given.targets, block=block)


@pytest.mark.parametrize(("name", "most"), [("egru", 0.35), ("lif", 0.25), ("rectified", 0.45)])
def test_less_is_computed(name: str, most: float) -> None:
    """The essential step: without it, every multiplication is made."""
    found = counted(PROBLEMS[name]())
    assert 0 < found.fraction < most
    assert found.fraction == found.executed / found.bound


def plain(graph: nx.MultiDiGraph[str]) -> nx.MultiDiGraph[str]:
    """The same graph with ops of which nothing says that their derivative may vanish."""
    found = graph.copy()
    for _, attributes in found.nodes(data=True):
        attributes["op"] = {"spike": "spike_plain", "relu": "relu_plain"}.get(attributes["op"], attributes["op"])
    return found


@pytest.fixture
def _plain_ops() -> Iterator[None]:
    found: list[ops.Op] = []
    for name in ("spike", "relu"):
        op = ops.get(name)
        found.append(replace(op, name=f"{name}_plain", ports=tuple(replace(p, vanishes=False) for p in op.ports)))
    with ops.registered(*found):
        yield


@pytest.mark.usefixtures("_plain_ops")
@pytest.mark.parametrize("name", PROBLEMS)
def test_an_op_says_where_to_look(name: str) -> None:
    """Programs of other ops are as they were; and with the mark, the numbers stay, and the multiplications do not."""
    given = PROBLEMS[name]()
    unmarked = replace(given, graph=plain(given.graph))
    dense, sparse = (fg.compile(each.graph, loss=given.loss) for each in (unmarked, given))
    assert "carried_sparse" not in dense.source()
    assert "carried_sparse" in sparse.source()
    assert counted(unmarked).fraction == 1
    assert counted(unmarked).bound == counted(given).bound
    one, other = (each.gradient(given.params, given.inputs, given.targets, block=2) for each in (dense, sparse))
    assert error(other.grads, one.grads) <= 1e-13


def layer(threshold: float) -> Problem:
    """Rectified units that are silent below a threshold."""
    graph = declare(
        {"x": {"op": "input", "size": 4}, "h": {"op": "relu", "size": 40, "bias": -threshold}},
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"weight": "dense", "delay": 1, "init": "normal(0.1)"}),
    )
    given = problem(graph, "h", steps=STEPS)
    return replace(given, params=fg.compile(graph, loss=given.loss).init(0))


def test_the_bound_is_what_the_cost_says() -> None:
    """All blocks multiply but the first, with no influence before it, and the last, with none after it."""
    given, program = layer(0), fg.compile(layer(0).graph, loss={"h": "mse"})
    stored = sum(program.cost(batch=2).influence.values()) // 8
    carried = sum(program.cost(batch=2).flops.values()) // 2 - 2 * stored
    assert counted(given).bound == (STEPS - 2) * carried


def test_fewer_active_units_are_less_work() -> None:
    """Where nothing is silent, all is computed; where all is, nothing. A longer block has fewer zeros.

    In the first step that is carried over, nothing has come from `h->h` yet: 40 of the 45 columns, in one of 5 steps.
    """
    fractions = [counted(layer(threshold)).fraction for threshold in (-9, 0, 1, 9)]
    assert fractions[0] == pytest.approx(1 - 40 / 45 / 5)
    assert fractions == sorted(fractions, reverse=True)
    assert 0.1 < fractions[1] < 0.5
    assert fractions[-1] == 0
    assert counted(egru(), block=3).fraction > 1.2 * counted(egru()).fraction


@pytest.mark.parametrize("backend", ["numpy", "c"])
@pytest.mark.usefixtures("_plain_ops")
def test_where_all_units_are_active_no_bit_differs(backend: str) -> None:
    """If this fails, a program pays for zeros that it does not have with other roundings."""
    skip_without(backend)
    given = layer(-9)
    found: list[dict[str, Any]] = []
    for graph in (given.graph, plain(given.graph)):
        program = fg.compile(graph, loss=given.loss, backend=backend)
        found.append(program.gradient(given.params, given.inputs, given.targets, block=2).grads)
    for name, grad in found[0].items():
        np.testing.assert_array_equal(grad, found[1][name])


def test_a_printed_module_passes_over_zeros() -> None:
    """What is exported must run without forwardgrad, and compute the same."""
    given = egru()
    program = fg.compile(given.graph, loss=given.loss)
    text = program.source().replace("WORTH = 4194304", "WORTH = 0").replace("CACHED = 16384", "CACHED = 0")
    assert "WORTH = 0" in text
    module: dict[str, Callable[..., Any]] = {}
    exec(text, module)
    _, grads = module["gradient"](given.params, given.inputs, given.targets, block=2)
    wanted = program.gradient(given.params, given.inputs, given.targets, block=2).grads
    assert error(grads, wanted) <= 1e-13


def test_programs_without_full_influence_leave_nothing_out() -> None:
    """There the fraction is that of nothing."""
    given = egru()
    program = fg.compile(given.graph, loss=given.loss, rule="eprop")
    assert program.activity(given.params, given.inputs, given.targets).fraction == 1


def test_streams_in_c_pass_over_zeros() -> None:
    """A step of a stream is compiled apart: it must keep the mark, and compute what the other backends compute."""
    skip_without("c")
    given, losses = egru(), list[list[float]]()
    for backend in ("numpy", "c"):
        program = fg.compile(given.graph, loss=given.loss, backend=backend)
        stream = program.stream(given.params, batch=2, optimizer=fg.SGD(0.1))
        losses.append([stream.step(given.inputs["x"][t], given.targets["y"][t]).loss or 0.0 for t in range(STEPS)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-11)
    assert len(set(losses[0])) == STEPS
    engine: Any = program._engine  # pyright: ignore
    (compiled,) = engine._steps.values()
    _, unit = compiled.of("learn")
    assert "multiply_passing_over(" in unit.unit.text


def test_a_device_does_not_look(tmp_path: Path) -> None:
    """What is exported has its own product of matrices, and no memory for more."""
    given = egru()
    exported = export(fg.compile(given.graph, loss=given.loss), given.params, tmp_path / "learner")
    text = (tmp_path / "learner" / "model.c").read_text(encoding="utf-8")
    assert "static void multiply(" in text
    assert "passing_over" not in text
    assert exported

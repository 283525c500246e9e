"""Is generated source what a program is said to be: readable, complete on its own, and pure?"""

from __future__ import annotations

import gc
import linecache
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from checks import assert_like_oracle, error
from nets import CORE, declare, problem

import forwardgrad as fg
from forwardgrad import ops
from forwardgrad.array_program.lowering import extent
from forwardgrad.support.names import Names
from forwardgrad.testing import Problem
from tests.array_program.printed import alone, given

GRAPHS = CORE
RULES = ("rtrl", "eprop-deep", "eprop", "eprop-random", "eprop-adaptive", "immediate", "hops(2) & near", "dsf(0.5)")


def assert_alone(program: fg.Program, block: int = 3) -> None:
    """Assert that the printed module finds the gradient that the program finds."""
    params, x, y = given(program)
    loss, grads = alone(program)["gradient"](params, x, y, block=block)
    wanted = program.gradient(params, x, y, block=block)
    assert loss == pytest.approx(wanted.loss, rel=1e-12)
    assert max(np.abs(g).max() for g in wanted.grads.values()) > 0
    assert error(grads, wanted.grads) <= 1e-12


def test_source_reads_as_it_should(golden: Callable[[str, str], None]) -> None:
    """If this fails, look at the text: it is what users read to see what a rule does."""
    golden(fg.compile(fg.load("leaky_stack"), rule="eprop-deep").source(), "source.py.txt")


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("rule", RULES)
def test_a_printed_module_finds_the_gradient(name: str, rule: str) -> None:
    """If this fails, what is printed is not what is run."""
    try:
        program = fg.compile(fg.load(name), rule=rule, dead="ignore")
    except fg.RuleError as refused:
        pytest.skip(str(refused))
    assert_alone(program)


def test_a_printed_module_needs_numpy_and_nothing_else(tmp_path: Path) -> None:
    """If this fails, a module that was handed on does not run where forwardgrad is not installed."""
    program = fg.compile(fg.load("lstm"), rule="eprop", dtype="float32")
    params, x, y = given(program)
    (tmp_path / "derived.py").write_text(program.source(), encoding="utf-8")
    np.savez(tmp_path / "params.npz", **params)
    np.savez(tmp_path / "data.npz", x=x["x"], y=y["y"])
    run = """
import sys
sys.modules["forwardgrad"] = None
import numpy as np, derived
params, data = dict(np.load("params.npz")), np.load("data.npz")
loss, grads = derived.gradient(params, {"x": data["x"]}, {"y": data["y"]}, block=2)
np.savez("grads.npz", **grads)
"""
    subprocess.run([sys.executable, "-c", run], cwd=tmp_path, check=True)
    found = dict(np.load(tmp_path / "grads.npz"))
    wanted = program.gradient(params, x, y, block=2).grads
    assert found.keys() == wanted.keys()
    for name, grad in wanted.items():
        assert found[name].dtype == np.float32
        assert np.array_equal(found[name], grad)


def odd() -> Problem:
    """Delays, a sparse weight, a tie, a softmax, labels, units with thresholds of their own, and feedback."""
    graph = declare(
        {
            "x": {"op": "input", "size": 9, "initial": np.linspace(0, 1, 9)},
            "h": {"op": "tanh", "size": 9, "bias": True, "initial": np.linspace(-1, 1, 9)},
            "p": {"op": "softmax", "size": 9},
            "z": {"op": "spike", "size": 9, "threshold": np.linspace(-0.5, 0.5, 9), "width": 3.0},
            "y": {"op": "linear", "size": 3},
        },
        ("x", "h", {"weight": "dense", "delay": 2, "param": "W"}),
        ("h", "h", {"weight": "dense", "delay": 3, "param": "W"}),
        ("h", "p", {"weight": "sparse", "density": 0.9}),
        ("p", "h", {"weight": "scalar", "delay": 1}),
        ("h", "z", {}),
        ("z", "y", {"weight": "dense"}),
        ("p", "y", {"value": np.linspace(-1, 1, 27).reshape(3, 9), "delay": 1}),
    )
    return problem(graph, "y", steps=7)


@pytest.mark.parametrize("rule", ["rtrl", "eprop-deep", "eprop", "window(3)", "rtrl; feedback=random, seed=2"])
@pytest.mark.parametrize("block", [1, 2, 7])
def test_an_odd_graph_is_printed_whole(rule: str, block: int) -> None:
    """If this fails, constants, patterns, starts or ops are missing from what is printed."""
    assert_alone(fg.compile(odd().graph, {"y": "cross_entropy"}, rule, dead="ignore"), block)


def test_masks_and_signals_reach_a_printed_module() -> None:
    """If this fails, a printed module weighs the loss otherwise, or forgets the learning signal."""
    program = fg.compile(fg.load("leaky_stack"), rule="eprop; feedback=signal")
    params, x, y = given(program)
    random = np.random.default_rng(1)
    signals, mask = {"y": random.normal(size=y["y"].shape)}, random.random((7, 2))
    loss, grads = alone(program)["gradient"](params, x, y, mask, signals, block=3)
    wanted = program.gradient(params, x, y, block=3, mask=mask, signals=signals)
    assert loss == pytest.approx(wanted.loss)
    assert error(grads, wanted.grads) <= 1e-12


@pytest.fixture
def cubed() -> Iterator[None]:
    """Ops of a user's: a plain function, a formula, and a lambda that has no text."""
    fg.register_op("cube_", value=_cube, derivative=_cube_slope)
    fg.register_op("swish_", value=ops.Formula("x / (1 + np.exp(-x))"), derivative=lambda x, y: np.ones_like(x))
    yield
    for name in ("cube_", "swish_"):
        ops.registry._table.pop(name)


def _cube(x):
    return np.power(x, 3)


def _cube_slope(x, y):
    return 3 * _square_of(x)


def _square_of(x):
    return x * x


@pytest.mark.usefixtures("cubed")
def test_ops_of_the_users_are_taken_along() -> None:
    """If this fails, a module with an op of the user's does not run, or computes something else without a word."""
    graph = fg.load("elman")
    graph.nodes["h"]["op"] = "cube_"
    program = fg.compile(graph)
    assert_alone(program)
    assert "def _square_of" in program.source()
    graph.nodes["h"]["op"] = "swish_"
    program = fg.compile(graph)
    params, x, y = given(program)
    with pytest.raises(NotImplementedError, match="derivative of op 'swish_' by port 'in'"):
        alone(program)["gradient"](params, x, y, block=3)


def test_sweeps_are_written_right_into_the_arrays_that_they_fill() -> None:
    """If this fails, each step of a sweep makes an array only to copy it, or Jacobians that decay slow it down."""
    source = fg.compile(fg.load("elman"), rule="rtrl").source()
    credit, jacobian = (source.partition(f"def {name}")[2].partition("return")[0] for name in ("credit", "jacobian_h"))
    assert "np.multiply(d_h_now, slope_h[t], out=d_h_in[t])" in credit
    assert " flush(d_h_in[t])" in credit
    assert "out=d_h_in[t])" in jacobian
    assert " flush_jacobian(d_h_in[t])" in jacobian


@pytest.mark.usefixtures("tables_as_before")
def test_a_derivative_may_be_an_option() -> None:
    """If this fails, a derivative that reads no port is an array without steps and samples, and indexing it fails."""
    fg.register_op(
        "scaled_", ops.Formula("x * by", arguments="x"), ops.Formula("by", arguments="x, y"), options={"by": 1}
    )
    graph = fg.load("elman")
    graph.nodes["h"].update(op="scaled_", by=[0.3, 0.9], size=2)
    program = fg.compile(graph)
    assert_alone(program)
    assert_like_oracle(problem(graph, "y", steps=5), "rtrl", blocks=(1, 2))


def ring(size: int) -> Problem:
    """Nodes in a ring, each of which stores what all weights did to it: more of them than functions are written for."""
    nodes: dict[str, dict[str, Any]] = {"x": {"op": "input", "size": 2}}
    nodes |= {f"n{i}": {"op": "tanh", "size": 2, "bias": i % 2 == 0} for i in range(size)}
    edges = [(f"n{i}", f"n{(i + 1) % size}", {"weight": "dense", "delay": 1 + i % 2}) for i in range(size)]
    return problem(declare(nodes, ("x", "n0", {"weight": "dense"}), *edges), "n2", "n5", steps=9)


def test_large_cycles_are_advanced() -> None:
    """If this fails, large cycles are advanced wrongly."""
    given_ = ring(18)
    assert_like_oracle(given_, "rtrl", blocks=(2,))
    assert_alone(fg.compile(given_.graph, given_.loss, "rtrl"))


def test_what_is_too_much_to_write_is_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a user waits for minutes until a program of many layers is written."""
    given_ = ring(6)
    wanted = fg.compile(given_.graph, given_.loss, "rtrl").cost(2, 3).working
    monkeypatch.setattr(extent, "MOST", 100)
    program = assert_like_oracle(given_, "rtrl", blocks=(1, 2))
    assert wanted / 4 < program.cost(2, 3).working < 4 * wanted
    with pytest.raises(fg.RuleError, match="interpreted"):
        program.source()


def test_influence_from_many_sets_of_places_is_carried() -> None:
    """If this fails, deep stacks are advanced wrongly."""
    nodes: dict[str, dict[str, Any]] = {"x": {"op": "input", "size": 2}}
    edges: list[tuple[Any, ...]] = [("x", "h0", {"weight": "dense"})]
    for i in range(27):
        nodes[f"h{i}"] = {"op": "tanh", "size": 2, "bias": i % 3 == 0}
        edges.append((f"h{i}", f"h{i}", {"weight": "scalar" if i % 4 == 0 else "diagonal", "delay": 1 + (i == 12)}))
        if i:
            weight = "dense" if i == 20 else "diagonal"
            edges.append((f"h{i - 1}", f"h{i}", {"weight": weight, "delay": int(i == 7)}))
    given_ = problem(declare(nodes, *edges), "h26", "h15", steps=4)
    assert_like_oracle(given_, "rtrl", blocks=(3,))
    assert_alone(fg.compile(given_.graph, given_.loss, "rtrl"))


def test_parallel_edges_have_gradients_of_their_own() -> None:
    """If this fails, two parameters share the memory of one product, and what is added to one is added to both."""
    nodes = {
        "x": {"op": "input", "size": 2},
        "a": {"op": "tanh", "size": 2},
        "b": {"op": "tanh", "size": 1},
        "r": {"op": "linear", "size": 3},
    }
    doubled = [("x", node, {"weight": "dense"}) for node in ("a", "b", "a", "b")]
    leak = ("r", "r", {"value": 0.7, "delay": 1})
    graph = declare(nodes, *doubled, ("a", "r", {"weight": "dense"}), ("b", "r", {"weight": "dense"}), leak)
    for rule in ("rtrl", "eprop"):
        assert_like_oracle(problem(graph, "a", "r", steps=5), rule, blocks=(1, 2))


HOSTILE = [
    "a'b",
    'a"""b',
    "a\\",
    "a\nb",
    "{x}",
    "import os",
    "for",
    "np",
    "t",
    "steps",
    "üñí→日本",
    "__",
    "9",
    "x" * 10_000,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name: str) -> None:
    """If this fails, a name of a node becomes code."""
    graph = fg.load("elman")
    for old in list(graph):
        graph = nx.relabel_nodes(graph, {old: name + old}) if old != "y" else graph
    program = fg.compile(graph, {"y": "mse"})
    assert_alone(program)


def test_names_are_unique_identifiers() -> None:
    """If this fails, two arrays share a name."""
    names = Names()
    found = [names.of(word, index) for index, word in enumerate(["a.b", "a_b", "a b", "for", "np", "1", "", "a.b"])]
    assert len(set(found)) == len(found)
    assert all(name.isidentifier() for name in found)
    assert names.of("a.b", 0) == found[0]


def test_errors_show_the_generated_line() -> None:
    """If this fails, a traceback through generated source shows nothing, and no debugger can step through it."""

    def fails(*_: Any) -> Any:
        raise ZeroDivisionError

    fg.register_op("fails_", value=fails, derivative=fails)
    try:
        graph = fg.load("elman")
        graph.nodes["h"]["op"] = "fails_"
        program = fg.compile(graph)
        with pytest.raises(ZeroDivisionError) as caught:
            program.run(program.init(), {"x": np.ones((2, 1, 1))})
        assert "h[t + 1] = value_fails(" in "".join(traceback.format_exception(caught.value))
    finally:
        ops.registry._table.pop("fails_")


def test_a_programs_lines_go_with_it() -> None:
    """If this fails, compiling again and again grows memory: the text of every program stays for good."""
    program = fg.compile(fg.load("elman"))
    gc.collect()
    before = {name for name in linecache.cache if name.startswith("<forwardgrad program")}
    for _ in range(20):
        fg.compile(fg.load("elman")).cost(batch=2)
    gc.collect()
    assert {name for name in linecache.cache if name.startswith("<forwardgrad program")} <= before
    engine: Any = program._engine
    assert engine._parts["forward"].run.__code__.co_filename in linecache.cache


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("rule", ["rtrl", "eprop-deep", "eprop", "snap(1)"])
def test_nothing_given_is_changed(name: str, rule: str) -> None:
    """If this fails, a block changes its parameters, its state, inputs or targets in place."""
    program = fg.compile(fg.load(name), rule=rule, dead="ignore")
    params, x, y = given(program, steps=40)
    state = program.start(2)
    for _ in range(2):
        for arrays in (params, x, y, state):
            for array in arrays.values():
                array.flags.writeable = False
        state, step = program.step(params, x, y, state=state)
    held = [array for arrays in (params, x, y) for array in arrays.values()]
    for result in [*step.grads.values(), *step.outputs.values(), *state.values()]:
        assert not any(np.may_share_memory(result, array) for array in held)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("rule", ["rtrl", "eprop-deep", "eprop", "eprop-random", "snap(1)", "uoro"])
def test_single_precision_stays_single(name: str, rule: str) -> None:
    """If this fails, some array is computed in double precision, at twice the price."""
    program = fg.compile(fg.load(name), rule=rule, dtype="float32", dead="ignore")
    params, x, y = given(program)
    state, step = program.step(params, x, y, state=program.start(2))
    engine: Any = program._engine
    params, x = ({name: array.astype("f") for name, array in arrays.items()} for arrays in (params, x))
    block = engine.forward(params, program.start(2), x, (7, 2))
    arrays = [*engine._derived(block).values(), *state.values(), *step.grads.values(), *step.outputs.values()]
    for array in arrays:
        assert not isinstance(array, np.ndarray) or array.dtype in (np.float32, np.intp)


def test_one_program_serves_many_threads() -> None:
    """If this fails, threads that share a program disturb each other."""
    program = fg.compile(fg.load("leaky_stack"), rule="eprop-deep")
    params, x, y = given(program, steps=30)
    wanted = program.gradient(params, x, y, block=4)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: program.gradient(params, x, y, block=4), range(16)))
    for result in found:
        assert all(np.array_equal(result.grads[name], wanted.grads[name]) for name in wanted.grads)


def test_the_backend_has_a_name() -> None:
    """If this fails, a misspelt backend is not refused, or the reference cannot be asked for."""
    graph = fg.load("elman")
    assert fg.compile(graph, backend="interpreter").backend == "interpreter"
    assert fg.compile(graph).backend == "numpy"
    with pytest.raises(fg.DataError, match="unknown backend 'nunpy'"):
        fg.compile(graph, backend="nunpy")

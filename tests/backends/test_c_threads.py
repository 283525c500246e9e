"""Do several threads compute in C what one thread computes? The same bits, and the gradients of the oracle."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import networkx as nx
import numpy as np
import pytest
from array_program.cases import named
from backends.test_c_engine import LOSSLESS, LOSSY, gradients
from c_backend import in_a_hurry, needs_compiler
from checks import TOLERANCE, compiled, error

import forwardgrad as fg
from forwardgrad import cells, oracle
from forwardgrad.array_program.in_c import parts as c_parts
from forwardgrad.array_program.in_c import prelude as c_prelude
from forwardgrad.array_program.in_c.loops import Nest
from forwardgrad.backends import c_calls
from forwardgrad.errors import NonFiniteError
from forwardgrad.support import sharing
from forwardgrad.testing.comparing import chosen, fitted

needs_compiler()

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True, scope="module")
def _in_a_hurry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from in_a_hurry(tmp_path_factory.mktemp("cache"), "-O0")


@pytest.fixture
def shared(monkeypatch: Patch) -> list[int]:
    """Have everything shared that can be, however small; counts the jobs."""
    jobs: list[int] = []
    original = c_calls.CompiledUnit._share

    def counted(self: Any, job: int, pieces: int) -> None:
        jobs.append(pieces)
        original(self, job, pieces)

    monkeypatch.setattr(c_calls.CompiledUnit, "_share", counted)
    monkeypatch.setattr(c_prelude, "JOBS", c_prelude.JOBS.replace("1 << 24", "0"))
    monkeypatch.setattr(c_parts, "SMALL", 0)
    monkeypatch.setattr(sharing, "processors", lambda: 3)
    use(3, monkeypatch)
    return jobs


def use(number: int, patch: Patch) -> None:
    """Let that many threads take part."""
    patch.setattr(c_calls, "threads", lambda: number)


def single_entries(patch: Patch) -> None:
    """Cut everywhere: after each row, each column and each entry."""
    patch.setattr(c_parts, "ROWS", 1)
    patch.setattr(c_parts, "LANES", 1)
    patch.setattr(c_parts, "TILE", ("1", "1"))


def compare(name: str, rule: Any) -> None:
    """Compare a gradient with its reference."""
    problem = named(name)
    program = compiled(problem, rule, backend="c")
    if (name, rule) in LOSSY:
        other = compiled(problem, rule, backend="interpreter")
        pairs = [(gradients(program, problem, block), gradients(other, problem, block)) for block in (1, 2)]
    else:
        wanted = oracle.reverse(**fitted(program, problem).arguments, rule=chosen(program))
        pairs = [(gradients(program, problem, block), wanted) for block in (1, 2, problem.steps)]
    for found, wanted in pairs:
        assert error(found.grads, wanted.grads) <= TOLERANCE


@pytest.mark.parametrize(("name", "rule"), [*LOSSLESS, *LOSSY], ids=str)
def test_gradients_by_several_threads(name: str, rule: Any, shared: list[int], monkeypatch: Patch) -> None:
    """If this fails, a thread computes too much or too little, or reads what another one has not made yet."""
    single_entries(monkeypatch)
    compare(name, rule)
    assert shared


def wide(cell: str = "lstm") -> Any:
    """A network whose products have several tiles."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=40)
    getattr(cells, cell)(graph, "l1", "x", 36)
    cells.readout(graph, "y", {"lstm": "l1.h", "lif": "l1.z", "elman": "l1.h"}[cell], 33)
    return graph


def steps_of(program: fg.Program, batch: int) -> list[dict[str, Any]]:
    """Gradients and states of three blocks."""
    random = np.random.default_rng(0)
    params, state = program.init(0), program.start(batch)
    found: list[dict[str, Any]] = []
    for steps in (19, 3, 8):
        inputs = {"x": random.normal(size=(steps, batch, 40)) * (random.random((steps, batch, 40)) < 0.2)}
        state, step = program.step(params, inputs, {"y": random.normal(size=(steps, batch, 33))}, state=state)
        found += [dict(step.grads), dict(state)]
    return found


@pytest.mark.parametrize(
    ("cell", "rule", "batch", "dtype"),
    [
        ("lstm", "eprop", 25, "float64"),
        ("lif", "eprop", 34, "float32"),
        ("elman", "rtrl", 2, "float32"),
        ("elman", "rtrl", 2, "float64"),
        ("lif", "rtrl", 2, "float64"),
    ],
)
def test_the_number_of_threads_changes_no_bit(
    cell: str, rule: str, batch: int, dtype: str, shared: list[int], monkeypatch: Patch
) -> None:
    """If this fails, a result depends on which processors are free, or on the machine."""
    monkeypatch.setenv("FORWARDGRAD_CFLAGS", "-O3 -march=native")
    program = fg.compile(wide(cell), loss={"y": "mse"}, rule=rule, backend="c", dtype=dtype)
    use(1, monkeypatch)
    alone = steps_of(program, batch)
    assert not shared
    for number in (2, 3):
        use(number, monkeypatch)
        for one, other in zip(alone, steps_of(program, batch), strict=True):
            for key, array in one.items():
                np.testing.assert_array_equal(array, other[key], err_msg=f"{key}, {number} threads")
    assert {2, 3} <= set(shared)


def stream_of(program: fg.Program) -> tuple[fg.Stream, Callable[[], float]]:
    """A stream of two samples, and what takes its next step and gives the loss."""
    random = np.random.default_rng(0)
    stream = program.stream(program.init(0), batch=2, optimizer=fg.SGD(0.01))
    return stream, lambda: stream.step(random.normal(size=(2, 40)), random.normal(size=(2, 33))).loss


@pytest.mark.parametrize(("cell", "rule"), [("elman", "rtrl"), ("lstm", "eprop"), ("lif", "rtrl")])
def test_the_number_of_threads_changes_no_bit_of_a_stream(
    cell: str, rule: str, shared: list[int], monkeypatch: Patch
) -> None:
    """If this fails, steps that are one call each compute too much or too little where threads take part in them."""
    program = fg.compile(wide(cell), loss={"y": "mse"}, rule=rule, backend="c")
    found: list[tuple[list[float], dict[str, Any]]] = []
    for number in (1, 3):
        use(number, monkeypatch)
        stream, step = stream_of(program)
        found.append(([step() for _ in range(4)], stream.params | stream.state))
    (losses, alone), (again, other) = found
    assert losses == again
    for key, array in alone.items():
        np.testing.assert_array_equal(array, other[key], err_msg=key)
    assert set(shared) <= {2, 3}
    assert shared


def test_an_interrupt_of_a_stream_is_raised_and_the_step_not_taken(shared: list[int], monkeypatch: Patch) -> None:
    """If this fails, a stream cannot be interrupted, or has half a step behind it then."""
    stream, step = stream_of(fg.compile(wide("elman"), loss={"y": "mse"}, rule="eprop", backend="c"))
    step()
    before, compute = stream.params, c_calls.HELPERS.compute

    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(c_calls.HELPERS, "compute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        step()
    monkeypatch.setattr(c_calls.HELPERS, "compute", compute)
    assert all(np.array_equal(array, stream.params[name]) for name, array in before.items())
    step()
    assert stream.seen == 2


def test_a_job_that_is_not_done_by_others_is_done(shared: list[int], monkeypatch: Patch) -> None:
    """If this fails, an interrupt in the wrong moment leaves numbers that nobody computed."""
    monkeypatch.setattr(c_calls.CompiledUnit, "_share", lambda self, job, pieces: shared.append(pieces))
    compare("lstm", "eprop")
    assert shared


def test_an_interrupt_while_pieces_are_handed_out_is_raised(shared: list[int], monkeypatch: Patch) -> None:
    """If this fails, a program cannot be interrupted, or the interrupt is printed and lost."""
    problem = named("lstm")
    program = compiled(problem, "eprop", backend="c")

    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(c_calls.HELPERS, "compute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gradients(program, problem, 2)
    monkeypatch.undo()
    assert error(gradients(program, problem, 2).grads, gradients(compiled(problem, "eprop"), problem, 2).grads) < 1e-10


def test_several_threads_of_python_share_the_helpers(shared: list[int]) -> None:
    """If this fails, programs that run side by side compute pieces of each other's jobs, or wait for good."""
    program = fg.compile(wide(), loss={"y": "mse"}, rule="eprop", backend="c")
    alone = steps_of(program, 24)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: steps_of(program, 24), range(8)):
            for one, other in zip(alone, found, strict=True):
                assert all(np.array_equal(array, other[key]) for key, array in one.items())
    assert threading.active_count() < 16


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(shared: list[int]) -> None:
    """If this fails, a child process waits for threads that only its parent has."""
    program = fg.compile(wide(), loss={"y": "mse"}, rule="eprop", backend="c")
    alone = steps_of(program, 24)
    child = os.fork()
    if child == 0:
        same = all(
            np.array_equal(array, other[key])
            for one, other in zip(alone, steps_of(program, 24), strict=True)
            for key, array in one.items()
        )
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


# Faults.


def pieces_that_miss_the_rest(patch: Patch) -> None:
    """What is left over of an axis is computed by nobody."""
    patch.setattr(c_prelude, "JOBS", changed(c_prelude.JOBS, "i + 1 == j->pieces ? j->length : ", ""))


def pieces_that_begin_late(patch: Patch) -> None:
    """The first unit of each piece but the first is computed by nobody."""
    patch.setattr(c_prelude, "JOBS", changed(c_prelude.JOBS, "first * j->unit", "(first + (i > 0)) * j->unit"))


def entries_behind_an_axis_forgotten(patch: Patch) -> None:
    """Of an axis that is split, only one entry of those behind it is computed."""
    original = Nest._range

    def wrong(self: Nest, group: Any) -> tuple[str, str]:
        return ("from", "to") if group[0] == self.split else original(self, group)

    patch.setattr(Nest, "_range", wrong)


def changed(text: str, old: str, new: str) -> str:
    """A text in which something is another way."""
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    "plant",
    [pieces_that_miss_the_rest, pieces_that_begin_late, entries_behind_an_axis_forgotten],
    ids=lambda plant: plant.__name__,
)
def test_a_fault_is_noticed(plant: Callable[[Patch], None], shared: list[int], monkeypatch: Patch) -> None:
    """If this fails, the tests above would pass whatever threads compute."""
    wanted = steps_of(fg.compile(wide(), loss={"y": "mse"}, rule="rtrl"), 25)
    plant(monkeypatch)
    try:
        found = steps_of(fg.compile(wide(), loss={"y": "mse"}, rule="rtrl", backend="c"), 25)
    except NonFiniteError:  # what nobody computed may be anything
        return
    assert any(error(ours, theirs) > TOLERANCE for ours, theirs in zip(found, wanted, strict=True))

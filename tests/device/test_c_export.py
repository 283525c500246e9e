"""Does a learner in C learn what the program learns?"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import exported
import networkx as nx
import numpy as np
import pytest
from c_backend import needs_compiler

import forwardgrad as fg
from forwardgrad.device import export
from forwardgrad.learning.optimizers import SGD, Adam, Optimizer, RMSprop
from forwardgrad.ops.losses import Loss

needs_compiler()

GRAPHS = ("lstm", "leaky_stack", "alif", "gru", "conv_lif", "indrnn")
RULES = ("eprop", "rtrl", "snap(1)", "immediate")
OPTIMIZERS = (SGD(0.05, weight_decay=0.01), SGD(0.02, momentum=0.9), Adam(0.01))
ALL = [(graph, rule, OPTIMIZERS[n % 3]) for n, (graph, rule) in enumerate(itertools.product(GRAPHS, RULES))]
SOME = [case for n, case in enumerate(ALL) if n % 4 == (n // 4) % 4] + [("lstm", "rtrl", OPTIMIZERS[2])]


def compare(
    program: fg.Program, optimizer: Optimizer, folder: Path, tolerance: float, params: Any = None
) -> list[list[float]]:
    """Let both learn from one stream, and compare what they say; returns what Python says."""
    params = program.init(1) if params is None else params
    export(program, params, folder, optimizer=optimizer)
    samples = exported.stream(program)
    expected = exported.by_python(program, params, optimizer, samples)
    found = exported.by_device(exported.compiled(folder, *exported.SANITIZED), samples)
    assert [len(row) for row in found] == [len(row) for row in expected]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    return expected


def one(graph: str, rule: str, dtype: str) -> fg.Program:
    return fg.compile(exported.small(graph), loss={"y": "mse"}, rule=rule, dtype=dtype)


@pytest.mark.parametrize(("graph", "rule", "optimizer"), SOME)
def test_it_learns_as_step_and_optimizer_do(graph: str, rule: str, optimizer: Optimizer, tmp_path: Path) -> None:
    """A device that learns something else is worse than one that does not learn."""
    rows = compare(one(graph, rule, "float64"), optimizer, tmp_path / "c", 1e-10)
    assert any(len(row) == 2 and row[-1] > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("graph", "rule", "optimizer"), ALL)
def test_all_graphs_learn_under_all_rules(
    graph: str, rule: str, optimizer: Optimizer, dtype: str, tmp_path: Path
) -> None:
    """The same for every pair of a graph and a rule that is promised."""
    compare(one(graph, rule, dtype), optimizer, tmp_path / "c", 1e-10 if dtype == "float64" else 1e-4)


@pytest.mark.parametrize("graph", ["lstm", "conv_lif"])
def test_single_precision_is_close(graph: str, tmp_path: Path) -> None:
    """Processors of devices compute in single precision: within 1e-4 after a few updates, on this stream."""
    compare(one(graph, "eprop", "float32"), Adam(0.01), tmp_path / "c", 1e-4)


HOSTILE = ('a"b', "*/ int main(void) { /*", "new\nline\\", "größe", "??/", "main", "int", "%s", "1st", "\u202e")
"""Names that could end a comment or a string, or are words of C."""


def hostile() -> nx.MultiDiGraph[str]:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node(HOSTILE[0], op="input", size=2)
    for before, name in itertools.pairwise(HOSTILE):
        graph.add_node(name, op="tanh", size=2, bias=True)
        graph.add_edge(before, name, weight="dense")
    graph.add_edge(HOSTILE[3], HOSTILE[2], weight="dense", delay=2)
    graph.add_edge(HOSTILE[4], HOSTILE[4], weight="diagonal", delay=1, trainable=False)
    return graph


def test_any_names_and_several_losses(tmp_path: Path) -> None:
    """Names of nodes end up in comments and identifiers, where they must neither collide nor become code."""
    losses = {HOSTILE[-1]: "cross_entropy", HOSTILE[-2]: "bernoulli", HOSTILE[5]: "mse", HOSTILE[4]: "signal"}
    program = fg.compile(hostile(), loss=losses, rule="rtrl", dtype="float64")
    compare(program, SGD(0.1), tmp_path / "c", 1e-10)
    assert (tmp_path / "c" / "model.c").read_bytes().isascii()


def test_feedback_that_is_learned_and_weights_that_stay(tmp_path: Path) -> None:
    """Adaptive feedback brings parameters of its own, and frozen ones are constants."""
    graph = exported.small("gru")
    next(iter(graph.out_edges("x", data=True)))[2]["trainable"] = False
    program = fg.compile(graph, loss={"y": "mse"}, rule="eprop; feedback=adaptive", dtype="float64")
    compare(program, Adam(0.01, weight_decay=0.1), tmp_path / "c", 1e-10)


def test_feedback_of_ones_own_is_a_constant(tmp_path: Path) -> None:
    """If this fails, a device learns by other feedback than Python does."""
    graph = exported.small("gru")
    (into,) = (name for name in fg.compile(graph, rule="rtrl").network.edges if name.endswith("->y"))
    shape = fg.compile(graph, rule="rtrl").network.parameters[into].shape
    matrix = np.linspace(-1, 2, int(np.prod(shape))).reshape(shape).tolist()
    program = fg.compile(graph, loss={"y": "mse"}, rule=f"eprop; feedback={{{into}: {matrix}}}", dtype="float64")
    compare(program, Adam(0.01), tmp_path / "c", 1e-10)


def loaded(folder: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(exported.compiled(folder, "-fPIC", "-shared", sources=["model.c"], name="model.so")))


class Device:
    """An exported learner of one input and one output, called from Python."""

    def __init__(self, folder: Path) -> None:
        self.code = loaded(folder)
        text = (folder / "model.h").read_text()
        self.size = int(text.split("MODEL_SAVED_BYTES ")[1].split()[0])
        self.code.model_init()

    def learn(self, x: float, target: float) -> tuple[int, float, float]:
        y, loss = ctypes.c_double(), ctypes.c_double()
        answer = self.code.model_learn(
            *(ctypes.byref(ctypes.c_double(n)) for n in (x, target)), *map(ctypes.byref, (y, loss))
        )
        return answer, y.value, loss.value

    def saved(self) -> Any:
        buffer = ctypes.create_string_buffer(self.size)
        self.code.model_save(buffer)
        return buffer


def test_a_saved_learner_goes_on_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    """A device that loses power must come back with what it has learned, and not with half of it."""
    program = one("leaky_stack", "eprop", "float64")
    export(program, program.init(), tmp_path / "a", optimizer=Adam(0.01))
    other = one("indrnn", "eprop", "float64")
    export(other, other.init(), tmp_path / "b", optimizer=Adam(0.01))
    device, foreign = Device(tmp_path / "a"), Device(tmp_path / "b")
    for n in range(5):
        device.learn(0.1 * n, 1.0)
    kept = device.saved()
    went_on = [device.learn(0.3, 0.5) for _ in range(3)]
    assert device.code.model_load(kept) == 0
    assert [device.learn(0.3, 0.5) for _ in range(3)] == went_on
    before = device.saved().raw
    for place in (0, 5, 60, device.size - 1):
        damaged = bytearray(kept.raw)
        damaged[place] ^= 1
        assert device.code.model_load(bytes(damaged)) == 3
    assert foreign.code.model_load(kept) == 3
    assert device.saved().raw == before


def test_what_is_not_finite_changes_nothing(tmp_path: Path) -> None:
    """One broken sensor value must not destroy what was learned."""
    program = one("leaky_stack", "eprop", "float64")
    export(program, program.init(), tmp_path / "a")
    device = Device(tmp_path / "a")
    device.learn(0.5, 1.0)
    before = device.saved().raw
    for x, target in ((float("nan"), 0.0), (float("inf"), 0.0), (0.1, float("nan")), (0.1, 1e300)):
        assert device.learn(x, target)[0] == 1
        assert device.saved().raw == before
    assert device.learn(0.1, 0.2)[0] == 0


def test_the_stated_memory_is_all_there_is(tmp_path: Path) -> None:
    """Who chooses a device by this number must be able to rely on it."""
    program = one("gru", "rtrl", "float32")
    written = export(program, program.init(), tmp_path / "a", optimizer=Adam(0.01))
    text = (tmp_path / "a" / "model.c").read_text()
    assert "malloc" not in text
    declared = [
        line for line in text.splitlines() if line.startswith("static ") and "const" not in line and line.endswith("];")
    ]
    assert declared == ["static real kept[KEPT], work[WORK];", "static double powers[2];"]
    check = (
        "sizeof kept + sizeof work + sizeof powers == MODEL_STATIC_BYTES && MODEL_SAVED_BYTES == 8 + sizeof kept + 16"
    )
    (tmp_path / "a" / "check.c").write_text(f'#include "model.c"\ntypedef char check[{check} ? 1 : -1];\n')
    exported.compiled(tmp_path / "a", "-c", sources=["check.c"], name="check.o")
    assert f"MODEL_STATIC_BYTES {written.memory}\n" in (tmp_path / "a" / "model.h").read_text()


def test_the_program_says_what_is_wrong_with_a_line(tmp_path: Path) -> None:
    """A reader of samples that takes half of a line for a whole one teaches nonsense."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=2)
    graph.add_node("y", op="linear", size=3)
    graph.add_edge("x", "y", weight="dense")
    program = fg.compile(graph, loss={"y": "cross_entropy"}, rule="rtrl")
    export(program, program.init(), tmp_path / "a")
    learner = exported.compiled(tmp_path / "a", *exported.SANITIZED)
    texts = {
        "1": 2,
        "1 2 3 4": 2,
        "1 x": 2,
        "1 2 3": 1,
        "1 2 0.5": 1,
        "1 2 -1": 1,
        "nan 2": 1,
        "1, 2; 0": 0,
        "9 " * 999: 2,
    }
    for text, status in texts.items():
        done = subprocess.run([learner], input=f"1 2 0\n{text}\n", capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.startswith("line 2: ")) == (status, status > 0), text


def own_op() -> fg.Program:
    fg.register_op("twice", value=lambda x: 2 * x, derivative=lambda x, y: 2 + 0 * x)
    graph = exported.small("leaky_stack")
    graph.nodes["a1"]["op"] = "twice"
    return fg.compile(graph, loss={"y": "mse"}, rule="eprop")


def own_layout() -> fg.Program:
    fg.register_layout("halved", compress=lambda array: array / 2, keeps="half of everything")
    return fg.compile(exported.small("leaky_stack"), loss={"y": "mse"}, rule="rtrl; layout=halved")


def own_loss() -> fg.Program:
    loss = Loss("absolute", lambda y, t: abs(y - t).sum(axis=1), lambda y, t: np.sign(y - t))
    return fg.compile(exported.small("leaky_stack"), loss={"y": loss}, rule="eprop")


REFUSED: dict[str, Any] = {
    "op 'twice', on node 'a1', is a function of Python": own_op,
    "layout of yours is a function of Python": own_layout,
    "layout 'uoro' draws at random": lambda: one("leaky_stack", "uoro", "float64"),
    "node 'y' is given learning signals": lambda: one("leaky_stack", "eprop; feedback=signal", "float64"),
    "loss 'absolute' of 'y' is a function of Python": own_loss,
}


@pytest.mark.usefixtures("tables_as_before")
@pytest.mark.parametrize("words", REFUSED)
def test_what_c_cannot_do_is_refused_by_name(words: str, tmp_path: Path) -> None:
    """A learner that leaves something out in silence would be another one."""
    program = REFUSED[words]()
    with pytest.raises(fg.ForwardgradError, match=words):
        export(program, program.init(), tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_optimizers_and_parameters_that_do_not_fit(tmp_path: Path) -> None:
    """Both come from the user, and are checked before anything is written."""
    program = one("indrnn", "eprop", "float64")
    with pytest.raises(fg.DataError, match="'rmsprop' has no form in C"):
        export(program, program.init(), tmp_path / "a", optimizer=RMSprop())
    with pytest.raises(fg.DataError, match="params"):
        export(program, {}, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_files_are_replaced_only_if_asked_and_never_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may have changed main.c; and a full disk must not leave a model without its header."""
    program = one("indrnn", "eprop", "float64")
    folder = tmp_path / "a"
    export(program, program.init(), folder)
    (folder / "main.c").write_text("mine")
    (folder / "notes").write_text("mine")
    with pytest.raises(fg.FileError, match="is there already"):
        export(program, program.init(), folder)
    assert (folder / "main.c").read_text() == "mine"
    old = (folder / "model.c").read_text()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for place in (folder, tmp_path / "b"):
            with pytest.raises(fg.FileError, match="No space left"):
                export(program, program.init(3), place, replace=True)
    assert (folder / "model.c").read_text() == old
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    export(program, program.init(3), folder, replace=True)
    assert (folder / "notes").read_text() == "mine"
    assert (folder / "model.c").read_text() != old


def test_clang_accepts_it_too(tmp_path: Path) -> None:
    """Compilers of devices are GCC and Clang."""
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    program = one("conv_lif", "snap(1)", "float32")
    export(program, program.init(), tmp_path / "a", optimizer=Adam())
    command = ["clang", *exported.STRICT, "-c", "model.c", "main.c"]
    done = subprocess.run(command, cwd=tmp_path / "a", capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr

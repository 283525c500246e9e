"""Does an array program as C give the gradients of the oracle, and states of the interpreter? And what if it cannot?"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import copy
import os
import pickle
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_program.cases import BLOCKS, NAMES, RULES, named
from c_backend import in_a_hurry, needs_compiler
from checks import TOLERANCE, compiled, error
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.backends import c_cache
from forwardgrad.backends.c_cache import cache_folder, shared_library, trusted_folder
from forwardgrad.backends.c_compiler import find_compiler
from forwardgrad.backends.c_engine import CEngine
from forwardgrad.testing import Problem
from forwardgrad.testing.comparing import chosen, fitted
from forwardgrad.testing.strategies import problems, rule_mappings

needs_compiler()


@pytest.fixture(autouse=True, scope="module")
def _in_a_hurry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from in_a_hurry(tmp_path_factory.mktemp("cache"), "-O0")


LOSSLESS = (
    ("elman", "rtrl"),
    ("lstm", "eprop"),
    ("gru", "rtrl"),
    ("gru", "immediate"),
    ("lif", "eprop-deep"),
    ("alif", "eprop"),
    ("conv_lif", "rtrl"),
    ("leaky_stack", "hops(2) & near"),
    ("delays", "rtrl"),
    ("dilated", "rtrl"),
    ("filtered", "eprop"),
    ("masked", "rtrl"),
    ("depth", "all; feedback=random, seed=3"),
    ("depth", "window(2)"),
    ("elman", "eprop; feedback=adaptive"),
)
LOSSY = (
    ("gru", "snap(2)"),
    ("lstm", "snap(1)"),
    ("delays", "all; layout=snap(9)"),
    ("alif", "uoro"),
    ("elman", {"h->h": "kf-rtrl", "*": "rtrl"}),
    ("leaky_stack", "eprop-deep; layout=snap(2), feedback=random"),
)


def gradients(program: fg.Program, problem: Problem, block: int) -> Any:
    """The gradient over a problem."""
    params = dict(program.init(0)) | dict(problem.params)
    return program.gradient(params, problem.inputs, problem.targets, problem.mask, problem.signals, block=block, draw=1)


@pytest.mark.parametrize(("name", "rule"), LOSSLESS)
def test_gradients_are_those_of_the_paths(name: str, rule: str) -> None:
    """If this fails, an instruction, a scan or a boundary is read differently in C."""
    problem = named(name)
    program = compiled(problem, rule, backend="c")
    wanted = oracle.reverse(**fitted(program, problem).arguments, rule=chosen(program))
    for block in (1, 2, problem.steps):
        found = gradients(program, problem, block)
        assert abs(found.loss - wanted.loss) <= TOLERANCE * max(1.0, abs(wanted.loss))
        assert error(found.grads, wanted.grads) <= TOLERANCE, f"block {block}"


@pytest.mark.parametrize(("name", "rule"), LOSSY)
def test_lossy_layouts_lose_and_draw_the_same(name: str, rule: Any) -> None:
    """If this fails, a run that was begun under another backend goes on differently."""
    problem = named(name)
    programs = [compiled(problem, rule, backend=backend) for backend in ("c", "interpreter")]
    for block in (1, 2):
        found, wanted = (gradients(program, problem, block) for program in programs)
        assert error(found.grads, wanted.grads) <= TOLERANCE, f"block {block}"


@given(st.data())
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
def test_gradients_and_states_on_random_graphs(data: st.DataObject) -> None:
    """Ties, masks, delays of many steps, a rule for each parameter; blocks shorter than a lag."""
    problem = data.draw(problems())
    rules = data.draw(rule_mappings(problem, signals=False))
    block = data.draw(st.integers(1, problem.steps))
    ours, theirs = (compiled(problem, rules, backend=backend) for backend in ("c", "interpreter"))
    assert error(gradients(ours, problem, block).grads, gradients(theirs, problem, block).grads) <= TOLERANCE
    inputs, targets = ({n: a[:block] for n, a in each.items()} for each in (problem.inputs, problem.targets))
    before = theirs.start(problem.batch, draw=0)
    kept = {key: array.copy() for key, array in before.items()}
    states = [program.step(problem.params, inputs, targets, state=before)[0] for program in (ours, theirs)]
    assert all(np.array_equal(before[key], array) for key, array in kept.items())
    assert states[0].keys() == states[1].keys()
    for key, array in states[1].items():
        assert np.abs(states[0][key] - array).max(initial=0.0) <= 1e-12 * max(1.0, np.abs(array).max(initial=0.0)), key


def test_single_precision() -> None:
    """If this fails, numbers are widened on the way, or literals are of double precision."""
    problem = named("lstm")
    single = compiled(problem, "eprop", backend="c", dtype="float32")
    found = gradients(single, problem, 3).grads
    assert {grad.dtype for grad in found.values()} == {np.dtype("float32")}
    assert error(found, gradients(compiled(problem, "eprop"), problem, 3).grads) <= 1e-4


def test_one_compilation_serves_all_blocks_and_batches() -> None:
    """If this fails, the last block of a sequence, or a batch of its own, waits for the compiler."""
    problem = named("elman")
    program = compiled(problem, "rtrl", backend="c")
    gradients(program, problem, 2)
    folder = cache_folder()
    assert folder is not None
    before = set(folder.iterdir())
    gradients(program, problem, 3)
    program.run(problem.params, {name: np.ones((5, 4, *x.shape[2:])) for name, x in problem.inputs.items()})
    assert set(folder.iterdir()) == before


def test_a_fresh_state_is_the_start() -> None:
    """If this fails, the first block of a sequence reads influence that is not there, or drops what is."""
    problem = named("gru")
    ours, theirs = (compiled(problem, "rtrl", backend=backend) for backend in ("c", "interpreter"))
    inputs = {name: x[:2] for name, x in problem.inputs.items()}
    targets = {name: y[:2] for name, y in problem.targets.items()}
    state, _ = theirs.step(problem.params, inputs, targets, state=theirs.start(problem.batch))
    for before in (theirs.start(problem.batch), state):
        steps = [program.step(problem.params, inputs, targets, state=before)[1] for program in (ours, theirs)]
        assert error(steps[0].grads, steps[1].grads) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", [*RULES, "eprop; feedback=adaptive", *("snap(1)", "snap(2)", "uoro", "kf-rtrl")])
def test_all_graphs_under_all_rules(name: str, rule: str) -> None:
    """If this fails, some combination of instructions is read differently in C."""
    problem = named(name)
    try:
        programs = [compiled(problem, rule, backend=backend) for backend in ("c", "interpreter")]
    except fg.RuleError as refused:
        pytest.skip(str(refused))
    for block in BLOCKS:
        found, wanted = (gradients(program, problem, block) for program in programs)
        assert error(found.grads, wanted.grads) <= TOLERANCE, f"block {block}"


def test_programs_are_copied_and_run_by_several_threads() -> None:
    """If this fails, what was loaded goes into a copy, or two calls share memory."""
    problem = named("gru")
    program = compiled(problem, "rtrl", backend="c")
    wanted = gradients(program, problem, 3).grads
    copies = [program, copy.deepcopy(program), pickle.loads(pickle.dumps(program))]
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda place: gradients(copies[place % 3], problem, 3).grads, range(24)):
            assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_arithmetic_outside_is_as_before() -> None:
    """If this fails, subnormal numbers of the user's own are zero from the first call on."""
    program = elman()
    least = np.full(4, np.finfo(np.float64).tiny)
    ran(program)
    assert (least / 2 > 0).all()


# Refusals.


@pytest.mark.usefixtures("tables_as_before")
def test_functions_of_python_are_refused_by_name() -> None:
    """If this fails, C is printed for what it cannot know."""
    fg.register_op("mine", lambda x: np.tanh(x), lambda x, y: 1 - y * y)
    graph = fg.load("elman")
    graph.nodes["h"]["op"] = "mine"
    program = fg.compile(graph, rule="rtrl", backend="c")
    with pytest.raises(
        fg.RuleError, match=r"backend 'c'.*op 'mine', on node 'h', is a function of Python(.|\n)*formula"
    ):
        program.gradient(program.init(), {"x": np.ones((2, 1, 1))}, {"y": np.ones((2, 1, 1))})


def test_a_program_that_would_be_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the compiler runs until memory is full."""
    monkeypatch.setattr("forwardgrad.backends.refusals.is_small", lambda plan: False)
    with pytest.raises(fg.RuleError, match=r"backend 'c': too many"):
        fg.compile(fg.load("elman"), backend="c")


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A traceback from `subprocess` would not say what to install."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        fg.MissingExtraError, match=r"^backend 'c' needs a C compiler: none of cc, gcc, clang is found.*$"
    ):
        fg.compile(fg.load("elman"), backend="c")
    monkeypatch.setenv("CC", "icc -fast")
    with pytest.raises(fg.MissingExtraError, match=r"CC names 'icc', which is not found"):
        fg.compile(fg.load("elman"), backend="c")


def script(path: Path, text: str) -> str:
    """An executable file."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def ran(program: fg.Program) -> Any:
    """What a step of `elman` gives."""
    return program.gradient(program.init(0), {"x": np.ones((3, 1, 1))}, {"y": np.ones((3, 1, 1))})


def elman() -> fg.Program:
    """A program that nothing has run yet."""
    return fg.compile(fg.load("elman"), rule="eprop", backend="c")


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache with nothing in it, in memory as on the disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    c_cache._loaded.cache_clear()
    return tmp_path / "cache" / "forwardgrad"


@pytest.mark.parametrize(
    "text",
    [
        "echo 'internal compiler error' >&2; exit 4",
        'case "$*" in *-dM*) exec cc "$@";; *) echo "no room" >&2; exit 1;; esac',
        "kill -9 $$",
    ],
    ids=["at once", "later", "killed"],
)
def test_a_broken_compiler_is_told_of(text: str, cold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an error of `subprocess` comes out, or half a file stays in the cache."""
    monkeypatch.setenv("CC", script(tmp_path / "broken", text))
    with pytest.raises(fg.CompilerError, match=r"C compiler .*broken' (failed with status|was ended by)(.|\n)*'numpy'"):
        ran(elman())
    assert not cold.exists() or not list(cold.iterdir())


def test_a_compiler_that_makes_something_else_is_told_of(
    cold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, what the compiler left is loaded, and the loader's error comes out."""
    monkeypatch.setenv(
        "CC",
        script(
            tmp_path / "odd", 'case "$*" in *-dM*) ;; *) while [ "$1" != -o ]; do shift; done; echo no > "$2";; esac'
        ),
    )
    with pytest.raises(fg.CompilerError, match="cannot be loaded"):
        ran(elman())


def test_options_that_a_compiler_does_not_know_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an older compiler is of no use."""
    text = 'case "$*" in *native*|*openmp*) exit 1;; *) exec cc "$@";; esac'
    monkeypatch.setenv("CC", script(tmp_path / "old", text))
    monkeypatch.delenv("FORWARDGRAD_CFLAGS")
    options = find_compiler().options
    assert "-O3" in options
    assert not any("native" in option or "openmp" in option for option in options)


# The cache.


def test_the_cache_is_the_users_alone(cold: Path) -> None:
    """If this fails, others can put code where we load it from."""
    wanted = ran(elman())
    assert stat.S_IMODE(cold.stat().st_mode) == 0o700
    (kept,) = cold.iterdir()
    assert not kept.stat().st_mode & 0o077
    c_cache._loaded.cache_clear()
    before = kept.stat().st_mtime_ns
    assert ran(elman()).loss == wanted.loss
    assert kept.stat().st_mtime_ns == before  # it was loaded, and not made again


@pytest.mark.parametrize("how", ["content", "cut", "empty", "mode", "link", "folder"])
def test_a_file_that_was_tampered_with_is_made_again(how: str, cold: Path, tmp_path: Path) -> None:
    """If this fails, foreign code runs, or the process ends in a crash."""
    wanted = ran(elman())
    (kept,) = cold.iterdir()
    whole = kept.read_bytes()
    other = tmp_path / "other"
    kept.unlink()  # the one that is loaded must stay as it is
    match how:
        case "content":
            kept.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
        case "cut":
            kept.write_bytes(whole[: len(whole) // 2])
        case "empty":
            kept.write_bytes(b"")
        case "mode":
            kept.write_bytes(whole)
            kept.chmod(0o777)
        case "link":
            other.write_bytes(whole)
            kept.symlink_to(other)
        case _:
            kept.mkdir()
    c_cache._loaded.cache_clear()
    assert ran(elman()).loss == wanted.loss
    if how != "folder":
        (again,) = cold.iterdir()
        assert stat.S_ISREG(again.lstat().st_mode)
        assert not again.stat().st_mode & 0o077
        assert c_cache._is_whole(again, again.name.split(".")[0])


def test_a_file_of_another_program_is_not_taken(cold: Path) -> None:
    """If this fails, a file that was given another one's name runs in its place."""
    ran(elman())
    (kept,) = cold.iterdir()
    made_from = c_cache.key("another program", find_compiler())
    kept.rename(cold / f"{made_from}.{kept.name.split('.')[1]}.so")
    assert c_cache._kept(cold, made_from) is None


@pytest.mark.parametrize("how", ["open to others", "a file", "a link", "of another user", "no home", "null byte"])
def test_a_cache_that_cannot_be_trusted_is_not_used(
    how: str, cold: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, code is loaded from where others can write, or a program cannot run for want of a cache."""
    cold.parent.mkdir()
    match how:
        case "open to others":
            cold.mkdir()
            cold.chmod(0o777)
        case "a file":
            cold.write_text("")
        case "a link":
            (tmp_path / "elsewhere").mkdir(mode=0o700)
            cold.symlink_to(tmp_path / "elsewhere")
        case "of another user":
            user = os.geteuid()
            monkeypatch.setattr(c_cache.os, "geteuid", lambda: user + 1)
        case "no home":
            monkeypatch.setenv("XDG_CACHE_HOME", "relative")
            monkeypatch.setattr(Path, "home", lambda: Path("relative"))
        case _:
            monkeypatch.setattr(c_cache, "cache_folder", lambda: Path("a\0b", "forwardgrad"))
    assert trusted_folder() is None
    assert np.isfinite(ran(elman()).loss)
    assert not cold.is_dir() or not list(cold.iterdir())


def test_a_full_disk_is_no_reason_not_to_run(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a cache that nothing can be written to ends a run; or where not even a compiler can write, an
    error of the system comes out."""

    def full(path: Any, data: bytes) -> None:
        if Path(path).parent == cold:
            raise fg.FileError("no space left on device")
        Path(path).write_bytes(data)

    monkeypatch.setattr(c_cache, "write_bytes", full)
    assert np.isfinite(ran(elman()).loss)
    assert not list(cold.iterdir())
    c_cache._loaded.cache_clear()

    def nowhere(*given: Any, **named: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", nowhere)
    with pytest.raises(fg.CompilerError, match=r"No space left(.|\n)*TMPDIR"):
        ran(elman())


TWICE = """
import numpy as np, forwardgrad as fg
program = fg.compile(fg.load("elman"), rule="rtrl", backend="c")
print(program.gradient(program.init(0), {"x": np.ones((3, 1, 1))}, {"y": np.ones((3, 1, 1))}).loss)
"""


def test_processes_that_compile_at_once_do_not_meet(cold: Path) -> None:
    """If this fails, one loads what the other has half written."""
    started = [
        subprocess.Popen([sys.executable, "-c", TWICE], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert len({out for out, _ in said}) == 1
    names = {path.name.split(".")[0] for path in cold.iterdir()}
    assert len(names) == 1
    assert all(c_cache._is_whole(path, *names) for path in cold.iterdir())


def test_equal_programs_share_what_was_compiled() -> None:
    """If this fails, every `compile` of a session waits for the compiler."""
    one, other = (CEngine(elman().plan, np.float64) for _ in range(2))
    assert shared_library(one.unit.text, one.compiler) is shared_library(other.unit.text, other.compiler)


# Sanitizers.

WATCHED = """
import os
import sys
del os.environ["LD_PRELOAD"]  # the compiler runs without it
sys.path.insert(0, sys.argv[1])
from array_program.cases import named
from checks import compiled
exact = [(name, "rtrl") for name in ("delays", "lif")]
for name, rule in (*exact, ("conv_lif", "eprop"), ("masked", "snap(1)"), ("elman", "uoro")):
    problem = named(name)
    program = compiled(problem, rule, backend="c")
    params = dict(program.init(0)) | dict(problem.params)
    for block in (1, 3, problem.steps):
        program.gradient(params, problem.inputs, problem.targets, problem.mask, problem.signals, block=block)
from nets import small
from stepping import data
import forwardgrad as fg
optimizers = fg.SGD(0.1), fg.SGD(0.1, momentum=0.9), fg.Adam(0.01)
for number, (name, rule) in enumerate((("lstm", "eprop"), ("dilated", "rtrl"), ("alif", "snap(1)"), ("elman", "uoro"))):
    program = fg.compile(small(name, 5), rule=rule, backend="c", dead="ignore")
    for batch in (1, 3):
        stream = program.stream(program.init(0), batch=batch, optimizer=optimizers[number % 3])
        for inputs, targets in data(program, 3, batch):
            stream.step(inputs, targets)
        stream.step(inputs)
print("through")
"""


@pytest.mark.parametrize(
    ("name", "runtime", "options"),
    [("gcc", "libasan.so", ""), ("clang", f"libclang_rt.asan-{platform.machine()}.so", " -shared-libasan")],
    ids=["gcc", "clang"],
)
def test_sanitizers_find_nothing(name: str, runtime: str, options: str, tmp_path: Path) -> None:
    """If this fails, C reads or writes beyond an array, or does what C does not define."""
    compiler = shutil.which(name)
    if compiler is None:
        pytest.skip(f"{name} is not installed")
    found = subprocess.run([compiler, f"-print-file-name={runtime}"], capture_output=True, text=True, check=False)
    library = found.stdout.strip()
    if not os.path.isabs(library):
        pytest.skip(f"{name} brings no address sanitizer here")
    watched = f"-O0 -g -fsanitize=address,undefined -fno-sanitize-recover=all{options}"
    environment = {
        **os.environ,
        **{"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"},
        **{"CC": compiler, "FORWARDGRAD_CFLAGS": watched, "XDG_CACHE_HOME": str(tmp_path)},
    }
    tests = str(Path(__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCHED, tests],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout == "through\n"

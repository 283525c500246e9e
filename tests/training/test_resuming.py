"""Does a run that was killed, or goes on elsewhere, go on bit for bit, whatever rule, backend and precision?"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import kill_loop
import numpy as np
import pytest
from checks import ENGINES
from nets import stack

import forwardgrad as fg
from forwardgrad import Learner
from forwardgrad.errors import FileError
from forwardgrad.learning import checkpoint

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(sys.platform == "win32", reason="forks and signals of POSIX")
RULES = ["rtrl", "eprop", "eprop-deep", "tbptt", "window(2)", "snap(2)", "uoro", "eprop-random", "eprop-adaptive"]


def piece(at: int, steps: int, size: int = 2) -> Any:
    random = np.random.default_rng(at)
    return {"x": random.normal(size=(steps, 3, size))}, {"y": random.normal(size=(steps, 3, 2))}


def learner(rule: str, backend: str, dtype: str, optimizer: Any = None) -> Learner:
    program = fg.compile(stack(), loss={"y": "mse"}, rule=rule, backend=backend, dtype=dtype, dead="ignore")
    return Learner(program, program.init(2), optimizer or fg.Adam(0.01), clip=1.0, on_nonfinite="skip")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("rule", RULES)
def test_an_interrupted_run_is_the_uninterrupted_one(rule: str, backend: str, dtype: str, tmp_path: Path) -> None:
    """If this fails, parameters, traces, signs or losses after resuming are not those of a run that went on."""
    whole, parts = learner(rule, backend, dtype), learner(rule, backend, dtype)
    losses: list[float] = []
    for at in range(4):
        losses += [update.loss for update in parts.fit([piece(at, 5)], block=2)]
        parts.save(tmp_path / "saved.npz")
        parts = Learner.load(tmp_path / "saved.npz")
        assert parts.program.backend == backend
        assert parts.program.dtype == dtype
        again: list[float] = [update.loss for update in whole.fit([piece(at, 5)], block=2)]
        assert losses[-len(again) :] == again
        for each in (parts, whole) if at % 2 else ():
            each.reset(None if at == 1 else np.array([True, False, True]))
    assert kill_loop.digest(parts) == kill_loop.digest(whole)
    assert parts.seen == 20


def in_a_process_of_its_own(folder: Path, kills: int) -> dict[str, Any]:
    """That of the script `kill_loop.py`: here are threads, and a fork would take their locks along."""
    command = [sys.executable, kill_loop.__file__, str(folder), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@posix
def test_a_run_that_is_killed_again_and_again_is_the_uninterrupted_run(tmp_path: Path) -> None:
    """If this fails, a machine that goes down while a checkpoint is written costs the run, or changes it."""
    found = in_a_process_of_its_own(tmp_path, 24)
    assert (found["lost"], found["same"]) == (0, True), found
    assert found["steps"] >= 24 * kill_loop.BLOCK


@posix
@pytest.mark.slow
def test_hundreds_of_kills(tmp_path: Path) -> None:
    """If this fails, some moment of a write is one at which a kill costs the run."""
    found = in_a_process_of_its_own(tmp_path, 400)
    assert (found["lost"], found["same"]) == (0, True), found
    assert found["within a write"] > 20


def test_a_checkpoint_says_its_version_and_the_digest_of_graph_and_rule(tmp_path: Path) -> None:
    """If this fails, a file cannot be told to belong to another version, graph or rule without compiling it."""
    digests: dict[str, str] = {}
    for rule, dtype in (("rtrl", "float64"), ("eprop", "float64"), ("rtrl", "float32")):
        for backend in ENGINES:
            ours = learner(rule, backend, dtype)
            ours.save(tmp_path / "saved.npz")
            with np.load(tmp_path / "saved.npz", allow_pickle=False) as arrays:
                document = json.loads(arrays["meta"].tobytes())
            assert document["forwardgrad"] == checkpoint.FORMAT
            program = json.loads(document["content"])["meta"]["program"]
            assert digests.setdefault(f"{rule} {dtype}", program["sha256"]) == program["sha256"]
    assert len(set(digests.values())) == 3


def test_another_program_is_refused_by_its_digest(tmp_path: Path) -> None:
    """If this fails, a user sees that two programs differ, and not by which name to tell them apart."""
    learner("rtrl", "numpy", "float64").save(tmp_path / "saved.npz")
    other = learner("eprop", "numpy", "float64").program
    with pytest.raises(FileError, match=r"sha256 of graph, losses, rules and dtype: \w{16} in the file, \w{16} given"):
        Learner.load(tmp_path / "saved.npz", other)


def test_a_run_may_go_on_under_another_backend(tmp_path: Path) -> None:
    """If this fails, a checkpoint is bound to the engine that wrote it, whose states mean the same in any other."""
    ours = learner("rtrl", "interpreter", "float64")
    ours.fit([piece(0, 6)], block=2)
    ours.save(tmp_path / "saved.npz")
    copy = Learner.load(tmp_path / "saved.npz", learner("rtrl", "numpy", "float64").program)
    assert copy.program.backend == "numpy"
    one, two = (each.fit([piece(1, 6)], block=2)[-1].loss for each in (ours, copy))
    assert one == pytest.approx(two, rel=1e-12)


FORBIDDEN = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "torch", "yaml"}


@pytest.mark.parametrize("path", sorted((ROOT / "forwardgrad").rglob("*.py")), ids=lambda path: path.stem)
def test_no_module_unpickles(path: Path) -> None:
    """If this fails, a file from elsewhere may run code when it is read."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            bridge = {"torch"} if path.stem == "torch_module" else set[str]()  # which reads no file
            assert not FORBIDDEN & {name.split(".")[0] for name in names} - bridge
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            allowed = [ast.unparse(k.value) for k in node.keywords if k.arg == "allow_pickle"]
            if called in ("np.load", "np.lib.format.read_array"):
                assert allowed == ["False"], ast.unparse(node)
            assert "True" not in allowed
            if called in ("eval", "exec"):
                assert path.name in ("loading.py", "formula.py", "brought.py"), (
                    "only text that the library wrote is executed"
                )


def test_what_is_saved_holds_no_objects(tmp_path: Path) -> None:
    """If this fails, a file of ours needs unpickling to be read."""
    ours = learner("uoro", "numpy", "float32", fg.SGD(0.1, momentum=0.5))
    ours.fit([piece(0, 4)])
    ours.save(tmp_path / "saved.npz")
    with np.load(tmp_path / "saved.npz", allow_pickle=False) as arrays:
        assert all(not arrays[name].dtype.hasobject for name in arrays)

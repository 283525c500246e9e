"""Is the memory that may be taken the least of what machine, limits and control groups leave, and is it held to?"""

from __future__ import annotations

import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import declare, problem, vanilla

import forwardgrad as fg
from forwardgrad.errors import MemoryBudgetError
from forwardgrad.program import budget
from forwardgrad.program.pricing import AMPLE, price
from forwardgrad.support import headroom

MIB = 2**20


def system(folder: Path, cgroup: str, mounts: str, files: dict[str, Any], free: int = 1000) -> Path:
    """A made-up `/proc`, with control groups in `folder/cgroup`; where nothing else is said, 1000 MiB are free."""
    proc = folder / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {free * 1024} kB\n")
    (proc / "self/cgroup").write_text(cgroup)
    (proc / "self/mountinfo").write_text("1 0 0:1 / / rw - ext4 /dev/a rw\n" + mounts.replace("DIR", str(folder)))
    for name, value in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return proc


MOUNTED = "2 1 0:2 /docker/x DIR/cgroup rw - cgroup2 cgroup2 rw\n"
"""A part of the tree of groups alone can be seen."""

V2 = "2 1 0:2 / DIR/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = (
    "2 1 0:2 / DIR/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "3 1 0:3 / DIR/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "4 1 0:4 / DIR/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)


def group(prefix: str, limit: Any, used: int, high: Any = "max", cached: int = 0) -> dict[str, Any]:
    """The files of a group of version 2; sizes in MiB."""
    limits = {"memory.max": limit, "memory.high": high}
    files = {name: size * MIB if isinstance(size, int) else size for name, size in limits.items()}
    files |= {"memory.current": used * MIB, "memory.stat": f"anon 1\ninactive_file {cached * MIB}"}
    return {f"{prefix}{name}": value for name, value in files.items()}


def old_group(prefix: str, limit: int, used: int, cached: int = 0) -> dict[str, Any]:
    """The files of a group of version 1."""
    files = {"memory.limit_in_bytes": limit * MIB, "memory.usage_in_bytes": used * MIB}
    files |= {"memory.stat": f"inactive_file 5\ntotal_inactive_file {cached * MIB}"}
    return {f"{prefix}{name}": value for name, value in files.items()}


NESTED = old_group("memory/a/", 150, 100) | old_group("memory/a/b/", 800, 1)

CASES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "no groups": ("", "", {}, 1000),
    "version 2": ("0::/a\n", V2, group("a/", 300, 100), 200),
    "high below max": ("0::/a\n", V2, group("a/", 300, 100, high=250), 150),
    "pages of files are given back": ("0::/a\n", V2, group("a/", 300, 100, cached=40), 240),
    "no more than is used is given back": ("0::/a\n", V2, group("a/", 300, 100, cached=400), 300),
    "the group around it": ("0::/a/b\n", V2, group("a/", 300, 250) | group("a/b/", "max", 10), 50),
    "the group inside": ("0::/a/b\n", V2, group("a/", 900, 250) | group("a/b/", 200, 10), 190),
    "two above, none between": ("0::/a/b/c\n", V2, group("a/", 300, 250) | group("a/b/c/", "max", 10), 50),
    "no limit": ("0::/a\n", V2, group("a/", "max", 100), 1000),
    "a limit above what is free": ("0::/a\n", V2, group("a/", 5000, 100), 1000),
    "over its limit": ("0::/a\n", V2, group("a/", 100, 150), 0),
    "a namespace of its own": ("0::/\n", V2, group("", 300, 100), 200),
    "a name with a colon": ("0::/a:b\n", V2, group("a:b/", 300, 100), 200),
    "part of the tree is mounted": ("0::/docker/x/a\n", MOUNTED, group("a/", 300, 100), 200),
    "another part of the tree is mounted": ("0::/other\n", MOUNTED, group("", 300, 100), 200),
    "version 1": ("4:memory:/a\n1:cpu:/\n0::/\n", V1, old_group("memory/a/", 300, 100, 40), 240),
    "version 1, nested": ("4:cpu,memory:/a/b\n", V1, NESTED, 50),
    "version 1, no limit": ("4:memory:/a\n", V1, old_group("memory/a/", 9223372036854771712 // MIB, 100), 1000),
    "files that cannot be understood": ("0::/a\n", V2, group("a/", "what", 100) | {"a/memory.stat": ""}, 1000),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_control_groups_count(case: str, tmp_path: Path) -> None:
    """If this fails, a program in a container is killed where it should have been refused, or refused where it fits."""
    cgroup, mounts, files, free = CASES[case]
    assert headroom.headroom(system(tmp_path, cgroup, mounts, files)) == free * MIB


def test_where_nothing_tells_there_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, programs do not start on systems that do not say what is free."""
    monkeypatch.delattr(headroom.os, "sysconf", raising=False)
    assert headroom.headroom(tmp_path) is None
    monkeypatch.setattr(headroom, "resource", None)
    assert headroom.headroom(tmp_path) is None


@pytest.mark.parametrize(("name", "field"), [("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")])
def test_limits_of_resources_count(name: str, field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a limited process meets NumPy's MemoryError in place of a refusal."""
    limits = {getattr(resource, name): 300 * MIB}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits.get(kind, resource.RLIM_INFINITY),) * 2)
    proc = system(tmp_path, "", "", {})
    (proc / "self/status").write_text(f"Name:\tpython\n{field}:\t  {100 * 1024} kB\n")
    assert headroom.headroom(proc) == 200 * MIB


LIMITED = """
import resource, sys, warnings
import numpy as np
sys.path.insert(0, {tests!r})
import forwardgrad as fg
from nets import declare
graph = declare(
    {{"x": {{"op": "input", "size": 64}}, "h": {{"op": "tanh", "size": 64}}, "y": {{"op": "linear", "size": 1}}}},
    ("x", "h", {{"weight": "dense"}}), ("h", "h", {{"weight": "dense", "delay": 1}}), ("h", "y", {{"weight": "dense"}}),
)
program = fg.compile(graph, {{"y": "mse"}}, "eprop", dtype="float32", backend={backend!r})
params, learner = program.init(), fg.Learner(program, program.init(), fg.Adam(0.1))
def data(steps):
    return {{"x": np.ones((steps, 1, 64), "f4")}}, {{"y": np.ones((steps, 1, 1), "f4")}}
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28,) * 2)
large, small = data(2 * 10**5), data(10)
def refused(call):
    try:
        call()
    except fg.MemoryBudgetError as error:
        return str(error).splitlines()[0]
learner.fit([small])
print(refused(lambda: program.gradient(params, *large, block=None)))
print(refused(lambda: program.gradient(params, iter([small, large]), block=None)))
print(refused(lambda: program.record(params, *large, block=None)))
print(refused(lambda: learner.fit([large])))
print(refused(lambda: program.start(10**6)))
state = program.start(1)
longest = {{"x": np.broadcast_to(np.float32(1), (10**6, 1, 64))}}, {{"y": np.ones((10**6, 1, 1), "f4")}}
print(refused(lambda: program.step(params, *longest, state=state)))
print(refused(lambda: program.run(params, longest[0], state=state)))
print(refused(lambda: program.record(params, *data(3 * 10**4), keep=True)))
assert all(np.array_equal(array, program.start(1)[key]) for key, array in state.items())
learner.fit([small])
print(learner.seen, program.gradient(params, *data(2000)).loss > 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="address space is counted in /proc")
@pytest.mark.parametrize("backend", ["numpy", "interpreter"])
def test_under_a_limit_blocks_are_refused_in_our_words(backend: str) -> None:
    """If this fails, a long block under a limit ends in NumPy's MemoryError, or a learner is lost with it."""
    code = LIMITED.format(tests=str(Path(__file__).parents[1]), backend=backend)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second, third, fourth, fifth, *unpriced, last = done.stdout.splitlines()
    assert first.startswith("gradient: batch 1 needs")
    assert "for a block of 200,000 steps" in first
    assert second.startswith("gradient: batch 1 needs")
    assert third.startswith("record: batch 1 needs")
    assert fourth.startswith("learner: batch 1 needs")
    assert fifth.startswith("start: batch 1000000 needs")
    for line, name in zip(unpriced, ("step", "run", "record"), strict=True):
        assert line.startswith(f"{name}: the memory of this process is used up (")
    assert last == "20 True"


# What is refused costs nothing.


def mixed() -> Any:
    """Biases, feedback, delays and a sparse weight: whatever makes arrays of its own while influence is carried."""
    return declare(
        {"x": {"op": "input", "size": 4}, "h": {"op": "tanh", "size": 8, "bias": True}}
        | {"y": {"op": "linear", "size": 2}},
        ("x", "h", {"weight": "sparse", "density": 0.5}),
        ("h", "h", {"weight": "dense", "delay": 3}),
        ("h", "y", {"weight": "dense"}),
    )


MIXED = {"*.bias": "uoro", "h->h": "kf-rtrl", "*": "rtrl"}


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "snap(2)", "uoro", MIXED], ids=str)
def test_refusing_allocates_nothing(rule: Any) -> None:
    """If this fails, asking whether something fits takes the memory that it is asked about."""
    program = fg.compile(mixed(), {"y": "mse"}, rule)
    peaks: list[int] = []
    for batch in (10**3, 10**9):
        tracemalloc.start()
        with pytest.raises(MemoryBudgetError):
            program.start(batch, max_memory="1 KiB")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2 * MIB


@pytest.mark.parametrize("rule", ["rtrl", "eprop", "snap(2)", "uoro"])
@pytest.mark.parametrize("name", ["elman", "alif", "leaky_stack"])
def test_what_is_let_through_without_a_price_fits(name: str, rule: str) -> None:
    """If this fails, the short way round a block's exact price lets blocks through that do not fit."""
    program = fg.compile(fg.load(name), rule=rule, dead="ignore")
    for block in (2, 9, 1000):
        assert program.cost(3, block).total <= AMPLE * block * program.cost(3).total / 1.5


def test_the_last_block_needs_no_room_for_influence_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, reverse mode, a whole sequence as one block, is refused for what it does not compute."""
    given = problem(vanilla(), "y", steps=40)
    program = fg.compile(given.graph, {"y": "mse"}, "rtrl")
    last, other = price(program._execution, program.rules, 2, 40, last=True).total, program.cost(2, 40).total
    assert last < 0.8 * other
    call = (given.params, given.inputs, given.targets)
    monkeypatch.setattr(budget, "headroom", lambda: int(last / budget.SHARE) + 2)
    wanted = program.gradient(*call, block=40).loss
    with pytest.raises(
        MemoryBudgetError, match=r"gradient: batch 2 needs .* for a block of 39 steps(?s:.*)Blocks of \d+"
    ):
        program.gradient(*call, block=39)
    assert program.gradient(*call, block=5).loss == pytest.approx(wanted)


ABSURD = ["9" * 400 + "GiB", "9" * 39 + "TiB", 10**400, 2**63, "١GiB", "1e400", float("inf"), np.float64(5), [1]]


@pytest.mark.parametrize("given", ABSURD, ids=[f"{n}" for n in range(len(ABSURD))])
def test_absurd_budgets_are_refused_in_our_words(given: Any) -> None:
    """If this fails, a slip in a size ends in an error of Python's, or is not a limit at all."""
    with pytest.raises(fg.DataError, match="max_memory must be a number of bytes or a text such as '2GiB', got "):
        budget.size_of(given)
    with pytest.raises(fg.DataError, match="max_memory"):
        fg.compile(vanilla(), {"y": "mse"}).start(1, max_memory=given)


def test_budgets_of_numpy_are_numbers() -> None:
    """If this fails, a size that was computed with NumPy is refused."""
    assert budget.size_of(np.int64(2**40)) == 2**40 == budget.size_of("1024 GiB")  # type: ignore[arg-type]

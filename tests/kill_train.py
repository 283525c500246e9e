"""`forwardgrad train` is killed again and again, and resumed each time: nothing may be lost, nothing altered.

`python tests/kill_train.py FOLDER KILLS` forks a process that trains with checkpoints, kills it by SIGKILL at a random
moment, from its first step to the renames of its results, looks at what it left, and goes on with `--resume`. A run
that gets to its end is compared file by file with one that was never killed. Then the next one begins in the same
folder with another seed, so that there are old results to replace. Prints JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import forwardgrad as fg
from forwardgrad import cli
from forwardgrad.learning import checkpoint
from forwardgrad.render import engines
from forwardgrad.training import Run
from forwardgrad.training import results as training_results

SEEDS = (0, 1, 2)


def prepare(folder: Path) -> None:
    """A series and a small graph in the folder, which becomes the working folder."""
    os.chdir(folder)
    wave = np.sin(0.4 * np.arange(120)) + 0.1 * np.random.default_rng(0).normal(size=120)
    Path("wave.csv").write_text("\n".join(map(str, wave)))
    graph = fg.load("elman")
    for _, attributes in graph.nodes(data=True):
        if attributes.get("size", 1) > 1:
            attributes["size"] = 4
    fg.save(graph, "small.toml")


def without_pictures() -> None:
    """Layouts and plots take most of the time, and are not what is tried here: their numbers stand for them."""
    engines.LADDER = ()
    training_results.curve_picture = lambda task, trained, found: json.dumps(trained.curve).encode()


def job(seed: int, *more: str, out: str = "out", every: str = "7") -> list[str]:
    """The words of a command that trains for a few passes."""
    words = f"train small.toml --data wave.csv --train-samples 60 --passes 2 --block 4 --seed {seed} --out {out}"
    return [*words.split(), "--checkpoint-every", every, "--json", *more]


def run(words: list[str]) -> int:
    """The exit code of a command that says nothing."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        return cli.main(words)


def results(folder: Path) -> dict[str, str]:
    """Digests of the results that lie in a folder; of the report without the time that training took."""
    found: dict[str, str] = {}
    for path in folder.iterdir():
        if path.name[0] != "." and path.name != "checkpoint.npz":
            content = path.read_bytes()
            if path.name == "report.json":
                content = json.dumps({**json.loads(content), "seconds": 0}).encode()
            found[path.name] = hashlib.sha256(content).hexdigest()
    return found


def told(folder: Path) -> int:
    """Steps at which the last checkpoint stands; 0 where there is none. A file that is none raises."""
    path = folder / "checkpoint.npz"
    return checkpoint.read(path).seen if path.exists() else 0


def killed(words: list[str], after: float) -> tuple[int | None, int]:
    """Fork a process that runs a command, and kill it so long after its beginning, if it still runs.

    Returns:
        Its exit code, or `None` where it was killed; and the step of the last checkpoint that it had written.
    """
    hears, tells = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(hears)
            save = Run.save

            def saved(self: Run, path: Path) -> None:
                save(self, path)
                os.write(tells, f"{self.learner.seen} ".encode())

            Run.save = saved
            os.write(tells, b"0 ")
            os._exit(run(words))
        finally:
            os._exit(99)
    os.close(tells)
    said, end = os.read(hears, 4096), time.monotonic() + after
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end:
        time.sleep(0.0005)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    while more := os.read(hears, 4096):
        said += more
    os.close(hears)
    code = os.waitstatus_to_exitcode(ended[1])
    return None if code == -signal.SIGKILL else code, int(said.split()[-1])


def main(folder: Path, kills: int) -> dict[str, Any]:
    """Kill that many; then let the last run end."""
    without_pictures()
    prepare(folder)
    whole: dict[int, dict[str, str]] = {}
    for seed in SEEDS:
        assert run(job(seed, out=f"whole{seed}", every="1h")) == 0
        whole[seed] = results(Path(f"whole{seed}"))
    assert len({found["learner.npz"] for found in whole.values()}) == len(SEEDS)
    began = time.perf_counter()
    run(job(0, out="timed"))
    usual = time.perf_counter() - began
    out, random = Path("out"), np.random.default_rng()
    counts = dict.fromkeys(("kills", "finished", "within a write", "within the renames", "lost", "altered"), 0)
    turn, resume = 0, False
    while counts["kills"] < kills or resume:
        seed = SEEDS[turn % len(SEEDS)]
        last = counts["kills"] >= kills
        before = told(out) if resume else 0
        after = 60.0 if last else random.uniform(0, 1.2 * usual)
        code, said = killed(job(seed, *(["--resume"] if resume else [])), after)
        if code not in (None, 0):
            raise RuntimeError(f"exit code {code}")
        counts["kills"] += code is None
        placing = (out / ".placing").exists()
        counts["within the renames"] += placing
        counts["within a write"] += bool([*out.glob(".*.tmp"), *out.glob(".staging")])
        if (out / "report.json").exists():  # then all files are of one run: the old one, or the new one
            counts["altered"] += results(out) not in (whole[seed], whole[SEEDS[(turn - 1) % len(SEEDS)]])
        unfinished = placing or (out / "checkpoint.npz").exists()
        done = (out / "report.json").exists() and results(out) == whole[seed] and not unfinished
        if not (done or placing):
            counts["lost"] += told(out) < max(said, before)
        if done:
            left = {path.name for path in out.iterdir()} - whole[seed].keys()
            counts["altered"] += code == 0 and bool(left)
            counts["finished"] += 1
            turn += 1
        resume = unfinished
    return counts


if __name__ == "__main__":
    threadpool_limits(1, user_api="blas")  # threads of BLAS and forks do not go well together
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))

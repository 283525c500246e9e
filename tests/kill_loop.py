"""A run that saves after every block is killed again and again, and goes on from its last checkpoint each time.

`python tests/kill_loop.py FOLDER KILLS` forks a process, kills it with SIGKILL at a random moment, looks at the file it
left, and forks the next one, until so many were killed; then the run is finished. Prints JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import forwardgrad as fg
from forwardgrad import Learner

BLOCK = 2


@cache
def program() -> fg.Program:
    """What learns: with an influence that makes its file large enough to be killed within. Compiled once for all."""
    return fg.compile(fg.load("leaky_stack"), rule="rtrl", dtype="float32")


def learner() -> Learner:
    """A new one."""
    return Learner(program(), program().init(0), fg.Adam(0.001), clip=1.0)


def block(at: int) -> Any:
    """The piece of the stream that begins at a step."""
    random = np.random.default_rng(at)
    return {"x": random.normal(size=(BLOCK, 1, 1))}, {"y": random.normal(size=(BLOCK, 1, 1))}


def digest(of: Learner) -> str:
    """Of parameters, optimiser and state, to the bit."""
    found = hashlib.sha256(str(of.seen).encode())
    for arrays in (of.params, of.optimizer_state, of.state or {}):
        for name, array in arrays.items():
            found.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def resumed(path: Path) -> Learner:
    """The learner of a file, or a new one where there is none yet."""
    return Learner.load(path, program()) if path.exists() else learner()


def save_in_a_loop(path: Path, told: int) -> None:
    """Learn and save without end, and tell after each save how far it is."""
    ours = resumed(path)
    while True:
        ours.fit([block(ours.seen)])
        ours.save(path)
        os.write(told, f"{ours.seen} ".encode())


def killed(path: Path, after: float) -> int:
    """Fork a process that saves in a loop, and kill it so long after its first save; how far it said that it was."""
    hears, tells = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            save_in_a_loop(path, tells)
        finally:
            os._exit(1)
    os.close(tells)
    said = os.read(hears, 100)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(hears, 4096):
        said += more
    os.close(hears)
    return int(said.split()[-1])


def main(folder: Path, kills: int) -> dict[str, Any]:
    """Kill so many; then compare with a run that was never killed."""
    path, random, lost, within = folder / "saved.npz", np.random.default_rng(), 0, 0
    program()
    for _ in range(kills):
        told = killed(path, random.uniform(0, 0.02))
        lost += resumed(path).seen < told  # a file that is no checkpoint raises here
        left = [file for file in folder.iterdir() if file != path]
        within += bool(left)
        for file in left:
            file.unlink()
    ours, whole = Learner.load(path), learner()
    while whole.seen < ours.seen:
        whole.fit([block(whole.seen)])
    after = [run.fit([block(run.seen)])[0].loss for run in (ours, whole)]
    same = digest(ours) == digest(whole) and after[0] == after[1]
    return {"kills": kills, "within a write": within, "lost": lost, "steps": whole.seen, "same": same}


if __name__ == "__main__":
    threadpool_limits(1, user_api="blas")  # threads of BLAS and forks do not go well together
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))

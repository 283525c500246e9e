"""`forwardgrad train` is interrupted again and again in one process: at any moment, by SIGINT or SIGTERM, or twice.

`python tests/interrupt_train.py FOLDER INTERRUPTS` runs the command, and a timer sends a signal at a random moment. The
exit code must be that of the signal, the handlers those from before, and nothing half made may be left. A run goes on
with `--resume`; at its end it is compared with one that was never interrupted. Prints JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import kill_train
import numpy as np
from kill_train import SEEDS, job, results, run, told
from threadpoolctl import threadpool_limits

from forwardgrad import cli
from forwardgrad.training import Signals

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Timer:
    """Sends a signal to this process after a random time, where `armed`; then perhaps another one."""

    def __init__(self) -> None:
        self.armed, self.sent, self.twice = False, list[int](), False
        signal.signal(signal.SIGALRM, self._ring)

    def start(self, after: float, twice: bool) -> None:
        self.sent, self.twice, self.armed = [], twice, True
        signal.setitimer(signal.ITIMER_REAL, after, 0.002)

    def stop(self) -> None:
        self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, _: int, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code is not cli.main.__code__:
            frame = frame.f_back
        if frame is None or not self.armed:  # within the command alone, and not between this script's own lines
            return
        self.armed = self.twice and not self.sent
        # Where nothing is in the folder yet, SIGTERM ends a process as it always does: this one would be gone.
        ours = isinstance(getattr(signal.getsignal(signal.SIGTERM), "__self__", None), Signals)
        number = signal.SIGTERM if ours and np.random.default_rng().random() < 0.5 else signal.SIGINT
        self.sent.append(number)
        signal.raise_signal(number)


def hidden(folder: Path) -> set[str]:
    """Locks and half-written files in a folder."""
    return {path.name for path in folder.iterdir() if path.name.startswith(".")} if folder.exists() else set()


def interrupted(timer: Timer, words: list[str], after: float, twice: bool) -> int:
    """The exit code of a command that is interrupted after so much time, if it still runs then."""
    try:
        timer.start(after, twice)
        return cli.main(words)
    except KeyboardInterrupt:  # before the command line has begun, or after it is done
        return 130
    finally:
        timer.stop()


def main(folder: Path, interrupts: int) -> dict[str, Any]:
    """Interrupt it that many times; then let the last run end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells let background jobs ignore
    kill_train.without_pictures()
    kill_train.prepare(folder)
    whole: dict[int, dict[str, str]] = {}
    for seed in SEEDS:
        began = time.perf_counter()
        assert run(job(seed, out=f"whole{seed}", every="1h")) == 0
        usual = time.perf_counter() - began
        whole[seed] = results(Path(f"whole{seed}"))
    before = {number: signal.getsignal(number) for number in WATCHED}
    timer, out, random = Timer(), Path("out"), np.random.default_rng()
    names = ("interrupts", "twice", "finished", "wrong code", "handlers", "left", "lost", "altered")
    counts, codes = dict.fromkeys(names, 0), dict[str, int]()
    turn, resume = 0, False
    while counts["interrupts"] < interrupts or resume:
        seed, step = SEEDS[turn % len(SEEDS)], told(out) if resume else 0
        last = counts["interrupts"] >= interrupts
        words = job(seed, *(["--resume"] if resume else []), every="1h")
        twice, lay = random.random() < 0.2, hidden(out)  # what two signals left, and this run may not get to
        code = interrupted(timer, words, 600 if last else random.uniform(0, 1.1 * usual), twice)
        counts["interrupts"] += bool(timer.sent)
        counts["twice"] += len(timer.sent) > 1
        counts["wrong code"] += code not in {0, *(128 + number for number in timer.sent)}
        counts["handlers"] += any(signal.getsignal(number) != was for number, was in before.items())
        codes[str(code)] = codes.get(str(code), 0) + 1
        if len(timer.sent) < 2:
            counts["left"] += bool(hidden(out) - lay)
        if (out / "report.json").exists():
            counts["altered"] += results(out) not in (whole[seed], whole[SEEDS[(turn - 1) % len(SEEDS)]])
        resume = (out / "checkpoint.npz").exists() or (out / ".placing").exists()
        if (out / "report.json").exists() and results(out) == whole[seed] and not resume:
            counts["finished"] += 1
            turn += 1
        else:
            counts["lost"] += told(out) < step
    return {**counts, "exit codes": dict(sorted(codes.items()))}


if __name__ == "__main__":
    threadpool_limits(1, user_api="blas")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # once: no interrupt can undo it
        sys.stderr, said = nowhere, sys.stderr
        try:
            found = main(Path(sys.argv[1]), int(sys.argv[2]))
        finally:
            sys.stderr = said
    print(json.dumps(found))

"""Runs jobs over processes: each is one seed of one setting, and what is done is not done again."""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from tqdm import tqdm

from experiments import catalogue
from experiments.experiment import Experiment, Setting
from experiments.results import Run, key
from forwardgrad.errors import MissingExtraError

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Set to 1 for the processes that run jobs: they share the processors among themselves."""


@dataclass(frozen=True)
class Job:
    """One run to make.

    Args:
        experiment: its name.
        fixed: what holds for all runs of it.
        setting, seed: which run.
    """

    experiment: str
    fixed: Mapping[str, Any]
    setting: Setting
    seed: int

    @property
    def key(self) -> str:
        return key(self.setting, self.seed)


def jobs(experiment: Experiment, fixed: Mapping[str, Any], seeds: int, only: Sequence[str] = ()) -> list[Job]:
    """The runs of an experiment, seed by seed.

    Args:
        experiment: which.
        fixed: what holds for all runs.
        seeds: how many.
        only: texts such as `rule=rtrl`, of which the setting must have all.
    """
    wanted = dict(each.split("=", 1) for each in only)
    fitting = [s for s in experiment.settings if all(str(s.get(k)) == v for k, v in wanted.items())]
    return [Job(experiment.name, fixed, setting, seed) for seed in range(seeds) for setting in fitting]


@dataclass(frozen=True)
class NotMade:
    """Why there is no run.

    Args:
        why: in words.
        failed: whether it failed; else this machine lacks something.
    """

    why: str
    failed: bool


def do(job: Job) -> Run | NotMade:
    """Make one run, or say why not: what one run fails of shall not end the others."""
    began = time.perf_counter()
    try:
        found = catalogue.get(job.experiment).run(seed=job.seed, **job.fixed, **job.setting)
    except MissingExtraError as error:
        return NotMade(str(error), failed=False)
    except Exception as error:
        return NotMade(
            f"{job.experiment} {dict(job.setting)} seed {job.seed}: {type(error).__name__}: {error}", failed=True
        )
    made = f"Python {platform.python_version()}, NumPy {np.__version__}"
    return Run(dict(job.setting), job.seed, _short(found), round(time.perf_counter() - began, 1), made)


def _short(found: Any) -> Any:
    """The same with numbers of six digits, and `None` for what is not finite."""
    if isinstance(found, dict):
        return {name: _short(each) for name, each in cast("dict[str, Any]", found).items()}
    if isinstance(found, (list, tuple, np.ndarray)):
        return [_short(each) for each in cast("list[Any]", found)]
    if isinstance(found, (bool, str, int, type(None))):
        return found
    return float(f"{float(found):.6g}") if np.isfinite(found) else None


def finished(todo: Sequence[Job], processes: int, until: float | None) -> Iterator[tuple[Job, Run | NotMade]]:
    """Do the jobs in this order; after `until` (of `time.monotonic`) none is begun. Gives each when it is done."""
    if processes == 1:
        for job in todo:
            if until is not None and time.monotonic() > until:
                return
            yield job, do(job)
        return
    waiting, running = iter(todo), dict[Future[Run | NotMade], Job]()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        while True:
            while len(running) < processes and not (until is not None and time.monotonic() > until):
                job = next(waiting, None)
                if job is None:
                    break
                running[pool.submit(do, job)] = job
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(done), done.result()


def run_all(
    todo: Sequence[Job], save: Callable[[Job, Run], None], processes: int = 1, minutes: float | None = None
) -> Iterable[NotMade]:
    """Do jobs under a progress bar, and save each run as it comes.

    Args:
        todo: the jobs, in the order in which they are begun.
        save: is given each run.
        processes: how many run side by side, each on one thread.
        minutes: after so many, no job is begun any more.

    Returns:
        Why jobs were not done, each reason once.
    """
    os.environ.update(dict.fromkeys(THREADS, "1"))
    until = None if minutes is None else time.monotonic() + 60 * minutes
    refused: dict[NotMade, None] = {}
    with tqdm(total=len(todo), unit="run", disable=None, file=sys.stderr) as bar:
        for job, found in finished(todo, processes, until):
            bar.update()
            bar.set_postfix_str(f"{job.experiment} {', '.join(map(str, job.setting.values()))}"[:60])
            if isinstance(found, NotMade):
                refused[found] = None
            else:
                save(job, found)
    return refused

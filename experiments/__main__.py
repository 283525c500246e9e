"""`python -m experiments NAME ...`: runs experiments, or what is left of them. Results go to `experiments/results/`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import catalogue, results, running
from experiments.experiment import Experiment
from experiments.results import OtherSettingsError, Results, Run
from experiments.running import Job


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="which experiments; their runs share the processes")
    add("--all", action="store_true", help="all experiments")
    add("--list", action="store_true", help="list the experiments with their budgets, and the runs that are there")
    add("--seeds", type=int, metavar="N", help="seeds of each setting (default: as many as the experiment asks for)")
    add("--only", action="append", default=[], metavar="KEY=VALUE", help="settings with this value; may be repeated")
    add("--slice", default="1/1", metavar="I/N", help="the Ith of N parts of the runs, to share them among machines")
    add("--budget", type=float, metavar="MINUTES", help="after so many minutes no run is begun any more")
    add("--processes", type=int, default=1, metavar="P", help="runs side by side, each on one thread (default: 1)")
    add("--json", type=Path, metavar="FILE", help="where results of one experiment go, in place of its usual file")
    add(
        "--merge",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="run nothing: add the runs of these files to the usual ones",
    )
    add("--quick", action="store_true", help="a first look, with shorter runs of which nothing is kept without --json")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns 0, 1 if a run failed, or 2 if it was used wrongly."""
    parser = _parser()
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in catalogue.NAMES]
    if unknown:
        parser.error(f"unknown experiment {unknown[0]!r}; there are {', '.join(catalogue.NAMES)}.")
    names = list(catalogue.NAMES) if given.all or given.list else given.names
    if given.json and len(names) != 1:
        parser.error("--json takes the results of one experiment.")
    try:
        if given.list:
            return _list()
        if given.merge:
            return _merge(given.merge)
        if not names:
            parser.error("name an experiment, or give --all; --list lists them.")
        return _run(given, [catalogue.get(name) for name in names])
    except (OtherSettingsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


def _usual(name: str) -> Path:
    return results.FOLDER / f"{name}.json"


def _list() -> int:
    for name in catalogue.NAMES:
        each = catalogue.get(name)
        there = len(results.read(_usual(name)).runs) if _usual(name).exists() else 0
        asked = len(each.settings) * each.seeds
        print(f"{name:<14}{each.minutes:>4g} min on two cores, {there} of {asked} runs  {each.title}")
    return 0


def _merge(paths: Sequence[Path]) -> int:
    for path in paths:
        added = results.read(path)
        experiment = catalogue.get(added.experiment)
        results.of(experiment, path, experiment.fixed)  # refuses what was made with other settings
        held = results.of(experiment, _usual(experiment.name), experiment.fixed)
        held.add(added.runs.values())
        held.write(_usual(experiment.name))
        print(f"{experiment.name}: {len(added.runs)} runs of {path} added, {len(held.runs)} in all")
    return 0


def _run(given: argparse.Namespace, experiments: Sequence[Experiment]) -> int:
    held: dict[str, Results] = {}
    paths: dict[str, Path | None] = {}
    todo: list[Job] = []
    for each in experiments:
        fixed = {**each.fixed, **each.quick} if given.quick else each.fixed
        paths[each.name] = given.json or (None if given.quick else _usual(each.name))
        path = paths[each.name]
        held[each.name] = Results(each.name, dict(fixed)) if path is None else results.of(each, path, fixed)
        todo += running.jobs(each, fixed, each.seeds if given.seeds is None else given.seeds, given.only)
    part, parts = map(int, given.slice.split("/"))
    left = [job for job in todo[part - 1 :: parts] if job.key not in held[job.experiment].runs]
    left = _ordered(left, held, seeds_first=given.budget is not None)
    print(f"{len(left)} of {len(todo)} runs to make", flush=True)

    def save(job: Job, run: Run) -> None:
        held[job.experiment].add([run])
        path = paths[job.experiment]
        if path is None:
            print(f"{job.experiment} {run.setting} seed {run.seed}: {run.found} ({run.seconds} s)", flush=True)
        else:
            held[job.experiment].write(path)

    refused = list(running.run_all(left, save, given.processes, given.budget))
    for each in refused:
        print(f"{'failed' if each.failed else 'not run here'}: {each.why}", file=sys.stderr)
    for path in filter(None, paths.values()):
        print(f"wrote {path}")
    return int(any(each.failed for each in refused))


def _ordered(left: Sequence[Job], held: dict[str, Results], *, seeds_first: bool) -> list[Job]:
    """Long runs first, as far as another seed of theirs is known, so that none is left over in the end."""

    def seconds(job: Job) -> float:
        known = [run.seconds for run in held[job.experiment].chosen(**job.setting)]
        return max(known, default=1e9)

    return sorted(left, key=lambda job: (job.seed if seeds_first else 0, -seconds(job)))


if __name__ == "__main__":
    sys.exit(main())

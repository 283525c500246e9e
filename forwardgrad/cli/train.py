"""`forwardgrad train`: a training run in its folder, with a bar, and what is said when it ends or is stopped."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import networkx as nx
from tqdm import tqdm

from forwardgrad import training
from forwardgrad.backends.processes import Processes
from forwardgrad.cli.data import add_data, fitted
from forwardgrad.cli.data import task as learned
from forwardgrad.cli.joining import add_processes, is_local, joined, launched, own_copy
from forwardgrad.cli.options import (
    add_backend,
    add_dtype,
    add_graph,
    add_json,
    add_loss,
    add_rule,
    add_traces,
    devices,
    losses,
    not_negative,
    positive,
    print_json,
)
from forwardgrad.compiling import compile
from forwardgrad.graph.files import load
from forwardgrad.learning.learner import Update
from forwardgrad.training.settings import SCHEDULES


def options(parser: argparse.ArgumentParser) -> None:
    defaults = training.Settings()
    add_json(parser)
    add_graph(parser)
    add_data(parser)
    add_rule(parser)
    add_loss(parser)
    parser.add_argument("--out", metavar="FOLDER", help="where results go (default: runs/DATA)")
    parser.add_argument(
        "--passes", "--epochs", type=positive, default=defaults.passes, help="passes over them (default %(default)s)"
    )
    parser.add_argument(
        "--batch", type=positive, default=defaults.batch, help="sequences side by side (default %(default)s)"
    )
    parser.add_argument("--block", type=positive, default=defaults.block, help="steps per update (default %(default)s)")
    parser.add_argument(
        "--trials",
        action="store_true",
        help="sequences are trials: an update per batch of them, by its mean loss",
    )
    parser.add_argument(
        "--update-every",
        type=positive,
        metavar="N",
        help="with --trials: steps per update (default: all)",
    )
    parser.add_argument(
        "--learning-rate", type=float, default=defaults.learning_rate, help="of Adam (default %(default)s)"
    )
    parser.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default=defaults.schedule,
        help="of the learning rate: down to zero, or constant (default %(default)s)",
    )
    parser.add_argument(
        "--patience",
        type=positive,
        default=defaults.patience,
        help="passes without a better validation score that end training (default %(default)s)",
    )
    parser.add_argument("--clip", type=float, default=defaults.clip, help="gradient norm limit (default %(default)s)")
    parser.add_argument(
        "--seed", type=not_negative, default=defaults.seed, help="of initial parameters (default %(default)s)"
    )
    parser.add_argument(
        "--report", action="store_true", help="write report.html, too: the trained network's traces, step by step"
    )
    parser.add_argument(
        "--checkpoint-every",
        metavar="N",
        default="10m",
        help="save the run every N steps, or in so much time: 5000, 30s, 10m, 1.5h (default %(default)s)",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the interrupted run in FOLDER, bit for bit")
    again.add_argument(
        "--restart", action="store_true", help="start again, and give up the interrupted run that FOLDER holds"
    )
    parser.add_argument("--max-memory", help="most memory to take, such as 2GiB (default: 80 %% of what is free)")
    add_dtype(parser)
    add_backend(parser)
    add_traces(parser)
    add_processes(parser)


def run(given: argparse.Namespace) -> int:
    if given.processes is not None and given.coordinator is given.process is None:
        return launched(given, _words(given, resume=given.resume, restart=given.restart))
    with joined(given) as processes:
        return _train(given, processes)


def _train(given: argparse.Namespace, processes: Processes | None) -> int:
    settings = training.Settings(
        given.passes,
        given.block,
        given.learning_rate,
        given.clip,
        given.seed,
        given.batch,
        given.schedule,
        given.patience,
        given.trials,
        given.update_every,
    )
    own = None if given.loss is None else losses(nx.MultiDiGraph(), given.loss)
    graph = load(given.graph)  # before the data: a slip in its name is told at once
    task = learned(given)
    graph, named = fitted(graph, given.graph, own, task)
    loss = named or losses(graph, None)
    where: dict[str, Any] = {"backend": given.backend, "devices": devices(given)}
    program = compile(graph, loss=loss, rule=given.rule, dtype=given.dtype, **where)
    training.ends(program, task)
    every = training.Every.read(given.checkpoint_every)
    program.fits(min(settings.batch, len(task.train)), settings.block, given.max_memory)
    levels = training.baselines(task)
    folder = Path(given.out or f"runs/{task.name}")
    if processes is not None and not processes.first:
        folder = own_copy(folder)
    keeper = training.Keeper(folder / training.CHECKPOINT, every)
    if processes is not None:
        keeper.agreed = processes.agreed
    report: dict[str, Any] | None = None
    missing: list[str] = []
    try:
        with training.Signals() as signals, training.Hold(folder, exists=given.resume):
            begun = training.begin(folder, program, task, settings, resume=given.resume, restart=given.restart)
            if begun is None:
                print(f"finished already: {str(folder)!r} holds the results.", file=sys.stderr)
                _print(given, folder, training.read_report(folder))
                return 0
            trained = _learn(begun, keeper)
            about = {"graph": given.graph, "rule": given.rule}
            found = training.report(program, task, settings, trained, levels, about)
            command = _command(given, resume=False) if given.report else None
            report, missing = training.write(folder, task, trained, found, command, signals.check)
    except training.Stopped as stopped:  # or a signal came when all was done
        if report is None:
            return _stopped(given, stopped, keeper)
    assert report is not None
    for line in missing:
        print(f"note: {line}", file=sys.stderr)
    _print(given, folder, report)
    return 0


def _learn(run: training.Run, keeper: training.Keeper) -> training.Trained:
    """Train with a bar on the terminal that begins where the run is."""
    passes, seen = run.settings.passes, run.learner.seen
    if seen:
        keeper.saved = seen
    with tqdm(total=run.total, initial=seen, unit=" steps", desc="learning", disable=None) as bar:

        def progress(update: Update) -> None:
            bar.update(update.steps)
            if update.seen % 200 < update.steps:
                bar.set_description(f"pass {min(1 + len(run.curve), passes)} of {passes}", refresh=False)
                if update.answers:
                    bar.set_postfix(loss=f"{update.loss:.4f}", refresh=False)

        return training.train(run.learner.program, run.task, run.settings, progress, run=run, keeper=keeper)


def _print(given: argparse.Namespace, folder: Path, report: Mapping[str, Any]) -> None:
    written = [str(folder / name) for name in report["files"]]
    if given.json:
        print_json({**report, "stopped": None, "written": written})
        return
    about, settings, metric = report["data"], report["settings"], report["metric"]
    done = len(report["curve"])
    passes = "1 pass" if done == 1 else f"{done} passes"
    what = "samples" if about["sequences"] is None else "sequences"
    print(f"{report['graph']} learned {about['name']} under {report['rule']}: {passes} over", end=" ")
    every = "an update per trial" if settings["every"] is None else f"an update every {settings['every']} steps"
    updates = f"{every} of {settings['batch']}" if settings["trials"] else f"blocks of {settings['block']}"
    print(f"{about['train']:,} {what} in {report['seconds']:.0f} s, {updates}.")
    scores = report[metric.lower()]
    for name, value in scores.items():
        if name != "test":
            print(f"{f'{name} {metric}:':<40} {value:.4f}")
    if report["validation"]:
        best = (max if metric == "accuracy" else min)(report["validation"])
        at = 1 + report["validation"].index(best)
        print(f"{f'validation {metric}:':<40} {best:.4f}, best after pass {at}; its weights are kept")
    print(f"wrote {', '.join(written)}")
    print(f"test {metric}: {scores['test']:.4f}")


def _stopped(given: argparse.Namespace, stopped: training.Stopped, keeper: training.Keeper) -> int:
    """Say how to go on; the exit code of a process that the signal ends."""
    saved, again = keeper.saved, None if keeper.saved is None else _command(given, resume=True)
    if given.json:
        path = None if saved is None else str(keeper.path)
        about = {"signal": stopped.signal.name, "step": saved, "checkpoint": path, "resume": again}
        print_json({"graph": given.graph, "rule": given.rule, "stopped": about})
    how = "nothing is saved." if saved is None else f"saved at step {saved:,}; to go on: {again}"
    with suppress(OSError):  # the terminal may be what has gone
        print(f"stopped by {stopped.signal.name}; {how}", file=sys.stderr)
    return 128 + stopped.signal


def _command(given: argparse.Namespace, *, resume: bool) -> str:
    """The command of a run, or the one that goes on with it, for a shell."""
    return shlex.join([*_called(), *_words(given, resume=resume)])


def _words(given: argparse.Namespace, *, resume: bool, restart: bool = False) -> list[str]:
    """The words of a command: all options that are not the defaults.

    Processes of one machine are started by one command, which does not say which of them it is.
    """
    alone = {"coordinator": None, "process": None} if is_local(given.coordinator) else {}
    parser = argparse.ArgumentParser()
    options(parser)
    words: list[str] = []
    for name, default in vars(parser.parse_args(["--", given.graph])).items():
        value = {**vars(given), "resume": resume, "restart": restart, **alone}[name]
        if value != default:
            values = cast("list[Any]", value) if isinstance(value, list) else [value]
            words += [word for one in values for word in _option(f"--{name.replace('_', '-')}", one)]
    graph = [given.graph, *words] if not given.graph.startswith("-") else [*words, "--", given.graph]
    return ["train", *graph]


def _option(name: str, value: Any) -> list[str]:
    if value is True:
        return [name]
    return [f"{name}={value}"] if str(value).startswith("-") else [name, str(value)]


def _called() -> list[str]:
    """How this program is called: by its name where a shell finds it so."""
    called, known = Path(sys.argv[0]), shutil.which("forwardgrad")
    if called.stem != "forwardgrad":
        return [sys.executable, "-m", "forwardgrad"]
    return ["forwardgrad"] if known and os.path.realpath(known) == os.path.realpath(called) else [str(called)]

"""`forwardgrad train`: a training run in its folder, with a bar, and what is said when it ends or is stopped."""

from __future__ import annotations

import argparse
import json
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

from forwardgrad import data, training
from forwardgrad.compiling import compile
from forwardgrad.learner import Update


def run(
    given: argparse.Namespace,
    defaults: Mapping[str, Any],
    graph: nx.MultiDiGraph[str],
    losses: Mapping[str, str],
) -> int:
    """Train a graph as the options say; the exit code.

    Args:
        given: the options.
        defaults: what they are where they are not given.
        graph: what to train.
        losses: by node.
    """
    program = compile(graph, loss=losses, rule=given.rule, dtype=given.dtype)
    training.ends(program)
    settings = training.Settings(given.passes, given.block, given.learning_rate, given.clip, given.seed)
    every = training.Every.read(given.checkpoint_every)
    program.fits(1, settings.block, given.max_memory)
    task = data.one_step(data.get(given.data), train=given.train_samples)
    levels = training.baselines(task)
    folder = Path(given.out or f"runs/{task.series.name}")
    keeper = training.Keeper(folder / training.CHECKPOINT, every)
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
            report, missing = training.write(folder, task, trained, found, given.report, signals.check)
    except training.Stopped as stopped:  # or a signal came when all was done
        if report is None:
            return _stopped(given, defaults, stopped, keeper)
    assert report is not None
    for line in missing:
        print(f"note: {line}", file=sys.stderr)
    _print(given, folder, report)
    return 0


def _learn(run: training.Run, keeper: training.Keeper) -> training.Trained:
    """Train with a bar on the terminal that begins where the run is."""
    passes, length, seen = run.settings.passes, run.length, run.learner.seen
    if seen:
        keeper.saved = seen
    with tqdm(total=run.total, initial=seen, unit=" steps", desc="learning", disable=None) as bar:

        def progress(update: Update) -> None:
            bar.update(update.steps)
            if update.seen % 200 < update.steps:
                bar.set_description(f"pass {1 + (update.seen - 1) // length} of {passes}", refresh=False)
                bar.set_postfix(loss=f"{update.loss:.4f}", refresh=False)

        return training.train(run.learner.program, run.task, run.settings, progress, run=run, keeper=keeper)


def _print(given: argparse.Namespace, folder: Path, report: Mapping[str, Any]) -> None:
    written = [str(folder / name) for name in report["files"]]
    if given.json:
        print(json.dumps({**report, "stopped": None, "written": written}, indent=2))
        return
    series, settings = report["series"], report["settings"]
    passes = "1 pass" if settings["passes"] == 1 else f"{settings['passes']} passes"
    print(f"{report['graph']} learned {series['name']} under {report['rule']}: {passes} over", end=" ")
    print(f"{series['train']:,} samples in {report['seconds']:.0f} s, blocks of {settings['block']}.")
    for name, value in report["nmse"].items():
        if name != "test":
            print(f"{name + ' NMSE:':<40} {value:.4f}")
    print(f"wrote {', '.join(written)}")
    print(f"test NMSE: {report['nmse']['test']:.4f}")


def _stopped(
    given: argparse.Namespace, defaults: Mapping[str, Any], stopped: training.Stopped, keeper: training.Keeper
) -> int:
    """Say how to go on; the exit code of a process that the signal ends."""
    saved, again = keeper.saved, None if keeper.saved is None else resuming(given, defaults)
    if given.json:
        path = None if saved is None else str(keeper.path)
        about = {"signal": stopped.signal.name, "step": saved, "checkpoint": path, "resume": again}
        print(json.dumps({"graph": given.graph, "rule": given.rule, "stopped": about}, indent=2))
    how = "nothing is saved." if saved is None else f"saved at step {saved:,}; to go on: {again}"
    with suppress(OSError):  # the terminal may be what has gone
        print(f"stopped by {stopped.signal.name}; {how}", file=sys.stderr)
    return 128 + stopped.signal


def resuming(given: argparse.Namespace, defaults: Mapping[str, Any]) -> str:
    """The command that goes on with an interrupted run, for a shell: all options that are not the defaults."""
    words: list[str] = []
    for name, value in {**vars(given), "resume": True, "restart": False}.items():
        if value != defaults[name]:
            values = cast("list[Any]", value) if isinstance(value, list) else [value]
            words += [word for one in values for word in _option(f"--{name.replace('_', '-')}", one)]
    graph = [given.graph, *words] if not given.graph.startswith("-") else [*words, "--", given.graph]
    return shlex.join([*_called(), "train", *graph])


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

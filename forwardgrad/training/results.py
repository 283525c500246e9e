"""The results of a training run: report, parameters, pictures and page, in a folder."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import forwardgrad
from forwardgrad import render
from forwardgrad.compiling import compile
from forwardgrad.errors import FileError, ForwardgradError, MemoryBudgetError, MissingExtraError, RenderError
from forwardgrad.program import Program
from forwardgrad.support.archive import read_bytes
from forwardgrad.support.atomic import write_bytes
from forwardgrad.training.curve import curve_picture
from forwardgrad.training.folder import REPORT, replacing
from forwardgrad.training.run import Trained
from forwardgrad.training.settings import Settings, ends
from forwardgrad.training.tasks import Task


def report(
    program: Program,
    task: Task,
    settings: Settings,
    trained: Trained,
    levels: Mapping[str, float],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """The report as plain data, for JSON.

    Args:
        program: what was trained.
        task: what on.
        settings: how.
        trained: what came of it.
        levels: test scores of the baselines.
        about: further facts, such as the names of graph and rule.
    """
    recipe = task.recipe
    return {
        **about,
        "data": {
            "name": task.name,
            "source": task.source,
            "samples": task.samples,
            "sequences": task.sequences,
            "train": task.learned,
            "kind": recipe.kind,
            "inputs": list(recipe.choice.inputs or ()),
            "targets": list(recipe.choice.targets or ()),
            "classes": list(recipe.classes),
            "sha256": task.sha256,
            "mean": recipe.inputs.mean.tolist(),
            "deviation": recipe.inputs.deviation.tolist(),
        },
        "settings": asdict(settings),
        "loss": {name: loss.name for name, loss in program.losses.items()},
        "dtype": program.dtype.name,
        "parameters": {
            name: {
                "rule": str(derived.rule),
                "exact": derived.exact,
                "dropped": list(derived.dropped),
                "stores": {place: str(word) for place, word in derived.layouts.items()},
                "bytes": derived.bytes,
                "flops": derived.flops,
            }
            for name, derived in program.rules.items()
        },
        "metric": task.metric,
        task.metric.lower(): {
            "train": trained.train,
            "test": trained.test,
            **levels,
        },
        "curve": list(trained.curve),
        "validation": list(trained.validation),
        "seconds": trained.seconds,
        "versions": {
            "forwardgrad": forwardgrad.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


SHOWN = 200
"""Samples of the test part that the page shows step by step."""


def write(
    folder: Path,
    task: Task,
    trained: Trained,
    found: dict[str, Any],
    command: str | None = None,
    check: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], list[str]]:
    """Write parameters, report and pictures; they take the places of older ones together, once all are there.

    Args:
        folder: where to; it is held.
        task: what was learned.
        trained: what came of it.
        found: the report.
        command: of the run, where a page is written, too, that shows the trained network on the first samples of the
            test part.
        check: called between the parts of the work; what it raises ends the work, and the old results stay.

    Returns:
        The report as written, with the names of the files, and a line for each that could not be made, saying why.

    Raises:
        FileError: if a file cannot be written.
    """
    files, missing = _pictures(folder, task, trained, found, check)
    if command is not None:
        try:
            files["report.html"] = _page(task, trained, found, command).text.encode("utf-8", "replace")
        except ForwardgradError as error:
            missing.append(f"no page: {_one_line(error)}")
    check()
    found = {**found, "files": ["learner.npz", REPORT, *files]}
    files[REPORT] = (json.dumps(found, indent=2) + "\n").encode()
    with replacing(folder) as staging:
        trained.learner.save(staging / "learner.npz", trained.identity)
        for name, content in files.items():
            write_bytes(staging / name, content)
        check()
    return found, missing


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a finished run.

    Raises:
        FileError: if it is none.
    """
    path = folder / REPORT
    try:
        found: Any = json.loads(read_bytes(path))
        _ = [found[name] for name in ("graph", "rule", "data", "settings", found["metric"].lower(), "seconds", "files")]
        return found
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FileError(f"cannot read {str(path)!r}: it is not the report of a training: {error}.") from error


def _pictures(
    folder: Path, task: Task, trained: Trained, found: dict[str, Any], check: Callable[[], None]
) -> tuple[dict[str, bytes], list[str]]:
    files, missing = dict[str, bytes](), list[str]()
    check()
    try:
        files["curve.png"] = curve_picture(task, trained, found)
    except MissingExtraError as error:
        missing.append(_one_line(error))
    check()
    picture = render.graph(trained.learner.program.graph, title=str(found.get("graph", "")))
    try:
        files["graph.svg"] = picture.render("svg")
    except RenderError as error:
        files["graph.dot"] = picture.source.encode("utf-8", "replace")
        missing.append(_one_line(RenderError(str(error), f"Its text is in {str(folder / 'graph.dot')!r}.")))
    check()
    return files, missing


def _page(task: Task, trained: Trained, found: dict[str, Any], command: str) -> render.Page:
    program = trained.learner.program
    source, output = ends(program, task)
    exact = compile(program.graph, dict(program.losses), "rtrl", dtype=program.dtype, dead="ignore")
    try:
        exact.fits(1, found["settings"]["block"])
    except MemoryBudgetError:
        exact = program
    first = task.test.of(np.arange(1))
    shown = slice(0, 5 * SHOWN if task.recipe.whole else SHOWN)  # an answer for a whole sequence comes at its end
    return render.report(
        program,
        trained.learner.params,
        {source: first.inputs[shown]},
        {output: first.targets[shown]},
        mask=None if first.weight is None else first.weight[shown],
        rules=[] if exact is program else ["rtrl"],
        audit=exact is not program,
        block=found["settings"]["block"],
        title=f"{found.get('graph', 'graph')} after training on {task.name}",
        training=_training(task, trained, found, command),
    )


def _training(task: Task, trained: Trained, found: Mapping[str, Any], command: str) -> render.Training:
    """What the page says of the run."""
    metric = task.metric
    given = found[metric.lower()]
    scores = {name if name in ("train", "test") else f"test, {name}": value for name, value in given.items()}
    what, tested = ("samples", len(task.test.inputs)) if task.sequences is None else ("sequences", len(task.test))
    settings = {name: value for name, value in found["settings"].items() if value is not None and value is not False}
    facts = {
        "command": command,
        f"test {metric}": f"{scores.pop('test'):.4f}",
        **{f"{name}: {metric}": f"{score:.4f}" for name, score in scores.items()},
        "settings": ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items()),
        "rule, dtype": f"{found.get('rule', '')}, {found['dtype']}",
        "data": f"{task.name}: {task.learned:,} {what} to learn from, {tested:,} to test",
        "time": f"{trained.seconds:.1f} s",
    }
    levels = {name: value for name, value in given.items() if name != "train"}
    return render.Training({name: text for name, text in facts.items() if text}, trained.curve, levels, metric)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

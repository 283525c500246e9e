"""The learning curve of a training run, as a picture."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np

from forwardgrad.support.plotting import literal, matplotlib
from forwardgrad.training.run import Trained
from forwardgrad.training.tasks import Task

SHOWN = 200
"""Samples of the test part that are drawn."""

STYLES = (":", "--", "-.", (0, (8, 3)))
"""Of the lines at levels."""


def curve_picture(task: Task, trained: Trained, found: dict[str, Any]) -> bytes:
    """The learning curve beside the baselines, and predictions of the test part, as PNG.

    Raises:
        MissingExtraError: without the extra `plot`.
    """
    figure_class, print_png = matplotlib("the learning curve")
    figure: Any = figure_class(figsize=(9, 6.5), layout="constrained")
    curve, below = figure.subplots(2, 1)
    _curve(curve, task, trained, found)
    if task.metric == "accuracy":
        _by_label(below, task, trained)
    else:
        _stretch(below, task, trained)
    buffer = io.BytesIO()
    print_png(figure, buffer)
    return buffer.getvalue()


def _curve(axes: Any, task: Task, trained: Trained, found: dict[str, Any]) -> None:
    """Scores by pass, and as levels those of the test."""
    from matplotlib.ticker import LogLocator, NullFormatter

    passes = np.arange(1, len(trained.curve) + 1)
    axes.plot(passes, trained.curve, "o-", color="C0", label="while learning")
    if trained.validation:
        axes.plot(passes, trained.validation, "s-", color="C2", label="validation")
    axes.plot(passes[-1], trained.test, "D", color="C3", label=f"test, weights frozen: {trained.test:.4f}")
    scores = found[task.metric.lower()]
    levels = {name: level for name, level in scores.items() if name not in ("train", "test")}
    for (name, level), style in zip(levels.items(), itertools.cycle(STYLES), strict=False):
        axes.axhline(level, color="0.4", linestyle=style, label=f"test, {name}: {level:.4f}")
    title = literal(f"{found['graph']}, rule {found['rule']}")
    axes.set(xlabel="pass over the training part", ylabel=task.metric, title=title)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if task.metric == "accuracy":
        axes.set_ylim(0, 1.02)
    else:
        axes.set_yscale("log")
        axes.set_ylim(_limits([*trained.curve, *trained.validation, trained.test], list(levels.values())))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=50))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend()


def _stretch(axes: Any, task: Task, trained: Trained) -> None:
    """The first samples of the test part, measured and predicted: the first channel of the first sequence."""
    test, scale = task.test, task.recipe.targets
    assert scale is not None
    length = int(test.lengths[0])
    window = slice(0, min(SHOWN, length))
    first = task.learned if task.sequences is None else 0
    steps = first + np.arange(length)[window]
    what = "the test part" if task.sequences is None else "a sequence of the test part"
    title = what.capitalize() if length <= SHOWN else f"The first {SHOWN} samples of {what}"
    for values, style, name in ((test.targets, "0.3", "measured"), (trained.prediction, "C3", "predicted")):
        measured = scale.measured(values[:length, 0])[window, 0]
        axes.plot(steps, measured, color=style, linewidth=1, label=name)
    names = task.recipe.choice.targets or task.recipe.choice.inputs or (task.name,)
    axes.set(xlabel="sample" if task.sequences is None else "step", ylabel=literal(names[0]), title=title)
    axes.legend()


def _by_label(axes: Any, task: Task, trained: Trained) -> None:
    """The share of right answers for each label."""
    classes, test = task.recipe.classes, task.test
    asked = np.ones(test.targets.shape, bool) if test.weight is None else test.weight > 0
    labels, named = test.targets[asked], trained.prediction.argmax(axis=2)[asked]
    counts = np.bincount(labels, minlength=len(classes))
    right = np.bincount(labels[named == labels], minlength=len(classes))
    axes.bar(np.arange(len(classes)), right / np.maximum(counts, 1), color="C3")
    if len(classes) <= 30:
        words = [f"{literal(name[:12])}\n{count:,}" for name, count in zip(classes, counts, strict=True)]
        axes.set_xticks(np.arange(len(classes)), words)
    axes.set(ylim=(0, 1.02), ylabel="right answers", title="The test part, label by label, and how often it is asked")


def _limits(scores: list[float], levels: list[float]) -> tuple[float, float]:
    """Ends of a logarithmic axis; a level far below all scores is left to the legend.

    They lie a factor of 4 apart or more, so that one of 1, 2, 5 times a power of ten lies between them.
    """
    least = max(min(scores) / 100, 1e-12)
    shown = [max(value, least) for value in scores + [level for level in levels if level >= least]]
    low, high = min(shown) / 1.25, max(shown) * 1.25
    widen = max(1.0, np.sqrt(4 * low / high))
    return float(low / widen), float(high * widen)

"""The learning curve of a training run, as a picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from forwardgrad.data import OneStep
from forwardgrad.support.plotting import literal, matplotlib
from forwardgrad.training.run import Trained


def curve_picture(task: OneStep, trained: Trained, found: dict[str, Any]) -> bytes:
    """The learning curve beside the baselines, and a stretch of the test part with its prediction, as PNG.

    Raises:
        MissingExtraError: without the extra `plot`.
    """
    figure_class, print_png = matplotlib("the learning curve")
    from matplotlib.ticker import LogLocator, NullFormatter

    figure: Any = figure_class(figsize=(9, 6.5), layout="constrained")
    curve, stretch = figure.subplots(2, 1)
    passes = np.arange(1, len(trained.curve) + 1)
    curve.semilogy(passes, trained.curve, "o-", color="C0", label="while learning")
    curve.plot(passes[-1], trained.test, "D", color="C3", label=f"test, weights frozen: {trained.test:.4f}")
    levels = {name: level for name, level in found["nmse"].items() if name not in ("train", "test")}
    for (name, level), style in zip(levels.items(), (":", "--"), strict=True):
        curve.axhline(level, color="0.4", linestyle=style, label=f"test, {name}: {level:.4f}")
    title = literal(f"{found['graph']}, rule {found['rule']}")
    curve.set(xlabel="pass over the training part", ylabel="NMSE", title=title)
    curve.xaxis.get_major_locator().set_params(integer=True)
    curve.set_ylim(_limits([*trained.curve, trained.test], list(levels.values())))
    curve.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=50))
    curve.yaxis.set_major_formatter("{x:g}")
    curve.yaxis.set_minor_formatter(NullFormatter())
    curve.legend()
    window = slice(0, 200)
    time_axis = task.train + np.arange(len(task.test_targets))[window]
    part = "The test part" if len(task.test_targets) <= 200 else "The first 200 samples of the test part"
    for values, style, name in ((task.test_targets, "0.3", "measured"), (trained.prediction, "C3", "predicted")):
        scaled = values[window, 0, 0] * task.deviation + task.mean
        stretch.plot(time_axis, scaled, color=style, linewidth=1, label=name)
    stretch.set(xlabel="sample", ylabel=literal(task.series.name), title=part)
    stretch.legend()
    buffer = io.BytesIO()
    print_png(figure, buffer)
    return buffer.getvalue()


def _limits(scores: list[float], levels: list[float]) -> tuple[float, float]:
    """Ends of a logarithmic axis; a level far below all scores is left to the legend.

    They lie a factor of 4 apart or more, so that one of 1, 2, 5 times a power of ten lies between them.
    """
    least = max(min(scores) / 100, 1e-12)
    shown = [max(value, least) for value in scores + [level for level in levels if level >= least]]
    low, high = min(shown) / 1.25, max(shown) * 1.25
    widen = max(1.0, np.sqrt(4 * low / high))
    return float(low / widen), float(high * widen)

"""What a run of reinforcement learning leaves in its folder: the learning curve, as numbers and as a picture."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forwardgrad.errors import MissingExtraError
from forwardgrad.rl.rounds import Learned, RunSettings
from forwardgrad.support.atomic import write_bytes
from forwardgrad.support.plotting import literal, matplotlib

REPORT, CURVE, CHECKPOINT = "report.json", "curve.png", "checkpoint.npz"
"""The files of a run. The checkpoint also holds the parameters."""


def report(learned: Learned, settings: RunSettings, about: Mapping[str, Any]) -> dict[str, Any]:
    """The findings of a run, as plain data.

    Args:
        learned: what the run gave.
        settings: how it learned.
        about: what else is to be said, such as the names of graph, rule and environment.
    """
    steps = learned.curve[-1].steps
    curve = [{**asdict(each), "learning": _number(each.learning)} for each in learned.curve]
    speed = round(steps * settings.batch / learned.seconds)
    ran = {"seconds": round(learned.seconds, 1), "steps": steps, "environment_steps_per_second": speed}
    return {**about, "settings": asdict(settings), "score": learned.score, **ran, "curve": curve}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write(folder: Path, found: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Write report and picture, each whole or not at all.

    Args:
        folder: where to.
        found: as `report` gives it.

    Returns:
        The names of the files, and why some are missing.

    Raises:
        FileError: if a file cannot be written.
    """
    files, missing = list[str](), list[str]()
    try:
        write_bytes(folder / CURVE, picture(found))
        files.append(CURVE)
    except MissingExtraError as error:
        missing.append(str(error))
    write_bytes(folder / REPORT, (json.dumps(found, indent=2) + "\n").encode())
    return [*files, REPORT], missing


def picture(found: Mapping[str, Any]) -> bytes:
    """The mean returns by step, as PNG.

    Raises:
        MissingExtraError: without the extra `plot`.
    """
    figure_class, print_png = matplotlib("the learning curve")
    figure: Any = figure_class(figsize=(8, 4), layout="constrained")
    axes, curve, buffer = figure.subplots(), found["curve"], io.BytesIO()
    for key, label in (("learning", "while learning"), ("evaluation", "evaluation, weights frozen")):
        points = [(each["steps"], each[key]) for each in curve if each[key] is not None]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", markersize=3, label=label)
    axes.axhline(
        found["score"], color="0.4", linestyle=":", label=f"best weights, further episodes: {found['score']:.4g}"
    )
    title = f"{found['environment']}: {found['graph']}, rule {found['rule']}"
    axes.set(
        xlabel=f"steps of each of {found['settings']['batch']} environments", ylabel="mean return", title=literal(title)
    )
    axes.legend()
    print_png(figure, buffer)
    return buffer.getvalue()

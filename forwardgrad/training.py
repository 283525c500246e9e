"""How is a graph trained to predict a series one step ahead? The job behind `forwardgrad train`, and its report."""

from __future__ import annotations

import io
import json
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from forwardgrad import data, render
from forwardgrad.atomic import write_bytes
from forwardgrad.compiling import compile
from forwardgrad.data import OneStep
from forwardgrad.errors import (
    DataError,
    FileError,
    ForwardgradError,
    GraphError,
    MemoryBudgetError,
    MissingExtraError,
    RenderError,
)
from forwardgrad.graph.schema import is_whole
from forwardgrad.learner import Learner, Update
from forwardgrad.optimizers import Adam, clip_by_norm
from forwardgrad.plotting import literal
from forwardgrad.program import Program

LAGS = 16
"""Past samples that the linear autoregression sees, with which a network is compared."""


@dataclass(frozen=True)
class Settings:
    """How to train.

    Args:
        passes: over the training part; each begins with fresh activations and influence.
        block: steps per update.
        learning_rate: of Adam at the beginning; it falls to zero along half a cosine.
        clip: largest norm of a block's gradients.
        seed: of the initial parameters.

    Raises:
        DataError: if one of them is out of range.
    """

    passes: int = 10
    block: int = 16
    learning_rate: float = 0.006
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("passes", 1), ("block", 1), ("seed", 0)):
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise DataError(f"{name} must be a whole number >= {least}, got {value!r}.")
        Adam(self.learning_rate)
        clip_by_norm({}, self.clip)


@dataclass(frozen=True)
class Trained:
    """What training gave.

    Args:
        learner: parameters, optimiser and state at the end.
        curve: per pass, the NMSE of the predictions made while learning.
        train: NMSE over the training part, weights frozen, from the start state.
        test: NMSE over the test part, weights frozen, going on from the trained state.
        prediction: of the test part, `(time, 1, 1)`.
        seconds: spent on training.
    """

    learner: Learner
    curve: tuple[float, ...]
    train: float
    test: float
    prediction: Any
    seconds: float


def ends(program: Program) -> tuple[str, str]:
    """The one-dimensional input and output of a program.

    Raises:
        GraphError: if it has not exactly one of each, or its loss is one on labels.
    """
    nodes, inputs, outputs = program.network.nodes, program.network.inputs, list(program.losses)
    for what, names in (("input", inputs), ("output with a loss", outputs)):
        if len(names) != 1 or nodes[names[0]].size != 1:
            sizes = ", ".join(f"{name!r} of size {nodes[name].size}" for name in names) or "none"
            raise GraphError(f"training on a series needs exactly one {what}, of size 1; the graph has {sizes}.")
    if program.losses[outputs[0]].labels:
        raise GraphError(f"loss on {outputs[0]!r}: predicting a series needs a loss on numbers, such as mse.")
    return inputs[0], outputs[0]


def baselines(task: OneStep) -> dict[str, float]:
    """Test NMSE of the baselines of a task, by name: computed before training, so that it need not fail after it.

    Raises:
        DataError: if the task is too small for them, or its test part is constant.
    """
    if task.train <= 2 * LAGS:
        raise DataError(
            f"series {task.series.name!r}: {task.train} samples are too few to learn from.",
            f"The linear autoregression of {LAGS} lags that stands beside the result needs {2 * LAGS + 1}.",
        )
    return data.baselines(task, LAGS)


def train(program: Program, task: OneStep, settings: Settings, progress: Callable[[Update], None]) -> Trained:
    """Train online on the training part of a task, then test with frozen weights.

    Args:
        program: with a one-dimensional input and output.
        task: what to predict.
        settings: how to train.
        progress: called after every update.

    Raises:
        GraphError: if the program has other inputs or outputs.
        DataError: if a gradient or a prediction is not finite: training has diverged.
    """
    source, output = ends(program)
    began = time.perf_counter()
    learner = Learner(program, program.init(settings.seed), Adam(settings.learning_rate), clip=settings.clip)
    x, y = task.train_inputs, task.train_targets
    total, curve = settings.passes * len(x), list[float]()

    def watch(update: Update) -> None:
        left = 0.5 * (1 + np.cos(np.pi * update.seen / total))
        learner.optimizer = Adam(settings.learning_rate * max(left, 1e-3))
        progress(update)

    for _ in range(settings.passes):
        learner.reset()
        at, squares = 0, 0.0
        for update in learner.updates([({source: x}, {output: y})], block=settings.block, progress=watch):
            squares += float(np.sum((update.step.outputs[output] - y[at : at + update.steps]) ** 2))
            at += update.steps
        curve.append(squares / len(x) / float(np.var(y)))
    seconds = time.perf_counter() - began
    seen = program.run(learner.params, {source: x})[output]
    prediction = program.run(learner.params, {source: task.test_inputs}, learner.state)[output]
    if not (np.isfinite(seen).all() and np.isfinite(prediction).all()):
        raise DataError("the predictions are not finite: training has diverged.", "Try a lower learning rate.")
    return Trained(
        learner,
        tuple(curve),
        data.nmse(seen, y),
        data.nmse(prediction, task.test_targets),
        prediction,
        seconds,
    )


def report(
    program: Program,
    task: OneStep,
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
        levels: test NMSE of the baselines.
        about: further facts, such as the names of graph and rule.
    """
    return {
        **about,
        "series": {
            "name": task.series.name,
            "source": task.series.source,
            "samples": len(task.series.values),
            "train": task.train,
            "mean": task.mean,
            "deviation": task.deviation,
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
        "nmse": {
            "train": trained.train,
            "test": trained.test,
            **levels,
        },
        "curve": list(trained.curve),
        "seconds": trained.seconds,
        "versions": {
            "forwardgrad": version("forwardgrad"),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def prepare(folder: Path) -> None:
    """Make the folder for the results and see that files can be written there, before any work is done.

    Raises:
        FileError: if they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileError(f"cannot write to folder {str(folder)!r}: {error.strerror or error}.") from error
    for name in ("learner.npz", "report.json", "curve.png", "graph.svg", "report.html"):
        if (folder / name).is_dir():
            raise FileError(f"cannot write {str(folder / name)!r}: it is a folder.")


SHOWN = 200
"""Samples of the test part that the page shows step by step."""


def write(
    folder: Path, task: OneStep, trained: Trained, found: dict[str, Any], page: bool = False
) -> tuple[list[str], list[str]]:
    """Write parameters, report and pictures.

    Args:
        folder: where to.
        task: what was learned.
        trained: what came of it.
        found: the report.
        page: whether to write a page that shows the trained network on the first samples of the test part, too.

    Returns:
        The names of the files written, and a line for each that could not be, saying why.

    Raises:
        FileError: if a file cannot be written.
    """
    trained.learner.save(folder / "learner.npz")
    write_bytes(folder / "report.json", (json.dumps(found, indent=2) + "\n").encode())
    written, missing = ["learner.npz", "report.json"], list[str]()
    try:
        write_bytes(folder / "curve.png", curve_picture(task, trained, found))
        written.append("curve.png")
    except MissingExtraError as error:
        missing.append(_one_line(error))
    try:
        drawing = render.graph(trained.learner.program.graph, title=str(found.get("graph", "")))
        written.append(render.write(drawing, folder / "graph.svg").name)
    except RenderError as error:
        missing.append(_one_line(error))
    if page:
        try:
            written.append(_page(task, trained, found).write(folder / "report.html").name)
        except ForwardgradError as error:
            missing.append(f"no page: {_one_line(error)}")
    return written, missing


def _page(task: OneStep, trained: Trained, found: dict[str, Any]) -> render.Page:
    program = trained.learner.program
    source, output = ends(program)
    exact = compile(program.graph, dict(program.losses), "rtrl", dtype=program.dtype, dead="ignore")
    try:
        exact.fits(1, found["settings"]["block"])
    except MemoryBudgetError:
        exact = program
    return render.report(
        program,
        trained.learner.params,
        {source: task.test_inputs[:SHOWN]},
        {output: task.test_targets[:SHOWN]},
        rules=[] if exact is program else ["rtrl"],
        audit=exact is not program,
        block=found["settings"]["block"],
        title=f"{found.get('graph', 'graph')} after training on {task.series.name}",
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def curve_picture(task: OneStep, trained: Trained, found: dict[str, Any]) -> bytes:
    """The learning curve beside the baselines, and a stretch of the test part with its prediction, as PNG.

    Raises:
        MissingExtraError: without the extra `plot`.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter
    except ImportError as error:
        raise MissingExtraError('the learning curve needs matplotlib: pip install "forwardgrad[plot]"') from error
    figure: Any = Figure(figsize=(9, 6.5), layout="constrained")
    curve, stretch = figure.subplots(2, 1)
    passes = np.arange(1, len(trained.curve) + 1)
    curve.semilogy(passes, trained.curve, "o-", color="C0", label="while learning")
    curve.plot(passes[-1], trained.test, "D", color="C3", label=f"test, weights frozen: {trained.test:.4f}")
    levels = {name: level for name, level in found["nmse"].items() if name not in ("train", "test")}
    for (name, level), style in zip(levels.items(), (":", "--"), strict=True):
        curve.axhline(level, color="0.4", linestyle=style, label=f"test, {name}: {level:.4f}")
    curve.set(
        xlabel="pass over the training part", ylabel="NMSE", title=literal(f"{found['graph']}, rule {found['rule']}")
    )
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
    FigureCanvasAgg(figure).print_png(buffer)
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

"""Going on with an interrupted training run: `--resume` and `--restart`."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard, cast

from forwardgrad.errors import FileError
from forwardgrad.learning import checkpoint
from forwardgrad.learning.checkpoint import Checkpoint
from forwardgrad.program import Program
from forwardgrad.support.attributes import is_whole
from forwardgrad.training.folder import CHECKPOINT, REPORT
from forwardgrad.training.run import FORMAT, Best, Run
from forwardgrad.training.settings import Settings
from forwardgrad.training.tasks import Task


def begin(
    folder: Path,
    program: Program,
    task: Task,
    settings: Settings,
    *,
    resume: bool = False,
    restart: bool = False,
) -> Run | None:
    """The run to go on with in a folder, which is held: a new one, or the one that was interrupted there.

    Args:
        folder: of the results.
        program, task, settings: what to train, on what, how.
        resume: go on with the interrupted run.
        restart: start again, though there is an interrupted run.

    Returns:
        The run; `None` where it is to be resumed, and is finished already.

    Raises:
        FileError: if there is nothing to resume, or it is another run; or if there is an interrupted run, and neither
            `resume` nor `restart` says what shall become of it.
    """
    path, finished = folder / CHECKPOINT, folder / "learner.npz"
    run = Run(program, task, settings)
    if not resume:
        if path.exists() and not restart:
            raise FileError(
                f"folder {str(folder)!r} holds an interrupted run{_how_far(path)}.",
                "Go on with it: --resume. Or start again, and give it up: --restart.",
            )
        return run
    if path.exists():
        _restore(run, path)
        return run
    if (folder / REPORT).exists() and finished.exists():
        _same(run, checkpoint.read(finished), f"cannot resume: {str(folder)!r} holds a finished run")
        return None
    raise FileError(f"nothing to resume: folder {str(folder)!r} holds no checkpoint.", "To begin, leave out --resume.")


def _how_far(path: Path) -> str:
    try:
        return f", at step {checkpoint.read(path).seen:,}"
    except FileError:
        return ""


def _restore(run: Run, path: Path) -> None:
    """Bring a new run to where a checkpoint has it."""
    saved = checkpoint.read(path)
    _same(run, saved, f"cannot resume: {str(path)!r} is of a run")
    curve, validation, squares, seconds, best = (
        saved.notes.get(what) for what in ("curve", "validation", "squares", "seconds", "best")
    )
    place = run.place(saved.seen)
    if (
        not _numbers(curve)
        or not _numbers(validation)
        or not _numbers([squares, seconds])
        or place is None
        or len(curve) != place.at
        or len(validation) != (0 if run.task.validation is None else place.at)
        or not _is_best(best, validation, saved, run.settings)
    ):
        raise FileError(f"cannot resume: {str(path)!r} is damaged: it contradicts itself.")
    now = run.identity()["versions"]
    others = [f"{name} {was}" for name, was in saved.notes["versions"].items() if now.get(name) != was]
    if others:
        warnings.warn(f"the run was begun with {', '.join(others)}: its end may differ in rounding.", stacklevel=4)
    run.learner = type(run.learner).load(path, run.learner.program)
    run.curve, run.validation = curve, validation
    run.squares, run.seconds = cast(float, squares), cast(float, seconds)
    if best is not None:
        run.best = Best(best, saved.kept["params"], None if run.settings.trials else dict(saved.kept["state"]))


def _is_best(best: Any, validation: list[float], saved: Checkpoint, settings: Settings) -> bool:
    """Whether a file holds the learner of the best pass, if there is one: after a trial, parameters alone."""
    if not validation or best is None:
        return best is None and not validation
    kept = () if settings.trials else ("state",)
    return is_whole(best) and 0 <= best < len(validation) and set(saved.kept) == {"params", *kept}


def _numbers(found: Any) -> TypeGuard[list[float]]:
    return isinstance(found, list) and all(isinstance(value, float) for value in cast("list[Any]", found))


def _same(run: Run, saved: Checkpoint, headline: str) -> None:
    """Raise `FileError`, naming all that differs, unless what was saved is of the run that is asked for."""
    if not _complete(saved.notes):
        raise FileError(f"{headline} that no training of this version has written.", "Start again: --restart.")
    ours, own = run.identity(), checkpoint.describe(run.learner.program)
    pairs: dict[str, tuple[Any, Any]] = {what: (saved.program[what], own[what]) for what in checkpoint.TEXTS}
    pairs |= {what: (saved.notes["settings"].get(what), value) for what, value in ours["settings"].items()}
    what = "data" if saved.notes["data"] != ours["data"] else "recipe"
    pairs[what] = saved.notes[what], ours[what]
    differing = {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}
    if differing:
        raise FileError(
            f"{headline} of other settings or data; what differs: {', '.join(differing)}.",
            *(_difference(what, *pair) for what, pair in differing.items()),
            "Give what it was begun with, or start again: --restart.",
        )


def _complete(notes: Mapping[str, Any]) -> bool:
    kinds = {"format": int, "settings": dict, "data": str, "recipe": dict, "versions": dict}
    return all(isinstance(notes.get(what), kind) for what, kind in kinds.items()) and notes["format"] == FORMAT


def _difference(what: str, was: Any, now: Any) -> str:
    if isinstance(was, dict) and isinstance(now, dict):  # rules by parameter, losses by node: the first that differs
        before, after = cast("dict[str, Any]", was), cast("dict[str, Any]", now)
        name = next(name for name in {**before, **after} if before.get(name) != after.get(name))
        return _difference(f"{what}, {name!r}", before.get(name), after.get(name))
    return f"{what}: {_short(was)} there, {_short(now)} given."


def _short(value: Any) -> str:
    """A value as it stands in a message: of long texts their digest."""
    text = str(value)
    return text if len(text) < 60 else f"sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"

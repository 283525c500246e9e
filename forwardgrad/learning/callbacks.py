"""What may be told of every update: early stopping, a progress bar, a CSV file, TensorBoard.

A callback is a plain function of one `Update`; `learner.fit(stream, progress=callback)` ends where it returns `"stop"`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from os import PathLike
from typing import Any

from forwardgrad.errors import DataError, MissingExtraError
from forwardgrad.learning.learner import STOP, Learner, Progress, Update, ends
from forwardgrad.ops import Array
from forwardgrad.support.attributes import is_whole


def together(*callbacks: Progress) -> Progress:
    """One callback that calls all of them, and ends learning where one of them does."""

    def all_of_them(update: Update) -> str | None:
        answers = [callback(update) for callback in callbacks]  # whoever ends it
        return STOP if any(map(ends, answers)) else None

    return all_of_them


class EarlyStopping:
    """Validate at regular intervals, and end learning when the loss has not become smaller for a while.

    Args:
        learner: the one that learns.
        inputs, targets, mask: as in `Learner.evaluate`: other data than it learns from.
        every: updates between two validations.
        patience: validations without a smaller loss after which learning ends.
        least: by how much a loss must be smaller to count, >= 0.

    Attributes:
        history: per validation, steps of the stream so far and the mean loss per answer.
        best: parameters at the smallest loss; `learner.params = stopping.best` takes them.

    Raises:
        DataError: if a setting is out of range.
    """

    def __init__(
        self,
        learner: Learner,
        inputs: Mapping[str, Any],
        targets: Mapping[str, Any],
        mask: Any = None,
        *,
        every: int = 100,
        patience: int = 5,
        least: float = 0.0,
    ) -> None:
        for name, value in (("every", every), ("patience", patience)):
            if not is_whole(value) or value < 1:
                raise DataError(f"early stopping: {name!r} must be a whole number >= 1, got {value!r}.")
        if not least >= 0:
            raise DataError(f"early stopping: 'least' must be >= 0, got {least!r}.")
        self.learner, self.data = learner, (inputs, targets, mask)
        self.every, self.patience, self.least = every, patience, least
        self.history: list[tuple[int, float]] = []
        self.best: dict[str, Array] = {}
        self._lowest, self._updates, self._waited = math.inf, 0, 0

    def __call__(self, update: Update) -> str | None:
        """`"stop"` where learning ends here."""
        self._updates += 1
        if self._updates % self.every:
            return None
        loss = self.learner.evaluate(*self.data)
        self.history.append((update.seen, loss))
        if loss < self._lowest - self.least or not self.best:
            self._lowest, self._waited = loss if math.isfinite(loss) else math.inf, 0
            self.best = {name: array.copy() for name, array in self.learner.params.items()}
        else:
            self._waited += 1
        return STOP if self._waited >= self.patience else None


class ProgressBar:
    """A bar on the terminal that counts steps and shows the loss, drawn by tqdm; close it, or use it in `with`.

    Args:
        total: steps to come, where that is known.
        options: further arguments of `tqdm.tqdm`.
    """

    def __init__(self, total: int | None = None, **options: Any) -> None:
        from tqdm import tqdm  # not where nobody looks

        self._bar: Any = tqdm(total=total, unit=" steps", **options)

    def __call__(self, update: Update) -> None:
        """Move on."""
        self._bar.update(update.steps)
        if update.answers:
            self._bar.set_postfix(loss=f"{update.loss:.4g}", refresh=False)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class CSVLog:
    """One row per update in a file: steps seen, mean loss per answer, norms. Use it in `with`.

    Args:
        path: of the file; what was there is replaced.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._file = open(path, "w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(("seen", "loss", "grad_norm", "state_norm"))

    def __call__(self, update: Update) -> None:
        """Write one row, so that it can be read while learning goes on."""
        self._writer.writerow((update.seen, update.loss, update.step.grad_norm, update.step.state_norm))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> CSVLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class TensorBoard:
    """Loss and norms as scalars for TensorBoard, written by tensorboardX or PyTorch. Use it in `with`.

    Args:
        folder: of the event files.

    Raises:
        MissingExtraError: if neither is installed.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self._writer = _summary_writer()(str(folder))

    def __call__(self, update: Update) -> None:
        """Write the scalars of one update, at the number of steps seen."""
        scalars = {"loss": update.loss, "grad_norm": update.step.grad_norm, "state_norm": update.step.state_norm}
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, update.seen)

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _summary_writer() -> Any:
    for package in ("tensorboardX", "torch.utils.tensorboard"):
        try:
            return getattr(__import__(package, fromlist=["SummaryWriter"]), "SummaryWriter")  # noqa: B009
        except ImportError:
            continue
    raise MissingExtraError("TensorBoard needs tensorboardX: pip install tensorboardX")

"""How a file becomes arrays: what a checkpoint says of the data that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import DataError, FileError
from forwardgrad.training.parts import Part, Scale, padded
from forwardgrad.training.sequences import Choice, Sequences, missing

Kind = Literal["forecast", "regression", "classification"]

KINDS = ("forecast", "regression", "classification")


@dataclass(frozen=True)
class Recipe:
    """How a file becomes arrays: what a checkpoint says of the data that it was trained on.

    Args:
        kind: what is learned.
        choice: of columns or arrays.
        inputs, targets: scales of what goes in, and of numbers that come out.
        classes: the labels, in the order of the output's units.
        whole: whether an answer is for a whole sequence; it is asked for in the last step.
    """

    kind: Kind
    choice: Choice
    inputs: Scale
    targets: Scale | None
    classes: tuple[str, ...] = ()
    whole: bool = False

    @property
    def size(self) -> int:
        """How many units come out."""
        return len(self.classes) if self.targets is None else len(self.targets.mean)

    def part(self, found: Sequences) -> Part:
        """Sequences as arrays."""
        inputs = [self.inputs.seen(x) for x in found.inputs]
        if self.kind == "forecast":
            return padded([x[:-1] for x in inputs], [x[1:] for x in inputs], None)
        answers, here = zip(*(self._answers(found, each) for each in range(len(inputs))), strict=True)
        if not self.whole:
            return padded(inputs, answers, None if all(each.all() for each in here) else here)
        asked = [np.eye(1, len(x), len(x) - 1)[0] * one for x, one in zip(inputs, here, strict=True)]
        spread = [np.broadcast_to(y, (len(x), *y.shape)) for x, y in zip(inputs, answers, strict=True)]
        return padded(inputs, spread, asked)

    def _answers(self, found: Sequences, each: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """The answers of a sequence, and 1 where they are asked for."""
        given = cast("list[NDArray[Any]]", found.targets)[each]
        if given.ndim == 1 and not self.whole:
            given = np.broadcast_to(given, (len(found.inputs[each]), *given.shape))
        if given.ndim == 2 and self.whole:
            given = given[-1]
        absent = missing(given)
        asked = (~absent).astype(np.float64)
        if self.targets is not None:
            return np.where(absent[..., None], 0.0, self.targets.seen(given.astype(np.float64))), asked
        words = np.where(absent, self._sorted[0], labels(given[..., 0]))
        places = np.searchsorted(self._sorted, words)
        known = self._sorted[np.minimum(places, len(self._sorted) - 1)] == words
        if not known.all():
            new = str(words[~known][0] if words.ndim else words)
            raise DataError(
                f"{str(found.source)!r}: label {new!r} is none that can be learned here.",
                f"Known: {', '.join(self.classes[:20])}.",
            )
        return self._order[places], asked

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        return np.argsort(np.array(self.classes))

    @cached_property
    def _sorted(self) -> NDArray[Any]:
        return np.array(self.classes)[self._order]

    def plain(self) -> dict[str, Any]:
        """As plain data, for a checkpoint."""
        return {
            "kind": self.kind,
            "choice": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in vars(self.choice).items()
                if value is not None
            },
            "inputs": [self.inputs.mean.tolist(), self.inputs.deviation.tolist()],
            "targets": None if self.targets is None else [self.targets.mean.tolist(), self.targets.deviation.tolist()],
            "classes": list(self.classes),
            "whole": self.whole,
        }

    @classmethod
    def read(cls, plain: Any, path: Path) -> Recipe:
        """That of a checkpoint, from what `plain` gave.

        Raises:
            FileError: if it holds none.
        """
        try:
            chosen, classes = plain["choice"], tuple(map(str, plain["classes"]))
            names = [tuple(map(str, chosen[name])) if name in chosen else None for name in ("inputs", "targets")]
            words = [str(chosen[name]) if name in chosen else None for name in ("sequence", "time", "lengths")]
            choice = Choice(names[0], names[1], words[0], words[1], words[2])
            inputs, targets = Scale(*np.array(plain["inputs"], np.float64)), plain["targets"]
            if plain["kind"] not in KINDS or (targets is None) == (not classes):
                raise ValueError("it contradicts itself")
            numbers = None if targets is None else Scale(*np.array(targets, np.float64))
            return cls(plain["kind"], choice, inputs, numbers, classes, bool(plain["whole"]))
        except Exception as error:
            raise FileError(
                f"checkpoint {str(path)!r} says nothing of the data that it was trained on.",
                "What forwardgrad train has written does.",
            ) from error


def labels(values: NDArray[Any]) -> NDArray[Any]:
    """Labels as words: 1.0 is 1."""
    if values.dtype.kind == "U":
        return values
    asked = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    whole = bool((asked == np.floor(asked)).all())
    return (np.nan_to_num(values).astype(np.int64) if whole else values).astype(str)

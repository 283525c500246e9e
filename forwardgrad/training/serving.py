"""A trained network put to use: predictions and scores of other files than it was trained on, weights frozen."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import DataError
from forwardgrad.learning import checkpoint
from forwardgrad.learning.learner import Learner
from forwardgrad.support import tables
from forwardgrad.training.parts import Part, padded, score
from forwardgrad.training.recipe import Recipe
from forwardgrad.training.sequences import Sequences, sequences

TOGETHER = 64
"""Sequences that are run side by side."""


@dataclass(frozen=True)
class Served:
    """A trained network, and how files become its arrays.

    Args:
        learner: it.
        recipe: of the data that it was trained on.
    """

    learner: Learner
    recipe: Recipe

    @classmethod
    def load(cls, path: str | Path) -> Served:
        """That of a checkpoint, or of the folder of a training run.

        Raises:
            FileError: if there is none, or it was not written by a training run.
        """
        place = Path(path)
        place = place / "learner.npz" if place.is_dir() else place
        recipe = Recipe.read(checkpoint.read(place).notes.get("recipe"), place)
        return cls(Learner.load(place), recipe)

    def read(self, path: Path, *, answered: bool) -> Sequences:
        """The sequences of a file. What it holds beside that from which was learned is passed over.

        Args:
            path: of the file.
            answered: whether what should come out must be there.

        Raises:
            FileError, DataError: as `tables.read` and `sequences`; or if it has another number of channels.
        """
        read, choice = tables.read(path), self.recipe.choice
        if isinstance(read, tables.Arrays):
            named = [*(choice.inputs or ()), *(choice.targets or ()), choice.lengths or ""]
            if named[0] in read.arrays:  # others that the file holds were not learned from
                read = replace(read, arrays={name: read.arrays[name] for name in named if name in read.arrays})
            if choice.lengths not in read.arrays:
                choice = replace(choice, lengths=None)  # these are all of one length
        found = sequences(read, choice, answered=answered)
        channels, wanted = found.inputs[0].shape[1], len(self.recipe.inputs.mean)
        if channels != wanted:
            raise DataError(f"{str(path)!r} has {channels} channels, and the network was trained on {wanted}.")
        if answered and self.recipe.kind != "forecast" and found.targets is None:
            raise DataError(f"{str(path)!r} does not say what should come out.", "Predict it: forwardgrad predict.")
        return found

    def outputs(self, inputs: Sequence[NDArray[np.float64]], *, go_on: bool = False) -> Iterator[NDArray[Any]]:
        """What comes out for sequences as the network sees them, one after the other: `(steps, size)`.

        Args:
            inputs: `(steps, channels)` of each.
            go_on: whether to begin where training ended, and not afresh; for one sequence.

        Raises:
            DataError: if there are several sequences to go on with.
        """
        program = self.learner.program
        (source,), (output,) = program.network.inputs, program.losses
        if go_on and (len(inputs) > 1 or (self.learner.state is not None and _batch(self.learner) > 1)):
            raise DataError("several sequences cannot go on where training ended.", "Leave out --go-on.")
        for first in range(0, len(inputs), TOGETHER):
            some = inputs[first : first + TOGETHER]
            part = padded(some, [np.zeros((len(x), 1)) for x in some], None)
            found = self.learner.predict({source: part.inputs}, go_on=go_on)[output]
            yield from (found[: len(x), number] for number, x in enumerate(some))

    def score(self, found: Sequences, *, go_on: bool = False) -> tuple[float, Part]:
        """NMSE or accuracy, and the answers that it is of."""
        part = self.recipe.part(found)
        outputs = np.zeros((*part.targets.shape[:2], self.recipe.size))
        given = [part.inputs[:length, number] for number, length in enumerate(part.lengths)]
        for number, each in enumerate(self.outputs(given, go_on=go_on)):
            outputs[: len(each), number] = each
        return score(outputs, part), part

    def predictions(self, found: Sequences, *, go_on: bool = False) -> Iterator[list[str]]:
        """A table of what is predicted, the names of its columns first.

        A forecast made in a row is of the next row. Of an answer for a whole sequence there is one row.
        """
        recipe = self.recipe
        targets = recipe.choice.targets if recipe.kind != "forecast" else recipe.choice.inputs
        several = len(found.inputs) > 1 or found.names is not None
        numbered = [str(1 + number) for number in range(recipe.size)]
        if recipe.classes:
            columns = [(targets or ("label",))[0], *(f"p({name})" for name in recipe.classes)]
        else:
            names = targets if targets is not None and len(targets) == recipe.size else numbered
            columns = [f"next {name}" if recipe.kind == "forecast" else name for name in names]
        yield [*(["sequence"] if several else []), *([] if recipe.whole else ["row"]), *columns]
        seen = [recipe.inputs.seen(x) for x in found.inputs]
        for number, outputs in enumerate(self.outputs(seen, go_on=go_on)):
            name = [found.names[number] if found.names is not None else str(number)] if several else []
            rows = [len(outputs) - 1] if recipe.whole else range(len(outputs))
            for row in rows:
                place = [] if recipe.whole else [str(1 + row)]
                yield [*name, *place, *self._row(outputs[row])]

    def _row(self, output: NDArray[Any]) -> list[str]:
        recipe = self.recipe
        if recipe.targets is not None:
            return [f"{value:.9g}" for value in recipe.targets.measured(output)]
        shares = np.exp(np.asarray(output, np.float64) - output.max())
        shares /= shares.sum()
        return [recipe.classes[int(output.argmax())], *(f"{share:.6f}" for share in shares)]


def _batch(learner: Learner) -> int:
    state = learner.state or {}
    return next((array.shape[1] for key, array in state.items() if key.startswith("value[")), 1)


def written(rows: Iterator[list[str]]) -> str:
    """A table as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()

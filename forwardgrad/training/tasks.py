"""What is to be learned: a forecast, a regression or a classification, split into parts that follow one another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from forwardgrad.data import OneStep
from forwardgrad.errors import DataError
from forwardgrad.learning.tasks import Reference
from forwardgrad.training.parts import Part, Scale, variance
from forwardgrad.training.recipe import Kind, Recipe, labels
from forwardgrad.training.sequences import Choice, Sequences, missing


@dataclass(frozen=True)
class Task:
    """What to learn, and what to be tested on.

    Args:
        name, source: of the data.
        recipe: how they became arrays.
        train, validation, test: the parts. Of a single series they follow one another without a gap.
        learned: how many samples, or sequences where there are several, may be learned from, validation included.
        samples: how many there are in all.
        sequences: how many there are; `None` for a single series, whose test part goes on where training ended.
        sha256: digest of all values.
        references: scores that are known without training.
    """

    name: str
    source: str
    recipe: Recipe
    train: Part
    validation: Part | None
    test: Part
    learned: int
    samples: int
    sequences: int | None
    sha256: str
    references: tuple[Reference, ...] = ()

    @property
    def metric(self) -> str:
        """How it is scored: `accuracy`, or `NMSE`."""
        return "accuracy" if self.recipe.kind == "classification" else "NMSE"

    @classmethod
    def of(cls, given: OneStep) -> Task:
        """The one-step prediction of a series."""
        scale = Scale(np.array([given.mean]), np.array([given.deviation]))
        recipe = Recipe("forecast", Choice((given.series.name,)), scale, scale)
        train, test = (
            Part(x, y, None, np.array([len(x)]))
            for x, y in ((given.train_inputs, given.train_targets), (given.test_inputs, given.test_targets))
        )
        values = np.ascontiguousarray(given.series.values, dtype="<f8")
        about = given.train, len(values), None, hashlib.sha256(values.tobytes()).hexdigest()
        return cls(given.series.name, given.series.source, recipe, train, None, test, *about)


def make(
    found: Sequences,
    *,
    kind: str | None = None,
    split: float | int | None = None,
    validation: float | None = None,
    seed: int = 0,
) -> Task:
    """The task of a file: split, scaled by what is learned from.

    Args:
        found: its sequences.
        kind: `forecast`, `regression` or `classification`. Left out, what the targets suggest: none of them is a
            forecast; words, truth values or few whole numbers are labels.
        split: which part is learned from, as a share or as a number of samples (of sequences, where there are several);
            by default the part that was published for it, or 0.8. The rest is for the test.
        validation: which share of that is kept back to stop in time; none by default.
        seed: of the order of sequences, where there are several. A single one is split in time. A published part stays
            what it is.

    Raises:
        DataError: if the split leaves nothing to learn from or to be tested on, or data and kind do not fit.
    """
    name = found.source.stem
    chosen = _kind(found, kind)
    several = len(found.inputs) > 1 or found.whole or found.choice.sequence is not None
    if chosen == "forecast":
        short = next((number for number, x in enumerate(found.inputs) if len(x) < 2), None)
        if short is not None:
            where = f"sequence {short} (from 0)" if several else "it"
            raise DataError(f"data {name!r}: {where} has one step: there is nothing to forecast.")
    count = len(found.inputs) if several else len(found.inputs[0])
    if found.first is not None and split is not None:
        raise DataError(
            f"data {name!r}: its first {found.first} sequences were published to be learned from, no split."
        )
    what = "sequences" if several else "samples"
    learned, kept = _split(name, count, split if found.first is None else found.first, validation, what)
    parts = _apart(found, learned, kept, seed) if several else _in_time(found, learned, kept, chosen == "forecast")
    fit, held, tested = parts
    assert fit is not None
    assert tested is not None
    names = found.choice.inputs or ()
    every = np.concatenate(fit.inputs)
    channels = every.shape[1]
    names = names if len(names) == channels else tuple(map(str, range(1, 1 + channels)))
    inputs = Scale.of(f"data {name!r}", names, every)
    if chosen == "forecast" and (every.std(axis=0) <= 1e-12 * abs(every.mean(axis=0))).all():
        raise DataError(f"data {name!r}: what is learned from is constant: there is nothing to forecast.")
    whole = found.whole and several
    recipe = Recipe(chosen, found.choice, inputs, inputs if chosen == "forecast" else None, whole=whole)
    if chosen == "regression":
        numbers = _asked(fit).astype(np.float64)
        recipe = replace(recipe, targets=Scale.of(f"data {name!r}", _numbered(found, numbers.shape[1]), numbers))
    elif chosen == "classification":
        recipe = replace(recipe, classes=_classes(name, found))
    train, test = recipe.part(fit), recipe.part(tested)
    kept_back = None if held is None else recipe.part(held)
    for what, part in (("what is learned from", train), ("the validation part", kept_back), ("the test part", test)):
        if part is not None and part.weight is not None and not part.weight.any():
            raise DataError(f"data {name!r}: {what} asks for no answer.")
        if part is not None and recipe.targets is not None and not variance(part):
            raise DataError(f"data {name!r}: the targets of {what} are constant.", "A constant target has no NMSE.")
    samples, sequences = sum(map(len, found.inputs)), len(found.inputs) if several else None
    about = learned, samples, sequences, digest(found)
    source, references = found.cited or str(found.source), found.references
    return Task(name, source, recipe, train, kept_back, test, *about, references)


def _numbered(found: Sequences, count: int) -> tuple[str, ...]:
    names = found.choice.targets or ()
    return names if len(names) == count else tuple(map(str, range(1, 1 + count)))


def _kind(found: Sequences, kind: str | None) -> Kind:
    path = str(found.source)
    if found.targets is None:
        if kind in (None, "forecast"):
            return "forecast"
        raise DataError(f"{path!r}: for a {kind} say which column or array should come out: --targets NAME.")
    if kind == "forecast":
        raise DataError(f"{path!r}: a forecast is of the inputs themselves.", "Leave out --targets.")
    answers = _asked(found).reshape(-1)
    width = found.targets[0].shape[-1]
    words = answers.dtype.kind == "U"
    if kind == "regression" and words:
        raise DataError(f"{path!r}: the targets are words, which are learned by classification.")
    if kind == "classification" and width != 1:
        raise DataError(f"{path!r}: a classification has one label at a time, and here are {width} columns.")
    if kind is not None:
        return cast(Kind, kind)
    few = answers.dtype.kind in "biu" or bool((answers == np.floor(answers)).all()) if not words else True
    return "classification" if width == 1 and few and (words or len(np.unique(answers)) <= 20) else "regression"


def _asked(found: Sequences) -> NDArray[Any]:
    """All answers that are asked for, `(answers, size)`."""
    rows = np.concatenate([np.atleast_2d(y) for y in cast("list[NDArray[Any]]", found.targets)])
    return rows[~missing(rows)]


def _classes(name: str, found: Sequences) -> tuple[str, ...]:
    """The labels of all parts: one that is only in the test part can be asked for, too."""
    classes = np.unique(_asked(found)[:, 0])  # numbers in their order, not in that of words
    if len(classes) < 2:
        raise DataError(f"data {name!r}: all labels are {str(labels(classes)[0])!r}: there is nothing to tell apart.")
    numbers = classes.dtype.kind == "f" and bool((classes != np.floor(classes)).any())
    if len(classes) > (20 if numbers else 10_000):
        raise DataError(
            f"data {name!r}: the target has {len(classes):,} labels.", "Numbers are learned by --kind regression."
        )
    return tuple(map(str, labels(classes)))


def _split(name: str, count: int, split: float | int | None, validation: float | None, what: str) -> tuple[int, int]:
    """How many to learn from, the validation part among them, and how many of these are kept back."""
    share = 0.8 if split is None else split
    learned = round(share * count) if share < 1 else int(share)
    kept = round(learned * validation) if validation else 0
    least = 2 if what == "samples" else 1
    if validation is not None and not 0 < validation < 1:
        raise DataError(f"validation must be a share between 0 and 1, got {validation:g}.")
    if not least <= learned - kept or not learned < count or (validation and not kept):
        raise DataError(
            f"data {name!r}: cannot learn from {learned - kept}"
            + (f", validate on {kept}" if validation else "")
            + f" of its {count} {what} and test on the rest.",
            f"The split must lie between {least} and {count - 1}, or be a share."
            if count > least
            else f"That needs {least + 1} {what} or more.",
        )
    return learned, kept


def _apart(found: Sequences, learned: int, kept: int, seed: int) -> list[Sequences | None]:
    count, random = len(found.inputs), np.random.default_rng([seed, len(found.inputs)])
    if found.first is None:
        order = random.permutation(count)
    else:
        order = np.concatenate([random.permutation(found.first), np.arange(found.first, count)])
    parts = np.split(order, [learned - kept, learned])
    return [
        None
        if not len(each)
        else replace(
            found,
            inputs=[found.inputs[i] for i in each],
            targets=None if found.targets is None else [found.targets[i] for i in each],
        )
        for each in map(np.sort, parts)
    ]


def _in_time(found: Sequences, learned: int, kept: int, forecast: bool) -> list[Sequences | None]:
    """Parts of one sequence; for a forecast each begins with the last sample of the part before it."""
    ends, total = (learned - kept, learned), len(found.inputs[0])
    bounds = [(0, ends[0]), ends, (learned, total)]
    parts: list[Sequences | None] = []
    for first, last in bounds:
        if first == last:
            parts.append(None)
            continue
        cut = slice(max(0, first - forecast), last)
        targets = None if found.targets is None else [found.targets[0][cut]]
        parts.append(replace(found, inputs=[found.inputs[0][cut]], targets=targets))
    return parts


def digest(found: Sequences) -> str:
    """The SHA-256 of all values, and of where sequences end."""
    state = hashlib.sha256()
    for group in (found.inputs, found.targets or []):
        for each in group:
            plain = np.ascontiguousarray(each, dtype="<f8" if each.dtype.kind != "U" else None)
            state.update(f"{plain.dtype.str} {plain.shape}".encode() + plain.tobytes())
    return state.hexdigest()

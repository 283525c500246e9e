"""Which columns or arrays of a file go into a network, which should come out, and where does one sequence end?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import DataError, FileError, did_you_mean
from forwardgrad.learning.tasks import Reference
from forwardgrad.support.tables import Arrays, Table

TIME = ("time", "t", "date", "datetime", "timestamp", "index", "step", "")
"""Names of columns that say when a row was measured, in lower case: they are not learned from unless asked for."""

SEQUENCE = ("sequence", "sequence_id", "seq", "seq_id")
"""Names of columns that say to which sequence a row belongs, in lower case."""

INPUTS = ("inputs", "x", "data", "x_train")
"""Names of arrays that go in, in lower case."""

TARGETS = ("targets", "y", "labels", "target", "label", "y_train")
"""Names of arrays that should come out, in lower case."""

LENGTHS = ("lengths", "length")
"""Names of arrays that say how long padded sequences are, in lower case."""


@dataclass(frozen=True)
class Choice:
    """What to take of a file, by the names of columns or arrays; `None`: what their names suggest.

    Args:
        inputs: what goes in. Of a table: all columns of numbers that are nothing else.
        targets: what should come out. Of a table: nothing, and the next row of the inputs is forecast.
        sequence: the column that says to which sequence a row belongs.
        time: a column that says when a row was measured; it is passed over.
        lengths: the array that says how long each padded sequence is.
    """

    inputs: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None
    sequence: str | None = None
    time: str | None = None
    lengths: str | None = None


@dataclass(frozen=True)
class Sequences:
    """Sequences of channels, and what belongs to them.

    Args:
        source: the file.
        choice: what was taken of it, all names said.
        inputs: `(steps, channels)` of each sequence.
        targets: `(steps, size)` of each, numbers or words, or `(size,)` where one answer is for the whole sequence;
            `None` where the inputs are to be forecast. NaN or an empty word says that no answer is asked for there.
        names: of the sequences, where a column says them.
        cited: where they come from, if that is no file.
        first: how many of them, from the first on, were published as the part to learn from; `None`: nobody says.
        references: scores that are known without training.
    """

    source: Path
    choice: Choice
    inputs: list[NDArray[np.float64]]
    targets: list[NDArray[Any]] | None
    names: Sequence[str] | None = None
    cited: str | None = None
    first: int | None = None
    references: tuple[Reference, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether an answer is for a whole sequence."""
        return self.targets is not None and self.targets[0].ndim == 1


def sequences(found: Table | Arrays, choice: Choice, *, answered: bool = True) -> Sequences:
    """The sequences of a file.

    Args:
        found: what is in it.
        choice: what to take of it.
        answered: whether what should come out must be there, where it is named; a prediction does without it.

    Raises:
        DataError: if a name is not there, or the file has no answer to what the names leave open.
        FileError: if a value that is needed is missing or not finite, or shapes do not fit together.
    """
    return _of_table(found, choice, answered) if isinstance(found, Table) else _of_arrays(found, choice, answered)


# Tables.


def _of_table(table: Table, choice: Choice, answered: bool) -> Sequences:
    columns = list(table.columns)
    if choice.lengths is not None:
        raise DataError("--lengths is for the arrays of an .npz file.", "In a table, name a column: --sequence NAME.")
    sequence = choice.sequence if choice.sequence is not None else _named(SEQUENCE, columns)
    asked = [*(choice.inputs or ()), *(choice.targets or ()), *([sequence] if sequence is not None else [])]
    if not answered:
        asked = [name for name in asked if name not in (choice.targets or ()) or name in columns]
    for name in (*asked, *([choice.time] if choice.time is not None and answered else [])):
        _known(name, columns, "column", table.path)
    inputs = choice.inputs if choice.inputs is not None else _left_over(table, choice, sequence)
    words = [name for name in inputs if table.columns[name].dtype.kind == "U"]
    if words:
        raise DataError(
            f"{str(table.path)!r}: column {words[0]!r} holds words: {table.word(words[0])}.",
            f"To learn it as labels: --targets {words[0]}. To pass over it: --time {words[0]}, or name the others: "
            "--inputs A,B.",
        )
    if not inputs:
        raise DataError(f"{str(table.path)!r}: no column is left to learn from.", "Name them: --inputs A,B.")
    choice = Choice(tuple(inputs), choice.targets, sequence, choice.time)
    targets = choice.targets if choice.targets and all(name in columns for name in choice.targets) else None
    values = _numbers(table, inputs)
    answers = None if targets is None else _answers(table, targets)
    names, rows = _rows(table, sequence)
    given = [values[each] for each in rows]
    if answers is None:
        return Sequences(table.path, choice, given, None, names)
    wanted = [answers[each] for each in rows]
    if sequence is not None and all((each == each[:1]).all() and not missing(each).any() for each in wanted):
        wanted = [each[-1] for each in wanted]  # one answer for each sequence
    return Sequences(table.path, choice, given, wanted, names)


def _left_over(table: Table, choice: Choice, sequence: str | None) -> tuple[str, ...]:
    """The columns that are nothing else than inputs."""
    taken = {sequence, choice.time, *(choice.targets or ())}
    free = [name for name in table.columns if name not in taken]
    others = [name for name in free if name.lower() not in TIME]
    return tuple(others or [name for name in free if table.columns[name].dtype.kind != "U"])


def _numbers(table: Table, names: Sequence[str]) -> NDArray[np.float64]:
    """Columns of numbers, `(rows, columns)`."""
    found = np.stack([table.columns[name] for name in names], axis=1)
    _all_finite(table, names, found)
    return found


def _answers(table: Table, names: Sequence[str]) -> NDArray[Any]:
    """Columns of numbers, or one of words."""
    words = [name for name in names if table.columns[name].dtype.kind == "U"]
    if not words:
        found = np.stack([table.columns[name] for name in names], axis=1)
        _not_infinite(table, names, found)
        return _some_asked(table.path, names, found)
    if len(names) > 1:
        raise DataError(
            f"{str(table.path)!r}: column {words[0]!r} holds words, and is one of {len(names)} targets.",
            "One column of labels can be learned: --targets NAME.",
        )
    return _some_asked(table.path, names, table.columns[words[0]][:, None])


def missing(answers: NDArray[Any]) -> NDArray[np.bool_]:
    """Where no answer is asked for: `(steps,)`, or one truth value for a whole sequence. One part missing is all."""
    words, floats = answers.dtype.kind == "U", answers.dtype.kind == "f"
    each: Any = answers == "" if words else np.isnan(answers) if floats else np.zeros(answers.shape, bool)
    return each.any(axis=-1)


def _some_asked(path: Path, names: Sequence[str], found: NDArray[Any]) -> NDArray[Any]:
    if len(found) and missing(found).all():
        raise FileError(f"cannot use {str(path)!r}: {', '.join(map(repr, names))} has no values at all.")
    return found


def _all_finite(table: Table, names: Sequence[str], found: NDArray[np.float64]) -> None:
    gaps = np.argwhere(np.isnan(found))
    if len(gaps):
        row, column = map(int, gaps[0])
        raise _missing(table, names[column], row)
    _not_infinite(table, names, found)


def _not_infinite(table: Table, names: Sequence[str], found: NDArray[np.float64]) -> None:
    wrong = np.argwhere(np.isinf(found))
    if len(wrong):
        row, column = map(int, wrong[0])
        raise FileError(
            f"cannot use {str(table.path)!r}: {table.place(row)}, column {names[column]!r} is {found[row, column]}."
        )


def _missing(table: Table, name: str, row: int) -> FileError:
    return FileError(
        f"cannot use {str(table.path)!r}: {table.place(row)}, column {name!r}: a value is missing.",
        "Fill gaps before, or leave the column out: --inputs A,B names those to take.",
    )


def _rows(table: Table, sequence: str | None) -> tuple[list[str] | None, list[NDArray[np.intp]]]:
    """The rows of each sequence, in order of its first row."""
    count = len(next(iter(table.columns.values())))
    if not count:
        raise FileError(f"cannot use {str(table.path)!r}: it has no row.")
    if sequence is None:
        return None, [np.arange(count)]
    column = table.columns[sequence]
    if column.dtype.kind != "U" and np.isnan(column).any():
        raise _missing(table, sequence, int(np.flatnonzero(np.isnan(column))[0]))
    values, first, which = np.unique(column, return_index=True, return_inverse=True)
    order = np.argsort(first)
    by_row = np.argsort(which, kind="stable")
    parts = np.split(by_row, np.cumsum(np.bincount(which))[:-1])
    return [f"{values[each]:g}" if column.dtype.kind != "U" else str(values[each]) for each in order], [
        parts[each] for each in order
    ]


# Arrays.


def _of_arrays(found: Arrays, choice: Choice, answered: bool) -> Sequences:
    arrays, path = found.arrays, found.path
    for what, given in (("--sequence", choice.sequence), ("--time", choice.time)):
        if given is not None:
            raise DataError(f"{what} names a column of a table, and {str(path)!r} holds arrays.")
    inputs = _array(found, choice.inputs, INPUTS, "--inputs")
    rest = [name for name in arrays if name != inputs]
    lengths = choice.lengths if choice.lengths is not None else _named(LENGTHS, rest)
    if lengths is not None:
        _known(lengths, arrays, "array", path)
    rest, targets = [name for name in rest if name != lengths], None
    if (choice.targets is None and rest) or (choice.targets is not None and (answered or choice.targets[0] in arrays)):
        targets = _array(_some(found, rest), choice.targets, TARGETS, "--targets")
    x = _input_array(path, inputs, arrays[inputs])
    count, steps = x.shape[:2]
    long = _lengths(path, lengths, arrays, count, steps)
    made = [x[number, :length] for number, length in enumerate(long)]
    for number, each in enumerate(made):
        if not np.isfinite(each).all():
            step = int(np.argwhere(~np.isfinite(each))[0, 0])
            raise FileError(
                f"cannot use {str(path)!r}: {inputs!r} is not finite in sequence {number}, step {step} (from 0).",
                "Fill gaps before; say with an array of lengths where padding begins.",
            )
    chosen = Choice((inputs,), choice.targets if targets is None else (targets,), lengths=lengths)
    if targets is None:
        return Sequences(path, chosen, made, None)
    alone = arrays[inputs].ndim < 3
    return Sequences(path, chosen, made, _target_arrays(path, targets, arrays[targets], long, steps, alone))


def _some(found: Arrays, names: Sequence[str]) -> Arrays:
    """Some of the arrays."""
    return replace(found, arrays={name: found.arrays[name] for name in names})


def _array(found: Arrays, given: tuple[str, ...] | None, usual: Sequence[str], option: str) -> str:
    """The name of one array: the one given, the one that is called so, or the only one."""
    if given is not None:
        only, *others = given
        if others:
            raise DataError(f"{option} {','.join(given)}: name one array, which may have several channels.")
        _known(only, found.arrays, "array", found.path)
        return only
    name = _named(usual, list(found.arrays))
    if name is None and len(found.arrays) == 1:
        (name,) = found.arrays
    if name is None:
        shapes = ", ".join(f"{each!r} {array.shape}" for each, array in found.arrays.items())
        raise DataError(f"{str(found.path)!r} holds {shapes}.", f"Say which it is: {option} NAME.")
    return name


def _input_array(path: Path, name: str, found: NDArray[Any]) -> NDArray[np.float64]:
    """`(sequences, time, channels)`."""
    if found.dtype.kind == "U" or found.ndim not in (1, 2, 3):
        raise FileError(
            f"cannot use {str(path)!r}: {name!r} has shape {found.shape} and type {found.dtype}.",
            "What goes in is numbers: (time,), (time, channels) or (sequences, time, channels).",
        )
    whole = found if found.ndim == 3 else found.reshape(1, len(found), -1)
    return whole.astype(np.float64)


def _lengths(path: Path, name: str | None, arrays: Mapping[str, NDArray[Any]], count: int, steps: int) -> list[int]:
    if name is None:
        return [steps] * count
    found = arrays[name]
    if found.shape != (count,) or found.dtype.kind not in "biuf":
        raise FileError(
            f"cannot use {str(path)!r}: {name!r} has shape {found.shape}, and there are {count} sequences.",
            "It should hold the steps of each.",
        )
    wrong = np.flatnonzero(~((found >= 1) & (found <= steps) & (found == np.floor(found))))
    if len(wrong):
        raise FileError(
            f"cannot use {str(path)!r}: {name!r} says that sequence {wrong[0]} has {found[wrong[0]]} steps, of {steps}."
        )
    return [int(each) for each in found]


def _target_arrays(
    path: Path, name: str, found: NDArray[Any], lengths: Sequence[int], steps: int, alone: bool
) -> list[NDArray[Any]]:
    """The answers of each sequence, by step or as a whole."""
    count = len(lengths)
    if alone and found.ndim <= 2 and len(found) == steps:
        by_step, answers = True, found.reshape(1, steps, -1)
    elif not alone and found.shape == (count,):
        by_step, answers = False, found.reshape(count, 1)
    elif not alone and found.ndim in (2, 3) and found.shape[:2] == (count, steps):
        by_step, answers = True, found.reshape(count, steps, -1)
    elif not alone and found.ndim == 2 and len(found) == count:
        by_step, answers = False, found
    else:
        shape = (steps,) if alone else (count, steps)
        raise FileError(
            f"cannot use {str(path)!r}: {name!r} has shape {found.shape}; what goes in has {shape}.",
            "Give (time,) or (time, size) for one sequence; of several (sequences,), (sequences, size), "
            "(sequences, time) or (sequences, time, size).",
        )
    parts = [each[:length] if by_step else each for each, length in zip(answers, lengths, strict=True)]
    if found.dtype.kind == "f" and any(np.isinf(each).any() for each in parts):
        number = next(number for number, each in enumerate(parts) if np.isinf(each).any())
        raise FileError(f"cannot use {str(path)!r}: {name!r} is infinite in sequence {number} (from 0).")
    _some_asked(path, (name,), np.concatenate([np.atleast_2d(each) for each in parts]))
    return parts


def _named(usual: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of the usual names that there is, whatever its case."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in usual if name in lower), None)


def _known(name: str, names: Any, what: str, path: Path) -> None:
    if name not in names:
        raise DataError(f"{str(path)!r} has no {what} {name!r}.", did_you_mean(name, list(names)))

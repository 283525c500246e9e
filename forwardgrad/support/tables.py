"""What is in a file of data? Columns of numbers or words, or arrays; nothing in it is executed."""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import FileError
from forwardgrad.support import archive

SUFFIXES = (".csv", ".tsv", ".txt", ".npy", ".npz")
"""How the names of files end that are read."""

LONGEST_LINE = 2**20
"""Letters of a line that is read."""

MOST_COLUMNS = 2**14
"""Columns of a table that is read."""

DELIMITERS = ",;\t|"
"""What may stand between two columns; else any white space does."""

MISSING = {"", "nan", "na", "n/a", "null", "none", "?", "-"}
"""How people write that a number is missing, in lower case."""


@dataclass(frozen=True)
class Table:
    """Columns of one length.

    Args:
        path: of the file.
        columns: by name, `(rows,)`: float64 with NaN where nothing stands, or words.
        lines: the line of the file at which each row stands, where it is text.
    """

    path: Path
    columns: Mapping[str, NDArray[Any]]
    lines: Sequence[int] | None = None

    def place(self, row: int) -> str:
        """Where a row is, for a message."""
        return f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"

    def word(self, name: str) -> str:
        """The first cell of a column of words that is none of its numbers, and where it is, for a message."""
        column = self.columns[name]
        row = next((row for row, cell in enumerate(column) if number(str(cell)) is None), 0)
        return f"{self.place(row)} has {str(column[row])[:40]!r}"


@dataclass(frozen=True)
class Arrays:
    """Arrays by name.

    Args:
        path: of the file.
        arrays: whole numbers, floats, truth values or words, of any shape.
    """

    path: Path
    arrays: Mapping[str, NDArray[Any]]


def read(path: Path) -> Table | Arrays:
    """What a `.csv`, `.tsv`, `.txt`, `.npy` or `.npz` file holds.

    A text is a table, a row a line, with or without a heading. Columns are parted by commas, semicolons, tabs, bars or
    spaces, whichever the first line has; beside semicolons a comma may be the decimal sign. Blank lines and lines that
    begin with `#` are skipped. Columns without a heading are called 1, 2, ...

    Raises:
        FileError: naming the file, and the line where there is one.
    """
    kind = path.suffix.lower()
    try:
        if kind == ".npz":
            return Arrays(path, {name: _plain(path, name, found) for name, found in archive.any_arrays(path).items()})
        if kind == ".npy":
            with archive.opened(path) as (file, size):
                return _of_array(path, _plain(path, path.stem, archive.array(file, size)))
        if kind in SUFFIXES:
            with archive.opened(path) as (file, _), io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
                return _of_text(path, text)
    except FileError:
        raise
    except UnicodeDecodeError as error:
        raise FileError(f"cannot read {str(path)!r}: it is not text in UTF-8.", "Save it as UTF-8.") from error
    except Exception as error:  # damaged or foreign files make their readers raise anything
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise FileError(f"cannot read {str(path)!r}: {reason}.") from error
    raise FileError(f"cannot read {str(path)!r}: unknown kind of file.", f"Known: {', '.join(SUFFIXES)}.")


def _plain(path: Path, name: str, found: NDArray[Any]) -> NDArray[Any]:
    if found.dtype.kind not in "biufU" or not found.size:
        raise FileError(
            f"cannot read {str(path)!r}: {name!r} is an array of shape {found.shape} and type {found.dtype}.",
            "It should hold numbers or words.",
        )
    return found


def _of_array(path: Path, found: NDArray[Any]) -> Table | Arrays:
    """One array: a column, a column for each channel, or sequences of channels."""
    if found.ndim > 3 or found.ndim == 0 or found.dtype.kind == "U":
        raise FileError(
            f"cannot read {str(path)!r}: it holds an array of shape {found.shape} and type {found.dtype}.",
            "Give numbers: (time,), (time, channels) or (sequences, time, channels).",
        )
    if found.ndim == 3:
        return Arrays(path, {"inputs": found})
    columns = found.reshape(len(found), -1).astype(np.float64)
    return Table(path, {str(1 + number): columns[:, number] for number in range(columns.shape[1])})


# Text.


def _of_text(path: Path, text: io.TextIOWrapper) -> Table:
    lines = _lines(path, text)
    first = next(lines, None)
    if first is None:
        raise FileError(f"cannot read {str(path)!r}: it is empty.")
    delimiter = max(DELIMITERS, key=first[1].count)
    delimiter = delimiter if delimiter in first[1] else None
    head = _cells(first[1], delimiter)
    if len(head) > MOST_COLUMNS:
        raise FileError(f"cannot read {str(path)!r}: line {first[0]} has {len(head):,} columns.")
    second = next(lines, None)
    heading = second is not None and _is_heading(head, _cells(second[1], delimiter), delimiter)
    names = head if heading else [str(1 + number) for number in range(len(head))]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FileError(f"cannot read {str(path)!r}: two columns are called {twice!r}.", "Give each a name of its own.")
    made = [_Column(delimiter == ";") for _ in names]
    places = array("q")
    for place, line in _chained(() if heading else (first,), () if second is None else (second,), lines):
        cells = _cells(line, delimiter)
        if len(cells) != len(names):
            raise FileError(
                f"cannot read {str(path)!r}: line {place} has {len(cells)} columns, the first line {len(names)}.",
                "Each line should have a cell for each column.",
            )
        for column, cell in zip(made, cells, strict=True):
            column.add(cell)
        places.append(place)
    return Table(path, {name: column.array() for name, column in zip(names, made, strict=True)}, places)


def _chained(*parts: Any) -> Iterator[tuple[int, str]]:
    for part in parts:
        yield from part


def _lines(path: Path, text: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their numbers."""
    for place, line in enumerate(iter(lambda: text.readline(LONGEST_LINE), ""), start=1):
        if len(line) == LONGEST_LINE:
            raise FileError(f"cannot read {str(path)!r}: line {place} has {LONGEST_LINE:,} letters or more.")
        if "\0" in line:
            raise FileError(f"cannot read {str(path)!r}: line {place} is not text.")
        if (line := line.strip("\r\n ")) and not line.startswith("#"):
            yield place, line


def _cells(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return line.split()
    if '"' not in line:
        return [cell.strip() for cell in line.split(delimiter)]
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]


def _is_heading(head: Sequence[str], below: Sequence[str], delimiter: str | None) -> bool:
    """Whether a first line names columns: it has a word where a number stands below, or nothing but words."""
    comma = delimiter == ";"
    words = [number(cell, comma) is None for cell in head]
    numbers_below = [number(cell, comma) is not None for cell in below]
    above = [word and below for word, below in zip(words, numbers_below, strict=False)]
    return any(above) or (all(words) and len(head) > 1)


def number(cell: str, comma: bool = False) -> float | None:
    """The number that a cell holds, NaN where it says that one is missing; `None` for a word."""
    if cell.lower() in MISSING:
        return np.nan
    if comma and re.fullmatch(r"[-+]?\d*,\d+(e[-+]?\d+)?", cell, re.IGNORECASE):
        cell = cell.replace(",", ".")
    try:
        return float(cell) if cell.isascii() and "_" not in cell else None
    except ValueError:
        return None


class _Column:
    """Cells, numbers as long as all of them are."""

    def __init__(self, comma: bool) -> None:
        self.comma, self.numbers, self.words = comma, array("d"), list[str]()

    def add(self, cell: str) -> None:
        if not self.words:
            found = number(cell, self.comma)
            if found is not None:
                self.numbers.append(found)
                return
            self.words = [_written(value) for value in self.numbers]
        self.words.append(cell)

    def array(self) -> NDArray[Any]:
        if self.words:
            return np.array(self.words)
        return np.frombuffer(self.numbers, dtype=np.float64) if self.numbers else np.empty(0)


def _written(value: float) -> str:
    """A number in a column of words."""
    return "" if np.isnan(value) else f"{value:.17g}"

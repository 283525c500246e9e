"""Is a file of a stranger's read as it was meant, or refused with what to do about it?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwardgrad.errors import DataError, FileError
from forwardgrad.support import tables
from forwardgrad.training.sequences import Choice, Sequences, sequences


def table(tmp_path: Path, text: str | bytes, name: str = "data.csv") -> tables.Table:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    found = tables.read(path)
    assert isinstance(found, tables.Table)
    return found


def arrays(tmp_path: Path, **given: Any) -> tables.Table | tables.Arrays:
    np.savez(tmp_path / "data.npz", **given)
    return tables.read(tmp_path / "data.npz")


TEXTS = {
    "a heading": ("a,b\n1,2\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
    "no heading": ("1,2\n3,4\n", {"1": [1, 3], "2": [2, 4]}),
    "labels without a heading": ("1,x\n3,y\n", {"1": [1, 3], "2": ["x", "y"]}),
    "a heading over labels": ("name,kind\nada,x\nbob,y\n", {"name": ["ada", "bob"], "kind": ["x", "y"]}),
    "semicolons and commas": ("a;b\n1,5;2\n-,25;4e-1\n", {"a": [1.5, -0.25], "b": [2, 0.4]}),
    "tabs": ("a\tb\n1\t2\n", {"a": [1], "b": [2]}),
    "spaces": ("a b\n 1   2\n3 4", {"a": [1, 3], "b": [2, 4]}),
    "quotes": ('"a, b","c"\n"1","x, y"\n', {"a, b": [1], "c": ["x, y"]}),
    "a mark before it, comments, Windows": ("\ufeff# made\r\na,b\r\n\r\n1,2\r\n", {"a": [1], "b": [2]}),
    "one column": ("x\n1\n2\n", {"x": [1, 2]}),
    "one column of numbers": ("1\n2\n", {"1": [1, 2]}),
    "gaps": ("a,b\n1,\nNA,2\n", {"a": [1, np.nan], "b": [np.nan, 2]}),
    "a number that is a word": ("a,b\n1,2\n3,1_000\n", {"a": [1, 3], "b": ["2", "1_000"]}),
    "a heading alone": ("a,b\n", {"1": ["a"], "2": ["b"]}),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name, tmp_path):
    """If this fails, a column is lost, has another name, or numbers are taken for words."""
    text, wanted = TEXTS[name]
    found = table(tmp_path, text)
    assert list(found.columns) == list(wanted)
    for column, values in wanted.items():
        np.testing.assert_array_equal(found.columns[column], np.array(values))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("# nothing\n\n", "it is empty"),
        ("a,b\n1,2\n3\n", "line 3 has 1 columns, the first line 2"),
        ("a,a\n1,2\n", "two columns are called 'a'"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"a\0b\n", "line 1 is not text"),
        ("1" * (tables.LONGEST_LINE + 1), "letters or more"),
        (",".join("1" * (tables.MOST_COLUMNS + 1)), "columns"),
    ],
)
def test_texts_that_are_refused(text, words, tmp_path):
    """If this fails, a damaged file is learned from, or ends in a bare error."""
    with pytest.raises(FileError, match=words):
        table(tmp_path, text)


def test_files_that_are_none(tmp_path):
    """If this fails, a slip in a path ends in a traceback, or code in a file is executed."""
    np.savez(tmp_path / "o.npz", x=np.array([None, 1]))
    np.save(tmp_path / "four.npy", np.zeros((2, 2, 2, 2)))
    (tmp_path / "n.npz").write_bytes(b"PK nothing")
    for name in ("none.csv", "o.npz", "n.npz", "four.npy", "a.parquet"):
        with pytest.raises(FileError, match=f"cannot read '.*{name}'"):
            tables.read(tmp_path / name)


def test_a_compressed_archive_is_read(tmp_path):
    """If this fails, what `np.savez_compressed` writes is refused."""
    np.savez_compressed(tmp_path / "c.npz", x=np.zeros((100, 3)), y=np.arange(100))
    found = tables.read(tmp_path / "c.npz")
    assert isinstance(found, tables.Arrays)
    assert {name: array.shape for name, array in found.arrays.items()} == {"x": (100, 3), "y": (100,)}


# What is taken of them.


def test_columns_called_time_are_passed_over(tmp_path):
    """If this fails, the number of the row is learned from."""
    found = sequences(table(tmp_path, "Date,a\n2020-01-01,1\n2020-01-02,2\n"), Choice())
    assert found.choice.inputs == ("a",)
    assert found.targets is None
    asked = sequences(table(tmp_path, "t,a\n1,1\n2,2\n"), Choice(inputs=("t",)))
    assert asked.choice.inputs == ("t",)
    only = sequences(table(tmp_path, "t\n1\n2\n"), Choice())
    assert only.choice.inputs == ("t",)


def test_rows_of_a_sequence_stay_together(tmp_path):
    """If this fails, sequences are mixed, or their labels are those of others."""
    text = "seq,x,kind\nb,1,up\na,10,down\nb,2,up\na,20,down\nb,3,up\n"
    found = sequences(table(tmp_path, text), Choice(targets=("kind",)))
    assert found.names == ["b", "a"]
    assert [x.ravel().tolist() for x in found.inputs] == [[1, 2, 3], [10, 20]]
    assert found.whole
    assert [str(y[0]) for y in found.targets or []] == ["up", "down"]
    by_step = sequences(table(tmp_path, text.replace("b,2,up", "b,2,down")), Choice(targets=("kind",)))
    assert not by_step.whole


SHAPES = {
    "one series": ((7, 2), (7,), None, False, [(7, 1)]),
    "one series, several outputs": ((7, 2), (7, 3), None, False, [(7, 3)]),
    "labels of sequences": ((2, 7, 3), (2,), None, True, [(1,), (1,)]),
    "labels of steps": ((2, 7, 3), (2, 7), [7, 3], False, [(7, 1), (3, 1)]),
    "numbers of steps": ((2, 7, 3), (2, 7, 4), [1, 7], False, [(1, 4), (7, 4)]),
    "numbers of sequences": ((2, 7, 3), (2, 4), None, True, [(4,), (4,)]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_arrays(name, tmp_path):
    """If this fails, an axis is taken for another one."""
    shape, targets, lengths, whole, wanted = SHAPES[name]
    x, y = np.random.default_rng(0).normal(size=shape), np.arange(np.prod(targets)).reshape(targets)
    more = {} if lengths is None else {"lengths": np.array(lengths)}
    found = sequences(arrays(tmp_path, X=x, y=y, **more), Choice())
    assert found.whole == whole
    assert [each.shape for each in found.targets or []] == wanted
    assert [len(each) for each in found.inputs] == (lengths or [7] * len(wanted))
    np.testing.assert_array_equal(found.inputs[-1], x.reshape(-1, *shape[-2:])[-1][: len(found.inputs[-1])])


REFUSED = {
    "a gap": ("a,b\n1,2\n,3\n", Choice(), FileError, "line 3, column 'a': a value is missing"),
    "infinity": ("a\n1\ninf\n", Choice(), FileError, "line 3, column 'a' is inf"),
    "words": ("a,kind\n1,x\n2,y\n", Choice(), DataError, "column 'kind' holds words: line 2 has 'x'"),
    "no such column": ("a,b\n1,2\n", Choice(inputs=("c",)), DataError, "no column 'c'"),
    "no such target": ("a,b\n1,2\n", Choice(targets=("bb",)), DataError, "Did you mean 'b'"),
    "no such sequence": ("a,b\n1,2\n", Choice(sequence="s"), DataError, "no column 's'"),
    "nothing left": ("a\n1\n2\n", Choice(targets=("a",)), DataError, "no column is left"),
    "two columns of words": ("a,k,l\n1,x,y\n", Choice(targets=("k", "l")), DataError, "is one of 2 targets"),
    "lengths of a table": ("a\n1\n", Choice(lengths="n"), DataError, "--lengths is for the arrays"),
    "no label at all": ("a,k\n1,\n2,\n", Choice(targets=("k",)), FileError, "'k' has no values at all"),
    "an infinite target": ("a,k\n1,inf\n2,3\n", Choice(targets=("k",)), FileError, "line 2, column 'k' is inf"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tables_that_are_refused(name, tmp_path):
    """If this fails, what is missing is learned as a number."""
    text, choice, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        sequences(table(tmp_path, text), choice)


X = np.zeros((3, 5, 2))


@pytest.mark.parametrize(
    ("given", "choice", "words"),
    [
        ({"x": X, "y": np.zeros((3, 4, 2))[:2]}, Choice(), "'y' has shape"),
        ({"x": X, "lengths": np.array([1, 2])}, Choice(), "there are 3 sequences"),
        ({"x": X, "lengths": np.array([1, 2, 6])}, Choice(), "says that sequence 2 has 6 steps, of 5"),
        ({"x": X, "lengths": np.array([1, 2.5, 3])}, Choice(), r"says that sequence 1 has 2\.5 steps"),
        ({"x": np.where(X == 0, np.nan, X)}, Choice(), "is not finite in sequence 0, step 0"),
        ({"a": X, "b": X}, Choice(), "Say which it is: --inputs NAME"),
        ({"x": X, "b": X, "c": X}, Choice(), "Say which it is: --targets NAME"),
        ({"x": X}, Choice(inputs=("x", "y")), "name one array"),
        ({"x": X}, Choice(sequence="s"), "names a column of a table"),
        ({"x": np.array(["a"])}, Choice(), "What goes in is numbers"),
    ],
)
def test_arrays_that_are_refused(given, choice, words, tmp_path):
    """If this fails, arrays that do not belong together are learned from."""
    with pytest.raises((DataError, FileError), match=words):
        sequences(arrays(tmp_path, **given), choice)


def test_a_prediction_needs_no_answers(tmp_path):
    """If this fails, who has no targets cannot predict them, or an input may be missing unseen."""
    choice = Choice(("a",), ("k",), None, None)
    found: Sequences = sequences(table(tmp_path, "a\n1\n2\n"), choice, answered=False)
    assert found.targets is None
    with pytest.raises(DataError, match="no column 'a'"):
        sequences(table(tmp_path, "b\n1\n2\n"), choice, answered=False)

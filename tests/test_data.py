"""Are series read as they are, split where they are said to be, and are the baselines what they claim?"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys

import numpy as np
import pytest

from forwardgrad import data
from forwardgrad.data import Series, linear_autoregression, nmse, one_step, persistence
from forwardgrad.errors import DataError, FileError, MissingExtraError

needs_laser = pytest.mark.skipif(
    importlib.util.find_spec("reservoirpy") is None, reason='the laser series needs pip install "forwardgrad[data]"'
)


def autoregressive(length: int, weights: tuple[float, ...], noise: float, constant: float = 0.0) -> Series:
    """x(t + 1) = constant + sum of weights times the past, latest first, plus Gaussian noise."""
    random = np.random.default_rng(0)
    x = list(random.normal(size=len(weights)))
    for innovation in random.normal(scale=noise, size=length - len(weights)):
        x.append(constant + float(np.dot(weights, x[: -len(weights) - 1 : -1])) + innovation)
    return Series("ar", np.array(x), "made up")


def test_boundaries():
    """Test targets are the samples from `train` on, no more and no fewer, and no statistic looks at them."""
    values = np.random.default_rng(0).normal(3.0, 2.0, size=50)
    task = one_step(Series("s", values, "made up"), train=20)
    assert task.mean == np.mean(values[:20])
    assert task.deviation == np.std(values[:20])

    def unscaled(array: np.ndarray) -> np.ndarray:
        assert array.shape[1:] == (1, 1)
        return array.ravel() * task.deviation + task.mean

    np.testing.assert_allclose(unscaled(task.train_inputs), values[:19])
    np.testing.assert_allclose(unscaled(task.train_targets), values[1:20])
    np.testing.assert_allclose(unscaled(task.test_inputs), values[19:-1])
    np.testing.assert_allclose(unscaled(task.test_targets), values[20:])
    future = np.concatenate([values[:20], values[20:] * 100])
    again = one_step(Series("s", future, "made up"), train=20)
    np.testing.assert_array_equal(task.train_targets, again.train_targets)


def test_nmse():
    target = np.array([0.0, 2.0, 4.0])
    assert nmse(np.full(3, 2.0), target) == 1.0  # the mean of the target
    assert nmse(target, target) == 0.0
    assert nmse(target + 1, target, variance=4.0) == 0.25


def test_persistence_on_a_random_walk():
    """A random walk of unit steps: the error of persistence is 1 per step exactly."""
    values = np.cumsum(np.random.default_rng(0).choice([-1.0, 1.0], size=300))
    task = one_step(Series("walk", values, "made up"), train=200)
    expected = 1.0 / np.var(values[200:])
    assert nmse(persistence(task), task.test_targets) == pytest.approx(expected, rel=1e-12)


def test_autoregression_is_exact_without_noise():
    """x(t + 1) = 1 + 1.6 x(t) - x(t - 1) is found from its values, up to rounding, and needs the constant."""
    task = one_step(autoregressive(400, (1.6, -1.0), noise=0.0, constant=1.0), train=200)
    assert nmse(linear_autoregression(task, lags=2), task.test_targets) < 1e-20
    assert nmse(linear_autoregression(task, lags=1), task.test_targets) > 0.01
    rising = one_step(Series("line", np.arange(100.0), "made up"), train=50)
    assert nmse(linear_autoregression(rising, lags=1), rising.test_targets) < 1e-20
    assert nmse(linear_autoregression(rising, lags=1, intercept=False), rising.test_targets) > 1e-4


def test_autoregression_reaches_the_noise():
    """AR(2) with unit innovations: no predictor is better than variance 1, and least squares comes within 2 %."""
    series = autoregressive(20_000, (1.5, -0.8), noise=1.0)
    task = one_step(series, train=15_000)
    floor = 1.0 / np.var(series.values[15_000:])
    for lags in (2, 16):
        error = nmse(linear_autoregression(task, lags), task.test_targets)
        assert error == pytest.approx(floor, rel=0.05)
    # Persistence: E (x(t + 1) - x(t))^2 = 2 (1 - rho) var with rho = 1.5 / 1.8, the lag-one correlation of this AR(2).
    assert nmse(persistence(task), task.test_targets) == pytest.approx(2 * (1 - 1.5 / 1.8), rel=0.05)


def test_autoregression_does_not_learn_from_the_test_part():
    values = np.random.default_rng(0).normal(size=300)
    other = values.copy()
    other[200:] = 0.0
    one, two = (one_step(Series("s", v, "made up"), train=200) for v in (values, other))
    # The first prediction sees training samples only.
    assert linear_autoregression(one, 4)[0] == linear_autoregression(two, 4)[0]


@needs_laser
def test_laser():
    """The figures that the main job is held against."""
    series = data.get("laser")
    assert series.values.shape == (10_093,)
    assert series.values.dtype == np.float64
    assert series.values[:5].tolist() == [86, 141, 95, 41, 22]
    task = one_step(series)
    assert task.test_targets.shape == (2_093, 1, 1)
    found = data.baselines(task)
    assert found["persistence"] == pytest.approx(0.929, abs=1e-3)
    assert found["linear autoregression (16 lags)"] == pytest.approx(0.199, abs=1e-3)


def test_laser_without_the_extra(monkeypatch: pytest.MonkeyPatch):
    """One line, and it can be pasted into a shell."""
    for name in [name for name in sys.modules if name.split(".")[0] == "reservoirpy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "reservoirpy", None)
    with pytest.raises(MissingExtraError) as caught:
        data.get("laser")
    assert str(caught.value) == "data 'laser' needs reservoirpy: pip install \"forwardgrad[data]\""


def test_unknown_name():
    with pytest.raises(DataError, match=r"unknown data 'lazer'") as caught:
        data.get("lazer")
    assert "Did you mean 'laser'?" in str(caught.value)
    assert "*.csv, *.tsv, *.txt, *.npy" in str(caught.value)


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "uint8"])
def test_npy(tmp_path, shape, dtype):
    np.save(tmp_path / "mine.npy", np.arange(5, dtype=dtype).reshape(shape))
    series = data.get(str(tmp_path / "mine.npy"))
    assert (series.name, series.values.dtype) == ("mine", np.float64)
    assert series.values.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "text",
    ["1\n2.5\n-3e1\n", "value\n1\n2.5\n-30", "\ufeff# a comment\r\n\r\n1\r\n 2.5 \r\n-30\r\n", '"v"\n1\n\n2.5\n-30'],
)
@pytest.mark.parametrize("suffix", [".csv", ".txt", ".CSV"])
def test_text(tmp_path, text, suffix):
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(text.encode())
    assert data.get(path).values.tolist() == [1.0, 2.5, -30.0]


BAD_FILES = {
    "missing.npy": None,
    "directory.csv": "directory",
    "empty.txt": b"",
    "heading.csv": b"value\n",
    "two.csv": b"a,b\n1,2\n3,4\n",
    "word.txt": b"1\n2\nthree\n4\n",
    "first.txt": b"1;2\n3\n",
    "nan.txt": b"1\nnan\n2\n",
    "infinite.txt": b"1\n1e999\n",
    "binary.csv": b"\xff\xfe\x00\x01" * 9,
    "not.npy": b"hello",
    "nothing.npy": b"",
    "matrix.npy": np.zeros((4, 3)),
    "scalar.npy": np.zeros(()),
    "complex.npy": np.zeros(4, dtype=complex),
    "objects.npy": np.array([{"a": 1}, None], dtype=object),
    "gaps.npy": np.array([1.0, np.nan, 2.0]),
    "pickle.npy": pickle.dumps([1, 2, 3]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(tmp_path, name):
    """A broken file ends in our own error that names it."""
    path, content = tmp_path / name, BAD_FILES[name]
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, np.ndarray):
        np.save(path, content)
    elif content == "directory":
        path.mkdir()
    with pytest.raises(FileError, match=name):
        data.get(path)


def test_truncated_npy(tmp_path):
    path = tmp_path / "mine.npy"
    np.save(path, np.arange(100.0))
    whole = path.read_bytes()
    for length in (3, 8, 40, 100, 128, 500, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"mine\.npy"):
            data.get(path)


def test_messages_name_the_place(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("# ok\n1\n2\nthree\n")
    with pytest.raises(FileError, match="line 4 has 'three'"):
        data.read(path)
    path.write_text("1\n2\nnan\n")
    with pytest.raises(FileError, match=r"sample 2 .* is nan"):
        data.read(path)
    with pytest.raises(FileError, match=r"Known: \.csv, \.tsv, \.txt, \.npy"):
        data.read(tmp_path / "mine.wav")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: one_step(Series("s", np.arange(10.0), ""), train=10), "between 2 and 9"),
        (lambda: one_step(Series("s", np.arange(10.0), ""), train=1), "cannot learn from 1 of its 10 samples"),
        (lambda: one_step(Series("s", np.arange(2.0), ""), train=1), "at least 3 samples"),
        (lambda: one_step(Series("s", np.array([0.1] * 9 + [1.0]), ""), train=9), "constant"),
        (lambda: one_step(Series("s", np.array([1e300, -1e300, 1.0]), ""), train=2), "overflowing"),
        (lambda: nmse(np.zeros(3), np.zeros((3, 1))), r"\(3,\), target \(3, 1\)"),
        (lambda: nmse(np.zeros(0), np.zeros(0)), "NMSE"),
        (lambda: nmse(np.zeros(3), np.ones(3)), "variance must be positive"),
        (
            lambda: linear_autoregression(one_step(Series("s", np.arange(30.0), ""), train=20)),
            "at least 33 training samples, got 20",
        ),
        (lambda: linear_autoregression(one_step(Series("s", np.arange(30.0), ""), train=20), 0), "0 lags"),
    ],
)
def test_refuses(make, words: str):
    with pytest.raises(DataError, match=words):
        make()

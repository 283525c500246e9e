"""Are the collections that other libraries bring taken as they were published?"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from forwardgrad import data
from forwardgrad.cli.command_line import main
from forwardgrad.errors import DataError, MissingExtraError
from forwardgrad.training.named import BROUGHT, digits, japanese_vowels, trump_approval
from forwardgrad.training.tasks import make


def test_japanese_vowels_keep_their_published_parts() -> None:
    """Facts of the data's own page: 270 and 370 utterances, 7 to 29 frames, 12 coefficients, nine speakers."""
    pytest.importorskip("sktime")
    found = japanese_vowels()
    assert len(found.inputs) == 640
    lengths = [len(x) for x in found.inputs]
    assert (min(lengths), max(lengths), found.inputs[0].shape[1]) == (7, 29, 12)
    learned = make(found, validation=0.2, seed=3)
    assert learned.validation is not None
    assert (len(learned.train), len(learned.validation), len(learned.test)) == (216, 54, 370)
    assert learned.recipe.classes == tuple("123456789")
    speakers = np.concatenate([part.targets[0] for part in (learned.train, learned.validation)])
    assert np.array_equal(np.bincount(speakers), [30] * 9)
    assert np.array_equal(learned.test.lengths, lengths[270:])
    again = make(found, validation=0.2, seed=4)
    assert again.validation is not None
    assert not np.array_equal(again.validation.lengths, learned.validation.lengths)
    with pytest.raises(DataError, match="its first 270 sequences were published to be learned from"):
        make(found, split=0.5)


def test_digits_are_read_row_by_row() -> None:
    """Eight steps of eight numbers, the rows of an image."""
    sklearn = pytest.importorskip("sklearn.datasets")
    found, given = digits(), sklearn.load_digits()
    assert len(found.inputs) == 1797
    assert np.array_equal(found.inputs[5], given.images[5])
    assert [str(y[0]) for y in found.targets or []] == [str(y) for y in given.target]


def test_polls_are_a_stream_of_days() -> None:
    """One series with an answer for each day, of which the first 801 are learned from."""
    datasets = pytest.importorskip("river.datasets")
    learned = make(trump_approval())
    rows = list(datasets.TrumpApproval())
    assert len(rows) == 1001
    assert (learned.recipe.kind, learned.train.inputs.shape, learned.test.inputs.shape) == (
        "regression",
        (801, 1, 5),
        (200, 1, 5),
    )
    x, y = rows[900]
    found = trump_approval()
    assert found.targets is not None
    assert found.targets[0][900] == y
    assert list(found.inputs[0][900]) == [x[name] for name in sorted(x) if name != "ordinal_date"]


def test_the_laser_has_two_published_splits() -> None:
    """The competition gave 1,000 samples, and later the 9,093 that follow them."""
    pytest.importorskip("reservoirpy")
    long, short = (data.one_step(data.get(name)) for name in ("laser", "laser_1000"))
    assert np.array_equal(long.series.values, short.series.values)
    assert (len(long.test_targets), len(short.test_targets)) == (2093, 9093)
    assert short.mean == pytest.approx(long.series.values[:1000].mean())


@pytest.mark.parametrize("name", sorted(BROUGHT))
def test_what_is_missing_is_said_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its extra."""
    for module in ("sktime", "sktime.datasets", "sklearn", "sklearn.datasets", "river", "river.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf'^data {name!r} needs \S+: pip install "forwardgrad\[datasets\]"$'):
        BROUGHT[name]()


def test_a_terminal_trains_on_them_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And options that describe a file are refused, as a slip in the name is."""
    pytest.importorskip("sklearn")
    assert main(["train", "elman", "--data", "digits", "--passes", "1", "--batch", "100", "--out", str(tmp_path)]) == 0
    assert "elman learned digits under rtrl: 1 pass over 1,438 sequences" in capsys.readouterr().out
    assert main(["train", "elman", "--data", "digits", "--targets", "y"]) == 2
    assert "--targets is for files of your own; 'digits' says it itself" in capsys.readouterr().err
    assert main(["train", "elman", "--data", "digit"]) == 2
    assert "Did you mean 'digits'?" in capsys.readouterr().err

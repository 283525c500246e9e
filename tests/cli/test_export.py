"""Does `forwardgrad export` write what it says it writes?"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from running import answer

import forwardgrad as fg
from forwardgrad import cli
from forwardgrad.learning.learner import Learner
from forwardgrad.learning.optimizers import SGD


def initial(folder: Path) -> list[float]:
    """The parameters that an exported learner begins with."""
    text = (folder / "model.c").read_text()
    found = re.search(r"static const real initial\[\d+\] = \{(.*?)\}", text, re.DOTALL)
    assert found is not None
    return [float(word.rstrip("f")) for word in found[1].replace(",", " ").split()]


def flat(params: dict[str, np.ndarray]) -> list[float]:
    return [float(number) for array in params.values() for number in array.ravel()]


def test_it_says_what_it_wrote(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sizes decide which device is bought."""
    command = ["export", "small.toml", "--rule", "eprop", "--optimizer", "adam", "-o", "c"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert cli.main([*command, "--force", "--json"]) == 0
    report = answer(capsys.readouterr().out.splitlines())
    assert sorted(report["files"]) == sorted(path.name for path in (place / "c").iterdir())
    header = (place / "c" / "model.h").read_text()
    for what, macro in (("memory", "STATIC"), ("constants", "CONSTANT"), ("saved", "SAVED")):
        assert f"MODEL_{macro}_BYTES {report['bytes'][what]}\n" in header
        assert f"{report['bytes'][what]:,} bytes" in said
    assert cli.main(command) == 2
    assert "--force" in capsys.readouterr().err


def test_parameters_come_from_a_learner_from_arrays_or_from_a_seed(place: Path) -> None:
    """What was trained at a desk is where a device goes on."""
    program = fg.compile(fg.load("small.toml"), loss={"y": "mse"}, rule="eprop")
    params = program.init(5)
    Learner(program, params, SGD(0.1)).save("learner.npz")
    np.savez_compressed("arrays.npz", allow_pickle=False, **params)
    for more in (["--params", "learner.npz"], ["--params", "arrays.npz"], ["--seed", "5"]):
        assert cli.main(["export", "small.toml", "--rule", "eprop", "-o", "c", "--force", *more]) == 0
        np.testing.assert_allclose(initial(place / "c"), flat(params), rtol=1e-7)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--params", "small.toml"], "no .npz file"),
        (["--params", "nowhere.npz"], "No such file"),
        (["--params", "other.npz"], "params"),
        (["--learning-rate", "-1"], "greater than 0"),
        (["--rule", "uoro"], "draws at random"),
        (["-o", "small.toml"], "it is a file"),
        (["-o", "none/c"], "no such folder"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    more: list[str], words: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error must not leave half of a learner."""
    np.savez("other.npz", w=np.zeros(3))
    before = sorted(place.iterdir())
    assert cli.main(["export", "small.toml", "-o", "c", *more]) == 2
    assert words in capsys.readouterr().err
    assert sorted(place.iterdir()) == before

"""Are the synthetic tasks learned by name, and is what is known of them shown beside the result?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from forwardgrad import training
from forwardgrad.cli.command_line import main
from forwardgrad.learning import tasks
from forwardgrad.training.named import NAMED
from forwardgrad.training.synthetic import SYNTHETIC
from forwardgrad.training.tasks import digest, make


def test_every_task_has_a_name() -> None:
    """A task could only be learned from a script."""
    functions = {name for name in tasks.__all__ if name[0].islower()}
    short = {"adding_problem": "adding", "copy_memory": "copy", "embedded_reber": "reber"}
    short |= {"evidence_accumulation": "evidence", "pattern_generation": "pattern"}
    assert {short.get(name, name) for name in functions} == set(SYNTHETIC)
    assert set(SYNTHETIC) < set(NAMED)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_name_always_means_the_same_sequences(name: str) -> None:
    """Results of two runs, or of two rules, could not be compared."""
    found = SYNTHETIC[name]()
    assert digest(found) == digest(SYNTHETIC[name]())
    assert found.cited
    assert found.targets is not None
    for inputs, targets in zip(found.inputs, found.targets, strict=True):
        assert len(inputs) == len(targets)
        assert np.isfinite(inputs).all()


def test_answers_are_asked_for_where_the_task_asks() -> None:
    """Recall, whose query is seen in the inputs."""
    learned = make(SYNTHETIC["recall"]())
    given = tasks.recall(2000)
    assert learned.train.weight is not None
    scale = learned.recipe.inputs
    for number in range(len(learned.train)):
        query = scale.measured(learned.train.inputs[: learned.train.lengths[number], number])[:, 4]
        assert np.allclose(query, learned.train.weight[: learned.train.lengths[number], number])
    assert learned.recipe.classes == ("0", "1", "2", "3")
    assert learned.train.samples + learned.test.samples == given.lengths.sum()


@pytest.mark.parametrize("name", SYNTHETIC)
def test_levels_fit_the_score(name: str) -> None:
    """They would be missing in the result, or be of another kind than it."""
    learned = make(SYNTHETIC[name]())
    levels = training.baselines(learned)
    known = {each.name: each.value for each in SYNTHETIC[name]().references if each.kind == learned.metric}
    assert known
    assert {f"{name} (analytic)": value for name, value in known.items()}.items() <= levels.items()
    assert len(levels) == len(known) + 1


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_terminal_trains_on_each(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a few steps; what is known of it is shown beside the score, in words and as data."""
    few = ["--split", "8", "--passes", "1", "--batch", "8", "--out", str(tmp_path)]
    assert main(["train", "elman", "--data", name, "--rule", "eprop", *few]) == 0
    shown = capsys.readouterr().out
    assert f"elman learned {name} under eprop: 1 pass over 8 sequences" in shown
    found = json.loads((tmp_path / "report.json").read_text())
    metric = found["metric"]
    for each in SYNTHETIC[name]().references:
        if each.kind == metric:
            assert found[metric.lower()][f"{each.name} (analytic)"] == each.value
            assert f"{f'{each.name} (analytic) {metric}:':<40} {each.value:.4f}" in shown
    assert found["data"]["source"] == SYNTHETIC[name]().cited


def test_the_page_shows_what_is_known(tmp_path: Path) -> None:
    """Who reads the page alone sees no scale for the score."""
    few = ["--split", "8", "--passes", "1", "--report", "--out", str(tmp_path)]
    assert main(["train", "elman", "--data", "memory_chain", *few]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "test, without memory (analytic): accuracy" in page


def test_what_remembers_beats_the_level(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the level would not be one of networks without memory, or the task hopeless."""
    options = ["--rule", "eprop", "--passes", "3", "--json", "--out", str(tmp_path)]
    assert main(["train", "gru", "--data", "delayed_xor", *options]) == 0
    scores = json.loads(capsys.readouterr().out)["accuracy"]
    assert scores["test"] > scores["one bit or none (analytic)"] + 0.1

"""Are experiments run as their command says, and is the page of results made from the results?"""

from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import catalogue, chaotic, drawing, flips, networks, report, results, running, training
from experiments.__main__ import main
from experiments.experiment import Experiment, grid
from experiments.results import OtherSettingsError, Results, Run, Spread

ROOT = Path(__file__).parent.parent


def _run(*, seed: int, a: int, b: int, scale: float) -> dict[str, Any]:
    CALLS.append((a, b, seed))
    if FAILING == (a, b):
        raise ValueError("made up")
    return {"value": scale * (100 * a + 10 * b + seed), "curve": np.ones(2) / 3, "overflowed": np.inf}


CALLS: list[tuple[int, int, int]] = []
FAILING: tuple[int, int] | None = None
SMALL = Experiment(
    name="small",
    title="A small one",
    minutes=1,
    fixed={"scale": 1.0},
    settings=grid(a=[0, 1], b=[0, 1]),
    seeds=2,
    run=_run,
    page=lambda found: found.spread("value", a=1).text(1),
    gist=lambda found: ("none", found.spread("value", a=0).text(1)),
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of the results of a small experiment, the only one that there is."""
    monkeypatch.setattr(catalogue, "NAMES", ("small",))
    monkeypatch.setattr(catalogue, "get", lambda name: SMALL)
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    CALLS.clear()
    return tmp_path / "small.json"


def test_what_is_done_is_not_done_again(small: Path) -> None:
    """If this fails, a run that was interrupted begins anew, or leaves something out."""
    assert main(["small", "--seeds", "1", "--only", "a=1"]) == 0
    assert CALLS == [(1, 0, 0), (1, 1, 0)]
    assert main(["small"]) == 0
    assert len(CALLS) == len(set(CALLS)) == 8
    found = results.read(small)
    assert found.spread("value", a=1, b=0).values == [100.0, 101.0]
    assert found.chosen(a=0)[0].found == {"value": 0.0, "curve": [0.333333, 0.333333], "overflowed": None}
    assert found.seeds == "2"


def test_slices_are_all_runs_once_and_merge(small: Path, tmp_path: Path) -> None:
    """If this fails, machines that share the work leave a gap, or their results cannot be joined."""
    parts = [tmp_path / f"part{part}.json" for part in (1, 2, 3)]
    for number, part in enumerate(parts, start=1):
        assert main(["small", "--slice", f"{number}/3", "--json", str(part)]) == 0
    assert len(CALLS) == len(set(CALLS)) == 8
    assert main(["--merge", *map(str, parts)]) == 0
    assert len(results.read(small).runs) == 8


def test_runs_of_other_settings_are_not_mixed(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, one table shows numbers of two sizes of network."""
    assert main(["small", "--seeds", "1"]) == 0
    held = json.loads(small.read_text())
    held["fixed"]["scale"] = 2.0
    small.write_text(json.dumps(held))
    assert main(["small"]) == 2
    with pytest.raises(OtherSettingsError, match="another scale"):
        results.of(SMALL, small, SMALL.fixed)


def test_no_run_is_begun_after_the_budget(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, a command takes longer than it was allowed to."""
    assert main(["small", "--budget", "0"]) == 0
    assert CALLS == []
    assert "8 of 8 runs to make" in capsys.readouterr().out


def test_a_run_that_fails_ends_no_other(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, one setting that does not work loses an hour of others."""
    monkeypatch.setitem(globals(), "FAILING", (0, 1))
    assert main(["small"]) == 1
    assert len(results.read(small).runs) == 6
    assert "failed: small {'a': 0, 'b': 1} seed 0: ValueError: made up" in capsys.readouterr().err


def test_several_processes_find_what_one_finds(tmp_path: Path) -> None:
    """If this fails, results depend on how many processes made them. A real experiment, since processes import it."""
    options = ["deep_credit", "--quick", "--seeds", "2", "--only", "kind=learned", "--only", "rule=immediate"]
    found: list[Results] = []
    for processes in ("1", "2"):
        path = tmp_path / f"{processes}.json"
        assert main([*options, "--processes", processes, "--json", str(path)]) == 0
        found.append(results.read(path))
    assert len(found[0].runs) == 2
    assert {key: run.found for key, run in found[0].runs.items()} == {k: run.found for k, run in found[1].runs.items()}


def test_a_spread_says_what_overflowed() -> None:
    """If this fails, a run that overflowed is taken for a good one, or hides those that did not."""
    assert Spread([3.0, 1.0, 2.0, None]).text(0) == "2 (1 to 3), 1 of 4 overflowed"
    assert Spread([None, None]).text() == "2 of 2 overflowed"
    assert Spread([]).text() == "not run"


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_settings_are_plain_and_differ(name: str) -> None:
    """If this fails, runs cannot be told apart in a file, or the page does without the optimiser and the precision."""
    experiment = catalogue.get(name)
    assert experiment.name == name
    assert json.loads(json.dumps(experiment.settings)) == [dict(each) for each in experiment.settings]
    jobs = running.jobs(experiment, experiment.fixed, experiment.seeds)
    assert len({job.key for job in jobs}) == len(jobs)
    assert {"optimizer", "dtype"} <= set(experiment.fixed)
    assert set(experiment.quick) <= set(experiment.fixed)
    assert experiment.minutes > 0


def test_the_page_is_the_one_that_its_command_makes() -> None:
    """If this fails, a number on the page is not one of the results: `python -m experiments.report` writes it anew."""
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == report.page()
    for name in report.held():
        if catalogue.get(name).draw is not None:
            assert (ROOT / "docs" / report.PICTURES / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", sorted(report.held()))
def test_results_are_those_of_the_experiments_as_they_are(name: str) -> None:
    """If this fails, an experiment was changed after its results were made."""
    experiment = catalogue.get(name)
    found = results.of(experiment, results.FOLDER / f"{name}.json", experiment.fixed)
    known = {results.key(setting, seed) for setting in experiment.settings for seed in range(1000)}
    assert set(found.runs) <= known
    assert found.runs


def test_a_page_shows_what_is_missing() -> None:
    """If this fails, a page with half of its runs cannot be made."""
    for name in catalogue.NAMES:
        experiment = catalogue.get(name)
        assert "not run" in experiment.page(Results(name, dict(experiment.fixed)))


@pytest.mark.parametrize("name", [name for name in catalogue.NAMES if catalogue.get(name).draw is not None])
def test_a_picture_shows_what_there_is(name: str) -> None:
    """If this fails, no plot can be drawn before the last run is made."""
    figures = pytest.importorskip("matplotlib.figure")
    experiment, figure = catalogue.get(name), figures.Figure()
    assert experiment.draw is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of legends without entries
        experiment.draw(Results(name, dict(experiment.fixed)), figure)
    assert figure.axes


RULES = {
    name: list(vars(importlib.import_module(f"experiments.{name}"))["RULES"])
    for name in (
        "delayed_add",
        "series",
        "depth",
        "front",
        "temporal",
        "deep_credit",
        "evidence",
        "pattern",
        "memory_chain",
    )
}
RULES.update(
    {name: list(vars(importlib.import_module(f"experiments.{name}"))["METHODS"]) for name in ("adding", "columns")}
)


@pytest.mark.parametrize("name", RULES)
def test_each_rule_of_a_picture_has_a_look_of_its_own(name: str) -> None:
    """If this fails, two rules of a picture cannot be told apart, or one of them is not drawn at all."""
    looks = {rule: drawing.look(rule) for rule in RULES[name]}
    assert len({(look["marker"], look["linestyle"]) for look in looks.values()}) == len(looks)
    assert len({(look["color"], look["linestyle"]) for look in looks.values()}) == len(looks)


def test_pictures_show_medians_ranges_and_gaps() -> None:
    """If this fails, a range is drawn around another middle, or what was not run is drawn at 0."""
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots()
    drawing.points(axes, [1, 2, 3], [Spread([1.0, 3.0, 2.0]), Spread([]), Spread([5.0])], "rtrl")
    assert np.array_equal(axes.lines[0].get_ydata(), [2, np.nan, 5], equal_nan=True)
    assert [bar.get_segments()[0][:, 1].tolist() for bar in axes.collections] == [[1, 3]]
    drawing.curve(axes, [1, 2], [[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]], "eprop")
    assert axes.lines[-1].get_ydata().tolist() == [3, 2]
    drawing.legend(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["eprop", "rtrl"]


def test_learning_keeps_what_was_asked_for() -> None:
    """If this fails, cosines before and after are taken on the same weights, or on those of another rule."""
    graph = networks.layers(2, 4, 1, leak=0.5)
    how: dict[str, Any] = {"updates": 4, "batch": 2, "steps": 6, "rate": 0.01}
    how["moments"] = {"start": 0.0, "middle": 0.5, "end": 1.0}
    learned = flips.learn(graph, "rtrl", (1, 2), 0, **how)
    how["updates"] = 2
    half = flips.learn(graph, "rtrl", (1, 2), 0, **how)
    assert learned is not None
    assert half is not None
    assert list(learned.params) == ["start", "middle", "end"]
    for name, array in half.params["end"].items():
        np.testing.assert_array_equal(learned.params["middle"][name], array)
    found = {(rule, at): (grads, whole) for rule, at, grads, whole in learned.gradients(["rtrl", "immediate"])}
    assert len(found) == 6
    for (rule, _), (grads, whole) in found.items():
        near = training.cosine(grads, whole) > 1 - 1e-12
        assert near == (rule == "rtrl")
    losses = {float(np.sum(whole["x->l.1.a"])) for _, whole in found.values()}
    assert len(losses) == 3


@pytest.mark.parametrize("system", [name for name in chaotic.SYSTEMS if name != "laser"])
def test_series_are_scaled_and_go_on(system: str) -> None:
    """If this fails, a squared error is no NMSE, or targets are not the next inputs."""
    x, y = chaotic.steps(system, 20000, 2, 0)
    assert abs(x.mean()) < 0.02
    assert abs(x.std() - 1) < 0.02
    assert np.array_equal(x[1:], y[:-1])
    assert not np.array_equal(x, y)


def test_systems_are_those_of_their_equations() -> None:
    """If this fails, another system is predicted than the one that is named."""
    h = chaotic.henon(50, 2, np.random.default_rng(0))
    assert np.allclose(h[2:], 1 - 1.4 * h[1:-1] ** 2 + 0.3 * h[:-2])
    m = chaotic.mackey_glass(100, 2, np.random.default_rng(0))
    late = m[: -17 - 0][: len(m) - 17]
    assert np.allclose(m[17:], m[16:-1] + 0.2 * late / (1 + late**10) - 0.1 * m[16:-1])


def test_results_lie_one_run_a_line(tmp_path: Path) -> None:
    """If this fails, a change of one run is a change of the whole file."""
    found = Results("small", {"scale": 1.0})
    found.add([Run({"a": 0}, seed, {"value": 1.0}, 0.1, "") for seed in range(3)])
    found.write(tmp_path / "a.json")
    assert len((tmp_path / "a.json").read_text().splitlines()) == 5
    assert results.read(tmp_path / "a.json").runs == found.runs

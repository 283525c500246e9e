"""`forwardgrad train`: does it leave its results, whatever is installed?"""

from __future__ import annotations

import json
import re
import signal
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from c_backend import skip_without
from cli.running import JOB, answer, files, forget, needs_engine, needs_matplotlib, results
from nets import FOR_SERIES

from forwardgrad import Learner, Program, data
from forwardgrad.backends import Devices
from forwardgrad.render import engines


@needs_engine
def test_train_writes_a_page(place, run):
    """If it failed, the traces of a trained network could not be looked at."""
    code, out, err = run("train", "small.toml", *JOB, "--rule", "eprop", "--report")
    assert (code, [line for line in err if "matplotlib" not in line]) == (0, [])
    assert "report.html" in out[-2]
    page = (place / "out" / "report.html").read_text()
    assert "rules: eprop, rtrl" in page
    assert "small.toml after training on wave" in page
    report = json.loads((place / "out" / "report.json").read_text())
    assert f"<dt>test NMSE</dt><dd>{report['nmse']['test']:.4f}</dd>" in page
    assert re.search(r"<dt>command</dt><dd>[^<]* train small.toml --data wave.csv [^<]*--report</dd>", page)
    assert "passes 1, block" in page
    assert "seed 0, batch 16, schedule cosine, patience 5</dd>" in page
    data_of_page = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert data_of_page["curve"]["values"] == report["curve"]
    assert data_of_page["curve"]["levels"]["persistence"] == report["nmse"]["persistence"]


RULES = ("rtrl", "eprop", "immediate", "eprop-deep")


@needs_matplotlib
@needs_engine
@pytest.mark.parametrize(("name", "rule"), list(zip(FOR_SERIES, cycle(RULES))))
def test_train(name, rule, place, run):
    """If it failed, one of the combinations that are promised would not run, or leave no results."""
    code, out, err = run("train", name, "--rule", rule, *JOB)
    assert (code, err) == (0, [])
    assert files(place / "out") == ["curve.png", "graph.svg", "learner.npz", "report.json"]
    assert (place / "out" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert b"</svg>" in (place / "out" / "graph.svg").read_bytes()
    report = json.loads((place / "out" / "report.json").read_text())
    assert out[-1] == f"test NMSE: {report['nmse']['test']:.4f}"
    for which in ("train", "persistence", "linear autoregression (16 lags)"):
        [line] = [line for line in out if line.startswith(f"{which} NMSE:")]
        assert line.split()[-1] == f"{report['nmse'][which]:.4f}"
    assert (report["graph"], report["rule"], report["settings"]["passes"]) == (name, rule, 1)
    assert "1 pass over 80 samples" in out[0]
    learner = Learner.load(place / "out" / "learner.npz")
    assert learner.seen == 79
    task = data.one_step(data.get("wave.csv"), train=80)
    assert learner.program.dtype == "float64"
    predicted = learner.program.run(learner.params, {"x": task.test_inputs}, state=learner.state)["y"]
    assert data.nmse(predicted, task.test_targets) == report["nmse"]["test"]


def test_train_answers_programs(place, run):
    """If it failed, stdout would hold more than JSON, or less than the text tells."""
    code, out, _ = run("train", "small.toml", *JOB, "--json")
    found = answer(out)
    assert code == 0
    report = json.loads((place / "out" / "report.json").read_text())
    assert {key: value for key, value in found.items() if key not in ("written", "stopped")} == report
    assert found["stopped"] is None
    assert {Path(name).name for name in found["written"]} >= {"learner.npz", "report.json"}


def test_train_repeats_itself(place, run):
    """If it failed, a reported score could not be reproduced."""
    scores = [run("train", "small.toml", *JOB, "--seed", seed)[1][-1] for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]


def test_train_takes_its_settings(place, run):
    """If it failed, an option would be read and not used."""
    options = ("--block", 5, "--learning-rate", 0.02, "--clip", 0.5, "--seed", 3, "--dtype", "float32", "--batch", 4)
    options = (*options, "--schedule", "constant", "--patience", 2)
    code, out, _ = run("train", "small.toml", *JOB, "--passes", 2, *options, "--json")
    assert code == 0
    found = answer(out)
    assert found["settings"] == {
        **{"passes": 2, "block": 5, "learning_rate": 0.02, "clip": 0.5, "seed": 3},
        **{"batch": 4, "schedule": "constant", "patience": 2, "trials": False, "every": None},
    }
    assert found["dtype"] == "float32"
    assert len(found["curve"]) == 2


def test_train_goes_to_runs(place, run):
    """If it failed, results would land elsewhere than the help says."""
    assert run("train", "small.toml", *JOB[:-2])[0] == 0
    assert (place / "runs" / "wave" / "report.json").is_file()


def test_train_without_matplotlib(place, run, monkeypatch):
    """If it failed, a missing extra would cost the result of the training."""
    forget(monkeypatch, "matplotlib")
    code, out, err = run("train", "small.toml", *JOB)
    assert code == 0
    assert 'note: the learning curve needs matplotlib: pip install "forwardgrad[plot]"' in err
    assert out[-1].startswith("test NMSE: ")
    assert "curve.png" not in files(place / "out")
    assert {"learner.npz", "report.json"} <= set(files(place / "out"))


def test_train_without_engines(place, run, monkeypatch):
    """If it failed, a machine without Graphviz would lose the result, or the graph would not be kept as text."""
    monkeypatch.setattr(engines, "LADDER", ())
    code, out, err = run("train", "small.toml", *JOB)
    assert code == 0
    [note] = [line for line in err if "draw" in line]
    assert note.startswith("note: cannot draw svg")
    assert 'pip install "forwardgrad[render]"' in note
    assert "graph.dot" in note
    assert "graph.svg" not in files(place / "out")
    assert (place / "out" / "graph.dot").read_text().startswith("digraph")
    assert out[-1].startswith("test NMSE: ")


def test_train_without_the_data(place, run, monkeypatch):
    """If it failed, the first command of a new user would end in a traceback instead of one line that helps."""
    forget(monkeypatch, "reservoirpy")
    code, out, err = run("train", "leaky_stack")
    assert (code, out) == (2, [])
    assert err == ["error: data 'laser' needs reservoirpy: pip install \"forwardgrad[data]\""]
    assert files(place) == ["small.toml", "wave.csv"]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_divergence(place, run):
    """If it failed, a run that diverged would end in NaN or a traceback."""
    code, out, err = run("train", "small.toml", *JOB, "--learning-rate", "1e200")
    assert (code, out) == (2, [])
    assert "diverged" in "\n".join(err)
    assert files(place / "out") == []


@pytest.mark.parametrize("size", ["9" * 400 + "GiB", "9" * 5000, "٣GiB", "nan", "inf", "-1", "1e3", "0", "0.5"])
def test_absurd_memory(size, place, run):
    """If it failed, a number with too many digits would end in a traceback."""
    code, out, err = run("train", "small.toml", *JOB, f"--max-memory={size}")
    assert (code, out) == (2, [])
    assert err[0].startswith("error: max_memory must be a number of bytes or a text such as '2GiB', got '")
    assert len(err[0]) < 200


def write_labels(place: Path) -> None:
    """Sequences of unequal length that rise or fall, as a table with semicolons and commas."""
    random = np.random.default_rng(0)
    rows = ["seq;when;x;kind"]
    for number in range(30):
        rising = number % 2
        for step in range(int(random.integers(3, 9))):
            x = (1 if rising else -1) * step + random.normal()
            rows.append(f"{number};2020-01-0{1 + step};{x:.3f};{'rise' if rising else 'fall'}".replace(".", ","))
    (place / "labels.csv").write_text("\n".join(rows))


def test_train_on_labels_predict_and_evaluate(place, run):
    """If this fails, somebody's table cannot be learned from, or what was learned cannot be used."""
    write_labels(place)
    job = ("train", "elman", "--data", "labels.csv", "--targets", "kind", "--time", "when", "--rule", "eprop")
    code, out, err = run(*job, "--passes", 20, "--validation", 0.25, "--learning-rate", 0.02, "--out", "out")
    assert (code, err) == (0, [])
    assert "over 24 sequences" in out[0]
    assert out[-1].startswith("test accuracy: ")
    report = json.loads((place / "out" / "report.json").read_text())
    assert (report["metric"], report["data"]["classes"], report["data"]["inputs"]) == (
        "accuracy",
        ["fall", "rise"],
        ["x"],
    )
    assert report["accuracy"]["test"] > report["accuracy"]["the commonest label"]
    assert len(report["curve"]) == len(report["validation"]) <= 20
    code, out, err = run("predict", "out", "--data", "labels.csv")
    assert (code, err, out[0], len(out)) == (0, [], "sequence,kind,p(fall),p(rise)", 31)
    assert run("predict", "out", "--data", "labels.csv", "-o", "p.csv")[:2] == (0, ["wrote p.csv: 30 rows"])
    assert (place / "p.csv").read_text().splitlines() == out
    right = np.mean([line.split(",")[1] == ("fall", "rise")[number % 2] for number, line in enumerate(out[1:])])
    code, out, _ = run("evaluate", "out", "--data", "labels.csv", "--json")
    found = answer(out)
    assert (code, found["metric"], found["answers"]) == (0, "accuracy", 30)
    assert found["accuracy"] == pytest.approx(right)
    assert run("evaluate", "out/learner.npz", "--data", "labels.csv")[1][-1] == f"accuracy: {right:.4f}"


def test_a_shipped_graph_gets_the_size_of_the_data(place, run):
    """If this fails, nobody can try a shipped graph on data of several channels, or a graph of theirs is changed."""
    rows = np.random.default_rng(0).normal(size=(60, 3))
    np.savetxt("wide.csv", rows, delimiter=",", header="a,b,c", comments="")
    assert run("train", "gru", "--data", "wide.csv", "--passes", 1, "--out", "out")[0] == 0
    learner = Learner.load(place / "out" / "learner.npz")
    assert [learner.program.network.nodes[name].size for name in ("x", "y")] == [3, 3]
    code, _, err = run("train", "small.toml", "--data", "wide.csv")
    assert (code, err[-1]) == (2, "  Set its size in the graph's file: size = 3.")
    code, out, _ = run(
        "train", "gru", "--data", "wide.csv", "--inputs", "a,b", "--targets", "c", "--json", "--out", "o2"
    )
    assert (code, answer(out)["data"]["kind"], answer(out)["data"]["targets"]) == (0, "regression", ["c"])


def test_a_page_of_sequences_is_written(place, run):
    """If this fails, who trains on labels has no page to look at."""
    write_labels(place)
    job = ("train", "elman", "--data", "labels.csv", "--targets", "kind", "--time", "when", "--rule", "eprop")
    assert run(*job, "--passes", 1, "--report", "--out", "out")[0] == 0
    page = (place / "out" / "report.html").read_text()
    assert "<dt>test accuracy</dt>" in page
    assert "24 sequences to learn from, 6 to test" in page


def test_options_that_do_not_go_together(place, run):
    """If this fails, an option is passed over without a word."""
    for options, words in (
        (("--data", "laser", "--inputs", "a"), "--inputs is for files of your own"),
        (("--data", "laser", "--kind", "regression"), "it can be forecast"),
        (("--data", "wave.csv", "--inputs", "a,,b"), "is not a list of names"),
        (("--data", "wave.csv", "--inputs", "a,a"), "names a column twice"),
        (("--data", "wave.csv", "--split", "1.5"), "share between 0 and 1"),
        (("--data", "wave.csv", "--validation", "2"), "share between 0 and 1"),
    ):
        code, out, err = run("train", "small.toml", *options)
        assert (code, out) == (2, []), options
        assert words in "\n".join(err)


def test_traces_are_kept_as_they_are_asked_for(place, run):
    """If this fails, an option that halves memory is read and not used, or forgotten by the result."""
    skip_without("jax")
    job = ("train", "small.toml", *JOB[:-1])
    code, _, err = run(*job, "refused", "--traces", "bfloat16")
    assert code == 2
    assert "backend 'numpy' has no numbers of two bytes" in " ".join(err)
    assert run(*job, "narrow", "--traces", "bfloat16", "--backend", "jax")[0] == 0
    assert Learner.load(place / "narrow" / "learner.npz").program.devices == Devices(traces="bfloat16")


@pytest.mark.parametrize("backend", ["interpreter", "jax", "c"])
def test_any_backend_trains_alike(backend, place, run):
    """If this fails, a backend learns something else, or a command runs another one than it was told."""
    skip_without(backend)
    found = {}
    for name in ("numpy", backend):
        assert run("train", "small.toml", *JOB[:-1], name, "--backend", name)[0] == 0
        found[name] = Learner.load(place / name / "learner.npz")
    assert found[backend].program.backend == backend
    for name, array in found["numpy"].params.items():
        np.testing.assert_allclose(found[backend].params[name], array, rtol=1e-9)
    code, out, _ = run("check", "small.toml", "--samples", 1, "--steps", 4, "--backend", backend, "--json")
    assert (code, answer(out)["backend"], answer(out)["passed"]) == (0, backend, True)


@pytest.mark.parametrize("every", [(), ("--update-every", 3)])
def test_train_in_trials_stops_between_them_and_goes_on(every, place, run, monkeypatch):
    """If it failed, a trial would be cut in two by Ctrl-C, or an update would come every block."""
    x = np.random.default_rng(0).normal(size=(12, 8, 1))
    np.savez("many.npz", x=x, y=np.cumsum(x, axis=1))
    job = ("train", "small.toml", "--data", "many.npz", "--trials", *every, "--batch", 4, "--passes", 2, "--block", 2)
    code, out, err = run(*job, "--out", "whole")
    assert (code, [line for line in err if not line.startswith("note:")]) == (0, [])
    assert out[0].endswith("an update every 3 steps of 4." if every else "an update per trial of 4.")
    settings = json.loads((place / "whole" / "report.json").read_text())["settings"]
    assert (settings["trials"], settings["every"]) == (True, 3 if every else None)
    true, calls = Program.predict, [0]

    def predict(self, *given, **more):
        calls[0] += 1
        if calls[0] == 7:
            signal.raise_signal(signal.SIGINT)
        return true(self, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Program, "predict", predict)
        code, out, err = run(*job, "--out", "parts")
    assert code == 130
    assert "saved at step 16" in err[-1]
    assert run(*job, "--out", "parts", "--resume")[0] == 0
    assert results(place / "parts") == results(place / "whole")
    code, _, err = run("train", "small.toml", *JOB, "--trials")
    assert code == 2
    assert "data 'wave' is a single series, and trials are sequences that each start afresh." in err[0]

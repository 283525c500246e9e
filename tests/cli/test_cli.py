"""Does the command line do what it says, answer programs in JSON, and refuse in words before any work is done?"""

from __future__ import annotations

import builtins
import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad import Learner, Program, cli, data, layouts, training
from forwardgrad.cli import terminal, train
from forwardgrad.graph import library
from forwardgrad.program import Result
from forwardgrad.render import engines
from forwardgrad.rules.table import RULES, TABLE

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason='curves need pip install "forwardgrad[plot]"'
)
needs_engine = pytest.mark.skipif(not engines.available(), reason="no engine that lays out pictures is installed")
no_reader = pytest.mark.skipif(sys.platform == "win32", reason="terminals and pipes of POSIX")

SMALL = """
[graph]
format = 1
title = "A small leaky layer"
loss = { y = "mse" }
[nodes.x]
op = "input"
size = 1
[nodes.h]
op = "tanh"
size = 3
bias = true
[nodes.y]
op = "linear"
size = 1
[[edges]]
from = "x"
to = "h"
weight = "dense"
[[edges]]
from = "h"
to = "h"
weight = "dense"
delay = 1
[[edges]]
from = "h"
to = "y"
weight = "dense"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a series `wave.csv` of 120 samples and a graph `small.toml`."""
    monkeypatch.chdir(tmp_path)
    wave = np.sin(0.4 * np.arange(120)) + 0.1 * np.random.default_rng(0).normal(size=120)
    (tmp_path / "wave.csv").write_text("\n".join(map(str, wave)))
    (tmp_path / "small.toml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """`run(*arguments)` gives exit code, lines of stdout and lines of stderr."""
    monkeypatch.setenv(terminal.TRACEBACK, "1")  # an error that nobody foresaw is not to be one line

    def command(*arguments: Any) -> tuple[int, list[str], list[str]]:
        capsys.readouterr()
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return command


JOB = ("--data", "wave.csv", "--train-samples", 80, "--passes", 1, "--out", "out")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def answer(lines: list[str]) -> Any:
    """The JSON that stdout holds, and nothing else; NaN is no JSON."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    return json.loads("\n".join(lines), parse_constant=refuse)


# graphs


def test_graphs(run):
    """If it failed, a user could not find out what is shipped."""
    code, out, err = run("graphs")
    assert (code, err) == (0, [])
    assert [line.split()[0] for line in out[1:]] == library.names()
    code, out, _ = run("graphs", "--json")
    assert code == 0
    assert answer(out) == library.titles()


# rules


def test_rules(run):
    """If it failed, a user could not find out which rules there are, and what each is."""
    code, out, err = run("rules")
    assert (code, err) == (0, [])
    named = [line.partition("(")[0] for line in out if line and line[0] != " " and line[-1] != ":"]
    assert named == [*TABLE, *(layout.name for layout in layouts.SHIPPED)]
    code, out, _ = run("rules", "--json")
    assert code == 0
    assert list(answer(out)["rules"]) == list(RULES)


def test_rules_of_one_name(run):
    """If it failed, the question what one rule is would be answered with all of them."""
    code, out, _ = run("rules", "tbptt")
    assert (code, out[:2]) == (0, ["tbptt", "  is      all; carry=False"])
    assert answer(run("rules", "snap(2)", "--json")[1])["coordinates"] == "all; layout='snap(1)'"


# explain


@pytest.mark.parametrize("name", library.names())
def test_explain(name, run):
    """If it failed, the listing and its JSON would tell different things."""
    code, out, err = run("explain", name, "--rule", "eprop")
    assert (code, err) == (0, [])
    assert out == str(fg.compile(fg.load(name), rule="eprop")).splitlines()
    code, lines, err = run("explain", name, "--rule", "eprop", "--json")
    assert (code, err) == (0, [])
    found = answer(lines)
    assert f"{found['nodes']} nodes, {found['edges']} edges" in out[0]
    assert f"{found['dtype']}, loss {found['loss']['y']} on y" in out[0]
    rows = {line.split()[0]: line for line in out[3:]}
    assert rows.keys() == found["parameters"].keys()
    for parameter, line in rows.items():
        given = found["parameters"][parameter]
        assert ("exact" in line) == given["exact"]
        assert all(edge in line for edge in given["dropped"])
        assert all(f"{where}: {what['layout']}" in line for where, what in given["stores"].items())
        assert line.split()[-2:] == [f"{given['bytes']:,}", f"{given['flops']:,}"]


def test_explain_decisions(run):
    """If it failed, nobody could ask why an edge was cut."""
    code, out, _ = run("explain", "lif", "--decisions")
    assert code == 0
    assert any(line.startswith("z->v#reset: cut by rule") for line in out)
    code, lines, _ = run("explain", "lif", "--decisions", "--json")
    assert answer(lines)["decisions"] == out[-len(answer(lines)["decisions"]) :]


def test_explain_warns_of_dead_parameters_in_words():
    """If it failed, a warning would come with a path and a line of our code, or break the JSON."""
    found = python("explain", "elman", "--rule", "cut(['h->y'])", "--json")
    assert found.returncode == 0
    assert found.stderr.startswith("warning: parameter 'x->h' (and 2 more): rule 'cut(['h->y'])' keeps no path")
    assert len(found.stderr.splitlines()) == 1
    assert answer(found.stdout.splitlines())["parameters"]["x->h"]["dropped"] == ["h->y"]


# check


def test_check_passes(place, run):
    """If it failed, a sound engine would be called broken, or the text and the JSON would differ."""
    code, out, err = run("check", "small.toml", "--samples", 3, "--steps", 6)
    assert (code, err, out[-1]) == (0, [], "passed")
    assert out[0] == "small.toml under eprop: 3 samples of 6 steps, blocks 1, 3, 6"
    code, lines, err = run("check", "small.toml", "--samples", 3, "--steps", 6, "--json")
    found = answer(lines)
    assert (code, err) == (0, [])
    assert (found["passed"], found["samples"], found["steps"], found["blocks"]) == (True, 3, 6, [1, 3, 6])
    assert f"{found['reverse']:.1e} (allowed {found['reverse_allowed']:g})" in out[1]
    assert f"{found['difference']:.1e} (allowed {found['difference_allowed']:g})" in out[2]
    assert (found["silent"], found["empty"]) == ([], [])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("factor", [1.001, float("nan"), float("inf")])
def test_check_fails_on_a_broken_engine(place, run, monkeypatch, factor):
    """If it failed, a script that relies on the exit code would go on with a broken engine."""
    true = Program.gradient

    def broken(self: Program, *args: Any, **options: Any) -> Result:
        result = true(self, *args, **options)
        return Result(result.loss, {name: factor * g for name, g in result.grads.items()})

    monkeypatch.setattr(Program, "gradient", broken)
    code, out, _ = run("check", "small.toml", "--samples", 2, "--steps", 4)
    assert (code, out[-1]) == (1, "FAILED")
    code, lines, _ = run("check", "small.toml", "--samples", 2, "--steps", 4, "--json")
    assert code == 1
    assert answer(lines)["passed"] is False


def test_structure_is_checked_on_small_sizes(place, run):
    """If it failed, nobody could check a graph that is too large for the oracle."""
    (place / "large.toml").write_text(SMALL.replace("size = 3", "size = 3000"))
    code, out, err = run("check", "large.toml", "--structure")
    assert (code, err, out[-1]) == (0, [], "passed")
    assert len([line for line in out if "2 units: x" in line and "largest relative error" in line]) == 2
    code, lines, err = run("check", "large.toml", "--structure", "--json")
    found = answer(lines)
    assert (code, err, found["passed"], found["unverified"]) == (0, [], True, [])
    assert [run["sizes"]["x"] for run in found["runs"]] == [2, 2]
    code, out, err = run("check", "large.toml", "--structure", "--strict", "--rule", "snap(1)")
    assert code == 1
    assert "what it loses" in out[-2]


def test_wrong_structure_is_told_with_exit_code_1(place, run, monkeypatch):
    """If it failed, a script would take a defect of the compiler for a wrong command, or for success."""
    true = Program.gradient

    def broken(self: Program, *args: Any, **options: Any) -> Result:
        result = true(self, *args, **options)
        return Result(result.loss, {name: 1.001 * g for name, g in result.grads.items()})

    monkeypatch.setattr(Program, "gradient", broken)
    code, out, err = run("check", "small.toml", "--structure")
    assert (code, err, out[-1]) == (1, [], "FAILED")
    assert out[0].startswith("verify: the gradient of ")
    code, lines, _ = run("check", "small.toml", "--structure", "--json")
    assert code == 1
    assert answer(lines)["passed"] is False


def test_check_of_nothing_fails_and_says_so(place, run):
    """If it failed, a check that compared nothing would pass, or fail without a reason."""
    still = SMALL.replace('op = "tanh"\nsize = 3\nbias = true', 'op = "relu"\nsize = 3\nbias = -1e9')
    (place / "still.toml").write_text(still)
    code, out, _ = run("check", "still.toml", "--samples", 2, "--steps", 4)
    assert code == 1
    assert "nothing to compare: the whole reference gradient is zero in 2 samples" in out
    assert out[-1] == "FAILED"


def test_check_finds_what_the_oracles_do_not_see(place, run, monkeypatch):
    """If it failed, `step` could differ from `gradient`, or the place of a fault would not be printed."""
    true = Program.step

    def broken(self: Program, *args: Any, **options: Any) -> Any:
        state, step = true(self, *args, **options)
        return state, replace(step, grads={name: 1.001 * g for name, g in step.grads.items()})

    monkeypatch.setattr(Program, "step", broken)
    job = ("check", "small.toml", "--rule", "rtrl", "--samples", 1, "--steps", 4)
    code, out, _ = run(*job)
    assert (code, out[-1]) == (1, "FAILED")
    assert any(line.startswith("blocks cut otherwise: failed: the gradient depends on blocks, at ") for line in out)
    assert "replay: forwardgrad check small.toml --rule rtrl --samples 1 --seed 0 --steps 4 --batch 2" in out
    code, lines, _ = run(*job, "--json")
    found = answer(lines)
    assert (code, found["block_invariance"]["status"], found["failed"]) == (1, "failed", [0])
    assert "off by" in found["block_invariance"]["text"]


def test_check_says_what_it_could_not_compare_and_strict_fails_on_it(place, run):
    """If it failed, a rule that is RTRL on this graph, or stores nothing, would count as checked."""
    loop = '[[edges]]\nfrom = "h"\nto = "h"\nweight = "dense"\ndelay = 1\n'
    assert loop in SMALL
    (place / "flat.toml").write_text(SMALL.replace(loop, ""))
    job = ("check", "flat.toml", "--rule", "eprop", "--samples", 2, "--steps", 4)
    code, out, _ = run(*job)
    assert (code, out[-1]) == (0, "passed")
    assert any(line.startswith("blocks cut otherwise: vacuous: no influence is stored") for line in out)
    assert any(line.startswith("delays spelled otherwise: vacuous: no delay of this graph") for line in out)
    assert any(line.startswith("same rules: 'eprop' drops nothing on this graph") for line in out)
    code, lines, _ = run(*job, "--strict", "--json")
    found = answer(lines)
    assert (code, found["passed"]) == (1, False)
    assert set(found["vacuous"]) == {"same rules", "blocks", "refactoring"}


def test_check_draws_what_it_is_asked_for(place, run):
    """If it failed, a seed that a failure printed would draw other numbers."""
    job = ("check", "small.toml", "--samples", 1, "--steps", 5, "--json")
    drawn = ("--seed", 3, "--mask", "batch", "--numbers", "tame")
    one, same, other = (answer(run(*job, *more)[1])["difference"] for more in (drawn, drawn, ("--seed", 3)))
    assert one == same
    assert one != other


# audit


def test_audit(place, run):
    """If it failed, the audit would not run from a terminal, or answer a program with something else than JSON."""
    job = ("audit", "small.toml", "--seeds", 2, "--steps", 5)
    code, out, _ = run(
        *job, "--rules", "rtrl,snap(1),eprop; feedback=random, seed=3", "--rules", "cut(['h->h', 'x->h'])"
    )
    rules = ["rtrl", "snap(1)", "eprop; feedback=random, seed=3", "cut(['h->h', 'x->h'])"]
    assert code == 0
    assert out[0].endswith("steps per block: rtrl 1, snap(1) 1, eprop; feedback=random, seed=3 1, " + rules[-1] + " 1")
    code, out, err = run(*job, "--json")
    found = answer(out)
    assert (code, err, found["seeds"]) == (0, [], [0, 1])
    assert list(found["rules"]) == ["rtrl", "eprop-deep", "eprop", "immediate"]
    assert found["rules"]["rtrl"]["overall"]["relative_error"]["max"] < 1e-10
    assert found["rules"]["immediate"]["parameters"]["h->h"]["dropped"]["h->h"]["removes"]["mean"] > 0.99


@needs_matplotlib
def test_audit_draws(place, run):
    """If it failed, the picture would be missing, or go elsewhere."""
    code, out, _ = run("audit", "small.toml", "--seeds", 1, "--steps", 4, "--rules", "immediate", "-o", "out.png")
    assert (code, out[-1]) == (0, "wrote out.png")
    assert (place / "out.png").read_bytes().startswith(b"\x89PNG")


# render


def test_render(place, run):
    """If it failed, a graph could not be looked at."""
    code, out, err = run("render", "small.toml", "-o", "g.dot")
    assert (code, out, err) == (0, ["wrote g.dot"], [])
    assert (place / "g.dot").read_text().startswith("digraph")
    code, out, _ = run("render", "small.toml", "-o", "g.gv", "--json")
    assert (code, answer(out)) == (0, {"written": "g.gv"})


@needs_engine
def test_render_goes_beside(place, run):
    """If it failed, a picture without a given name would land elsewhere than the help says."""
    assert run("render", "elman")[:2] == (0, ["wrote elman.svg"])
    assert b"<svg" in (place / "elman.svg").read_bytes()


@pytest.mark.parametrize("output", ["g.jpeg", "none/g.svg", "none/g.dot", "g"])
def test_render_refuses(place, run, output):
    """If it failed, an unknown kind of picture or a missing folder would end in a bare error."""
    before = files(place)
    code, out, err = run("render", "small.toml", "-o", output)
    assert (code, out) == (2, [])
    assert err[0].startswith("error: cannot ")
    assert files(place) == before


def test_render_draws_credit(place, run):
    """If it failed, what a rule keeps could not be looked at from a terminal."""
    for options, words in (
        (("--rule", "rtrl"), "under rtrl: exact"),
        (("--unrolled", 3), "used at step t, under eprop"),
    ):
        code, out, _ = run("render", "small.toml", "--param", "h->h", *options, "-o", "c.dot")
        assert (code, out) == (0, ["wrote c.dot"])
        assert f"h->h{',' if 'used' in words else ''} {words}" in (place / "c.dot").read_text()


@needs_engine
def test_render_writes_a_page(place, run):
    """If it failed, a run could not be looked at from a terminal."""
    options = ("--steps", 8, "--batch", 2, "--seed", 1, "--beside", "rtrl,hops(2)", "--param", "h*")
    code, out, _ = run("render", "small.toml", "--html", *options, "--json")
    assert (code, answer(out)) == (0, {"written": "small.html"})
    page = (place / "small.html").read_text()
    assert "rules: eprop, rtrl, hops(2)" in page
    assert "<h1>A small leaky layer</h1>" in page
    assert '"total":8' in page
    assert '"parameters":["h->h","h->y","h.bias"]' in page
    assert run("render", "small.toml", *options, "-o", "again.html")[0] == 0
    assert (place / "again.html").read_text() == page


# train


@needs_engine
def test_train_writes_a_page(place, run):
    """If it failed, the traces of a trained network could not be looked at."""
    code, out, err = run("train", "small.toml", *JOB, "--rule", "eprop", "--report")
    assert (code, [line for line in err if "matplotlib" not in line]) == (0, [])
    assert "report.html" in out[-2]
    page = (place / "out" / "report.html").read_text()
    assert "rules: eprop, rtrl" in page
    assert "small.toml after training on wave" in page


@needs_matplotlib
@needs_engine
@pytest.mark.parametrize("rule", ["rtrl", "eprop", "immediate", "eprop-deep"])
@pytest.mark.parametrize("name", library.names())
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
    assert learner.program.dtype == "float32"
    predicted = learner.program.run(learner.params, {"x": task.test_inputs}, learner.state)["y"]
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
    options = ("--block", 5, "--learning-rate", 0.02, "--clip", 0.5, "--seed", 3, "--dtype", "float64")
    code, out, _ = run("train", "small.toml", *JOB, "--passes", 2, *options, "--json")
    assert code == 0
    found = answer(out)
    assert found["settings"] == {"passes": 2, "block": 5, "learning_rate": 0.02, "clip": 0.5, "seed": 3}
    assert found["dtype"] == "float64"
    assert len(found["curve"]) == 2


def test_train_goes_to_runs(place, run):
    """If it failed, results would land elsewhere than the help says."""
    assert run("train", "small.toml", *JOB[:-2])[0] == 0
    assert (place / "runs" / "wave" / "report.json").is_file()


def forget(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Let these packages seem not to be installed."""
    true = builtins.__import__

    def importer(name: str, *rest: Any) -> Any:
        if name.split(".")[0] in modules:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return true(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importer)
    for name in [name for name in sys.modules if name.split(".")[0] in modules]:
        monkeypatch.delitem(sys.modules, name)
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


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


def results(place: Path) -> dict[str, Any]:
    """What a run left, without the time it took."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in place.iterdir()}
    return found | {"report.json": json.loads(found["report.json"]) | {"seconds": 0}}


def stopping(monkeypatch: pytest.MonkeyPatch, *numbers: int, after: int = 3) -> None:
    """Let a signal come in the middle of a block, each time that so many were learned from."""
    true, left = Program.step, [after]

    def step(self: Program, *given: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            left[0] = after
            for number in numbers:
                signal.raise_signal(number)
        return true(self, *given)

    monkeypatch.setattr(Program, "step", step)


@no_reader
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_train_stops_and_goes_on(number, code, place, run, monkeypatch):
    """If it failed, Ctrl-C or a batch system would cost the run, or the line that helps would not be a command."""
    (place / "a b").mkdir()
    os.rename("small.toml", "a b/it's.toml")
    job = (
        "train",
        "a b/it's.toml",
        *JOB[:-1],
        "out $1",
        "--rule",
        "eprop",
        "--loss",
        "y=mse",
        "--learning-rate",
        "1e-2",
    )
    assert run(*job[:-6], *job[-6:-4], "--loss", "y=mse", *job[-2:], "--out", "whole")[0] == 0
    with monkeypatch.context() as patch:
        stopping(patch, number)
        found, out, [line] = run(*job)
    assert (found, out) == (code, [])
    assert line.startswith(f"stopped by {signal.Signals(number).name}; saved at step 48; to go on: ")
    assert files(place / "out $1") == ["checkpoint.npz"]
    command = line.partition("to go on: ")[2]
    assert "--resume" in command
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("test NMSE: ")
    assert results(place / "out $1") == results(place / "whole")


@no_reader
def test_train_stopped_answers_programs(place, run, monkeypatch):
    """If it failed, a program could not tell a stopped run from a finished one, nor go on with it."""
    with monkeypatch.context() as patch:
        stopping(patch, signal.SIGTERM)
        code, out, err = run("train", "small.toml", *JOB, "--json")
    stopped = answer(out)["stopped"]
    assert (code, len(err)) == (143, 1)
    assert (stopped["signal"], stopped["step"]) == ("SIGTERM", 48)
    assert Path(stopped["checkpoint"]) == Path("out/checkpoint.npz")
    assert stopped["resume"] in err[0]
    code, out, err = run("train", "small.toml", *JOB, "--json", "--resume")
    assert (code, err, answer(out)["stopped"]) == (0, [], None)
    again, known, err = run("train", "small.toml", *JOB, "--json", "--resume")
    assert (again, answer(known)) == (0, answer(out))
    assert err == ["finished already: 'out' holds the results."]


@no_reader
def test_train_ends_at_once_on_a_second_signal(place, run, monkeypatch):
    """If it failed, a user could not get out, or would be told to go on from a step that was not saved."""
    stopping(monkeypatch, signal.SIGINT, signal.SIGINT)
    code, out, err = run("train", "small.toml", *JOB)
    assert (code, out, err) == (130, [], ["stopped by SIGINT; nothing is saved."])
    assert files(place / "out") == []
    code, out, err = run("train", "small.toml", *JOB, "--checkpoint-every", 1)
    assert (code, out) == (130, [])
    assert err[0].startswith("stopped by SIGINT; saved at step 32; to go on: ")
    assert "--checkpoint-every 1" in err[0]


@no_reader
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_the_report_costs_no_learning(number, place, run, monkeypatch):
    """If it failed, an interrupt a second before the end would cost an hour, or leave half of the results."""
    assert run("train", "small.toml", *JOB[:-1], "whole")[0] == 0
    true = training.results.render.graph

    def graph(*given: Any, **options: Any) -> Any:
        signal.raise_signal(number)
        return true(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(training.results.render, "graph", graph)
        code, out, err = run("train", "small.toml", *JOB)
    assert (code, out) == (128 + number, [])
    assert "saved at step 79; to go on: " in err[-1]
    assert files(place / "out") == ["checkpoint.npz"]
    monkeypatch.setattr(Program, "step", lambda *_: pytest.fail("learned again"))
    assert run("train", "small.toml", *JOB, "--resume")[0] == 0
    assert results(place / "out") == results(place / "whole")


@no_reader
def test_the_bar_begins_where_the_run_is(place, run, monkeypatch):
    """If it failed, the bar of a resumed run would begin at nothing and never reach its end."""
    bars: list[Any] = []

    class Bar(train.tqdm):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            bars.append((options["initial"], options["total"], self))

        def update(self, n: float | None = 1) -> bool | None:
            self.counted = getattr(self, "counted", 0) + (n or 0)
            return super().update(n)

    with monkeypatch.context() as patch:
        stopping(patch, signal.SIGTERM, after=7)
        assert run("train", "small.toml", *JOB, "--passes", 2)[0] == 143
    monkeypatch.setattr(train, "tqdm", Bar)
    assert run("train", "small.toml", *JOB, "--passes", 2, "--resume")[0] == 0
    [(initial, total, bar)] = bars
    assert (initial, total, initial + bar.counted) == (79 + 32, 158, 158)


@no_reader
def test_train_refuses_to_mix_runs(place, run, monkeypatch):
    """If it failed, a run would be resumed with other data or settings, or lost to one that starts again."""
    none = run("train", "small.toml", *JOB, "--resume")
    assert none[0] == 2
    assert none[2][0] == "error: nothing to resume: there is no folder 'out'."
    assert not (place / "out").exists()
    (place / "out").mkdir()
    assert "holds no checkpoint" in run("train", "small.toml", *JOB, "--resume")[2][0]
    with monkeypatch.context() as patch:
        stopping(patch, signal.SIGTERM)
        assert run("train", "small.toml", *JOB)[0] == 143
    kept = (place / "out" / "checkpoint.npz").read_bytes()
    wave, small = (place / "wave.csv").read_text(), (place / "small.toml").read_text()
    for name, text, what in (
        ("wave.csv", "0.25\n" + wave, "data"),
        ("small.toml", small.replace("size = 3", "size = 4"), "graph"),
    ):
        (place / name).write_text(text)
        code, _, err = run("train", "small.toml", *JOB, "--resume")
        assert code == 2
        assert err[0].endswith(f"what differs: {what}.")
        (place / "wave.csv").write_text(wave)
        (place / "small.toml").write_text(small)
    code, _, err = run("train", "small.toml", *JOB, "--resume", "--block", 8)
    assert (code, err[1]) == (2, "  block: 16 there, 8 given.")
    code, _, err = run("train", "small.toml", *JOB)
    assert (code, err[0]) == (2, "error: folder 'out' holds an interrupted run, at step 48.")
    assert files(place / "out") == ["checkpoint.npz"]
    assert (place / "out" / "checkpoint.npz").read_bytes() == kept
    assert run("train", "small.toml", *JOB, "--restart", "--block", 8)[0] == 0
    assert "checkpoint.npz" not in files(place / "out")


@no_reader
def test_a_terminal_that_goes_away(place):
    """If it failed, a lost connection would cost the run."""
    import pty
    import termios

    here, there = pty.openpty()
    termios.tcsetwinsize(there, (24, 90))
    command = [sys.executable, "-m", "forwardgrad", "train", "small.toml", *map(str, JOB), "--passes", "100000"]
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there, start_new_session=True) as process:
        os.close(there)
        said = b""
        while b" of 100000" not in said and process.poll() is None:
            said += _read(here)
        os.close(here)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert files(place / "out") == ["checkpoint.npz"]


def test_checkpoint_every_says_what_it_takes(place, run):
    """If it failed, `10min` would be an error without an example."""
    code, _, err = run("train", "small.toml", *JOB, "--checkpoint-every", "10min")
    assert (code, err[0]) == (2, "error: cannot save a checkpoint every '10min'.")
    assert "30s, 10m, 1.5h" in err[1]
    assert not (place / "out").exists()


WRONG = {
    "no command": ((), "required: COMMAND"),
    "unknown command": (("trian",), "invalid choice: 'trian'"),
    "unknown option": (("train", "small.toml", "--passess", 3), "unrecognized arguments"),
    "no graph": (("train",), "required: GRAPH"),
    "unknown graph": (("train", "leaky_stck", *JOB), "Did you mean 'leaky_stack'?"),
    "unknown rule to print": (("rules", "snp"), "Did you mean 'snap'?"),
    "unknown graph to explain": (("explain", "grru"), "Did you mean 'gru'?"),
    "unknown graph to check": (("check", "lstn"), "Did you mean 'lstm'?"),
    "unknown graph to render": (("render", "elmann"), "Did you mean 'elman'?"),
    "missing graph file": (("train", "none.toml", *JOB), "none.toml"),
    "broken graph file": (("train", "broken.toml", *JOB), "'broken.toml': is not valid TOML"),
    "wrong graph file": (("train", "wrong.toml", *JOB), "Did you mean 'tanh'?"),
    "a folder for a graph": (("train", "folder.toml", *JOB), "folder.toml"),
    "a graph without a loss": (("train", "lossless.toml", *JOB), "Add one: --loss y=mse."),
    "a graph with two inputs": (("train", "two.toml", *JOB), "'x' of size 1, 'x2' of size 1"),
    "unknown rule": (("train", "small.toml", *JOB, "--rule", "eprob"), "Did you mean 'eprop'?"),
    "empty rule": (("train", "small.toml", *JOB, "--rule", ""), "a rule is empty"),
    "a rule that kills": (("train", "small.toml", *JOB, "--rule", "cut(['h->y'])"), "keeps no path"),
    "unknown data": (("train", "small.toml", "--data", "lazer"), "Did you mean 'laser'?"),
    "missing data": (("train", "small.toml", "--data", "none.csv"), "none.csv"),
    "data of two columns": (("train", "small.toml", "--data", "two.csv"), "line 1 is not a number"),
    "unknown loss": (("train", "small.toml", *JOB, "--loss", "y=msee"), "Did you mean 'mse'?"),
    "loss on no node": (("train", "small.toml", *JOB, "--loss", "z=mse"), "no such node"),
    "loss of no node": (("train", "small.toml", *JOB, "--loss", "mse"), "write it as NODE=LOSS"),
    "empty loss": (("train", "small.toml", *JOB, "--loss", "y="), "write it as NODE=LOSS"),
    "loss twice": (("train", "small.toml", *JOB, "--loss", "y=mse", "--loss", "y=bernoulli"), "twice"),
    "loss on labels": (("train", "small.toml", *JOB, "--loss", "y=cross_entropy"), "needs a loss on numbers"),
    "loss on a wide node": (("train", "small.toml", *JOB, "--loss", "y=mse", "--loss", "h=mse"), "'h' of size 3"),
    "all samples": (("train", "small.toml", *JOB, "--train-samples", 120), "'train' must lie between 2 and 119"),
    "more samples": (("train", "small.toml", *JOB, "--train-samples", 10**6), "'train' must lie between 2 and 119"),
    "samples without end": (("train", "small.toml", *JOB, "--train-samples", 10**30), "whole number <= 2147483647"),
    "steps that do not fit": (
        ("audit", "small.toml", "--steps", 2**31 - 1),
        "2,147,483,647 steps of 4 samples",
    ),
    "steps of a page": (("render", "small.toml", "--html", "--steps", 2**31 - 1), "steps of 4 samples would take"),
    "digits without end": (("check", "small.toml", "--samples", "9" * 5000), "whole number >= 1, got '999"),
    "few samples": (("train", "small.toml", *JOB, "--train-samples", 20), "20 samples are too few"),
    "one test sample": (("train", "small.toml", *JOB, "--train-samples", 119), "variance must be positive"),
    "no samples": (("train", "small.toml", *JOB, "--train-samples", 0), "whole number >= 1, got '0'"),
    "no passes": (("train", "small.toml", *JOB, "--passes", 0), "whole number >= 1, got '0'"),
    "half a pass": (("train", "small.toml", *JOB, "--passes", 0.5), "whole number >= 1, got '0.5'"),
    "no block": (("train", "small.toml", *JOB, "--block", 0), "whole number >= 1, got '0'"),
    "negative rate": (("train", "small.toml", *JOB, "--learning-rate", -1), "finite number greater than 0"),
    "no rate": (("train", "small.toml", *JOB, "--learning-rate", 0), "finite number greater than 0"),
    "rate NaN": (("train", "small.toml", *JOB, "--learning-rate", "nan"), "finite number greater than 0"),
    "rate of words": (("train", "small.toml", *JOB, "--learning-rate", "fast"), "invalid float value: 'fast'"),
    "no clip": (("train", "small.toml", *JOB, "--clip", 0), "finite number greater than 0"),
    "negative seed": (("train", "small.toml", *JOB, "--seed", -1), "whole number >= 0, got '-1'"),
    "unknown dtype": (("train", "small.toml", *JOB, "--dtype", "float16"), "invalid choice: 'float16'"),
    "out is a file": (("train", "small.toml", *JOB, "--out", "wave.csv"), "cannot write to folder 'wave.csv'"),
    "out is in a file": (("train", "small.toml", *JOB, "--out", "wave.csv/a"), "cannot write to folder"),
    "check of one step": (("check", "small.toml", "--steps", 1), "whole number >= 2, got '1'"),
    "check of no sample": (("check", "small.toml", "--samples", 0), "whole number >= 1, got '0'"),
    "check of an unknown rule": (("check", "small.toml", "--rule", "rtlr"), "Did you mean 'rtrl'?"),
    "no room": (("train", "small.toml", *JOB, "--max-memory", "0.25KiB"), "256 bytes may be taken"),
    "room of no size": (("train", "small.toml", *JOB, "--max-memory", "lots"), "such as '2GiB'"),
    "audit of an unknown rule": (("audit", "small.toml", "--rules", "rtrl,eprob"), "Did you mean 'eprop'?"),
    "audit of an empty rule": (("audit", "small.toml", "--rules", "rtrl,"), "a rule is empty"),
    "audit into no folder": (("audit", "small.toml", "-o", "none/out.png"), "no such folder"),
    "audit into no picture": (("audit", "small.toml", "-o", "out.pdf"), "is a .png file"),
    "credit of nothing": (("render", "small.toml", "--param", "h->x", "-o", "c.svg"), "no parameter 'h->x'"),
    "credit under an unknown rule": (("render", "small.toml", "--param", "h->h", "--rule", "rtlr"), "Did you mean"),
    "unrolled without a parameter": (("render", "small.toml", "--unrolled", 3), "Name it: --param NAME"),
    "unrolled for no step": (("render", "small.toml", "--param", "h->h", "--unrolled", 0), "whole number >= 1"),
    "page of no page": (("render", "small.toml", "--html", "-o", "p.svg"), "a page is an .html file"),
    "page of a picture": (("render", "small.toml", "--html", "--unrolled", 3), "draws a picture"),
    "page into no folder": (("render", "small.toml", "-o", "none/p.html"), "no such folder"),
    "page of an unknown rule": (("render", "small.toml", "--html", "--beside", "rtrl,eprob"), "Did you mean 'eprop'?"),
    "page of no parameter": (("render", "small.toml", "--html", "--param", "z*"), "fits no trained parameter"),
    "explain of an unknown edge": (("explain", "elman", "--rule", "cut(['h->x'])"), "no edge 'h->x'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_use(what, place, run, monkeypatch):
    """If it failed, a mistake would end in a traceback, without a suggestion, after training, or leave files behind."""
    (place / "broken.toml").write_text(SMALL[:-20])
    (place / "wrong.toml").write_text(SMALL.replace("tanh", "tahn"))
    (place / "lossless.toml").write_text(SMALL.replace("loss =", "# loss ="))
    more = '[nodes.x2]\nop = "input"\nsize = 1\n[[edges]]\nfrom = "x2"\nto = "h"\nweight = "dense"\n'
    (place / "two.toml").write_text(SMALL + more)
    (place / "two.csv").write_text("1,2\n3,4\n")
    (place / "folder.toml").mkdir()
    before = files(place)
    monkeypatch.setattr(training, "train", lambda *_: pytest.fail("training began"))
    arguments, words = WRONG[what]
    code, out, err = run(*arguments)
    assert (code, out) == (2, [])
    assert words in "\n".join(err)
    assert "Traceback" not in "\n".join(err)
    if not err[0].startswith("usage: "):
        assert err[0].startswith("error: ")
        assert len(err) <= 4
    assert files(place) == before


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_divergence(place, run):
    """If it failed, a run that diverged would end in NaN or a traceback."""
    code, out, err = run("train", "small.toml", *JOB, "--learning-rate", "1e30")
    assert (code, out) == (2, [])
    assert "diverged" in "\n".join(err)
    assert files(place / "out") == []


def test_interrupted(place, run, monkeypatch):
    """If it failed, Ctrl-C would print a traceback, or leave half a result."""

    def interrupt(self: Learner, *_: Any) -> None:
        raise KeyboardInterrupt

    (place / "out").mkdir()
    (place / "out" / "report.json").write_text("old")
    monkeypatch.setattr(Program, "step", interrupt)
    code, out, err = run("train", "small.toml", *JOB)
    assert (code, out, err) == (130, [], ["interrupted"])
    assert files(place / "out") == ["report.json"]
    assert (place / "out" / "report.json").read_text() == "old"


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"], ["check", "-h"]])
def test_help(command, run):
    """If it failed, a broken help text (a stray per cent sign is enough) would stop a new user."""
    code, out, err = run(*command)
    assert (code, err) == (0, [])
    assert out[0].startswith("usage: forwardgrad")


# As a process


def python(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forwardgrad", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


def test_as_a_module(place):
    """If it failed, `python -m forwardgrad` would not run, lose its exit code, or draw a bar into a log."""
    found = python("train", "small.toml", *JOB, cwd=place)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines()[-1].startswith("test NMSE: 0.")
    wrong = python("train", "smal.toml", *JOB, cwd=place)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: ")


@no_reader
def test_a_closed_pipe(place):
    """If it failed, `forwardgrad explain lstm | head` would print a traceback."""
    command = f'"{sys.executable}" -m forwardgrad explain lstm --decisions | true; exit ${{PIPESTATUS[0]}}'
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert found.stderr == ""
    assert found.returncode in (0, 141)


def test_a_terminal_that_knows_few_letters(place):
    """If it failed, a file name with an umlaut would end in a UnicodeEncodeError after the work is done."""
    os.rename(place / "small.toml", place / "grün.toml")
    found = python("explain", "grün.toml", cwd=place, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert found.returncode == 0
    found = python("render", "grün.toml", "-o", "ü.dot", cwd=place, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (found.returncode, found.stdout.strip()) == (0, "wrote \\xfc.dot")


@no_reader
def test_progress_on_a_terminal(place):
    """If it failed, a user would wait in front of an empty screen, or the bar would not reach its end."""
    import pty
    import termios

    here, there = pty.openpty()
    termios.tcsetwinsize(there, (24, 90))
    command = [sys.executable, "-m", "forwardgrad", "train", "small.toml", *map(str, JOB)]
    with subprocess.Popen(command, stdout=there, stderr=there) as process:
        os.close(there)
        said = b""
        while chunk := _read(here):
            said += chunk
    os.close(here)
    assert process.returncode == 0
    text = said.decode()
    assert "learning:   0%" in text
    assert "79/79" in text
    assert text.splitlines()[-1].startswith("test NMSE: 0.")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that the other end is closed
        return b""


STREAMS = {
    "closed": (">&-", 2, "error: cannot write to standard output: it is closed."),
    "full": (">/dev/full", 2, "error: cannot write to standard output: No space left on device."),
    "for reading": ("1</dev/null", 2, "error: cannot write to standard output: Bad file descriptor."),
    "both closed": (">&- 2>&-", 2, ""),
    "errors closed": ("2>&- >out", 0, ""),
    "errors full": ("2>/dev/full >out", 0, ""),
    "input closed": ("<&- >out", 0, ""),
}


@no_reader
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("what", STREAMS)
def test_streams_that_nobody_reads(what, place):
    """If it failed, a full disk or a closed terminal would end in a traceback, or be taken for success."""
    redirected, code, words = STREAMS[what]
    script = f'"{sys.executable}" -m forwardgrad explain small.toml --json {redirected}'
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (found.returncode, found.stderr.strip()) == (code, words)
    assert code or (place / "out").stat().st_size


@no_reader
def test_a_file_does_not_take_the_place_of_a_closed_stream(place):
    """If it failed, what a library prints would end up in the first file that is opened, a checkpoint for one."""
    (place / "script.py").write_text(
        "from forwardgrad.cli import terminal\n"
        "print(terminal.run(lambda: open('opened', 'w').fileno() > 2), file=open('said', 'w'))\n"
    )
    script = f'exec "{sys.executable}" script.py <&- 2>&-'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert (place / "said").read_text() == "True\n"


def test_what_nobody_foresaw_is_one_error(place, capsys, monkeypatch):
    """If it failed, a bug would print a traceback at a user, or could not be found."""

    def wrong(*_: Any) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr(library, "titles", wrong)
    monkeypatch.delenv(terminal.TRACEBACK, raising=False)
    assert cli.main(["graphs"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "error: ValueError: two lines"
    assert len(said) == 2
    monkeypatch.setenv(terminal.TRACEBACK, "1")
    with pytest.raises(ValueError, match="two"):
        cli.main(["graphs"])


@pytest.mark.parametrize("size", ["9" * 400 + "GiB", "9" * 5000, "٣GiB", "nan", "inf", "-1", "1e3", "0", "0.5"])
def test_absurd_memory(size, place, run):
    """If it failed, a number with too many digits would end in a traceback."""
    code, out, err = run("train", "small.toml", *JOB, f"--max-memory={size}")
    assert (code, out) == (2, [])
    assert err[0].startswith("error: max_memory must be a number of bytes or a text such as '2GiB', got '")
    assert len(err[0]) < 200


@needs_matplotlib
@no_reader
@pytest.mark.parametrize("name", [r"p$\x$", "_x", "\udcff", "two\nlines"])
def test_names_are_drawn_as_they_are(name, place, run):
    """If it failed, a dollar in a title or a path would end in a traceback of matplotlib's."""
    os.rename(place / "small.toml", f"{name}.toml")
    os.rename(place / "wave.csv", f"{name}.csv")
    job = ("--data", f"{name}.csv", "--train-samples", 80, "--passes", 1, "--out", "out")
    code, _, err = run("train", f"{name}.toml", *job)
    assert (code, err) == (0, [])
    strange = SMALL.replace('"A small leaky layer"', r"'cost $\nosuch{$'").replace("nodes.h", "nodes.'$h'")
    Path(f"{name}.toml").write_text(strange.replace('"h"', "'$h'"))
    code, _, err = run("audit", f"{name}.toml", "--seeds", 1, "--steps", 4, "-o", "x.png")
    assert (code, err) == (0, [])
    assert (place / "x.png").stat().st_size

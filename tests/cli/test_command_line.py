"""The command line: does it refuse in words before any work is done, and help?"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import pytest
from cli.running import JOB, SMALL, files, python

import forwardgrad as fg
from forwardgrad import Learner, Program, cli, training
from forwardgrad.cli import terminal
from forwardgrad.graph import library

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
    "data of two columns": (("train", "small.toml", "--data", "two.csv"), "That needs 3 samples or more."),
    "unknown loss": (("train", "small.toml", *JOB, "--loss", "y=msee"), "Did you mean 'mse'?"),
    "loss on no node": (("train", "small.toml", *JOB, "--loss", "z=mse"), "no such node"),
    "loss of no node": (("train", "small.toml", *JOB, "--loss", "mse"), "write it as NODE=LOSS"),
    "empty loss": (("train", "small.toml", *JOB, "--loss", "y="), "write it as NODE=LOSS"),
    "loss twice": (("train", "small.toml", *JOB, "--loss", "y=mse", "--loss", "y=bernoulli"), "twice"),
    "loss on labels": (
        ("train", "small.toml", *JOB, "--loss", "y=cross_entropy"),
        "the targets are numbers: --loss y=mse",
    ),
    "loss on a wide node": (("train", "small.toml", *JOB, "--loss", "y=mse", "--loss", "h=mse"), "'h' of size 3"),
    "all samples": (("train", "small.toml", *JOB, "--train-samples", 120), "must lie between 2 and 119"),
    "more samples": (("train", "small.toml", *JOB, "--train-samples", 10**6), "must lie between 2 and 119"),
    "samples without end": (("train", "small.toml", *JOB, "--train-samples", 10**30), "whole number <= 2147483647"),
    "steps that do not fit": (
        ("audit", "small.toml", "--steps", 2**31 - 1),
        "2,147,483,647 steps of 4 samples",
    ),
    "steps of a page": (("render", "small.toml", "--html", "--steps", 2**31 - 1), "steps of 4 samples would take"),
    "digits without end": (("check", "small.toml", "--samples", "9" * 5000), "whole number >= 1, got '999"),
    "one test sample": (("train", "small.toml", *JOB, "--train-samples", 119), "A constant target has no NMSE"),
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


def test_interrupted(place, run, monkeypatch):
    """If it failed, Ctrl-C would print a traceback, or leave half a result."""

    def interrupt(self: Learner, *_: Any, **__: Any) -> None:
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


def test_as_a_module(place):
    """If it failed, `python -m forwardgrad` would not run, lose its exit code, or draw a bar into a log."""
    found = python("train", "small.toml", *JOB, cwd=place)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines()[-1].startswith("test NMSE: 0.")
    wrong = python("train", "smal.toml", *JOB, cwd=place)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: ")


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


def test_the_version_is_that_of_the_package(run):
    """If this fails, a report of a bug names another version."""
    assert run("--version")[:2] == (0, [f"forwardgrad {fg.__version__}"])
    assert version("forwardgrad") == fg.__version__


def test_names_without_an_arrow(place, run):
    """If this fails, who forgets to quote an edge writes a file called `y`, and is not told."""
    code, out, _ = run("explain", "small.toml", "--param", "h:y", "--json")
    assert (code, list(json.loads("\n".join(out))["parameters"])) == (0, ["h->y"])
    assert run("render", "small.toml", "--param", "h:h", "-o", "c.dot")[:2] == (0, ["wrote c.dot"])
    code, _, err = run("explain", "small.toml", "--param", "h-")
    assert code == 2
    assert err[-1] == "  A shell takes > as its own: write 'h->...' in quotes, or h:... with a colon."


def test_one_default_rule_everywhere(place, run):
    """If this fails, two commands speak of two programs, and neither says so."""
    rule = str(next(iter(fg.compile(fg.load("small.toml")).rules.values())).rule)
    for command in ("train", "explain", "check", "render"):
        help_text = " ".join(" ".join(run(command, "--help")[1]).split())
        assert f"(default {rule}, exact)" in help_text or f"(default: {rule})" in help_text, command

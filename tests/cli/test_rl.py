"""`forwardgrad rl`: does it learn, leave its results, and go on where it was?"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import pytest
from cli.running import answer, files, forget, needs_matplotlib

pytest.importorskip("gymnasium")

JOB = ("--rule", "rflo", "--steps", 30, "--every", 10, "--batch", 4, "--episodes", 8, "--out", "out")
CHAIN = ("rl", "memory_chain", "--set", "length=3", *JOB)


@needs_matplotlib
def test_it_leaves_its_results(place: Any, run: Any) -> None:
    code, out, err = run(*CHAIN)
    assert (code, err) == (0, [])
    assert files(place / "out") == ["checkpoint.npz", "curve.png", "report.json"]
    assert (place / "out" / "curve.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((place / "out" / "report.json").read_text())
    assert "actor_critic learned memory_chain under rflo: 30 steps of 4 environments" in out[0]
    assert out[-1] == f"mean return of the best weights, further episodes: {report['score']:.4f}"
    assert report["arguments"] == {"length": 3}
    assert [each["steps"] for each in report["curve"]] == [10, 20, 30]


def test_it_goes_on_to_the_same_results(place: Any, run: Any) -> None:
    """A run that is there is neither replaced nor gone on with unless that is asked for."""
    code, out, _ = run(*CHAIN, "--json")
    assert code == 0
    first = answer(out)
    code, _, err = run(*CHAIN)
    assert code == 2
    assert "Go on with it by --resume, give it up by --restart" in " ".join(err)
    for again in ("--resume", "--restart"):
        code, out, _ = run(*CHAIN, "--json", again)
        found = answer(out)
        assert (code, found["curve"], found["score"]) == (0, first["curve"], first["score"])
    code, _, err = run(*CHAIN, "--resume", "--seed", 1)
    assert (code, "belongs to another run" in " ".join(err)) == (2, True)


def test_a_signal_ends_it_after_the_round_and_nothing_is_lost(
    place: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the second of three rounds."""
    from forwardgrad.rl import rounds

    code, out, _ = run(*CHAIN, "--json", "--out", "whole")
    assert code == 0
    step, steps = rounds.SideBySide.step, 0

    def interrupted(envs: Any, actions: Any) -> Any:
        nonlocal steps
        steps += len(envs.envs) == 4
        if steps == 25:
            os.kill(os.getpid(), signal.SIGINT)
        return step(envs, actions)

    monkeypatch.setattr(rounds.SideBySide, "step", interrupted)
    code, _, err = run(*CHAIN)
    assert (code, len(err)) == (130, 1)
    saved = int(err[0].split("saved at step ")[1].split(";")[0])
    assert 0 < saved < 30
    code, found, _ = run(*CHAIN, "--json", "--resume")
    whole, found = answer(out), answer(found)
    assert (code, found["curve"], found["score"]) == (0, whole["curve"], whole["score"])


def test_without_matplotlib_the_numbers_are_there(place: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch, "matplotlib")
    code, _, err = run(*CHAIN)
    assert code == 0
    assert "matplotlib" in err[0]
    assert files(place / "out") == ["checkpoint.npz", "report.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rl", "memory_chian"), "Did you mean 'memory_chain'"),
        (("rl", "memory_chain", "--set", "length"), "expected NAME=VALUE, such as length=16"),
        (("rl", "memory_chain", "--set", "length=1"), "length must be a whole number of at least 2"),
        (("rl", "memory_chain", "--graph", "elman"), "needs one input and a node 'actor'"),
        (("rl", "memory_chain", "--trace", 2), "'trace' must be from 0 to 1"),
        (("rl", "memory_chain", "--resume", "--out", "nowhere"), "nothing to resume"),
    ],
)
def test_what_does_not_fit_is_refused(words: Any, message: str, place: Any, run: Any) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert message in " ".join(err)
    assert not (place / "runs").exists()


def test_without_gymnasium_the_extra_is_named(place: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("forwardgrad.rl")]:
        monkeypatch.delitem(sys.modules, name)
    forget(monkeypatch, "gymnasium")
    code, _, err = run(*CHAIN)
    assert code == 2
    assert 'pip install "forwardgrad[rl]"' in " ".join(err)

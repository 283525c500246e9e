"""`forwardgrad check`: does it pass what is right, fail on what is wrong, and say what it could not compare?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cli.running import SMALL, answer

from forwardgrad import Program
from forwardgrad.program import Result


def test_check_passes(place, run):
    """If it failed, a sound engine would be called broken, or the text and the JSON would differ."""
    code, out, err = run("check", "small.toml", "--samples", 3, "--steps", 6)
    assert (code, err, out[-1]) == (0, [], "passed")
    assert out[0] == "small.toml under rtrl: 3 samples of 6 steps, blocks 1, 3, 6"
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


def test_structure_takes_no_random_problems(place, run):
    """If this fails, an option is passed over in silence."""
    code, _, err = run("check", "elman", "--structure", "--steps", "30", "--mask", "batch")
    assert code != 0
    assert "takes no --steps, --mask" in " ".join(err)

"""Would a wrong engine or compiler be noticed? Faults are put in on purpose, and the oracle must then disagree."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from checks import TOLERANCE, compiled, error
from mutations.comparison import COMPARISONS, wrong
from mutations.faults import FAULTS, Fault, lags_off_by_one, without_the_boundary, without_the_carry
from mutations.problems import CASES


@pytest.mark.parametrize("backend", COMPARISONS)
def test_without_a_fault_all_is_well(backend: str) -> None:
    """If this fails, the faults below prove nothing."""
    assert list(wrong(backend)) == []


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_noticed(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the comparison with the oracle is blind to this fault."""
    fault.plant(monkeypatch)
    assert next(fault.comparison(fault.backend), None), fault.says


def test_one_block_for_the_whole_sequence_would_notice_no_fault_of_the_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, tests need not run blocks shorter than the sequence after all."""
    without_the_boundary(monkeypatch)
    without_the_carry(monkeypatch)
    lags_off_by_one(monkeypatch)
    for case in CASES:
        if case.rule == "all":
            given = case.given()
            program = compiled(given, "all", backend="interpreter")
            found = program.gradient(given.params, given.inputs, given.targets, block=given.steps, mask=given.mask)
            assert error(found.grads, case.wanted(given.steps)) < TOLERANCE


def test_the_script_says_how_a_fault_is_noticed() -> None:
    """If this fails, nobody can see what the comparison notices without reading the tests."""
    command = [sys.executable, "-m", "tests.mutations", "--only", "small", "--json"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (fault,) = json.loads(done.stdout)["faults"]
    assert fault["caught"]
    assert fault["by"].startswith(("error", "raises"))


def test_the_script_fails_where_a_fault_survives(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a script that relies on the exit code would go on with blind tests."""
    from mutations import __main__ as script

    monkeypatch.setattr(script, "FAULTS", [Fault(lambda patch: None, "array program", "numpy")])
    assert script.main([]) == 1

"""Do readers of what anybody may write end in the library's own errors? The short run of `python -m tests.fuzz`."""

from __future__ import annotations

import pytest
from fuzz.__main__ import campaign, main
from fuzz.inputs import TRAP
from fuzz.targets import TARGETS, Tally, Target
from hypothesis import strategies as st

import forwardgrad as fg

INPUTS = 150
"""For each reader, in every run of the suite."""


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_input_ends_in_an_error_of_another_kind(target: Target) -> None:
    """If this fails, some file, rule or command runs code, ends in a bare error of Python's, or takes too long."""
    tally = Tally()
    campaign(target, tally, INPUTS, start=1)
    assert tally.inputs >= INPUTS
    assert len(tally.outcomes) > 1, "nothing but refusals, or nothing refused: the inputs try nothing"


def test_the_campaign_reports_what_it_finds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a long campaign ends well whatever it finds."""

    def read(number: int) -> str:
        return "read" if number < 10 else str([][number])

    monkeypatch.setattr("fuzz.__main__.bound_memory", lambda: None)
    monkeypatch.setattr("fuzz.__main__.TARGETS", [Target("numbers", st.integers(0, 100), read)])
    assert main(["--inputs", "200"]) == 1
    assert "numbers: IndexError" in capsys.readouterr().out


def test_what_is_executed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the trap that payloads would spring is not looked at."""
    from fuzz import targets

    def executes(text: str) -> None:
        exec(text)
        raise fg.RuleError("refused, too late")

    monkeypatch.setattr(targets, "rule", executes)
    with pytest.raises(AssertionError, match="was executed"):
        targets.rule_text(f"__import__('os').mkdir('{TRAP}')")

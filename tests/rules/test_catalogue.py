"""Is the printed table of rules the table, and does what it prints read back?"""

from __future__ import annotations

from pathlib import Path

import pytest

import forwardgrad as fg
from forwardgrad.rules import catalogue
from forwardgrad.rules.table import TABLE, rule

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"


def test_the_page_is_fresh() -> None:
    """If this fails, docs/rules.md tells of another table; write it anew with the command that it names."""
    assert PAGE.read_text(encoding="utf-8") == catalogue.markdown()
    assert catalogue.COMMAND in catalogue.markdown()


@pytest.mark.parametrize("name", TABLE)
def test_coordinates_read_back(name: str) -> None:
    """If this fails, the coordinates that are shown are those of another rule."""
    row = catalogue.entry(name)
    assert rule(row.coordinates) == rule(row.example)
    assert row.keeps
    assert row.source
    assert bool(row.limits) == (name in catalogue.report()["rules"])


def test_unknown_names_are_refused() -> None:
    """If this fails, a misspelt rule ends in a KeyError."""
    with pytest.raises(fg.RuleError, match="Did you mean 'eprop'"):
        catalogue.entry("eprob")

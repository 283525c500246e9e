"""`forwardgrad graphs` and `rules`: is all that there is listed, also for programs?"""

from __future__ import annotations

from cli.running import answer

from forwardgrad import layouts
from forwardgrad.graph import library
from forwardgrad.rules.table import RULES, TABLE


def test_graphs(run):
    """If it failed, a user could not find out what is shipped."""
    code, out, err = run("graphs")
    assert (code, err) == (0, [])
    assert [line.split()[0] for line in out[1:]] == library.names()
    code, out, _ = run("graphs", "--json")
    assert code == 0
    assert answer(out) == library.titles()


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

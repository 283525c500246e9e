"""`forwardgrad explain`: does it say what a rule becomes on a graph?"""

from __future__ import annotations

import pytest
from cli.running import answer, python

import forwardgrad as fg
from forwardgrad.graph import library


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
    losses = ", ".join(f"{loss} on {node}" for node, loss in found["loss"].items())
    assert f"{found['dtype']}, loss {losses}" in out[0]
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
    code, out, _ = run("explain", "lif", "--rule", "eprop", "--decisions")
    assert code == 0
    assert any(line.startswith("z->v#reset: cut by rule") for line in out)
    code, lines, _ = run("explain", "lif", "--rule", "eprop", "--decisions", "--json")
    assert answer(lines)["decisions"] == out[-len(answer(lines)["decisions"]) :]


def test_explain_warns_of_dead_parameters_in_words():
    """If it failed, a warning would come with a path and a line of our code, or break the JSON."""
    found = python("explain", "elman", "--rule", "cut(['h->y'])", "--json")
    assert found.returncode == 0
    assert found.stderr.startswith("warning: parameter 'x->h' (and 2 more): rule 'cut(['h->y'])' keeps no path")
    assert len(found.stderr.splitlines()) == 1
    assert answer(found.stdout.splitlines())["parameters"]["x->h"]["dropped"] == ["h->y"]

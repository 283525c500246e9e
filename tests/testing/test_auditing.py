"""Does an audit measure what it says, against the exact gradient, and does re-admitting an edge do what it says?"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
from nets import declare, problem, stack, vanilla

import forwardgrad as fg
from forwardgrad import oracle
from forwardgrad.testing.auditing import ALL, Audit, over_seeds, picture


def audited(graph: Any, rules: list[Any], **options: Any) -> tuple[Any, Audit]:
    """A problem on a graph with output `y`, and the audit of it."""
    given = problem(graph, "y")
    return given, fg.audit(graph, given.params, given.inputs, given.targets, given.loss, rules, **options)


def test_numbers_are_those_of_the_oracle() -> None:
    """If this fails, cosine, norm ratio or relative error is of something else than the rule's gradient."""
    given, found = audited(stack(), ["eprop-deep", "immediate"])
    exact = oracle.reverse(**given.arguments).grads
    for rule in found.rules:
        grads = oracle.reverse(**given.arguments, rule=rule).grads
        for name, wanted in exact.items():
            g, line = grads[name], found.line(name, rule)
            size = np.linalg.norm(wanted)
            assert line.cosine.mean == pytest.approx(np.vdot(g, wanted) / np.linalg.norm(g) / size, abs=1e-9)
            assert line.ratio.mean == pytest.approx(np.linalg.norm(g) / size, abs=1e-9)
            assert line.error.mean == pytest.approx(np.linalg.norm(g - wanted) / size, abs=1e-9)
    assert found.line("x->a1", "immediate").error.mean > found.line("x->a1", "eprop-deep").error.mean > 0.01


def test_an_exact_rule_has_no_error_and_blocks_are_short() -> None:
    """If this fails, an audit does not see that the engine is right, or reads no stored influence."""
    given, found = audited(stack(), ["rtrl"])
    assert found.blocks == (2,)
    assert given.steps == 7
    assert all(line.exact and line.error.mean < 1e-10 and not line.removed for line in found.lines)


def test_readmitting_the_only_cut_edge_removes_the_whole_error() -> None:
    """If this fails, what an edge costs is not what it says."""
    _, found = audited(vanilla(), ["immediate", "hops(1)"])
    for rule in found.rules:
        line = found.line("h->h", rule)
        assert line.error.mean > 0.01
        assert line.removed is not None
        assert line.removed.keys() == {"h->h"}
        assert line.removed["h->h"].mean == pytest.approx(1, abs=1e-9)


def test_readmitting_is_credit_keep() -> None:
    """If this fails, an edge that is re-admitted by an audit is not what a user gets with `credit = "keep"`."""
    given, found = audited(stack(), ["eprop"])
    exact = oracle.reverse(**given.arguments).grads["x->a1"]
    kept = stack()
    kept.edges["h1", "a1", 0]["credit"] = "keep"
    grads = oracle.reverse(**{**given.arguments, "graph": kept}, rule="eprop").grads["x->a1"]
    line = found.line("x->a1", "eprop")
    after = np.linalg.norm(grads - exact) / np.linalg.norm(exact)
    assert line.removed is not None
    assert line.removed["h1->a1"].mean == pytest.approx(1 - after / line.error.mean, abs=1e-9)
    assert abs(line.removed["h1->a1"].mean) > 1e-4


def test_an_edge_cut_by_the_graph_is_said_to_be() -> None:
    """If this fails, a rule is blamed for what the attribute `credit` does, or rtrl is called exact where it is not."""
    graph = vanilla(credit="cut")
    _, found = audited(graph, ["rtrl"])
    line = found.line("h->h", "rtrl")
    assert not line.exact
    assert line.error.mean > 0.01
    assert line.cut_by_graph == ("h->h",)
    assert line.removed is not None
    assert line.removed["h->h"].mean == pytest.approx(1, abs=1e-9)
    assert "h->h (cut by the graph) 100 %" in found.table()
    assert found.report()["rules"]["rtrl"]["parameters"]["h->h"]["dropped"]["h->h"]["cut_by"] == "credit"


def test_untrained_parameters_are_listed_as_such() -> None:
    """If this fails, a parameter that a rule leaves as drawn looks as if its gradient were zero, or is missing."""
    _, found = audited(vanilla(), ["reservoir"])
    assert [line.parameter for line in found.lines if not line.trained] == ["x->h", "h->h", "h.bias"]
    assert found.line(ALL, "reservoir").error.mean < 1e-10
    assert found.report()["rules"]["reservoir"]["parameters"]["h->h"] == {"trained": False}
    assert "untrained" in found.table()


def test_rules_of_every_axis_can_be_audited() -> None:
    """If this fails, stochastic layouts, feedback, or rules chosen per parameter have no audit."""
    rules = ["uoro", "hops(1)", "snap(1)", "eprop-adaptive", "eprop; feedback=signal", "tbptt", "dsf(0.3)"]
    found = over_seeds(vanilla(), {"y": "mse"}, [*rules, {"h->h": "kf-rtrl", "*": "rtrl"}], seeds=2, steps=7)
    assert found.blocks == (1, 2, 1, 2, 2, 2, 2, 1)
    for rule in (*rules, "h->h: kf-rtrl, *: rtrl"):
        assert found.line("h->h", rule).error.mean > 1e-3
        assert len(found.line("h->h", rule).cosine.values) == 2
    assert found.line("x->h", "h->h: kf-rtrl, *: rtrl").exact


def test_spread_over_seeds() -> None:
    """If this fails, mean and spread are not those of the seeds, or a run cannot be repeated."""
    found, again = (over_seeds(vanilla(), {"y": "mse"}, ["immediate"], seeds=3, steps=5) for _ in range(2))
    spread = found.line("h->h", "immediate").cosine
    assert (spread.mean, spread.deviation) == (np.mean(spread.values), np.std(spread.values))
    assert (spread.least, spread.largest) == (min(spread.values), max(spread.values))
    assert len(set(spread.values)) == 3
    assert again == found


def test_a_silent_parameter_is_not_compared() -> None:
    """If this fails, a zero exact gradient gives a division by zero, or NaN in JSON."""
    nodes = {"x": {"op": "input", "size": 1}, "h": {"op": "spike", "threshold": 50.0, "size": 2}, "y": {"op": "linear"}}
    graph = declare(nodes, ("x", "h", {"weight": "dense"}), ("h", "y", {"weight": "dense"}))
    graph.nodes["y"]["size"] = 1
    _, found = audited(graph, ["immediate"])
    assert np.isnan(found.line("x->h", "immediate").cosine.mean)
    answer = json.loads(json.dumps(found.report(), allow_nan=False))
    assert answer["rules"]["immediate"]["parameters"]["x->h"]["cosine"]["mean"] is None
    assert found.table().count(" - ") >= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rules": []}, "must be some, each named once, got none"),
        ({"rules": ["rtrl", "rtrl"]}, "each named once"),
        ({"rules": ["eprob"]}, "Did you mean 'eprop'"),
        ({"block": 0}, "block must be a whole number"),
        ({"loss": None}, "no loss is given"),
        ({"seeds": 0}, "seeds must be a whole number >= 1"),
        ({"steps": 1}, "steps must be a whole number >= 2"),
    ],
)
def test_wrong_use_is_refused(arguments: dict[str, Any], message: str) -> None:
    """If this fails, a mistake in the arguments gives a traceback, or an empty audit."""
    with pytest.raises(fg.ForwardgradError, match=message):
        over_seeds(vanilla(), **{"loss": {"y": "mse"}, **arguments})
    with pytest.raises(fg.DataError, match="no parameter 'q'"):
        audited(vanilla(), ["immediate"])[1].line("q", "immediate")


def test_picture() -> None:
    """If this fails, there is no picture, or one parameter without numbers spoils it."""
    pytest.importorskip("matplotlib")
    found = over_seeds(vanilla(), {"y": "mse"}, ["rtrl", "reservoir", "uoro"], seeds=2, steps=5)
    assert picture(found, "vanilla").startswith(b"\x89PNG")


def test_a_picture_needs_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a user without the extra sees a bare ImportError."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    found = audited(vanilla(), ["immediate"])[1]
    with pytest.raises(fg.MissingExtraError, match=r"forwardgrad\[plot\]"):
        picture(found)

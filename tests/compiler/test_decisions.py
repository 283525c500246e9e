"""Is everything that the compiler decides on record, each with its kind, its subject and its reason?"""

from __future__ import annotations

from typing import Any

from nets import plan_of, stack, vanilla

import forwardgrad as fg
from forwardgrad.compiler import Kind


def decided(graph: Any, rule: Any, kind: Kind, *outputs: str) -> list[tuple[str, str]]:
    """Subject and reason of the decisions of a kind."""
    return [(d.subject, d.reason) for d in plan_of(graph, outputs or "y", rule).decisions if d.kind is kind]


def test_cuts_name_their_edge_and_who_cuts() -> None:
    """If this fails, nobody can tell where a rule dropped credit, or whether the graph did."""
    assert decided(vanilla(), "eprop", Kind.CUT_BY_RULE) == [("h->h", "leaving h in mode state,own")]
    assert decided(vanilla(), "eprop", Kind.CUT_BY_CREDIT) == []
    assert decided(vanilla(credit="cut"), "eprop", Kind.CUT_BY_CREDIT) == [("h->h", "leaving h in mode state,own")]
    assert decided(vanilla(credit="cut"), "eprop", Kind.CUT_BY_RULE) == []
    assert decided(vanilla(), "all", Kind.CUT_BY_RULE) == []


def test_an_edge_kept_by_the_graph_is_on_record() -> None:
    """If this fails, nobody can tell why a rule keeps an edge that it cuts by itself."""
    found = decided(vanilla(credit="keep"), "eprop", Kind.KEPT_BY_CREDIT)
    assert found == [("h->h", "leaving h in mode state,own"), ("h->h", "leaving h in mode state,outside")]
    assert decided(vanilla(), "eprop", Kind.KEPT_BY_CREDIT) == []


def test_places_without_a_loss_behind_them_are_on_record() -> None:
    """If this fails, a part of the graph that never learns is passed over in silence."""
    graph = stack()
    graph.add_node("probe", op="linear", size=3)
    graph.add_edge("h2", "probe")
    assert decided(graph, "all", Kind.PLACE_DROPPED) == [("probe in mode all", "no loss behind it")]
    assert decided(graph, "all", Kind.PLACE_DROPPED, "y", "probe") == []


def test_merged_modes_are_on_record() -> None:
    """If this fails, the listing shows fewer modes than the rule has, without a reason."""
    assert decided(vanilla(), "eprop", Kind.MODES_MERGED) == [("y", "fresh,outside|fresh,own")]
    assert decided(vanilla(), "all", Kind.MODES_MERGED) == []
    mixed = {"x->h": "eprop", "h->h": "all", "h.bias": "immediate", "h->y": "near"}
    assert [subject for subject, _ in decided(vanilla(), mixed, Kind.MODES_MERGED)] == ["h", "y"]


def test_every_layout_is_on_record() -> None:
    """If this fails, the price of an influence has no reason."""
    found = decided(stack(), "eprop-deep", Kind.LAYOUT)
    assert ("x->a1 on h1", "diagonal, mode state") in found
    assert ("x->a1 on h2", "full, mode state") in found
    assert ("h2->a2 on h2", "diagonal, mode state") in found
    assert len(found) == 6


def test_a_program_tells_its_decisions_as_text() -> None:
    """If this fails, a decision cannot be printed."""
    program = fg.compile(vanilla(), loss={"y": "mse"}, rule="eprop")
    assert "h->h: cut by rule (leaving h in mode state,own)" in [str(decision) for decision in program.decisions]

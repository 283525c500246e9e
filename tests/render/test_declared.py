"""Does the DOT text of a declared graph say what the graph says, and nothing that a name makes it say?"""

from __future__ import annotations

import re

import drawn_graphs as graphs
import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwardgrad import render
from forwardgrad.errors import GraphError, RenderError
from forwardgrad.graph import validate
from forwardgrad.render import style
from forwardgrad.render.declared import CAP

EDGE = re.compile(r"^\s*(n\d+) -> (n\d+) \[(.*)\]$", re.MULTILINE)


def attributes(text: str) -> dict[str, str]:
    """`a="b c" d=e` as a dictionary, quoted values unquoted."""
    found = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s"\]]+)', text)
    return {key: value[1:-1] if value.startswith('"') else value for key, value in found}


def edges(source: str) -> dict[str, dict[str, str]]:
    """The edges of a DOT text by what their tooltip calls them, arrows of `dir=back` turned round."""
    found = {}
    for tail, head, rest in EDGE.findall(source):
        edge = attributes(rest)
        edge["ends"] = f"{head} {tail}" if edge.get("dir") == "back" else f"{tail} {head}"
        found[edge["tooltip"]] = edge
    return found


def test_golden_stack(golden):
    golden(render.graph(graphs.stack(), title="two layers").source, "declared_stack.dot")


def test_golden_everything(golden):
    golden(render.graph(graphs.everything()).source, "declared_everything.dot")


def test_golden_collapsed(golden):
    golden(render.graph(graphs.chain(12, layers=3), cap=10).source, "declared_collapsed.dot")


def test_recurrence_is_dashed_and_the_rest_is_not():
    found = edges(render.graph(graphs.stack()).source)
    assert {name for name, edge in found.items() if edge.get("style") == "dashed"} == {"l1->l1", "l2->l2"}
    assert found["l1->l1"]["label"] == "dense 8×8\\nz⁻¹"
    assert found["l1->l1"]["color"] == style.LIGHT["delayed"]
    assert found["x->l1"]["color"] == style.LIGHT["ink"]


def test_fixed_and_frozen_edges_are_grey():
    found = edges(render.graph(graphs.everything()).source)
    grey = {"v->v", "v->z", "z->v#reset", "gate->gated", "gated->v", "y->y", "x->y"}
    assert {name for name, edge in found.items() if edge["color"] == style.LIGHT["passive"]} == grey
    assert "frozen" in found["gated->v"]["label"]


def test_shared_weights_have_one_colour_and_their_name():
    found = edges(render.graph(graphs.everything()).source)
    tied = {name for name, edge in found.items() if edge["class"].startswith("shared")}
    assert tied == {"z->v", "z->gate"}
    assert len({found[name]["color"] for name in tied}) == 1
    assert all(found[name]["label"].startswith("tied\\n") for name in tied)


def test_roles_and_credit_are_shown():
    found = edges(render.graph(graphs.everything()).source)
    assert "role reset" in found["z->v#reset"]["label"]
    assert found["gated->v"]["label"].endswith("role topdown\\ncredit cut")


def test_every_edge_keeps_its_ends():
    """An arrow that is written backwards still leads from source to target."""
    network = validate(graphs.everything())
    ids = {name: f"n{index}" for index, name in enumerate(network.nodes)}
    found = edges(render.graph(network).source)
    assert {name: edge["ends"] for name, edge in found.items()} == {
        edge.name: f"{ids[edge.source]} {ids[edge.target]}" for edge in network.edges.values()
    }


def test_the_layout_sees_no_loop():
    """Else ranks follow the recurrent edges, and the picture is no longer read from left to right."""
    for graph in (graphs.stack(), graphs.everything()):
        seen = nx.DiGraph([(tail, head) for tail, head, _ in EDGE.findall(render.graph(graph).source) if tail != head])
        assert nx.is_directed_acyclic_graph(seen)


def test_only_nodes_that_hold_a_state_have_a_blue_ground():
    source = render.graph(graphs.everything()).source
    blue = {
        attributes(line)["tooltip"]
        for line in source.splitlines()
        if f'fillcolor="{style.LIGHT["state"]}' in line and "->" not in line.split("[")[0]
    }
    # x is read late, but by nothing that it depends on; `gated` is read late by topdown feedback only.
    assert blue == {"v", "z", "gate", "y"}


def test_every_label_is_given_and_plain():
    """An engine blanks or renames nodes beside an HTML-like label, and draws names where there is none."""
    source = render.graph(graphs.everything()).source
    for line in source.splitlines():
        if re.match(r"\s*n\d+ ", line):
            assert " [label=" in line
    assert "=<" not in source


def test_ids_are_safe_unique_and_stable():
    source = render.graph(graphs.everything()).source
    ids = re.findall(r"\bid=(\S+?)[\] ]", source)
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", one) for one in ids)
    assert [one for one in ids if one[0] == "e"] == [f"e{index}" for index in range(13)]


def test_equal_graphs_give_equal_text():
    assert render.graph(graphs.everything()).source == render.graph(graphs.everything()).source
    assert render.graph(validate(graphs.stack())).source == render.graph(graphs.stack()).source


QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
SKELETON = re.sub(r"=[^\s\]]+", "=*", QUOTED.sub("*", render.graph(graphs.named("plain")).source))


def skeleton(source: str) -> str:
    """A DOT text without its values."""
    return re.sub(r"=[^\s\]]+", "=*", QUOTED.sub("*", source))


@pytest.mark.parametrize("name", [*graphs.NAMES, *graphs.UNSEEN], ids=lambda name: repr(name[:20]))
def test_hostile_names_inject_nothing(name: str):
    """Whatever it is called, the text has the same statements with the same attributes."""
    source = render.graph(graphs.named(name), title=name).source
    title = render.graph(graphs.named("plain"), title="plain").source
    assert skeleton(source) == skeleton(title)
    assert len(source) < 10_000
    source.encode("utf-8")


@given(st.text(min_size=1, max_size=80).filter(lambda name: name not in ("in", "the other port")))
def test_no_name_injects_anything(name: str):
    source = render.graph(graphs.named(name)).source
    assert skeleton(source) == SKELETON


def test_collapses_large_graphs_by_layer():
    drawing = render.graph(graphs.chain(CAP + 10, layers=5))
    assert len(re.findall(r"^\s*n\d+ \[", drawing.source, re.MULTILINE)) == 6
    assert "62 nodes" in drawing.source
    assert "one node per layer" in drawing.source
    found = edges(drawing.source)
    assert set(found) == {"x->l0", *(f"l{k}->l{k}" for k in range(5)), *(f"l{k}->l{k + 1}" for k in range(4))}
    assert found["l0->l0"]["label"] == "62 edges\\nz⁻¹"
    assert "n300" in render.graph(graphs.chain(CAP + 10, layers=5), cap=None).source


def test_collapses_graphs_of_too_many_edges():
    g = graphs.stack()
    for _ in range(50):
        g.add_edge("l1", "l2", weight="dense")
    assert '"51 edges"' in render.graph(g, cap=10).source


def test_refuses_large_graphs_without_layers():
    with pytest.raises(RenderError) as caught:
        render.graph(graphs.chain(CAP, layers=0))
    assert str(caught.value).splitlines() == [
        "too large to draw: 301 nodes and 600 edges; the limits are 300 and 1200.",
        "  Give nodes a 'layer': a large graph is then drawn with one node per layer.",
        "  To lay it out all the same, raise the limit (cap=600) or drop it (None).",
    ]
    with pytest.raises(RenderError, match="With one node per layer it still has 21 nodes and 40 edges"):
        render.graph(graphs.chain(40, layers=20), cap=15)


def test_malformed_graphs_are_refused():
    g = graphs.stack()
    g.nodes["l1"]["op"] = "tahn"
    with pytest.raises(GraphError, match="Did you mean 'tanh'"):
        render.graph(g)

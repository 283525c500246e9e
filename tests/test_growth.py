"""Do readers and the compiler take time in proportion to what they are given?"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forwardgrad as fg
from forwardgrad.compiler.marks import components, elements, reachable
from forwardgrad.errors import FileError
from forwardgrad.graph.formats import MOST_PARTS, from_json, from_toml


def begun() -> nx.MultiDiGraph[str]:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(loss={})
    graph.add_node("x", op="input", size=1)
    return graph


def chain(number: int) -> nx.MultiDiGraph[str]:
    graph, last = begun(), "x"
    for n in range(number):
        graph.add_node(f"h{n}", op="tanh", size=1)
        graph.add_edge(last, f"h{n}", weight="dense")
        last = f"h{n}"
    graph.graph["loss"] = {last: "mse"}
    return graph


def against_the_order(number: int) -> nx.MultiDiGraph[str]:
    """A chain whose sizes have to travel from edge to edge against the order of the file."""
    graph = begun()
    for n in range(number):
        graph.add_node(f"h{n}", op="tanh")
    for n in reversed(range(1, number)):
        graph.add_edge(f"h{n - 1}", f"h{n}", weight="scalar")
    graph.add_edge("x", "h0", weight="scalar")
    graph.graph["loss"] = {f"h{number - 1}": "mse"}
    return graph


def fan(number: int, recurrent: bool = False) -> nx.MultiDiGraph[str]:
    graph = begun()
    graph.add_node("y", op="linear", size=1)
    for n in range(number):
        graph.add_node(f"h{n}", op="tanh", size=1)
        graph.add_edge("x", f"h{n}", weight="dense")
        graph.add_edge(f"h{n}", "y", weight="dense")
        if recurrent:
            graph.add_edge(f"h{n}", f"h{n}", weight="dense", delay=1)
    graph.graph["loss"] = {"y": "mse"}
    return graph


def components_of_one(number: int) -> nx.MultiDiGraph[str]:
    return fan(number, recurrent=True)


def stack(number: int) -> nx.MultiDiGraph[str]:
    graph = chain(number)
    for n in range(number):
        graph.add_edge(f"h{n}", f"h{n}", weight="dense", delay=1)
    return graph


@pytest.mark.parametrize("family", [chain, against_the_order, fan, components_of_one, stack])
def test_compiling_takes_time_in_proportion(family: Callable[[int], nx.MultiDiGraph[str]], tmp_path: Path) -> None:
    """If this fails, a graph of ten thousand nodes takes minutes to compile."""

    def took(number: int) -> float:
        path = tmp_path / f"{number}.toml"
        fg.save(family(number), path)
        began = time.process_time()  # of this process, whatever else the machine does
        fg.compile(fg.load(path), rule="eprop", dead="ignore")
        return time.process_time() - began

    took(20)  # what is made once for all programs
    few = min(took(100) for _ in range(3))
    # 8 times where it is in proportion, some 30 where it grows with the square; again where others used the caches.
    assert any(took(800) < 18 * few for _ in range(3))


TEXTS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "a key twice": (from_json, "{" + ",".join(f'"k{n}":1' for n in range(40_000)) + ',"k39999":2}', "'k39999' twice"),
    "parts": (from_toml, "a" + ".a" * 40_000 + "=1", "line 1: a key has more than 64 parts"),
    "parts apart": (from_toml, "\na" + " . a" * 40_000 + "=1", "line 2: a key has more than 64 parts"),
    "quoted parts": (from_toml, '"a."' + ".'b.'" * 40_000 + "=1", "line 1: a key has more than 64 parts"),
    "a header": (from_toml, "x = '''\n'''\n[[a" + ".a" * 40_000 + "]]", "line 3: a key has more than 64 parts"),
    "inline": (from_toml, "a = { a" + ".a" * 40_000 + " = 1 }", "line 1: a key has more than 64 parts"),
    "a long word": (from_toml, "a" * 2**20 + "=1", "unknown table 'aaa"),
    "quotes": (from_toml, "\"'" * 2**19, "not valid TOML"),
    "a text without end": (from_toml, 'a = """' + '"\n' * 2**19, "not valid TOML"),
    "backslashes": (from_toml, 'a = "' + "\\" * 2**20, "not valid TOML"),
}


@pytest.mark.parametrize("what", TEXTS)
def test_readers_take_time_in_proportion(what: str) -> None:
    """If this fails, a file of some hundred kilobytes takes its reader half a minute."""
    read, text, words = TEXTS[what]
    began = time.process_time()
    with pytest.raises(FileError) as error:
        read(text)
    assert time.process_time() - began < 5
    assert words in str(error.value)


def test_dots_in_texts_are_no_parts() -> None:
    """If this fails, a graph is refused for its title, a comment or the name of a node."""
    dots = ".".join("a" * (2 * MOST_PARTS))
    text = f"# {dots}\n[graph]\ntitle = '{dots}'\nsource = '''\n{dots}'''\n[nodes.\"{dots}\"]\nop = 'input'\n"
    document = from_toml(text)
    assert document.nodes == [(dots, {"op": "input"})]
    assert document.attributes["title"] == dots


@pytest.mark.parametrize("recurrent", [False, True])
def test_many_terms_are_added_up(recurrent: bool) -> None:
    """If this fails, a node with thousands of in-edges ends in a RecursionError, or in another sum."""
    graph = fan(230, recurrent)
    if recurrent:
        for n in range(210):
            graph.add_edge("y", f"h{n}", weight="dense", delay=1)  # one cycle, step by step
    ours, theirs = (fg.compile(graph, rule="eprop", backend=backend) for backend in ("numpy", "interpreter"))
    random = np.random.default_rng(0)
    inputs, targets = {"x": random.normal(size=(3, 2, 1))}, {"y": random.normal(size=(3, 2, 1))}
    found, expected = (program.gradient(program.init(0), inputs, targets, block=2) for program in (ours, theirs))
    for name, gradient in expected.grads.items():
        assert np.any(gradient)
        np.testing.assert_allclose(found.grads[name], gradient, rtol=1e-10, atol=1e-14)


@given(st.data())
def test_marks_are_what_a_search_finds(data: st.DataObject) -> None:
    """If this fails, a gradient is called exact that is not, or an influence is not stored."""
    number = data.draw(st.integers(1, 12))
    vertices = st.integers(0, number - 1)
    following = [data.draw(st.lists(vertices, max_size=4)) for _ in range(number)]
    own = [data.draw(st.integers(0, 2**8)) for _ in range(number)]
    found = reachable(following, own)
    for start in range(number):
        seen, queue = {start}, [start]
        while queue:
            for after in following[queue.pop()]:
                if after not in seen:
                    seen.add(after)
                    queue.append(after)
        expected = {bit for vertex in seen for bit in range(9) if own[vertex] >> bit & 1}
        assert elements(found[start]) == sorted(expected)
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(number))
    graph.add_edges_from((vertex, after) for vertex, afters in enumerate(following) for after in afters)
    parts = components(following)
    assert {frozenset(part) for part in parts} == {frozenset(part) for part in nx.strongly_connected_components(graph)}
    place = {vertex: at for at, part in enumerate(parts) for vertex in part}
    assert all(place[after] <= place[vertex] for vertex, after in graph.edges)

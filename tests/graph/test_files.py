"""Do files hold a declared graph exactly, and is every file that does not refused in words that help?"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwardgrad import cells
from forwardgrad.errors import FileError, ForwardgradError, GraphError
from forwardgrad.graph import files, library, validate
from forwardgrad.graph.files import load, save
from forwardgrad.testing.strategies import graphs
from tests.graph.saving import FORMATS, ordered, read, rich, side_of

# Round trips.


@pytest.mark.parametrize("suffix", FORMATS)
@given(graph=graphs(), limit=st.sampled_from([0, 1, 3, 64]))
def test_round_trip_is_exact(suffix: str, graph: nx.MultiDiGraph[str], limit: int) -> None:
    """If this fails, a saved graph comes back as another network."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "LARGEST_INLINE", limit)
        save(graph, Path(folder, "net" + suffix))
        assert ordered(validate(load(Path(folder, "net" + suffix)))) == ordered(validate(graph))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("entries", [8, 10])
def test_round_trip_of_every_attribute(suffix: str, entries: int, tmp_path: Path) -> None:
    """If this fails, an attribute, a key or the description of the graph gets lost."""
    graph, path = rich(entries), tmp_path / f"net{suffix}"
    save(graph, path)
    back = load(path)
    assert ordered(validate(back)) == ordered(validate(graph))
    assert back.graph == {**graph.graph, "forwardgrad": {"format": 1}}
    assert back.nodes["x"]["label"] == "ĥ\n\"'\\"
    assert "color" not in back.nodes["x"]
    assert [type(key) for *_, key in back.edges(keys=True)] == [int, str, int, int, int, str]
    beside = [] if entries == 8 else [side_of(path)]
    assert sorted(tmp_path.iterdir()) == sorted([path, *beside])
    first = [file.read_bytes() for file in sorted(tmp_path.iterdir())]
    save(back, path)
    assert [file.read_bytes() for file in sorted(tmp_path.iterdir())] == first


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", library.names())
def test_round_trip_of_shipped_graphs(suffix: str, name: str, tmp_path: Path) -> None:
    """If this fails, a shipped graph cannot be copied and changed."""
    save(load(name), tmp_path / f"mine{suffix}")
    assert ordered(validate(load(str(tmp_path / f"mine{suffix}")))) == ordered(validate(load(name)))


def test_large_arrays_lie_beside_the_file_without_a_path(tmp_path: Path) -> None:
    """If this fails, a graph cannot be moved, or a file can make the reader open others."""
    (tmp_path / "one").mkdir()
    save(rich(10), tmp_path / "one" / "net.toml")
    text = (tmp_path / "one" / "net.toml").read_text()
    assert 'array = "a0"' in text
    assert ".npz" not in text
    assert str(tmp_path) not in text
    (tmp_path / "one").rename(tmp_path / "two")
    assert len(load(tmp_path / "two" / "net.toml")) == 3


def test_json_is_that_of_networkx(tmp_path: Path) -> None:
    """If this fails, graphs cannot be exchanged with networkx, both ways."""
    graph = load("lif")
    save(graph, tmp_path / "net.json")
    read_by_networkx = nx.node_link_graph(json.loads((tmp_path / "net.json").read_text()), edges="edges")
    assert nx.utils.graphs_equal(read_by_networkx, graph)
    assert nx.utils.graphs_equal(read(json.dumps(nx.node_link_data(graph, edges="edges")), ".json"), graph)
    simple: nx.DiGraph[str] = nx.DiGraph()
    simple.add_node("x", op="input", size=2)
    simple.add_node("h", op="linear")
    simple.add_edge("x", "h")
    assert list(read(json.dumps(nx.node_link_data(simple, edges="edges")), ".json").edges(keys=True)) == [("x", "h", 0)]


def test_a_digraph_is_saved_as_a_multigraph(tmp_path: Path) -> None:
    """If this fails, `save` takes less than `validate` does."""
    graph: Any = nx.DiGraph([("x", "h")])
    nx.set_node_attributes(graph, {"x": {"op": "input", "size": 1}, "h": {"op": "tanh"}})
    save(graph, tmp_path / "net.toml")
    assert list(load(tmp_path / "net.toml").edges(keys=True)) == [("x", "h", 0)]


# Reading.

XH = '[nodes.x]\nop = "input"\nsize = 3\n[nodes.h]\nop = "tanh"\n'


def test_parallel_edges_without_keys_are_numbered() -> None:
    """If this fails, parameters of parallel edges change their names with the way they are written."""
    graph = read(XH + '[[edges]]\nfrom = "x"\nto = "h"\n[[edges]]\nfrom = "x"\nto = "h"\ndelay = 1\n')
    assert [(key, a.get("delay")) for *_, key, a in graph.edges(keys=True, data=True)] == [(0, None), (1, 1)]


def test_byte_order_mark_and_line_ends_of_windows() -> None:
    """If this fails, a file from an editor on Windows is refused."""
    text = XH + '[[edges]]\nfrom = "x"\nto = "h"\n'
    assert sorted(read(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())) == ["h", "x"]


def test_cells_are_expanded_in_order() -> None:
    """If this fails, a stack in a file is another one than the same calls make."""
    text = """
        nodes.x = { op = "input", size = 3 }
        nodes.y = { op = "linear", size = 1 }
        edges = [ { from = "l2.h", to = "y", weight = "dense" } ]
        cells = [
            { cell = "lstm", name = "l1", input = "x", size = 4, forget_bias = 2.0 },
            { cell = "leaky_tanh", name = "l2", input = "l1.h", size = 5, trainable = true },
        ]
    """
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=3)
    graph.add_node("y", op="linear", size=1)
    cells.lstm(graph, "l1", "x", 4, forget_bias=2.0)
    cells.leaky_tanh(graph, "l2", "l1.h", 5, trainable=True)
    graph.add_edge("l2.h", "y", weight="dense")
    assert ordered(validate(read(text))) == ordered(validate(graph))


# What is wrong: the text, and the words its error must have.
BAD_TOML: dict[str, tuple[str | bytes, type[ForwardgradError], list[str]]] = {
    "not TOML": ("[nodes.x]\nop = \n", FileError, ["is not valid TOML", "line 2"]),
    "cut short": (XH + '[[edges]]\nfrom = "x', FileError, ["is not valid TOML", "end of document"]),
    "a node twice": (XH + "[nodes.x]\n", FileError, ["is not valid TOML", "line 6", "twice"]),
    "not text": (b"[nodes.x]\nop = '\xff\xfe'\n", FileError, ["line 2: is not text in UTF-8"]),
    "binary": (bytes(range(256)), FileError, ["is not text in UTF-8"]),
    "empty": ("", GraphError, ["the graph has no nodes"]),
    "too deep": ("a = " + "[" * 100_000, FileError, ["nested too deeply"]),
    "digits": ("a = " + "9" * 5000, FileError, ["is not valid TOML"]),
    "size of many digits": (
        "nodes.x = { op = 'input', size = 0x" + "f" * 5000 + " }",
        GraphError,
        ["node 'x'", "size"],
    ),
    "unknown table": (XH + "[[edge]]\n", FileError, ["unknown table 'edge'.", "Did you mean 'edges'?"]),
    "graph attribute": ("[graph]\ntitel = 'a'\n" + XH, GraphError, ["unknown graph attribute 'titel'", "'title'?"]),
    "title": ("[graph]\ntitle = 3\n" + XH, GraphError, ["graph attribute 'title' must be a text, got 3."]),
    "format": (
        "[graph]\nformat = 2\n" + XH,
        FileError,
        ["has format 2; this version of forwardgrad reads formats up to 1"],
    ),
    "format a word": ("[graph]\nformat = 'new'\n" + XH, FileError, ["has format 'new'"]),
    "graph a list": ("graph = [1]\n" + XH, FileError, ["'graph' must be a table", "[1]"]),
    "nodes a list": ("nodes = [1]\n", FileError, ["'nodes' must be a table", "[1]"]),
    "a node a number": ("nodes.x = 3\n", FileError, ["node 'x' must be a table", "got 3"]),
    "edges a table": (XH + "[edges]\nfrom = 'x'\n", FileError, ["'edges' must be a list of tables", "write [[edges]]"]),
    "an edge a number": ("edges = [3]\n", FileError, ["number 1 of 'edges' must be a table"]),
    "no from": (XH + "[[edges]]\nto = 'h'\n", FileError, ["number 1 of 'edges' (to = 'h'): 'from' must be the name"]),
    "to a number": (
        XH + "[[edges]]\nfrom = 'x'\nto = 3\n",
        FileError,
        ["number 1 of 'edges'", "'to' must be", "got 3"],
    ),
    "undeclared node": (
        XH + "[[edges]]\nfrom = 'x'\nto = 'hh'\n",
        GraphError,
        ["edge 'x' -> 'hh': node 'hh' is not declared.", "Did you mean 'h'?"],
    ),
    "an edge twice": (
        XH + "[[edges]]\nfrom = 'x'\nto = 'h'\nkey = 'a'\n" * 2,
        GraphError,
        ["edge 'x' -> 'h' (key 'a') is declared twice.", "another 'key'"],
    ),
    "key": (
        XH + "[[edges]]\nfrom = 'x'\nto = 'h'\nkey = 1.5\n",
        GraphError,
        ["edge 'x' -> 'h' (key 1.5)", "'key' must be"],
    ),
    "name with a dot": (
        XH + "[nodes.l1.h]\nop = 'tanh'\n",
        FileError,
        ["node 'l1': attribute 'h' is a table", "[nodes.'l1.h']"],
    ),
    "reference without arrays": (
        XH + "[nodes.b]\nop = 'linear'\nbias = { array = 'a0' }\n",
        FileError,
        ["node 'b': 'bias' refers to an array, but the file records no 'arrays_sha256'"],
    ),
    "malformed graph": (XH + "size = 2\n", GraphError, ["node 'h': has no in-edge"]),
    "loss on no node": ("graph.loss.z = 'mse'\n" + XH[:31], GraphError, ["there is no node 'z'", "Known: x."]),
    "unknown loss": ("graph.loss.x = 'mes'\n" + XH[:31], GraphError, ["node 'x': unknown loss 'mes'", "'mse'?"]),
    "loss no name": ("graph.loss.x = 1\n" + XH[:31], GraphError, ["'loss'", "node 'x' must be a name, got 1"]),
    "loss no table": ("graph.loss = 'mse'\n" + XH[:31], GraphError, ["'loss' must be a table", "'mse'"]),
    "unknown cell": ("[[cells]]\ncell = 'lsmt'\n", GraphError, ["number 1 of 'cells': unknown cell 'lsmt'", "'lstm'?"]),
    "no cell": ("[[cells]]\nname = 'l1'\n", GraphError, ["number 1 of 'cells': unknown cell None", "lstm"]),
    "cell without size": (
        "[[cells]]\ncell = 'gru'\nname = 'l1'\ninput = 'x'\n",
        GraphError,
        ["cell 'gru' needs 'size'"],
    ),
    "argument of another cell": (
        "[[cells]]\ncell = 'gru'\nname = 'l1'\ninput = 'x'\nsize = 3\nleak = 0.5\n",
        GraphError,
        ["cell 'gru' has no argument 'leak'", "Known: init, input, name"],
    ),
    "cell of no input": (
        "[[cells]]\ncell = 'gru'\nname = 'l1'\ninput = 'x'\nsize = 3\n",
        GraphError,
        ["cell gru('l1'): 'input' names no node of the graph: 'x'"],
    ),
}

JSON_X = '{"id": "x", "op": "input", "size": 3}'
BAD_JSON: dict[str, tuple[str | bytes, type[ForwardgradError], list[str]]] = {
    "not JSON": ('{"nodes": [,]}', FileError, ["line 1, column 12: is not valid JSON"]),
    "cut short": ('{"nodes": [\n' + JSON_X, FileError, ["line 2", "is not valid JSON"]),
    "empty": ("", FileError, ["line 1, column 1: is not valid JSON"]),
    "not text": (b'{"a": "\xff"}', FileError, ["line 1: is not text in UTF-8"]),
    "a list": ("[]", FileError, ["the file must be a table", "[]"]),
    "too deep": ("[" * 100_000, FileError, ["nested too deeply"]),
    "digits": ('{"nodes": ' + "9" * 5000 + "}", FileError, ["is not valid JSON"]),
    "no nodes": ("{}", GraphError, ["the graph has no nodes"]),
    "a key twice": ('{"nodes": [], "nodes": []}', FileError, ["one object has the key 'nodes' twice"]),
    "unknown key": ('{"node": []}', FileError, ["unknown key 'node'.", "Did you mean 'nodes'?"]),
    "links": ('{"nodes": [], "links": []}', FileError, ["'links' must be called 'edges'", "node_link_data"]),
    "not directed": ('{"directed": false}', FileError, ["'directed' must be true"]),
    "no id": ('{"nodes": [{"op": "input"}]}', FileError, ["number 1 of 'nodes': 'id' must be a string, got None"]),
    "id a list": ('{"nodes": [{"id": [1, 2]}]}', FileError, ["number 1 of 'nodes': 'id' must be a string, got [1, 2]"]),
    "a node twice": (f'{{"nodes": [{JSON_X}, {JSON_X}]}}', GraphError, ["node 'x' is declared twice"]),
    "nodes a table": ('{"nodes": {}}', FileError, ["'nodes' must be a list of tables"]),
    "no target": (
        f'{{"nodes": [{JSON_X}], "edges": [{{"source": "x"}}]}}',
        FileError,
        ["number 1 of 'edges'", "'target'"],
    ),
    "undeclared node": (
        f'{{"nodes": [{JSON_X}], "edges": [{{"source": "x", "target": "y"}}]}}',
        GraphError,
        ["edge 'x' -> 'y': node 'y' is not declared"],
    ),
    "nan": (
        f'{{"nodes": [{JSON_X}, {{"id": "h", "op": "tanh", "size": 1, "bias": NaN}}]}}',
        GraphError,
        ["node 'h': attribute 'bias'", "finite"],
    ),
    "format": ('{"graph": {"forwardgrad": {"format": 9}}}', FileError, ["has format 9"]),
    "mark": ('{"graph": {"forwardgrad": 1}}', FileError, ["'forwardgrad' must be a table"]),
    "graph attribute": (f'{{"graph": {{"rankdir": "LR"}}, "nodes": [{JSON_X}]}}', GraphError, ["attribute 'rankdir'"]),
}


@pytest.mark.parametrize(
    ("name", "suffix"), [(name, ".toml") for name in BAD_TOML] + [(name, ".json") for name in BAD_JSON]
)
def test_bad_file_is_refused_in_words_that_help(name: str, suffix: str) -> None:
    """If this fails, a user sees a bare Python error, or one that does not name file and place."""
    text, kind, words = (BAD_TOML if suffix == ".toml" else BAD_JSON)[name]
    with pytest.raises(kind) as error:
        read(text, suffix)
    for word in (f"net{suffix}': ", *words):
        assert word in str(error.value)
    assert type(error.value) is kind


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_truncated_file_is_refused_or_legal(suffix: str, tmp_path: Path) -> None:
    """If this fails, some half-written file ends in a bare Python error."""
    save(load("lif"), tmp_path / f"net{suffix}")
    data = (tmp_path / f"net{suffix}").read_bytes()
    ends, refused = range(0, len(data), 3), list[str]()
    for end in ends:
        try:
            read(data[:end], suffix)
        except ForwardgradError as error:
            refused.append(str(error))
    assert all(f"net{suffix}" in words for words in refused)
    assert len(refused) >= len(ends) - (2 if suffix == ".toml" else 0)


@pytest.mark.parametrize("suffix", FORMATS)
@given(st.data())
def test_damaged_file_is_refused_or_legal(suffix: str, data: st.DataObject) -> None:
    """If this fails, some damaged file ends in a bare Python error."""
    with tempfile.TemporaryDirectory() as folder:
        save(load("elman"), Path(folder, f"net{suffix}"))
        text = bytearray(Path(folder, f"net{suffix}").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 9))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"[", b"{", b"]"])
        )
    try:
        read(bytes(text), suffix)
    except ForwardgradError:
        pass


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ("leaky_stak", ["unknown graph 'leaky_stak'.", "Did you mean 'leaky_stack'?", "path to .toml or .json"]),
        ("graphs/elman", ["unknown graph 'graphs/elman'."]),
        ("", ["unknown graph ''."]),
        ("nowhere.toml", ["'nowhere.toml': cannot be read: No such file or directory."]),
        (".toml", ["unknown graph '.toml'."]),
        ("null\0.json", ["cannot be read"]),
        (Path("elman"), ["a graph file ends in .toml or .json, got 'elman'."]),
        (Path("net.yaml"), ["a graph file ends in .toml or .json, got 'net.yaml'."]),
        (3, ["by name or path, got int"]),
        (nx.MultiDiGraph(), ["by name or path, got MultiDiGraph", "compiled as it stands"]),
    ],
)
def test_name_or_path_of_nothing(given_: Any, words: list[str]) -> None:
    """If this fails, a wrong name or path ends in a bare Python error."""
    with pytest.raises(FileError) as error:
        load(given_)
    for word in words:
        assert word in str(error.value)


def test_folder_is_no_file(tmp_path: Path) -> None:
    """If this fails, a folder named like a file ends in a bare Python error."""
    (tmp_path / "net.toml").mkdir()
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        load(tmp_path / "net.toml")

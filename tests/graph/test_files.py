"""Do files hold a declared graph exactly, and is every file that does not refused in words that help?"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from forwardgrad import cells
from forwardgrad.errors import FileError, ForwardgradError, GraphError
from forwardgrad.graph import files, library, pairs, validate
from forwardgrad.graph.files import load, save
from forwardgrad.ops import Op
from forwardgrad.support.attributes import numbers
from forwardgrad.testing.strategies import graphs

FORMATS = [".toml", ".json"]


def read(text: str | bytes, suffix: str = ".toml") -> nx.MultiDiGraph[str]:
    """Load a file of this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net" + suffix)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load(path)


def plain(value: Any) -> Any:
    """A network, or a part of one, as something that `==` compares to the last bit."""
    if isinstance(value, Op):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, str | bool | None):
        return value
    array = numbers(value)
    if array is not None:
        return array.shape, array.tobytes()
    return [plain(each) for each in value]


def ordered(network: Any) -> Any:
    """The same, with the order of nodes, edges and parameters."""
    return plain(network), [list(part) for part in (network.nodes, network.edges, network.parameters)]


def rich(entries: int = 8) -> nx.MultiDiGraph[str]:
    """A graph with every attribute that a file can hold, and arrays of `entries` squared."""
    random = np.random.default_rng(0)
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(title="Rich", source="nobody", name="r", loss={"y": "mse"})
    graph.add_node("x", op="input", size=np.int64(entries), label="ĥ\n\"'\\", color=None)
    graph.add_node("l1.h", op="spike", bias=random.normal(size=entries), threshold=np.float32(0.1), layer="l1")
    graph.add_node("y", op="linear", size=2, bias=np.True_, bias_trainable=np.False_, initial=[0.1, 1e-300])
    graph.add_edge("x", "l1.h", weight="dense", init=random.normal(size=(entries, entries)))
    graph.add_edge("x", "l1.h", "reset", value=random.normal(size=(entries, entries)).astype("float32"), role="reset")
    graph.add_edge("x", "l1.h", np.int64(7), value=-1 / 3, delay=np.int8(3), credit="cut")
    graph.add_edge("x", "l1.h", 2, value=[1, 2.5] * (entries // 2), delay=1)
    graph.add_edge("l1.h", "y", 1, weight="sparse", mask=random.random((2, entries)) < 0.5, param="π", trainable=False)
    graph.add_edge("y", "y", "0", weight="sparse", density=0.9, pattern_seed=3, init="normal(0.1)", delay=2)
    return graph


def side_of(path: Path) -> Path:
    """The one file of arrays beside a graph file."""
    (found,) = path.parent.glob(f"{path.name}.*.npz")
    return found


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


# The arrays beside a file.


def saved(folder: Path, suffix: str = ".toml") -> Path:
    save(rich(10), folder / f"net{suffix}")
    return folder / f"net{suffix}"


def replace_arrays(path: Path, data: bytes) -> None:
    """Put other arrays beside a file, which says that they are its own."""
    old = hashlib.sha256(side_of(path).read_bytes()).hexdigest()
    side_of(path).unlink()
    path.write_text(path.read_text().replace(old, pairs.digest(data)))
    pairs.side_of(path, pairs.digest(data)).write_bytes(data)


@pytest.mark.parametrize("suffix", FORMATS)
def test_missing_arrays_are_refused(suffix: str, tmp_path: Path) -> None:
    """If this fails, a file that was copied without its arrays ends in a bare Python error."""
    path = saved(tmp_path, suffix)
    side_of(path).unlink()
    with pytest.raises(FileError, match=rf"net\{suffix}\.\w{{16}}\.npz' cannot be read: No such file"):
        load(path)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("damage", ["cut", "flipped", "of another graph"])
def test_arrays_that_do_not_belong_to_the_file_are_refused(suffix: str, damage: str, tmp_path: Path) -> None:
    """If this fails, a graph is read with the weights of another."""
    path = saved(tmp_path, suffix)
    side = side_of(path)
    data = bytearray(side.read_bytes())
    if damage == "cut":
        side.write_bytes(data[:-1])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        side.write_bytes(data)
    else:
        (tmp_path / "other").mkdir()
        save(rich(12), tmp_path / "other" / "net.toml")
        side_of(tmp_path / "other" / "net.toml").replace(side)
    words = "are not readable as" if damage == "cut" else "are not those it was written with: their sha256"
    with pytest.raises(FileError, match=f"{words}(.|\n)*write the pair anew"):
        load(path)


class Trap:
    """An object whose unpickling is seen."""

    sprung = False

    def __reduce__(self) -> Any:
        return Trap.spring, ()

    @staticmethod
    def spring() -> None:
        Trap.sprung = True


def forged(kind: str) -> bytes:
    """Content of a `.npz` that is none."""
    buffer = io.BytesIO()
    if kind == "pickle in an archive":
        np.savez(buffer, a0=np.array([Trap()], dtype=object))
    elif kind == "pickle":
        np.save(buffer, np.array([Trap()], dtype=object), allow_pickle=True)
    elif kind == "one array":
        np.save(buffer, np.ones(100))
    elif kind == "archive in an archive":
        inner = io.BytesIO()
        np.savez(inner, a0=np.ones(3))
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a0.npy", inner.getvalue())
    elif kind == "header":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a0.npy", b"\x93NUMPY\x01\x00\x10\x00{'shape': (1e9,)}")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind", ["nothing", "one array", "pickle", "pickle in an archive", "archive in an archive", "header"]
)
def test_forged_arrays_are_refused_and_run_nothing(kind: str, tmp_path: Path) -> None:
    """If this fails, opening a graph file can run a stranger's code."""
    path = saved(tmp_path)
    replace_arrays(path, forged(kind))
    with pytest.raises(FileError, match=r"\.npz' are not readable as \.npz"):
        load(path)
    assert not Trap.sprung


@pytest.mark.parametrize("reference", ["a9", "../a0", 3, ["a0"]])
def test_reference_to_no_array_is_refused(reference: Any, tmp_path: Path) -> None:
    """If this fails, a wrong reference ends in a bare Python error."""
    path = saved(tmp_path)
    text = path.read_text()
    assert text.count('array = "a0"') == 1
    path.write_text(text.replace('array = "a0"', tomli_w.dumps({"array": reference})))
    with pytest.raises(FileError, match="refers to an unknown array"):
        load(path)


# Writing.


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_save_leaves_the_old_graph(
    suffix: str, large: bool, calls: int, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a full disk or an interrupt costs the user the graph saved before."""
    path = saved(tmp_path, suffix)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    replace, left = os.replace, [calls if large else 1]

    def fail(*args: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise error
        replace(*args)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(FileError if isinstance(error, OSError) else KeyboardInterrupt):
        save(rich(12 if large else 8), path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert len(load(path)) == 3


def test_failed_first_save_leaves_nothing(tmp_path: Path) -> None:
    """If this fails, arrays without a graph lie about."""
    (tmp_path / "net.toml").mkdir()
    with pytest.raises(FileError, match=r"cannot write .*net\.toml'"):
        save(rich(10), tmp_path / "net.toml")
    assert os.listdir(tmp_path) == ["net.toml"]


def test_files_of_somebody_else_stay(tmp_path: Path) -> None:
    """If this fails, saving a graph as model.toml destroys the trained weights in model.npz, or those of another."""
    save(rich(10), tmp_path / "model.json")
    others = ["model.npz", "model.toml.npz", "model.toml.0123456789abcdeg.npz", "model.toml.0123456789abcdef.npz.old"]
    for name in others:
        (tmp_path / name).write_bytes(b"weights")
    kept = {*others, "model.json", side_of(tmp_path / "model.json").name, "model.toml"}
    for size in (10, 12, 8):  # with arrays, with others, without any
        save(rich(size), tmp_path / "model.toml")
        ours = list(tmp_path.glob("model.toml.*[0-9a-f].npz"))
        assert len(ours) == (size != 8)
        assert set(os.listdir(tmp_path)) == kept | {side.name for side in ours}
    assert all((tmp_path / name).read_bytes() == b"weights" for name in others)


def test_a_file_without_the_digest_in_the_name_is_read(tmp_path: Path) -> None:
    """If this fails, graphs that were saved before are refused."""
    path = saved(tmp_path)
    side_of(path).replace(tmp_path / "net.npz")
    assert ordered(validate(load(path))) == ordered(validate(rich(10)))
    save(load(path), path)
    assert side_of(path).exists()
    assert len(load(path)) == 3


def test_a_copy_without_its_arrays_is_told_where_they_are(tmp_path: Path) -> None:
    """If this fails, whoever copies a graph does not know which two files to copy."""
    path = saved(tmp_path)
    copy = tmp_path / "copy.toml"
    copy.write_bytes(path.read_bytes())
    side, wanted = side_of(path), tmp_path / side_of(path).name.replace("net.", "copy.")
    with pytest.raises(FileError) as error:
        load(copy)
    assert f"copy {side.name!r} to {wanted.name!r}, too" in str(error.value)
    wanted.write_bytes(side.read_bytes())
    save(rich(12), path)
    assert ordered(validate(load(copy))) == ordered(validate(rich(10)))


@pytest.mark.parametrize("digest", [3, "", "../../../etc/passwd", "A" * 64, "0" * 63 + "\n"])
def test_a_digest_that_is_none_is_refused(digest: Any, tmp_path: Path) -> None:
    """If this fails, a file chooses which other files its reader opens."""
    path = saved(tmp_path, ".json")
    document = json.loads(path.read_text())
    document["graph"]["forwardgrad"]["arrays_sha256"] = digest
    path.write_text(json.dumps(document))
    with pytest.raises(FileError, match="'arrays_sha256' must be the sha256 of a"):
        load(path)


def test_both_files_lie_where_a_link_leads(tmp_path: Path) -> None:
    """If this fails, saving over a link cuts it, or parts a graph from its arrays."""
    (tmp_path / "real").mkdir()
    path, link = saved(tmp_path / "real"), tmp_path / "link.toml"
    link.symlink_to(Path("real", "net.toml"))
    save(rich(12), link)
    assert link.is_symlink()
    assert set(path.parent.iterdir()) == {path, side_of(path)}
    for each in (link, path):
        assert ordered(validate(load(each))) == ordered(validate(rich(12)))
    assert sorted(os.listdir(tmp_path)) == ["link.toml", "real"]


def test_arrays_are_as_private_as_their_graph(tmp_path: Path) -> None:
    """If this fails, saving a graph that only its owner may read shows its weights to everybody."""
    path = tmp_path / "net.toml"
    save(rich(8), path)
    path.chmod(0o600)
    save(rich(10), path)
    assert [file.stat().st_mode & 0o777 for file in (path, side_of(path))] == [0o600, 0o600]


def test_an_interrupt_after_the_last_step_leaves_the_new_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, Ctrl-C at the wrong moment removes the arrays that the new file refers to."""
    path, replace, left = saved(tmp_path), os.replace, [2]

    def interrupted(*arguments: Any) -> None:
        replace(*arguments)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(rich(12), path)
    assert ordered(validate(load(path))) == ordered(validate(rich(12)))
    monkeypatch.undo()
    save(rich(12), path)
    assert side_of(path).exists()  # and no other one


def test_a_graph_saved_anew_while_it_is_read_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, whoever reads while another saves finds the arrays gone."""
    path, read, left = saved(tmp_path), pairs.read, [12, 14]

    def late(path: Path, sha256: Any) -> Any:
        if left:
            save(rich(left.pop()), path)  # after the text was read, before its arrays are
        return read(path, sha256)

    monkeypatch.setattr(pairs, "read", late)
    assert ordered(validate(load(path))) == ordered(validate(rich(12)))


def broken(**attributes: Any) -> nx.MultiDiGraph[str]:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(**attributes.pop("graph", {}))
    graph.add_node("x", op="input", size=1, **attributes)
    return graph


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (broken(label=object()), ["node 'x': attribute 'label' cannot be written"]),
        (broken(label=["a"]), ["node 'x': attribute 'label' cannot be written: ['a']"]),
        (broken(label=float("nan")), ["node 'x': attribute 'label' cannot be written"]),
        (broken(label="\ud800"), ["cannot be written as UTF-8"]),
        (broken(sise=1), ["node 'x': unknown attribute 'sise'"]),
        (broken(graph={"rankdir": "LR"}), ["unknown graph attribute 'rankdir'", "loss, name, source, title"]),
        (broken(graph={"title": 1}), ["graph attribute 'title' must be a text"]),
        (broken(graph={"loss": {"x": abs}}), ["'loss': that of node 'x' must be a name"]),
        (nx.MultiDiGraph(), ["the graph has no nodes"]),
    ],
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_what_no_file_can_hold_is_refused_before_writing(
    graph: nx.MultiDiGraph[str], words: list[str], suffix: str, tmp_path: Path
) -> None:
    """If this fails, a graph is saved with something missing, or a bare Python error is seen."""
    with pytest.raises(GraphError) as error:
        save(graph, tmp_path / f"net{suffix}")
    for word in words:
        assert word in str(error.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["net.yaml", "net", "folder/net.toml", 3])
def test_impossible_target_is_our_error(path: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a wrong path ends in a bare Python error."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError):
        save(load("elman"), path)
    assert os.listdir(tmp_path) == []

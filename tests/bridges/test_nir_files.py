"""Are files read as they are, however odd, and nothing else?"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridges.nir_nets import BATCH, DT, LAYERS, affine, chain, conv2d, net, neuron, nir, quiet, runs, same, x_of

import forwardgrad as fg
from forwardgrad.bridges.nir import from_nir
from forwardgrad.errors import FileError, GraphError, MissingExtraError

h5py: Any = pytest.importorskip("h5py")


def stored(graph: Any, path: Path) -> Path:
    nir.write(path, graph)
    return path


@pytest.mark.parametrize("name", ["self-recurrent", "a cycle with a delay"])
def test_files_are_read_and_written(tmp_path: Path, name: str) -> None:
    """A file gives what the graph in memory gives, and NIR reads what was exported, with its own checks."""
    nodes, edges = LAYERS[name]
    graph = net(nodes, edges)
    wanted = runs(*from_nir(graph, dt=DT, reset="zero"), {"input": x_of()})
    for path in (stored(graph, tmp_path / "net.nir"), str(tmp_path / "net.nir")):
        declared, params = from_nir(path, dt=DT, reset="zero")
        assert (runs(declared, params, {"input": x_of()}) == wanted).all()
    back = nir.read(stored(quiet(declared, params), tmp_path / "back.nir"))
    same(graph, back)
    np.testing.assert_allclose(runs(*from_nir(back, dt=DT, reset="zero"), {"input": x_of()}), wanted, atol=1e-12)


def test_files_with_windows_and_inner_graphs(tmp_path: Path) -> None:
    """Words, tuples and missing fields look different in a file."""
    inner = nir.NIRGraph(
        {
            "input": nir.Input(np.array([2, 5, 6])),
            "c": conv2d(4, 2, (3, 3), padding="same"),
            "output": nir.Output(np.array([4, 5, 6])),
        },
        [("input", "c"), ("c", "output")],
    )
    nodes = {
        "input": nir.Input(np.array([2, 5, 6])),
        "g": inner,
        "p": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "f": nir.Flatten({"input": np.array([4, 2, 3])}, 0, -1),
        "fc": affine(3, 24),
        "output": nir.Output(np.array([3])),
    }
    graph = nir.NIRGraph(
        nodes, [("input", "g"), ("g", "p"), ("p", "f"), ("f", "fc"), ("fc", "output")], type_check=False
    )
    x = np.random.default_rng(3).normal(size=(6, BATCH, 2, 5, 6))
    wanted = runs(*from_nir(graph, dt=DT), {"input": x})
    found = runs(*from_nir(stored(graph, tmp_path / "net.nir"), dt=DT), {"input": x})
    assert (found == wanted).all()
    again = runs(*from_nir(stored(quiet(*from_nir(graph, dt=DT)), tmp_path / "back.nir"), dt=DT), {"input": x})
    np.testing.assert_allclose(again, wanted, atol=1e-12)


def test_old_files_lack_v_reset(tmp_path: Path) -> None:
    """It is zero then."""
    path = stored(chain(neuron("LIF", v_reset=False)), tmp_path / "net.nir")
    wanted = runs(*from_nir(path, dt=DT, reset="zero"), {"input": x_of()})
    with h5py.File(path, "a") as file:
        del file["node/nodes/n/v_reset"]
    assert (runs(*from_nir(path, dt=DT, reset="zero"), {"input": x_of()}) == wanted).all()


def put(file: Any, path: str, value: Any) -> None:
    """Replace what a file holds at a path."""
    if path in file:
        del file[path]
    if value is not None:
        file[path] = value


def vast(file: Any) -> None:
    put(file, TAU, None)
    file.create_dataset(TAU, shape=(2**50,), dtype="f8", chunks=(2**10,))


def elsewhere(file: Any) -> None:
    put(file, TAU, None)
    file.create_dataset(TAU, shape=(3,), dtype="f8", external=[("other.bin", 0, 24)])


def emptied(file: Any) -> None:
    put(file, TAU, None)
    file.create_group(TAU)


def lone(file: Any) -> None:
    put(file, "node", None)
    file["node/type"] = "LIF"


NODE, TAU = "node/nodes/n", "node/nodes/n/tau"


SPOILT: dict[str, tuple[Callable[[Any], None], str]] = {
    "no type": (lambda f: put(f, f"{NODE}/type", None), "NIR node 'n': 'type' is missing"),
    "type of a number": (lambda f: put(f, f"{NODE}/type", 3), "NIR node 'n': 'type' is not a word"),
    "unknown type": (lambda f: put(f, f"{NODE}/type", "__import__"), "'n': '__import__' is not a primitive of NIR"),
    "no field": (lambda f: put(f, TAU, None), r"NIR node 'n' \(LIF\): field 'tau' is missing"),
    "a group for a field": (emptied, "NIR node 'n': 'tau' is not an array in this file"),
    "text for numbers": (lambda f: put(f, TAU, "soon"), r"NIR node 'n' \(LIF\): 'tau' must be finite numbers"),
    "an external link": (lambda f: put(f, TAU, h5py.ExternalLink("other.h5", "/x")), "'n': 'tau' is a link to another"),
    "a soft link": (lambda f: put(f, TAU, h5py.SoftLink("/nowhere")), "NIR node 'n': 'tau' is a link to another place"),
    "a dataset for a node": (lambda f: put(f, NODE, np.ones(3)), "NIR node 'n': is not a group of fields"),
    "a cycle of groups": (lambda f: put(f, NODE, f["node"]), "lies in more than 32 graphs"),
    "no edges": (lambda f: put(f, "node/edges", None), "the graph: 'edges' is missing"),
    "edges of numbers": (lambda f: put(f, "node/edges", np.ones((2, 2))), "must be pairs of names"),
    "edges of three": (lambda f: put(f, "node/edges", [["input", "fc", "n"]]), "must be pairs of names"),
    "a huge field": (vast, "NIR node 'n': 'tau' and what comes before it take more memory than there is"),
    "storage elsewhere": (elsewhere, "NIR node 'n': 'tau' is not an array in this file"),
    "a lone primitive": (lone, "the graph: the file holds a single primitive"),
    "no graph": (lambda f: put(f, "node", None), "the graph: 'node' is missing"),
    "no nodes": (lambda f: put(f, "node/nodes", None), "the graph: 'nodes' is missing"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_malformed_files_are_refused_by_name(what: str, tmp_path: Path) -> None:
    """If this fails, a file of anyone's making ends in an error of HDF5's, reads another file, or takes all memory."""
    path = stored(chain(), tmp_path / "net.nir")
    spoil, message = SPOILT[what]
    with h5py.File(path, "a") as file:
        spoil(file)
    with pytest.raises(GraphError, match=message):
        from_nir(path, dt=DT, reset="zero")


def test_what_is_no_nir_file_is_refused(tmp_path: Path) -> None:
    """The error names the path, and is one of this library."""
    (tmp_path / "text.nir").write_text("LIF")
    (tmp_path / "folder.nir").mkdir()
    stored(chain(), tmp_path / "cut.nir")
    whole = (tmp_path / "cut.nir").read_bytes()
    (tmp_path / "cut.nir").write_bytes(whole[: len(whole) // 2])
    for name in ("text", "folder", "cut", "missing"):
        with pytest.raises(FileError, match=rf"{name}\.nir': cannot be read as a NIR file"):
            from_nir(tmp_path / f"{name}.nir", dt=DT)
    with pytest.raises(GraphError, match=r"takes the path of a \.nir file or a nir.NIRGraph, got LIF"):
        from_nir(neuron("LIF"), dt=DT)
    with pytest.raises(GraphError, match=r"got int"):
        from_nir(3, dt=DT)


def test_damaged_files_end_in_our_errors(tmp_path: Path) -> None:
    """Bytes of a file changed at random: it is read, or refused, and nothing else happens."""
    nodes, edges = LAYERS["self-recurrent"]
    whole = stored(net(nodes, edges), tmp_path / "net.nir").read_bytes()
    random, refused = np.random.default_rng(0), 0
    for _ in range(150):
        bytes_ = bytearray(whole)
        for place in random.integers(len(whole), size=random.integers(1, 20)):
            bytes_[place] = random.integers(256)
        (tmp_path / "bad.nir").write_bytes(bytes_)
        try:
            from_nir(tmp_path / "bad.nir", dt=DT, reset="zero")
        except (GraphError, FileError):
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("call", ["from_nir", "to_nir"])
def test_without_nir_one_line_says_what_to_install(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the message is that of an import deep inside."""
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(MissingExtraError, match=rf'^{call} needs nir: pip install "forwardgrad\[nir\]"$'):
        fg.from_nir("net.nir", dt=DT) if call == "from_nir" else fg.to_nir(fg.load("elman"), {}, dt=DT)

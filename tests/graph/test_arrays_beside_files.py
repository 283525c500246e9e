"""Writing graphs, and the arrays beside a file: whole or not at all, and nothing is run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import tomli_w

from forwardgrad.errors import FileError, GraphError
from forwardgrad.graph import pairs, validate
from forwardgrad.graph.files import load, save
from tests.graph.saving import FORMATS, ordered, rich, side_of

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

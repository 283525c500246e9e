"""Are sizes without reason refused before they are paid for, and do files stay in their folders? A test a finding."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from nets import declare, vanilla

import forwardgrad as fg
from forwardgrad import Learner, cells, data, render
from forwardgrad.compiler import reach
from forwardgrad.errors import FileError, GraphError, MemoryBudgetError, RenderError, RuleError
from forwardgrad.support import archive
from forwardgrad.support.packing import packed

posix = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX")


def wide(size: int, delay: int = 1) -> nx.MultiDiGraph[str]:
    nodes = {"x": {"op": "input", "size": size}, "h": {"op": "tanh", "size": size}, "y": {"op": "linear", "size": 1}}
    return declare(
        nodes,
        ("x", "h", {"weight": "dense"}),
        ("h", "h", {"weight": "dense", "delay": delay}),
        ("h", "y", {"weight": "dense"}),
    )


def compiled(graph: Any, rule: str) -> fg.Program:
    return fg.compile(graph, loss={"y": "mse"}, rule=rule)


@pytest.fixture(autouse=True)
def _quick() -> Any:
    """None of these may take time: what is refused is refused before it is paid for."""
    began = time.perf_counter()
    yield
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize("size", [10**6, 2**31 - 1])
def test_parameters_that_do_not_fit_are_refused(size: int) -> None:
    """If this fails, a size from a file ends in a MemoryError, or in a ValueError of NumPy's, or takes all memory."""
    with pytest.raises(MemoryBudgetError, match=r"init: [\d,]+ parameters would take .*iB, and"):
        compiled(wide(size), "eprop").init()
    with pytest.raises(MemoryBudgetError, match="start: batch 1 needs"):
        compiled(wide(size), "eprop").start()


def test_costs_of_huge_programs_are_not_negative() -> None:
    """If this fails, a price that no 64-bit number holds wraps round, and what costs most seems free."""
    program = compiled(wide(2**31 - 1), "rtrl")
    assert program.rules["h->h"].bytes > 2**90
    assert "-" not in str(program).replace("->", "").replace("--", "")


def test_patterns_that_are_found_unit_by_unit_are_bounded() -> None:
    """If this fails, pricing `snap(1)` as a way out takes more memory than what it is to be a way out of."""
    with pytest.raises(RuleError, match=r"a pattern of 100,000 times 100,000 units is too large"):
        compiled(wide(10**5), "snap(1)")
    assert reach.LARGEST <= 2**28


def test_prices_take_no_memory() -> None:
    """If this fails, asking what a parameter without influence would take already takes it, or ends in a bare error."""
    graph = wide(3)
    cells.lstm(graph, "unused", "x", 100_000)  # 75 GiB for each of its recurrent weights
    program = fg.compile(graph, loss={"y": "mse"}, rule="eprop", dead="ignore")
    with pytest.raises(MemoryBudgetError, match="start: batch 1 needs"):
        program.fits(1, 2, "64MiB")
    tracemalloc.start()
    assert program.cost().total > 2**36
    assert fg.compile(graph, loss={"y": "mse"}, rule="uoro", dead="ignore").cost().total > 2**36
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


@pytest.mark.parametrize("size", [2**15, 2**31 - 1])
def test_drawn_patterns_are_bounded(size: int) -> None:
    """If this fails, a density in a file takes all memory of the machine before an error is seen."""
    graph = wide(size)
    graph.edges["x", "h", 0].update(weight="sparse", density=0.5)
    with pytest.raises(GraphError, match="drawn by 'density' does not fit into memory"):
        fg.graph.validate(graph)


def test_patterns_are_drawn_as_ever() -> None:
    """If this fails, drawing a row at a time gives other patterns than saved networks were trained with."""
    graph = wide(40)
    graph.edges["x", "h", 0].update(weight="sparse", density=0.3, pattern_seed=5)
    found = fg.graph.validate(graph).parameters["x->h"].pattern
    assert found is not None
    rows, columns = np.nonzero(np.random.default_rng(5).random((40, 40)) < 0.3)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.columns, columns)


def test_delays_of_any_length_have_a_price_that_is_known_at_once() -> None:
    """If this fails, a delay from a file runs through its lags one by one for days."""
    with pytest.raises(RuleError, match=r"carried at 4,294,967,294 lags, more than 131,072"):
        compiled(wide(3, delay=2**31 - 1), "rtrl")
    with pytest.raises(MemoryBudgetError, match="start: batch 1 needs"):
        compiled(wide(3, delay=2**31 - 1), "immediate").start()  # here other rules are priced, too


@pytest.mark.parametrize("rule", ["hops(1000)", "window(1000)", "window(100000000000)"])
def test_rules_of_many_modes_are_refused(rule: str) -> None:
    """If this fails, a rule of ten letters takes minutes to compile."""
    with pytest.raises(RuleError, match="more than 128 modes of one node"):
        compiled(vanilla(), rule)


def test_pictures_of_many_steps_are_refused_at_once() -> None:
    """If this fails, the nodes to draw are found before it is asked whether they are too many."""
    with pytest.raises(RenderError, match="too large to unroll"):
        render.unrolled(compiled(vanilla(), "rtrl"), "h->h", 10**9)


# Files.


def with_arrays(folder: Path) -> Path:
    """A graph file with arrays beside it."""
    graph = wide(9)
    graph.edges["x", "h", 0]["init"] = np.random.default_rng(0).normal(size=(9, 9))
    fg.save(graph, folder / "net.toml")
    return folder / "net.toml"


def side_of(path: Path) -> Path:
    """The one file of arrays beside a graph file."""
    (found,) = path.parent.glob(f"{path.name}.*.npz")
    return found


@posix
@pytest.mark.parametrize("kind", ["absolute", "relative", "of a link"])
def test_arrays_are_not_read_through_a_link_out_of_the_folder(kind: str, tmp_path: Path) -> None:
    """If this fails, a graph from elsewhere makes its reader open a file of its choice."""
    (tmp_path / "in").mkdir()
    path, outside = with_arrays(tmp_path / "in"), tmp_path / "outside.npz"
    side = side_of(path)
    side.replace(outside)
    target = {"absolute": outside, "relative": Path("..", "outside.npz"), "of a link": Path("other")}[kind]
    (tmp_path / "in" / "other").symlink_to(Path("..", "outside.npz"))
    side.symlink_to(target)
    with pytest.raises(FileError, match="are a link out of the folder"):
        fg.load(path)


@posix
def test_links_inside_a_folder_are_followed(tmp_path: Path) -> None:
    """If this fails, graphs that share their arrays, or lie in a linked folder, are refused."""
    (tmp_path / "in").mkdir()
    path = with_arrays(tmp_path / "in")
    side = side_of(path)
    side.replace(tmp_path / "in" / "shared.npz")
    side.symlink_to("shared.npz")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert len(fg.load(path)) == len(fg.load(tmp_path / "link" / "net.toml")) == 3


@posix
@pytest.mark.parametrize("name", ["net.toml", "net.json", "net.npz", "saved.npz", "wave.csv", "wave.npy"])
def test_pipes_are_not_waited_for(name: str, tmp_path: Path) -> None:
    """If this fails, a pipe or device in the place of a file blocks its reader, or never ends."""
    place = tmp_path / name
    if name == "net.npz":
        place = side_of(with_arrays(tmp_path))
        place.unlink()
    os.mkfifo(place)
    read = {"saved.npz": Learner.load, "wave.csv": data.read, "wave.npy": data.read}.get(name, fg.load)
    with pytest.raises(FileError, match="Is a pipe or a device, and no file"):
        read(tmp_path / ("net.toml" if name == "net.npz" else name))


def test_texts_are_bounded(tmp_path: Path) -> None:
    """If this fails, a file of gigabytes is parsed before it is refused."""
    with (tmp_path / "net.toml").open("wb") as file:
        file.truncate(2**34)  # without contents, it takes no room
    with pytest.raises(FileError, match=r"Has 17,179,869,184 bytes, and at most 16,777,216 are read"):
        fg.load(tmp_path / "net.toml")


@posix
@pytest.mark.parametrize("name", ["net.npz", "saved.npz", "wave.csv", "wave.npy"])
@pytest.mark.parametrize("size", [2**33, 2**41])
def test_files_without_contents_are_not_read(name: str, size: int, tmp_path: Path) -> None:
    """If this fails, a file that takes no room on the disk takes all memory, or minutes, of its reader."""
    place = side_of(with_arrays(tmp_path)) if name == "net.npz" else tmp_path / name
    with place.open("wb") as file:
        file.truncate(size)
    read = {"saved.npz": Learner.load, "wave.csv": data.read, "wave.npy": data.read}.get(name, fg.load)
    began = time.perf_counter()
    with pytest.raises(FileError):
        read(tmp_path / ("net.toml" if name == "net.npz" else name))
    assert time.perf_counter() - began < 2


def claiming(directory: int, entries: int = 1, hole: int = 2**33) -> tuple[bytes, int, bytes]:
    """The beginning of a file, how much of nothing comes then, and its end: an archive that makes claims of itself."""
    wide = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, directory, hole + 4 - directory)
    wide += struct.pack("<4sIQI", b"PK\6\7", 0, hole + 4, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 2**16 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1, 0)
    return b"PK\3\4", hole, wide + end


CLAIMS = {
    "a directory of gigabytes": claiming(2**32),
    "no directory": claiming(0, 0),
    "a header of gigabytes": (b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little"), 2**33, b""),
    "a line of gigabytes": (b"1\n2", 2**33, b""),
}


@posix
@pytest.mark.parametrize("what", CLAIMS)
def test_files_that_claim_much_are_not_read(what: str, tmp_path: Path) -> None:
    """If this fails, a crafted file of a few bytes and a hole takes all memory, or minutes, of its reader."""
    begin, hole, end = CLAIMS[what]
    for name, read in (
        ("saved.npz", Learner.load),
        ("wave.npy", data.read),
        ("wave.csv", data.read),
        ("wave.npz", data.read),
    ):
        with (tmp_path / name).open("wb") as file:
            file.write(begin)
            file.seek(len(begin) + hole)
            file.write(end)
            file.truncate(max(file.tell(), len(begin) + hole))
        tracemalloc.start()
        with pytest.raises(FileError):
            read(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * archive.LARGEST_DIRECTORY


def test_archives_of_many_entries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an archive of empty arrays takes its reader minutes."""
    monkeypatch.setattr(archive, "MOST_ENTRIES", 2)
    with pytest.raises(TypeError, match="it has 3 entries, and at most 2 are read"):
        archive.arrays(packed({name: np.empty(0) for name in "abc"}))


@posix
def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, whoever can replace a file between two looks at it can make its reader wait for ever."""
    path, looks = tmp_path / "wave.csv", [0]
    path.write_text("1")
    check = archive._check

    def late(about: os.stat_result) -> None:
        check(about)
        looks[0] += 1
        if looks[0] == 1:
            path.unlink()
            os.mkfifo(path)

    monkeypatch.setattr(archive, "_check", late)
    with pytest.raises(FileError, match="Is a pipe or a device, and no file"):
        data.read(path)


def zipped(compression: int, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as found:
        for name, content in members.items():
            found.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(shape: str, data: bytes = b"", descr: str = "<f8") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


BAD = {
    "a bomb": zipped(zipfile.ZIP_DEFLATED, a0=npy("(10000000,)", bytes(8 * 10**7))),
    "a shape of terabytes": zipped(zipfile.ZIP_STORED, a0=npy("(1000000000000,)")),
    "a shape of no number": zipped(zipfile.ZIP_STORED, a0=npy("(" + "2," * 900 + ")")),
    "a negative shape": zipped(zipfile.ZIP_STORED, a0=npy("(-1, -1)", bytes(8))),
    "objects": zipped(zipfile.ZIP_STORED, a0=npy("(1,)", bytes(8), "|O")),
    "records of objects": zipped(zipfile.ZIP_STORED, a0=npy("(1,)", bytes(8), "O8")),
    "more than it says": zipped(zipfile.ZIP_STORED, a0=npy("(1,)", bytes(80))),
}


@pytest.mark.parametrize("what", BAD)
def test_archives_are_believed_nothing(what: str, tmp_path: Path) -> None:
    """If this fails, a small file makes its reader take memory of the file's choice, or unpickle."""
    path = with_arrays(tmp_path)
    old, new = (hashlib.sha256(data).hexdigest() for data in (side_of(path).read_bytes(), BAD[what]))
    side_of(path).unlink()
    path.write_text(path.read_text().replace(old, new))
    side = tmp_path / f"net.toml.{new[:16]}.npz"
    side.write_bytes(BAD[what])
    with pytest.raises(FileError, match=r"\.npz' are not readable as \.npz"):
        fg.load(path)
    with pytest.raises(FileError, match="is no checkpoint, or is damaged"):
        Learner.load(side)


def test_a_good_archive_is_read() -> None:
    """If this fails, the archives above are refused for another reason than theirs."""
    found = archive.arrays(zipped(zipfile.ZIP_STORED, a0=npy("(2, 1)", np.arange(2.0).tobytes())))
    np.testing.assert_array_equal(found["a0"], [[0.0], [1.0]])

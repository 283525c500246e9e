"""Is a graph with large arrays there, whole, whenever its saver dies?"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import kill_pairs
import pytest

from forwardgrad.graph.files import load, save

posix = pytest.mark.skipif(sys.platform == "win32", reason="forks and kills of POSIX")


def in_a_process_of_its_own(folder: Path, kills: int) -> dict[str, Any]:
    """What the script says: here are threads, and a fork would take their locks along."""
    command = [sys.executable, kill_pairs.__file__, str(folder), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(found: dict[str, Any]) -> None:
    assert (found["mixed"], found["lost"]) == (0, 0), found
    assert found["most arrays"] <= 2, found  # the old one and the new one
    assert found["files at the end"] == 2, found


@posix
def test_a_graph_whose_saver_is_killed_again_and_again_can_be_loaded(tmp_path: Path) -> None:
    """If this fails, a machine that goes down while a graph is saved costs the graph, or fills the folder."""
    check(in_a_process_of_its_own(tmp_path, 24))


@posix
@pytest.mark.slow
def test_hundreds_of_kills(tmp_path: Path) -> None:
    """If this fails, some moment of saving is one at which a kill costs the graph."""
    check(in_a_process_of_its_own(tmp_path, 200))


@posix
def test_threads_that_save_and_load_one_path(tmp_path: Path) -> None:
    """If this fails, one saver removes the arrays that another's file refers to, or a reader finds them gone."""
    path, wrong = tmp_path / "net.toml", list[BaseException]()
    save(kill_pairs.graph(0, 0), path)

    def run(saver: int) -> None:
        try:
            for number in range(12):
                if saver < 2:
                    save(kill_pairs.graph(saver, number), path)
                else:
                    read = load(path)
                    who, when = map(int, read.graph["title"].split())
                    assert (read.edges["x", "y", 0]["init"] == 1000.0 * who + when).all()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(saver,)) for saver in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(list(tmp_path.iterdir())) == 2

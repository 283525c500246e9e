"""Processes that save a graph with large arrays over and over are killed again and again; what they leave is loaded.

`python tests/kill_pairs.py FOLDER KILLS` forks one or two processes that save to one path, kills them with SIGKILL at a
random moment, and reads the graph that they left. Prints JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

import forwardgrad as fg

SIZE = 100


def graph(saver: int, number: int) -> nx.MultiDiGraph[str]:
    """A graph that says in its text and in its arrays who saved it, and for which time."""
    found: nx.MultiDiGraph[str] = nx.MultiDiGraph(title=f"{saver} {number}")
    found.add_node("x", op="input", size=SIZE)
    found.add_node("y", op="linear", size=SIZE)
    found.add_edge("x", "y", weight="dense", init=np.full((SIZE, SIZE), 1000.0 * saver + number))
    return found


def save_in_a_loop(path: Path, saver: int, told: int) -> None:
    """Save without end, and tell after each save which it was."""
    number = 0
    while True:
        number += 1
        fg.save(graph(saver, number), path)
        os.write(told, f"{saver}:{number} ".encode())


def killed(path: Path, savers: int, after: float) -> dict[int, int]:
    """Fork processes that save, kill them so long after the first save; which was the last that each told of."""
    hears, tells = os.pipe()
    children: list[int] = []
    for saver in range(savers):
        child = os.fork()
        if child == 0:
            try:
                save_in_a_loop(path, saver, tells)
            finally:
                os._exit(1)
        children.append(child)
    os.close(tells)
    said = os.read(hears, 100)
    time.sleep(after)
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)
    while more := os.read(hears, 4096):
        said += more
    os.close(hears)
    pairs = [text.split(":") for text in said.decode().split()]
    return {int(saver): int(number) for saver, number in pairs}


def main(folder: Path, kills: int) -> dict[str, Any]:
    """Kill so many times; look after each at what is left."""
    path, random = folder / "net.toml", np.random.default_rng()
    within, mixed, lost, most = 0, 0, 0, 0
    for kill in range(kills):
        told = killed(path, 1 + kill % 2, random.uniform(0, 0.02))
        read = fg.load(path)  # raises where the pair is neither the old one nor the new
        saver, number = map(int, read.graph["title"].split())
        mixed += bool(np.any(read.edges["x", "y", 0]["init"] != 1000.0 * saver + number))
        lost += number < told.get(saver, 0)
        beside = [file for file in folder.iterdir() if file.suffix == ".npz"]
        most = max(most, len(beside))
        for file in folder.glob(".*.tmp"):
            within += 1
            file.unlink()
    fg.save(graph(0, 0), path)
    return {
        "kills": kills,
        "within a write": within,
        "mixed": mixed,
        "lost": lost,
        "most arrays": most,
        "files at the end": len(list(folder.iterdir())),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))

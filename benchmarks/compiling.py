"""How long does compiling take? For every shipped graph, and for graphs of 200 nodes: stacks, a ring, a tangle."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from tqdm import tqdm

import forwardgrad as fg
from forwardgrad import cells
from forwardgrad.graph import library

RULES = ("eprop", "eprop-deep", "rtrl")
ROUNDS = 3


@dataclass(frozen=True)
class Compiled:
    """How long the derivation of a rule takes for a graph, with its source generated.

    Args:
        graph: its name.
        nodes, edges: how many it has.
        rule: the rule.
        seconds: one a round.
    """

    graph: str
    nodes: int
    edges: int
    rule: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.seconds)

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "median": self.median}


def stack(layers: int = 22) -> nx.MultiDiGraph:
    """Layers of long short-term memory, each fed by the one below: 9 nodes a layer."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=4)
    source = "x"
    for n in range(1, layers + 1):
        source = cells.lstm(graph, f"l{n}", source, 4)
    cells.readout(graph, "y", source, 2)
    return graph


def deep(layers: int = 198) -> nx.MultiDiGraph:
    """Layers of units that each read their own past and the unit below: all that is below acts on all above."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=4)
    for n in range(layers):
        graph.add_node(f"h{n}", op="tanh", size=4)
        graph.add_edge(f"h{n - 1}" if n else "x", f"h{n}", weight="diagonal" if n else "dense")
        graph.add_edge(f"h{n}", f"h{n}", weight="diagonal", delay=1)
    cells.readout(graph, "y", f"h{layers - 1}", 2)
    return graph


def ring(nodes: int = 198) -> nx.MultiDiGraph:
    """Units in a ring, each a step behind the one before: everything is in one cycle."""
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=4)
    for n in range(nodes):
        graph.add_node(f"h{n}", op="tanh", size=4)
        graph.add_edge(f"h{n - 1}" if n else "x", f"h{n}", weight="dense", delay=1 if n else 0)
    graph.add_edge(f"h{nodes - 1}", "h0", weight="dense", delay=1)
    cells.readout(graph, "y", f"h{nodes - 1}", 2)
    return graph


def tangle(nodes: int = 198, seed: int = 0) -> nx.MultiDiGraph:
    """Units that each read three others, drawn at random: nearly everything is in one cycle."""
    rng = np.random.default_rng(seed)
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", size=4)
    for n in range(nodes):
        graph.add_node(f"h{n}", op="tanh", size=4)
    graph.add_edge("x", "h0", weight="dense")
    for n in range(nodes):
        for source in rng.choice(nodes, 3, replace=False):
            graph.add_edge(f"h{source}", f"h{n}", weight="dense", delay=int(source >= n))
    cells.readout(graph, "y", f"h{nodes - 1}", 2)
    return graph


def measured(rounds: int) -> list[Compiled]:
    """All of them; each is printed when it is done."""
    graphs = {name: fg.load(name) for name in library.names()}
    graphs |= {
        "stack of 22 LSTMs": stack(),
        "stack of 198 elementwise layers": deep(),
        "ring": ring(),
        "tangle": tangle(),
    }
    found: list[Compiled] = []
    for name, graph in tqdm(graphs.items(), desc="compiling", leave=False):
        for rule in RULES:
            took = tuple(_seconds(graph, rule) for _ in range(rounds))
            found.append(Compiled(name, len(graph), graph.number_of_edges(), rule, took))
    width = max(len(one.graph) for one in found)
    for one in found:
        print(f"{one.graph:<{width}}  {one.nodes:>4} nodes  {one.rule:<11}{1e3 * one.median:>9,.0f} ms")
    return found


def _seconds(graph: nx.MultiDiGraph, rule: str) -> float:
    began = time.perf_counter()
    fg.compile(graph, {"y": "mse"} if "loss" not in graph.graph else None, rule, dead="ignore")
    return time.perf_counter() - began

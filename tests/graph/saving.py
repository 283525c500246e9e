"""What tests of files share."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.graph.files import load
from forwardgrad.ops import Op
from forwardgrad.support.attributes import numbers

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

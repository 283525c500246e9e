"""Are the graphs that come with the package found, documented and alive, in a checkout and in a wheel?"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import forwardgrad as fg
from forwardgrad.errors import FileError, RuleError
from forwardgrad.graph import Network, draw, library, validate
from forwardgrad.graph.files import load
from forwardgrad.oracle import forward
from forwardgrad.rules import table

NAMES = ["alif", "auto_compressing", "columnar_lstm", "conv_lif", "cuba_lif", "dense_skips", "dilated", "egru"]
NAMES += ["ei_pair", "elman", "elstm", "gru", "indrnn", "leaky_stack", "lif", "low_rank", "lru", "lstm", "mgu"]
NAMES += ["min_gru", "min_lstm", "multi_timescale", "parallel_reservoirs", "reservoir", "residual", "rtu", "top_down"]
NAMES += ["two_populations"]
TASKS = {"evidence_accumulation": (40, "cross_entropy"), "pattern_generation": (100, "mse")}
"""Graphs of one task each: how many inputs they have, and their loss."""


def run(name: str, steps: int = 40, batch: int = 3) -> tuple[Network, dict[str, np.ndarray]]:
    """A shipped graph at its initial parameters, fed with standard normal noise."""
    graph = load(name)
    network = validate(graph)
    params = {key: draw(parameter, 0) for key, parameter in network.parameters.items()}
    x = np.random.default_rng(1).normal(size=(steps, batch, 1))
    if name in TASKS:  # spikes, 40 a second
        x = (np.random.default_rng(1).uniform(size=(steps, batch, TASKS[name][0])) < 0.04).astype(float)
    return network, forward(graph, params, {"x": x})


def test_names_are_those_of_the_folder() -> None:
    """If this fails, a graph is missing from the package, or this test from a new graph."""
    assert {*NAMES, *TASKS} <= set(library.names())
    assert library.names() == sorted(library.names())
    assert list(library.titles()) == library.names()
    assert all(library.path(name).is_file() for name in library.names())


def test_unknown_name_suggests_the_nearest() -> None:
    """If this fails, a slip of the pen leaves the user searching for the folder."""
    with pytest.raises(FileError, match=r"unknown graph 'leaky_stak'\.\n  Did you mean 'leaky_stack'\?"):
        library.path("leaky_stak")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_graph_cites_its_source_and_serves_the_main_job(name: str) -> None:
    """If this fails, a graph is uncredited, or cannot be trained on a one-dimensional series."""
    graph = load(name)
    assert graph.graph["title"] == library.titles()[name]
    assert re.search(r"doi 10\.\d+/|arXiv \d{4}\.\d{4,5}", graph.graph["source"])
    assert graph.graph["loss"] == {"y": "mse"}
    network = validate(graph)
    assert network.inputs == ("x",)
    assert network.nodes["x"].size == network.nodes["y"].size == 1
    assert max(node.size for node in network.nodes.values() if not node.op.joins) == 32


@pytest.mark.parametrize("name", TASKS)
def test_shipped_graph_of_a_task_cites_it(name: str) -> None:
    """If this fails, a network of the literature is uncredited, or has not its size."""
    graph = load(name)
    assert "Bellec et al. 2020" in graph.graph["source"]
    assert validate(graph).nodes["x"].size == TASKS[name][0]
    assert graph.graph["loss"] == {"y": TASKS[name][1]}


@pytest.mark.parametrize("name", [*NAMES, *TASKS])
def test_shipped_graph_is_alive(name: str) -> None:
    """If this fails, a graph starts dead (no unit moves), or runs away."""
    _, values = run(name)
    for node, array in values.items():
        assert np.isfinite(array).all()
        assert np.abs(array).max() < 50, node
        assert array[10:].std() > 1e-3, node  # over units too: the lambda of an LRU stays


SPIKING = [("alif", "z"), ("conv_lif", "z"), ("lif", "z"), ("cuba_lif", "l1.z"), ("two_populations", "fixed.z")]
SPIKING += [("two_populations", "adaptive.z"), ("evidence_accumulation", "fixed.z"), ("pattern_generation", "l1.z")]


@pytest.mark.parametrize("name", [*NAMES, *TASKS])
def test_shipped_graph_compiles_under_every_rule(name: str) -> None:
    """If this fails, a rule or an architecture is offered that the other does not go with."""
    graph = load(name)
    network = validate(graph)
    dense = {edge.param: "kf-rtrl" for edge in network.edges.values() if edge.kind == "dense" and edge.value is None}
    needs = {"hops": "hops(2)", "snap": "snap(1)", "window": "window(2)", "dsf": "dsf(0.5)"}
    needs["kf-rtrl"] = {name: dense[name] for name in dense.keys() & network.trainable} | {
        "*": "rtrl"
    }  # it takes dense weights alone
    for rule in (needs.get(name, name) for name in table.RULES):
        if name in ("ei_pair", "low_rank") and rule == "dsf(0.5)":  # a constant stands for matrices that are square
            with pytest.raises(RuleError, match="needs equal sizes"):
                fg.compile(graph, rule=rule, dead="ignore")
            continue
        program = fg.compile(graph, rule=rule, dead="ignore")
        assert set(program.rules) <= set(program.network.trainable), rule
        assert program.rules, rule


@pytest.mark.parametrize(("name", "spikes"), SPIKING)
def test_nearly_every_spiking_unit_spikes(name: str, spikes: str) -> None:
    """If this fails, gradients of a spiking graph are zero or meaningless, and tests on it say nothing."""
    _, values = run(name, steps=500)
    rates = values[spikes].mean(axis=(0, 1))
    assert set(np.unique(values[spikes])) == {0.0, 1.0}
    assert 0.015 < rates.mean() < 0.5
    assert (rates > 0).mean() > 0.8


def test_structure_of_leaky_stack() -> None:
    """If this fails, the graph of the main job is another one than its equations say."""
    network = validate(load("leaky_stack"))
    edges = {name: (edge.kind, edge.delay) for name, edge in network.edges.items()}
    assert edges == {
        "x->a1": ("dense", 0),
        "h1->a1": ("dense", 1),
        "h1->h1": ("scalar", 1),
        "a1->h1": ("scalar", 0),
        "h1->a2": ("dense", 0),
        "h2->a2": ("dense", 1),
        "h2->h2": ("scalar", 1),
        "a2->h2": ("scalar", 0),
        "h1->y": ("dense", 0),
        "h2->y": ("dense", 0),
    }
    for layer in "12":
        leak, rate = network.edges[f"h{layer}->h{layer}"].value, network.edges[f"a{layer}->h{layer}"].value
        assert leak is not None
        assert rate is not None
        assert leak + rate == pytest.approx(1.0)


def test_structure_of_lif() -> None:
    """If this fails, rules do not see the reset, and e-prop passes credit through it."""
    network = validate(load("lif"))
    assert [edge.name for edge in network.edges.values() if edge.role == "reset"] == ["z->v#reset"]
    reset = network.edges["z->v#reset"]
    assert (reset.kind, reset.delay, float(reset.value)) == ("scalar", 1, -1.0)  # type: ignore[arg-type]
    assert network.nodes["z"].op.name == "spike"


@pytest.mark.parametrize("wheel", [True, False])
def test_graphs_are_found_in_a_wheel_and_in_a_checkout(
    wheel: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, one kind of installation has no graphs."""
    folder = tmp_path / "forwardgrad" / "_graphs" if wheel else tmp_path / "graphs"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text('[graph]\ntitle = "Mine"\n')
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(library, "files", lambda package: tmp_path / package)
    assert library.names() == ["mine"]
    assert library.titles() == {"mine": "Mine"}


def test_installation_without_graphs_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a folder `graphs` of somebody else's, beside an installed package, is taken for ours."""
    (tmp_path / "graphs").mkdir()
    monkeypatch.setattr(library, "files", lambda package: tmp_path / package)
    with pytest.raises(FileError, match="the shipped graphs are neither in"):
        library.names()

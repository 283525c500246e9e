"""Learners that grow: a larger program goes on where a smaller one was, with its parameters, memories and traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import networkx as nx
import numpy as np

from forwardgrad import cells
from forwardgrad.compiler.keys import is_influence, meaning, names_of
from forwardgrad.errors import DataError, GraphError
from forwardgrad.learning.learner import Learner, Policy
from forwardgrad.ops import Array
from forwardgrad.program import Program


def grown(learner: Learner, program: Program, seed: int = 0) -> Learner:
    """A learner of a larger program, which goes on where a learner is.

    What both programs have by one name is carried over: parameters, what the optimizer remembers of them, values of
    nodes, and influence of parameters that are still trained. What is new begins as at the start of a sequence. So the
    gradient that follows is exact where the larger program's is: nothing of the past is lost, and a node that begins
    now has no past. What an optimizer counts once for all parameters, as Adam does, goes on. A new delayed edge from an
    old node whose past was not kept reads its initial value at first.

    Args:
        learner: of the smaller program; it is not changed.
        program: the larger one: more nodes, edges or outputs, or fewer trained parameters (`learning.freezing.frozen`).
        seed: of its new parameters.

    Returns:
        A learner with the same optimizer and settings.

    Raises:
        DataError: if a parameter, a value or a trace has another shape there, or a trace would be lost.

    Source: growth in stages is that of Javed et al. 2023, arXiv 2302.05326.

    >>> import forwardgrad as fg
    >>> graph = fg.load("columnar_lstm")
    >>> learner = fg.Learner(fg.compile(graph), fg.compile(graph).init(seed=3), fg.SGD(0.1))
    >>> larger = add_stage(graph, "l2", reads=["x", "l1.h"], size=4, output="y")
    >>> after = grown(learner, fg.compile(larger))
    >>> bool((after.params["x->l1.i"] == learner.params["x->l1.i"]).all()), after.params["l2.norm.h->y"]
    (True, array([[0., 0., 0., 0.]]))
    """
    before = learner.program
    if program.dtype != before.dtype:
        raise DataError(f"growth: the learner computes in {before.dtype}, the larger program in {program.dtype}.")
    params = _carried("parameter", program.init(seed), learner.params)
    policy = cast(Policy, learner.on_nonfinite)
    after = Learner(program, params, learner.optimizer, clip=learner.clip, on_nonfinite=policy)
    after.optimizer_state = _carried("memory of the optimizer", after.optimizer_state, learner.optimizer_state)
    if learner.state is not None:
        batch = next(array.shape[1] for array in learner.state.values() if array.ndim > 1)
        fresh = program.start(batch, draw=0)
        _refuse_losses(before, program, learner.state, fresh)
        after.state = _carried("state", fresh, learner.state)
    after.seen, after.episodes = learner.seen, learner.episodes
    return after


def _carried(what: str, fresh: Mapping[str, Array], given: Mapping[str, Array]) -> dict[str, Array]:
    """What is new, with what was there before in its place."""
    for name in sorted(fresh.keys() & given.keys()):
        if fresh[name].shape != given[name].shape:
            here, there = given[name].shape, fresh[name].shape
            raise DataError(
                f"growth: {what} {name!r} has shape {here}, and {there} in the larger program.",
                "Give what is new nodes and edges of its own, and leave those that are there as they are.",
            )
    return {name: np.array(given.get(name, array)) for name, array in fresh.items()}


def _refuse_losses(before: Program, after: Program, given: Mapping[str, Array], fresh: Mapping[str, Array]) -> None:
    """Refuse a larger program in which a trace of a parameter that it trains is not found again."""
    for key in sorted(given.keys() ^ fresh.keys()):
        names = names_of(key)
        trained = names[0] in before.rules and names[0] in after.rules
        nodes = before.network.nodes
        if is_influence(key) and trained and all(name in nodes for name in names[1:2]):
            raise DataError(
                f"growth: the larger program stores {meaning(key)} differently.",
                "Train the parameter under the same rule in both, or freeze it.",
            )


def add_stage(
    graph: nx.MultiDiGraph[str],
    name: str,
    reads: Sequence[str],
    size: int,
    output: str,
    *,
    decay: float = 0.999,
    floor: float = 1e-4,
    **options: Any,
) -> nx.MultiDiGraph[str]:
    """The graph with another stage of a columnar-constructive network, which leaves all other values as they are.

    A stage is a group of columns, `cells.columnar_lstm`, that see the inputs and the features of earlier stages. Its
    features are normalised by running statistics, and enter the output by weights that are 0 at first. Learn one stage
    at a time: freeze all but the output's weights before the next one is added. Then the exact gradient by a stage's
    parameters takes two numbers per synapse, however many stages there are.

    Source: Javed et al. 2023, "Scalable real-time recurrent learning using columnar-constructive networks", arXiv
    2302.05326. There a weight reads features as they were normalised when it was learned; here statistics go on.

    Args:
        graph: a declared graph; it is not changed.
        name: of the stage; its nodes are `name.in`, those of the cell, and those of `cells.running_norm` as
            `name.norm`, whose output `name.norm.h` is what later stages read.
        reads: the nodes whose values its columns see.
        size: number of columns.
        output: the linear node that reads its features.
        decay: of mean and variance.
        floor: the least variance.
        options: of `cells.columnar_lstm`.

    Returns:
        The larger graph.

    Raises:
        GraphError: if a name is taken or unknown, or an argument is illegal.

    >>> import forwardgrad as fg
    >>> graph = add_stage(fg.load("columnar_lstm"), "l2", reads=["x", "l1.h"], size=4, output="y")
    >>> derived = fg.compile(graph).rules["l2.in->l2.i"]
    >>> derived.exact, derived.bytes // 8 == 2 * (1 + 32) * 4
    (True, True)
    """
    larger: nx.MultiDiGraph[str] = nx.MultiDiGraph(graph)
    for node in (*reads, output):
        if node not in larger:
            raise GraphError(f"stage {name!r}: the graph has no node {node!r}.")
    if f"{name}.in" in larger:
        raise GraphError(f"stage {name!r}: the graph has a node '{name}.in' already.")
    larger.add_node(f"{name}.in", op="concat", layer=name)
    for part, node in enumerate(reads):
        larger.add_edge(node, f"{name}.in", port=str(part))
    features = cells.columnar_lstm(larger, name, input=f"{name}.in", size=size, **options)
    normal = cells.running_norm(larger, f"{name}.norm", input=features, size=size, decay=decay, floor=floor)
    larger.add_edge(normal, output, weight="dense", init="zeros")
    return larger

"""How is a moment of a run drawn? Over the graph: sizes of traces, learning signals and their products at a step."""

from __future__ import annotations

import graphviz
import numpy as np

from forwardgrad.errors import DataError, RenderError, did_you_mean
from forwardgrad.graph import Node
from forwardgrad.graph.schema import is_whole
from forwardgrad.recording import Record, Sizes
from forwardgrad.render import style
from forwardgrad.render.collapsed import CAP, EDGES_PER_NODE
from forwardgrad.render.scene import Scene
from forwardgrad.render.text import lines, power

GROUNDS = ("#ffffff", "#eaf2fb", "#cfe1f5", "#a6c8ec", "#74a9dd", "#4a8bcb")
"""Grounds of a node whose trace is nothing, up to the largest in the run."""

WIDEST = 6.0
"""Points; the pen of an edge over which the largest trace of the run comes."""


def flow(
    record: Record, t: int, parameter: str | None = None, *, title: str | None = None, cap: int | None = CAP
) -> graphviz.Digraph:
    """Draw what flows at one step of a run.

    A node says the size of the eligibility trace there, of the learning signal, and of their product: the gradient of
    this step's loss that passes through it. The darker its ground, the larger the trace, relative to the largest of
    the run. An edge says the size of the influence that comes over it and of the gradient that goes with it; the wider,
    the larger. Grey nodes and edges carry no credit.

    Args:
        record: from `Program.record`.
        t: the step, counted from 0; from the end if negative.
        parameter: whose flow; by default that of all recorded parameters together (roots of summed squares).
        title: a line under the picture; by default parameter and step.
        cap: the most nodes to draw; `None` draws everything.

    Returns:
        The drawing. Equal records give equal DOT text. Node k of the graph is `nk`, edge k has the id `ek`.

    Raises:
        DataError: if there is no such step, or the parameter was not recorded.
        RenderError: if there are too many nodes.
    """
    if not is_whole(t) or not -record.steps <= t < record.steps:
        raise DataError(f"flow: there is no step {t!r}; the record has {record.steps}, counted from 0.")
    if parameter is not None and parameter not in record.parameters:
        raise DataError(f"flow: parameter {parameter!r} was not recorded.", did_you_mean(parameter, record.parameters))
    network, t = record.plan.network, int(t) % record.steps
    if cap is not None and (len(network.nodes) > cap or len(network.edges) > EDGES_PER_NODE * cap):
        raise RenderError(
            f"too large to draw: {len(network.nodes)} nodes and {len(network.edges)} edges; "
            f"the limits are {cap} and {EDGES_PER_NODE * cap}.",
            f"Raise the limit (cap={len(network.nodes)}) or drop it (None).",
        )
    nodes, edges = record.nodes(parameter), record.edges(parameter)
    most = _largest(list(nodes.values())), _largest(list(edges.values()))
    about = parameter or "all recorded parameters"
    notes = [
        "trace: size of the influence",
        "signal: of the derivative of this step's loss",
        "gradient: of their product",
        "darker or wider: larger trace",
    ]
    scene = Scene(network, title if title is not None else f"{about} at step {t} of {record.steps}", notes)

    def on_node(node: Node) -> str:
        found = nodes.get(node.name)
        if found is None:
            return lines(node.name, node.op.name)
        assert found.signal is not None
        sizes = ("trace", found.trace), ("signal", found.signal), ("gradient", found.product)
        return lines(node.name, *(f"{word} {_short(array[t])}" for word, array in sizes))

    def look(node: Node) -> dict[str, str | None]:
        if node.name not in nodes:
            return {"color": style.FIXED, "fontcolor": style.FIXED}
        return {"fillcolor": GROUNDS[_level(nodes[node.name].trace[t], most[0])]}

    scene.nodes(on_node, look)
    for index, edge in enumerate(network.edges.values()):
        found = edges.get(edge.name)
        delay = power(edge.delay) if edge.delay else ""
        if found is None:
            scene.edge(edge, f"e{index}", label=lines(delay), color=style.FIXED, fontcolor=style.FIXED, penwidth="0.6")
            continue
        width = 0.8 + (WIDEST - 0.8) * (found.trace[t] / most[1] if most[1] else 0)
        text = lines(delay, f"trace {_short(found.trace[t])}", f"gradient {_short(found.product[t])}")
        color = style.DELAYED if edge.delay else style.INK
        dashed = {"style": "dashed"} if edge.delay else {}
        scene.edge(edge, f"e{index}", label=text, color=color, fontcolor=color, penwidth=f"{width:.2f}", **dashed)
    return scene.drawing


def _largest(sizes: list[Sizes]) -> float:
    return max((float(found.trace.max()) for found in sizes), default=0.0)


def _level(size: float, most: float) -> int:
    """Which ground: evenly spaced in the square root, so that small traces are seen."""
    return 0 if most <= 0 or size <= 0 else 1 + int(np.sqrt(size / most) * (len(GROUNDS) - 2) + 0.5)


def _short(value: float) -> str:
    return f"{value:.3g}"

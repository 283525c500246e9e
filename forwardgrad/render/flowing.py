"""How is a moment of a run drawn? Over the graph: sizes of traces, learning signals and their products at a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from forwardgrad.errors import DataError, did_you_mean
from forwardgrad.graph import Edge
from forwardgrad.ops import Array
from forwardgrad.program.recording import Record, Sizes
from forwardgrad.render import collapsed, labels, style
from forwardgrad.render.collapsed import CAP
from forwardgrad.render.picture import Picture
from forwardgrad.render.scene import Scene
from forwardgrad.render.style import Key, Line
from forwardgrad.render.text import lines, power
from forwardgrad.support.attributes import is_whole

THINNEST, WIDEST = 0.8, 6.0
"""Points; the pens of edges over which no trace comes, and the largest of the run."""


def flow(
    record: Record, t: int, parameter: str | None = None, *, title: str | None = None, cap: int | None = CAP
) -> Picture:
    """Draw what flows at one step of a run.

    A node says the size of the eligibility trace there, of the learning signal, and of their product: the gradient of
    this step's loss that passes through it. The darker its ground, the larger the trace, relative to the largest of
    the run. The wider an edge, the larger the influence that comes over it; where the pointer rests on it, an SVG says
    this size, and that of the gradient that goes with it. Grey nodes and edges carry no credit.

    Args:
        record: from `Program.record`.
        t: the step, counted from 0; from the end if negative.
        parameter: whose flow; by default that of all recorded parameters together (roots of summed squares).
        title: a line under the picture; by default parameter and step.
        cap: as for `graph`: a larger graph is drawn with one node per layer, sizes as roots of summed squares.

    Returns:
        The drawing. Equal records give equal DOT text. Node k of the graph is `nk`, edge k has the id `ek`.

    Raises:
        DataError: if there is no such step, or the parameter was not recorded.
        RenderError: if the graph is too large even with one node per layer.
    """
    if not is_whole(t) or not -record.steps <= t < record.steps:
        raise DataError(f"flow: there is no step {t!r}; the record has {record.steps}, counted from 0.")
    if parameter is not None and parameter not in record.parameters:
        raise DataError(f"flow: parameter {parameter!r} was not recorded.", did_you_mean(parameter, record.parameters))
    network, t = record.plan.network, int(t) % record.steps
    nodes, edges = record.nodes(parameter), record.edges(parameter)
    pen = _Pen(t, nodes, edges)
    title = title if title is not None else f"{parameter or 'all recorded parameters'} at step {t} of {record.steps}"
    legend = [
        Key("trace: size of the influence of the parameter (its eligibility trace); the darker a node, the larger"),
        *(
            Key(f"{pen.of_nodes * share:.2g}", node=style.node(style.ground(share)))
            for share in (0.0, 1 / 16, 1 / 4, 9 / 16, 1.0)
            if pen.of_nodes
        ),
        Key(f"over an edge; the widest is {_short(pen.of_edges)}", style.credit("kept", False)),
        style.CARRIED,
        style.PASSIVE,
        Key("signal: size of the derivative of this step's loss (a learning signal); gradient: of trace times signal"),
    ]
    large = collapsed.layered(network, title, cap, pen.bundle, legend, pen.group)
    if large is not None:
        return large
    scene = Scene(network, title, legend)
    scene.nodes(
        lambda node: lines(node.name, *(pen.group([node.name]) or [labels.about(node)])),
        lambda node: pen.ground(nodes[node.name]) if node.name in nodes else style.node("passive"),
    )
    for edge in network.edges.values():
        text, line = pen.bundle([edge], edge.delay > 0)
        scene.edge(edge, line, lines(power(edge.delay) if edge.delay else ""), about=", ".join(text))
    return scene.picture


class _Pen:
    """How large what flows at a step is drawn, beside the largest of the run."""

    def __init__(self, t: int, nodes: Mapping[str, Sizes], edges: Mapping[str, Sizes]) -> None:
        self.t, self.nodes, self.edges = t, nodes, edges
        self.of_nodes, self.of_edges = (
            max((float(found.trace.max()) for found in sizes.values()), default=0.0) for sizes in (nodes, edges)
        )

    def group(self, names: Sequence[str]) -> list[str]:
        """The lines on a node, or on a group of nodes."""
        found = [self.nodes[name] for name in names if name in self.nodes]
        if not found:
            return []
        signals = [sizes.signal for sizes in found if sizes.signal is not None]
        rows = {
            "trace": [sizes.trace for sizes in found],
            "signal": signals,
            "gradient": [sizes.product for sizes in found],
        }
        return [f"{word} {_short(self._root(arrays))}" for word, arrays in rows.items()]

    def bundle(self, edges: Sequence[Edge], delayed: bool) -> tuple[list[str], Line]:
        """What is said of an edge, or of a bundle of edges, and its look."""
        found = [self.edges[edge.name] for edge in edges if edge.name in self.edges]
        if not found:
            return [], style.credit("passive", delayed)
        trace = self._root([sizes.trace for sizes in found])
        share = min(trace / self.of_edges, 1.0) if self.of_edges else 0.0
        text = [f"trace {_short(trace)}", f"gradient {_short(self._root([sizes.product for sizes in found]))}"]
        return text, Line("kept", delayed, round(THINNEST + (WIDEST - THINNEST) * share, 2))

    def ground(self, sizes: Sizes) -> dict[str, str]:
        """The look of a node by the size of its trace."""
        share = sizes.trace[self.t] / self.of_nodes if self.of_nodes else 0.0
        return style.node(style.ground(float(share)))

    def _root(self, arrays: Sequence[Array]) -> float:
        return float(np.sqrt(sum(array[self.t] ** 2 for array in arrays)))


def _short(value: float) -> str:
    return f"{value:.3g}"

"""How is credit drawn in time? A column per step: kept paths from one use of a parameter, and where others are cut."""

from __future__ import annotations

from collections.abc import Iterator

import graphviz

from forwardgrad.errors import RenderError
from forwardgrad.graph import Network
from forwardgrad.program import Program
from forwardgrad.render import style
from forwardgrad.render.collapsed import CAP
from forwardgrad.render.credit import CARRIES, CUTS, ENTRY
from forwardgrad.render.fates import DEAD, KEPT, Fates, Place, fates
from forwardgrad.render.picture import Picture
from forwardgrad.render.text import lines
from forwardgrad.support.attributes import is_whole

Cell = tuple[int, Place]
"""A step, and a place."""


def unrolled(
    program: Program, parameter: str, steps: int = 4, *, title: str | None = None, cap: int | None = CAP
) -> Picture:
    """Draw the graph unrolled in time, with all that becomes of the credit of one use of a parameter.

    The parameter is used at step t, the first column. Green arrows are the kept edges of all paths that lead on from
    there; a node that is reached in several modes stands there once for each. Red, dashed arrows are the edges at
    which the rule cuts paths. Nodes that no path comes to are small and grey. Nodes with two lines around them have a
    learning signal, the derivative of a loss or one that is given: there credit arrives.

    Args:
        program: a compiled program.
        parameter: one of its trained parameters.
        steps: how many columns.
        title: a line under the picture; by default parameter and rule.
        cap: the most nodes to draw, over all columns; `None` draws everything.

    Returns:
        The drawing. Equal programs give equal DOT text. Node k at step t has the id `tT_nK`, and in its second mode
        `tT_nK_1`, and so on.

    Raises:
        DataError: if there is no such parameter.
        RuleError: if it is not trained.
        RenderError: if there are too many nodes, or no step.

    >>> import forwardgrad as fg
    >>> g = fg.load("elman")
    >>> name = next(iter(fg.compile(g, rule="rtrl").rules))
    >>> [unrolled(fg.compile(g, rule=rule), name).source.count(CARRIES) for rule in ("rtrl", "immediate")]
    [15, 3]
    """
    if not is_whole(steps) or steps < 1:
        raise RenderError(f"unrolled: steps must be a whole number >= 1, got {steps!r}.")
    network = program.network
    found = fates(program, parameter)
    drawn = len(network.nodes) * steps
    cells = _cells(network, found, steps if cap is None or drawn <= cap else 0)
    drawn += sum(len(modes) - 1 for modes in _modes(cells).values())
    if cap is not None and drawn > cap:
        raise RenderError(
            f"too large to unroll: {len(network.nodes)} nodes over {steps} steps are {drawn} nodes to draw; "
            f"the limit is {cap}.",
            f"Draw fewer steps, or raise the limit (cap={drawn}) or drop it (None).",
        )
    if title is None:
        derived = program.rules[parameter]
        title = f"{parameter}, used at step t, under {derived.rule}: {derived.verdict}"
    notes = ["orange: the use", "green: kept", "red, dashed: cut", "two lines: a learning signal enters"]
    drawing = style.canvas(title, notes)
    drawing.attr("graph", ranksep="0.9")
    return _Picture(program, found, steps, cells, drawing).drawn()


def _cells(network: Network, found: Fates, steps: int) -> list[Cell]:
    """The places that credit of a use at step 0 comes to, with the step, in the order in which they are found."""
    cells = dict.fromkeys((0, place) for place, _ in found.entries if place in found.reached)
    queue = list(cells)
    while queue:
        for cell in _after(network, found, queue.pop(0)):
            if cell[0] < steps and cell not in cells:
                cells[cell] = None
                queue.append(cell)
    return list(cells)


def _after(network: Network, found: Fates, cell: Cell) -> Iterator[Cell]:
    step, (node, mode) = cell
    for arc in found.arcs:
        edge = network.edges[arc.edge]
        if arc.fate == KEPT and arc.target is not None and (edge.source, arc.source) == (node, mode):
            yield step + edge.delay, (edge.target, arc.target)


def _modes(cells: list[Cell]) -> dict[tuple[int, str], list[str]]:
    modes: dict[tuple[int, str], list[str]] = {}
    for step, (node, mode) in cells:
        modes.setdefault((step, node), []).append(mode)
    return modes


class _Picture:
    def __init__(self, program: Program, found: Fates, steps: int, cells: list[Cell], drawing: Picture) -> None:
        self.program, self.found, self.steps, self.drawing = program, found, steps, drawing
        self.modes = _modes(cells)
        self.numbers = {name: index for index, name in enumerate(program.network.order)}

    def identity(self, step: int, node: str, mode: str | None = None) -> str:
        """The id of a node at a step, in a mode; in the first where none is given."""
        modes = self.modes.get((step, node), [])
        place = modes.index(mode) if mode is not None else 0
        return f"t{step}_n{self.numbers[node]}" + (f"_{place}" if place else "")

    def drawn(self) -> Picture:
        for step in range(self.steps):
            self.column(step)
        for first, second in zip(range(self.steps), range(1, self.steps), strict=False):
            for node in self.program.network.order:  # a row per node
                self.drawing.edge(self.identity(first, node), self.identity(second, node), style="invis", weight="20")
        for (step, node), modes in self.modes.items():
            for mode in modes:
                self.leaving(step, node, mode)
        for number, (place, name) in enumerate(self.found.entries):
            self.entry(number, place, name)
        return self.drawing

    def column(self, step: int) -> None:
        column = graphviz.Digraph(f"step_{step}")
        column.attr("graph", rank="same")
        head = f"t{step}"
        label = lines(f"t+{step}" if step else "t")
        column.node(head, label=label, shape="plaintext", id=head, fontcolor="#57606a")
        above = head
        for node in self.program.network.order:
            for mode in self.modes.get((step, node), [None]):
                identity = self.identity(step, node, mode)
                column.node(identity, **self.look(step, node, mode), id=identity, tooltip=lines(node, limit=400))
                column.edge(above, identity, style="invis")  # keeps the order of rows
                above = identity
        self.drawing.subgraph(column)

    def look(self, step: int, node: str, mode: str | None) -> dict[str, str]:
        seeded = any(at == node and mode in (None, m) for at, m in self.found.seeds)
        loss = {"peripheries": "2"} if seeded else {}
        shape = self.program.network.nodes[node].op.shape
        if mode is None:
            grey = {"color": "#c8ced5", "fontcolor": style.FIXED, "fontsize": "8", "height": "0.2", "width": "0.3"}
            return {"label": lines(node), "shape": shape, **grey, **loss}
        several = len({m for at, m in self.found.reached if at == node}) > 1
        entered = not step and any(place == (node, mode) for place, _ in self.found.entries)
        return {
            "label": lines(node, f"mode {mode}" if several else ""),
            "shape": shape,
            "color": CARRIES,
            "penwidth": "2",
            **loss,
            **({"fillcolor": "#fff1e5"} if entered else {}),
        }

    def leaving(self, step: int, node: str, mode: str) -> None:
        """The arrows that leave a node in a mode."""
        for arc in self.found.arcs:
            edge = self.program.network.edges[arc.edge]
            then = step + edge.delay
            if (edge.source, arc.source) != (node, mode) or then >= self.steps or arc.fate == DEAD:
                continue
            kept = arc.fate == KEPT
            self.drawing.edge(
                self.identity(step, node, mode),
                self.identity(then, edge.target, arc.target if kept else None),
                constraint="false",
                color=CARRIES if kept else CUTS,
                style="solid" if kept else "dashed",
                penwidth="2" if kept else "1.2",
                tooltip=lines(edge.name, limit=400),
                **({"label": lines(arc.part), "fontcolor": CARRIES if kept else CUTS} if arc.part else {}),
            )

    def entry(self, number: int, place: Place, name: str | None) -> None:
        """The arrow by which the parameter enters at the first step."""
        node, mode = place
        if (0, node) not in self.modes:
            return
        here = f"enters_{number}"
        edge = self.program.network.edges.get(name or "")
        source = "bias" if edge is None else f"{edge.source}(t{f'-{edge.delay}' if edge.delay else ''})"
        self.drawing.node(here, label=lines(source), shape="plaintext", fontcolor=ENTRY, fontsize="9", id=here)
        self.drawing.edge(
            here, self.identity(0, node, mode), color=ENTRY, penwidth="2", tooltip=lines(name or self.found.parameter)
        )

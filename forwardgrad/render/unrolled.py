"""How is credit drawn in time? A column per step: kept paths from one use of a parameter, and where others are cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from forwardgrad.errors import RenderError
from forwardgrad.graph import Network
from forwardgrad.program import Program
from forwardgrad.render import labels, style
from forwardgrad.render.collapsed import CAP
from forwardgrad.render.credit import modes_legend, numbered
from forwardgrad.render.fates import DEAD, KEPT, Fates, Place, fates
from forwardgrad.render.picture import Picture
from forwardgrad.render.style import Key
from forwardgrad.render.text import lines
from forwardgrad.support.attributes import is_whole

Cell = tuple[int, Place]
"""A step, and a place."""


def unrolled(
    program: Program, parameter: str, steps: int = 4, *, title: str | None = None, cap: int | None = CAP
) -> Picture:
    """Draw the graph unrolled in time, with all that becomes of the credit of one use of a parameter.

    The parameter is used at step t, the first column. Green arrows are the kept edges of all paths that lead on from
    there; a node that is reached in several modes is drawn once for each. Red arrows that end in a bar are the edges at
    which the rule cuts paths. Dashed arrows lead to a later step. Nodes that no path comes to are small and grey. Nodes
    with two outlines have a learning signal, the derivative of a loss or one that is given: there credit arrives.

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
    >>> texts = [unrolled(fg.compile(g, rule=rule), name).source for rule in ("rtrl", "immediate")]
    >>> [sum("kept" in line and " -> " in line for line in text.splitlines()) for text in texts]
    [7, 1]
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
    modes = numbered(found)
    legend = style.met(
        [
            (Key("the use of the parameter", style.credit("enters", False)), True),
            (style.KEPT, True),
            (style.CUT, any(arc.target is None for arc in found.arcs)),
            (style.LEARNING, found.seeds),
            (Key("nothing comes here", node=style.node("passive")), True),
            *((key, True) for key in modes_legend(modes)),
        ]
    )
    return _Picture(program, found, steps, cells, modes, Picture(title, legend, ranksep="0.9")).drawn()


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
    def __init__(
        self,
        program: Program,
        found: Fates,
        steps: int,
        cells: list[Cell],
        numbered: Mapping[str, int],
        picture: Picture,
    ) -> None:
        self.program, self.found, self.steps, self.picture = program, found, steps, picture
        self.numbered = numbered
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
                self.picture.hint(self.identity(first, node), self.identity(second, node), weight="20")
        for (step, node), modes in self.modes.items():
            for mode in modes:
                self.leaving(step, node, mode)
        for number, (place, name) in enumerate(self.found.entries):
            self.entry(number, place, name)
        return self.picture

    def column(self, step: int) -> None:
        head = f"t{step}"
        self.picture.node(head, lines(f"t+{step}" if step else "t"), shape="plaintext", **{"class": "soft"})
        column = [head]
        for node in self.program.network.order:
            for mode in self.modes.get((step, node), [None]):
                identity = self.identity(step, node, mode)
                self.picture.node(identity, **self.look(step, node, mode), tooltip=lines(node, limit=400))
                self.picture.hint(column[-1], identity)  # keeps the order of rows
                column.append(identity)
        self.picture.column(column)

    def look(self, step: int, node: str, mode: str | None) -> dict[str, str]:
        seeded = ["learning"] if any(at == node and mode in (None, m) for at, m in self.found.seeds) else []
        shape = labels.shape(self.program.network.nodes[node].op.shape)
        if mode is None:
            small = {"fontsize": "8", "height": "0.2", "width": "0.3"}
            return {"label": lines(node), **shape, **small, **style.node("passive", *seeded)}
        several = len({m for at, m in self.found.reached if at == node}) > 1
        entered = not step and any(place == (node, mode) for place, _ in self.found.entries)
        label = lines(node, f"mode {self.numbered.get(mode, mode)}" if several else "")
        return {"label": label, **shape, **style.node(*seeded, "enters" if entered else "kept")}

    def leaving(self, step: int, node: str, mode: str) -> None:
        """The arrows that leave a node in a mode."""
        for arc in self.found.arcs:
            edge = self.program.network.edges[arc.edge]
            then = step + edge.delay
            if (edge.source, arc.source) != (node, mode) or then >= self.steps or arc.fate == DEAD:
                continue
            kept = arc.fate == KEPT
            self.picture.edge(
                self.identity(step, node, mode),
                self.identity(then, edge.target, arc.target if kept else None),
                style.credit("kept" if kept else "cut", edge.delay > 0),
                identity=f"a{len(self.picture)}",
                label=lines(arc.part),
                constraint="false",
                tooltip=lines(edge.name, limit=400),
            )

    def entry(self, number: int, place: Place, name: str | None) -> None:
        """The arrow by which the parameter enters at the first step."""
        node, mode = place
        if (0, node) not in self.modes:
            return
        here = f"enters_{number}"
        edge = self.program.network.edges.get(name or "")
        source = "bias" if edge is None else f"{edge.source}(t{f'-{edge.delay}' if edge.delay else ''})"
        self.picture.node(here, lines(source), shape="plaintext", fontsize="9")
        self.picture.edge(
            here,
            self.identity(0, node, mode),
            style.credit("enters", edge is not None and edge.delay > 0),
            identity=f"a{len(self.picture)}",
            tooltip=lines(name or self.found.parameter),
        )

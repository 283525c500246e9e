"""How is the credit of one parameter drawn? Over the declared graph: which edges carry it, which cut it, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from forwardgrad.graph import Edge, Node
from forwardgrad.program import Program
from forwardgrad.render import collapsed, style
from forwardgrad.render.collapsed import CAP
from forwardgrad.render.fates import CUT_BY_CREDIT, CUT_BY_RULE, DEAD, KEPT, Arc, Fates, fates
from forwardgrad.render.picture import Picture
from forwardgrad.render.scene import Scene
from forwardgrad.render.text import count, lines, power

TRANSITIONS = 4
"""Transitions of modes that are written on one edge; the others are counted."""


def credit(program: Program, parameter: str, *, title: str | None = None, cap: int | None = CAP) -> Picture:
    """Draw what a rule keeps of one parameter's credit.

    The edge or node where the parameter enters is marked. An edge that carries its credit is thick and green, and says
    in which modes of the rule's automaton credit comes and goes on; one at which credit is cut is dashed and red, with
    the mode and whether the rule cuts it or the edge's attribute `credit`; one that credit passes without coming to a
    loss is dotted. All other edges are thin and grey. A node says in which modes credit reaches it, and what is stored
    there between blocks: the layout of the influence, its shape and its bytes per sample.

    Args:
        program: a compiled program.
        parameter: one of its trained parameters.
        title: a line under the picture; by default parameter, rule, and whether the gradient is exact.
        cap: as for `graph`: a larger graph is drawn with one node per layer.

    Returns:
        The drawing. Equal programs give equal DOT text. Node k of the graph is `nk`. Edge k has the id `ek`, and where
        it is drawn more than once, `ek_0`, `ek_1`, ...

    Raises:
        DataError: if there is no such parameter.
        RuleError: if it is not trained.
        RenderError: if the graph is too large even with one node per layer.

    >>> import forwardgrad as fg
    >>> program = fg.compile(fg.load("elman"), rule="eprop")
    >>> [line for line in credit(program, "h->h").source.splitlines() if "cut" in line][-1].split("[")[0].strip()
    'n1 -> n1'
    """
    found = fates(program, parameter)
    derived = program.rules[parameter]
    if title is None:
        title = f"{parameter} under {derived.rule}: {derived.verdict}; stores {derived.bytes:,} B per sample"
    network = program.network
    large = collapsed.layered(network, title, cap, _bundled(found), _notes(found), _grouped(program, found))
    if large is not None:
        return large
    scene = Scene(network, title, _notes(found))
    scene.nodes(lambda node: _on_node(program, found, node), lambda node: _look(program, found, node))
    for index, edge in enumerate(network.edges.values()):
        drawn = _drawn(program, found, edge)
        for part, (label, look) in enumerate(drawn):
            identity = f"e{index}" if len(drawn) == 1 else f"e{index}_{part}"
            if part and edge.source == edge.target:  # loops of one node, and their labels, would lie on each other
                side = "s" if part == 1 else "n"
                look = {**look, "headport": side, "tailport": side}
            scene.edge(edge, identity, label=label, **look)
    return scene.drawing


def _notes(found: Fates) -> list[str]:
    met = {arc.fate for arc in found.arcs}
    return [
        "orange: where the parameter enters",
        "green: carries its credit" if KEPT in met else "",
        "red, dashed: cut" if met & {CUT_BY_RULE, CUT_BY_CREDIT} else "",
        "dotted: leads to no loss" if DEAD in met else "",
        "two lines: a learning signal",
        "grey: not on its way",
    ]


def _on_node(program: Program, found: Fates, node: Node) -> str:
    about = [f"{node.op.name} · {node.size}", *_signals(program, found, node.name)]
    if found.enters(node.name):
        about.append("the parameter enters here")
    modes = [mode for at, mode in found.reached if at == node.name]
    if modes:
        about.append(f"{'mode' if len(modes) == 1 else 'modes'} {' / '.join(modes)}")
    return lines(node.name, *about, *_stored(program, found.parameter, node.name))


def _signals(program: Program, found: Fates, node: str) -> list[str]:
    """Which learning signal enters at a node; a loss that this rule makes no use of is no signal."""
    kinds = {kind for (at, _), kind in found.seeds.items() if at == node}
    return [
        *([f"loss {program.losses[node].name}"] if "loss" in kinds else []),
        *(["signal given"] if "given" in kinds else []),
    ]


def _stored(program: Program, parameter: str, node: str) -> list[str]:
    """Layout, shape and price of what is stored on a node, per sample."""
    derived, texts = program.rules[parameter], list[str]()
    lossy = derived.rule.layout if derived.rule.lossy else ""
    for place in program.plan.entries[parameter]:
        at = program.plan.product.places[place]
        if at.node == node:
            key = f"{at.node} ({at.label})"
            shape, lags = derived.shapes[key], derived.lags[key]
            price = prod(shape) * lags * program.dtype.itemsize
            times = f" × {lags} lags" if lags > 1 else ""
            word = lossy or derived.layouts[key]
            texts.append(f"stores {word} {'×'.join(map(str, shape)) or '1'}{times}: {price:,} B")
    return texts


def _look(program: Program, found: Fates, node: Node) -> dict[str, str | None]:
    reached = any(at == node.name for at, _ in found.reached)
    seeded = any(at == node.name for at, _ in found.seeds)
    color = ENTRY if found.enters(node.name) else CARRIES if reached else style.FIXED
    return {
        "color": color,
        "fontcolor": style.INK if reached or seeded else style.FIXED,
        "fillcolor": style.STATE_GROUND if _holds(program, found, node) else None,
        "penwidth": "2" if reached else None,
        "peripheries": "2" if seeded else None,
    }


def _holds(program: Program, found: Fates, node: Node) -> bool:
    places = program.plan.product.places
    return any(places[place].node == node.name for place in program.plan.entries[found.parameter])


def _drawn(program: Program, found: Fates, edge: Edge) -> list[tuple[str, dict[str, str]]]:
    """The labels and looks of the arrows that stand for an edge."""
    delay = power(edge.delay) if edge.delay else ""
    drawn: list[tuple[str, dict[str, str]]] = []
    modes = [place[1] for place, name in found.entries if name == edge.name]
    if modes:
        drawn.append((lines("enters", delay, f"in mode {' / '.join(modes)}"), _pen(ENTRY, "bold")))
    for fate, pen in _PENS.items():
        arcs = [arc for arc in found.arcs if arc.edge == edge.name and arc.fate == fate]
        if arcs:
            drawn.append((lines(_WORDS[fate], delay, *_transitions(arcs)), pen))
    return drawn or [(lines(delay), _pen(style.FIXED, "solid", "0.6"))]


def _transitions(arcs: Sequence[Arc]) -> list[str]:
    texts = [
        (arc.source if arc.target in (None, arc.source) else f"{arc.source} → {arc.target}")
        + (f" ({arc.part})" if arc.part else "")
        for arc in arcs
    ]
    more = len(texts) - TRANSITIONS
    return [*texts[:TRANSITIONS], *([f"and {more} more"] if more > 0 else [])]


def _pen(color: str, line: str, width: str = "2") -> dict[str, str]:
    return {"color": color, "fontcolor": color, "style": line, "penwidth": width}


ENTRY, CARRIES, CUTS = "#bc4c00", "#116329", "#a40e26"
"""Where the parameter enters; what carries its credit; what cuts it."""

_PENS = {
    KEPT: _pen(CARRIES, "solid"),
    CUT_BY_RULE: _pen(CUTS, "dashed", "1.4"),
    CUT_BY_CREDIT: _pen(CUTS, "dashed", "1.4"),
    DEAD: _pen(style.FIXED, "dotted", "1.4"),
}
_WORDS = {KEPT: "", CUT_BY_RULE: "cut", CUT_BY_CREDIT: "cut by credit", DEAD: "no loss"}


def _bundled(found: Fates) -> collapsed.Look:
    """How a bundle of edges is drawn where there is one node per layer."""

    def look(edges: Sequence[Edge], delayed: bool) -> tuple[Sequence[str], Mapping[str, str]]:
        names = {edge.name for edge in edges}
        of = {fate: {arc.edge for arc in found.arcs if arc.fate == fate and arc.edge in names} for fate in _PENS}
        entered = {name for _, name in found.entries if name in names}
        cut = of[CUT_BY_RULE] | of[CUT_BY_CREDIT]
        text = [count(len(edges), "edge")]
        text += [f"{len(n)} {word}" for n, word in ((entered, "entered"), (of[KEPT], "kept"), (cut, "cut")) if n]
        pen = _PENS[KEPT] if of[KEPT] else _PENS[CUT_BY_RULE] if cut else _pen(style.FIXED, "solid", "0.6")
        return [", ".join(text)], _pen(ENTRY, "bold") if entered else pen

    return look


def _grouped(program: Program, found: Fates) -> Callable[[Sequence[str]], Sequence[str]]:
    """What is said of a layer: what happens inside of it, where no edge is drawn."""

    def about(names: Sequence[str]) -> list[str]:
        inside = [
            edge.name
            for edge in program.network.edges.values()
            if not edge.delay and edge.source in names and edge.target in names
        ]
        entered = any(found.enters(name) for name in names) or any(name in inside for _, name in found.entries)
        cut = sum(found.cuts(name) for name in inside)
        signals = list(dict.fromkeys(signal for name in names for signal in _signals(program, found, name)))
        return [*(["the parameter enters here"] if entered else []), *([f"{cut} cut inside"] if cut else []), *signals]

    return about

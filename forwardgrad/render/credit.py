"""How is the credit of one parameter drawn? Over the declared graph: which edges carry it, which cut it, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from forwardgrad.graph import Edge, Node
from forwardgrad.program import Program
from forwardgrad.render import collapsed, labels, style
from forwardgrad.render.collapsed import CAP
from forwardgrad.render.fates import CUT_BY_CREDIT, CUT_BY_RULE, DEAD, KEPT, Arc, Fates, fates
from forwardgrad.render.picture import Picture
from forwardgrad.render.scene import Scene
from forwardgrad.render.style import Key, Line
from forwardgrad.render.text import count, lines, power

TRANSITIONS = 3
"""Transitions of modes that are written on one edge; the others are counted."""


def credit(program: Program, parameter: str, *, title: str | None = None, cap: int | None = CAP) -> Picture:
    """Draw what a rule keeps of one parameter's credit.

    The edge by which the parameter enters is violet and begins in a dot; a bias enters at a node with a violet outline.
    An edge that carries its credit is thick and green. One at which credit is cut is red and ends in a bar, and says
    whether the edge's attribute `credit` cuts it. One that leads to no loss is dotted. All others are thin and grey.
    Edges that read an earlier step are dashed. A node on which a trace is stored between blocks has a yellow ground and
    says its bytes per sample; two outlines mean that a learning signal enters. Modes of the rule's automaton are
    numbered, and the legend says what they are. Where the pointer rests on an edge or a node, an SVG says more.

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
    network, modes = program.network, numbered(found)
    legend = _legend(program, found, modes)
    large = collapsed.layered(network, title, cap, _bundled(found), legend, _grouped(program, found))
    if large is not None:
        return large
    scene = Scene(network, title, legend)
    scene.nodes(lambda node: _on_node(program, found, modes, node), lambda node: _look(program, found, node))
    for edge in network.edges.values():
        arrows = _drawn(found, modes, edge)
        for twin, (_, line, about) in enumerate(arrows):  # one label for all, as there is room for one
            words = "" if twin else "; ".join(label for label, _, _ in arrows)
            scene.edge(edge, line, lines(words), twin=twin, about=about)
    return scene.picture


def numbered(found: Fates) -> dict[str, int]:
    """The modes of a rule in which credit of a parameter goes, numbered from 1; empty where there is one only."""
    names = [mode for (_, mode), _ in found.entries]
    names += [mode for arc in found.arcs for mode in (arc.source, arc.target) if mode is not None]
    names += [mode for _, mode in found.reached]
    modes = {name: number for number, name in enumerate(dict.fromkeys(names), 1)}
    return modes if len(modes) > 1 else {}


def modes_legend(modes: Mapping[str, int]) -> list[Key]:
    """What the numbers of modes stand for, in a line each."""
    if not modes:
        return []
    head = Key("1, 2, ...: modes, what the rule remembers of a path so far; 1→2: goes on in another mode")
    return [head, *(Key(f"{number} = {name}{_meaning(name)}") for name, number in list(modes.items())[:MODES])]


MODES = 12
"""Modes that a legend explains."""

_MEANINGS = {
    "fresh": "no state of this layer passed yet",
    "state": "held in a state of this layer",
    "carried": "a delay passed since",
    "readout": "may only reach a loss of the same step",
    "own": "no mixing weight passed yet",
    "outside": "a mixing weight passed",
    "now": "this step only",
}


def _meaning(mode: str) -> str:
    words = [_MEANINGS.get(word, "") for word in mode.split(",")]
    if mode.isdecimal():
        return ": counted on this path so far"
    return f": {', '.join(words)}" if all(words) else ""


def _legend(program: Program, found: Fates, modes: Mapping[str, int]) -> list[Key]:
    fates_met = {arc.fate for arc in found.arcs}
    later = any(arc.fate == KEPT and program.network.edges[arc.edge].delay for arc in found.arcs)
    return style.met(
        [
            (style.ENTERS, any(name for _, name in found.entries)),
            (style.ENTERS_NODE, any(name is None for _, name in found.entries)),
            (style.KEPT, KEPT in fates_met),
            (style.CARRIED, later),
            (style.CUT, fates_met & {CUT_BY_RULE, CUT_BY_CREDIT}),
            (style.DEAD, DEAD in fates_met),
            (style.STORED, program.rules[found.parameter].bytes),
            (style.LEARNING, found.seeds),
            (style.PASSIVE, True),
            (style.DASHED, any(edge.delay for edge in program.network.edges.values())),
            *((key, True) for key in modes_legend(modes)),
        ]
    )


def _on_node(program: Program, found: Fates, modes: Mapping[str, int], node: Node) -> str:
    """Four lines at most, for which there is room."""
    numbers = [str(modes[mode]) for at, mode in found.reached if at == node.name and mode in modes]
    in_modes = f"{'mode' if len(numbers) == 1 else 'modes'} {', '.join(numbers)}" if numbers else ""
    price = sum(price for _, price in stored(program, found.parameter, node.name))
    entry = "bias enters" if found.enters(node.name) else ""
    signals = _signals(program, found, node.name)
    if not price and not entry:
        return lines(node.name, labels.about(node), " · ".join(signals), in_modes)
    words = [entry, "loss" if signals else "", in_modes]
    return lines(node.name, labels.about(node), " · ".join(filter(None, words)), f"stores {price:,} B" if price else "")


def _signals(program: Program, found: Fates, node: str) -> list[str]:
    """Which learning signal enters at a node; a loss that this rule makes no use of is no signal."""
    kinds = {kind for (at, _), kind in found.seeds.items() if at == node}
    return [
        *([f"loss {program.losses[node].name}"] if "loss" in kinds else []),
        *(["signal given"] if "given" in kinds else []),
    ]


def stored(program: Program, parameter: str, node: str) -> list[tuple[str, int]]:
    """What is stored on a node, per sample: structure and shape of each array, with its price in bytes."""
    derived, found = program.rules[parameter], list[tuple[str, int]]()
    lossy = derived.rule.layout if derived.rule.lossy else ""
    for place in program.plan.entries[parameter]:
        at = program.plan.product.places[place]
        if at.node == node:
            key = f"{at.node} ({at.label})"
            shape, lags = derived.shapes[key], derived.lags[key]
            price = prod(shape) * lags * program.dtype.itemsize
            times = f" × {lags} lags" if lags > 1 else ""
            text = f"{lossy or derived.layouts[key]} {'×'.join(map(str, shape)) or '1'}{times}"
            found.append((f"stores {text}: {price:,} B", price))
    return found


def _look(program: Program, found: Fates, node: Node) -> dict[str, str]:
    reached = any(at == node.name for at, _ in found.reached)
    seeded = any(at == node.name for at, _ in found.seeds)
    outline = "enters" if found.enters(node.name) else "kept" if reached else "" if seeded else "passive"
    ground = ["stored"] if _holds(program, found, node) else []
    about = [*_signals(program, found, node.name), *(text for text, _ in stored(program, found.parameter, node.name))]
    look = style.node(*ground, *(["learning"] if seeded else []), *([outline] if outline else []))
    return {**look, **({"tooltip": lines(node.name, *about, limit=400)} if about else {})}


def _holds(program: Program, found: Fates, node: Node) -> bool:
    places = program.plan.product.places
    return any(places[place].node == node.name for place in program.plan.entries[found.parameter])


def _drawn(found: Fates, modes: Mapping[str, int], edge: Edge) -> list[tuple[str, Line, str]]:
    """Label, look and explanation of the arrows that stand for an edge."""
    delay, delayed = power(edge.delay) if edge.delay else "", edge.delay > 0
    drawn: list[tuple[str, Line, str]] = []
    entered = [mode for place, name in found.entries if name == edge.name for mode in [place[1]]]
    if entered:
        numbers = ", ".join(str(modes[mode]) for mode in entered if mode in modes)
        label = " ".join(filter(None, ["enters", delay, numbers]))
        drawn.append((label, style.credit("enters", delayed), f"enters in mode {' / '.join(entered)}"))
    for fates_of, role, word in _ROLES:
        arcs = [arc for arc in found.arcs if arc.edge == edge.name and arc.fate in fates_of]
        if arcs:
            by_graph = role == "cut" and all(arc.fate == CUT_BY_CREDIT for arc in arcs)
            words = ["cut by graph" if by_graph else word, "" if drawn else delay, _transitions(arcs, modes)]
            label = " ".join(filter(None, words))
            drawn.append((label, style.credit(role, delayed), _spelled(arcs)))
    return drawn or [(delay, style.credit("passive", delayed), "")]


_ROLES = (
    ((KEPT,), "kept", ""),
    ((CUT_BY_RULE, CUT_BY_CREDIT), "cut", "cut"),
    ((DEAD,), "dead", "no loss"),
)


def _transitions(arcs: Sequence[Arc], modes: Mapping[str, int]) -> str:
    """In which modes credit comes, and in which it goes on, by their numbers."""
    texts: list[str] = []
    for arc in arcs:
        source, target = modes.get(arc.source, ""), modes.get(arc.target or "", "")
        went = f"{source}→{target}" if source != target and target else str(source)
        texts.append(f"{went} ({arc.part})".strip() if arc.part else went)
    texts = list(dict.fromkeys(filter(None, texts)))
    more = len(texts) - TRANSITIONS
    return ", ".join([*texts[:TRANSITIONS], *([f"+{more}"] if more > 0 else [])])


def _spelled(arcs: Sequence[Arc]) -> str:
    """The same in the rule's own words."""
    return "; ".join(
        f"{arc.fate}: {arc.source}{'' if arc.target in (None, arc.source) else f' → {arc.target}'}"
        + (f" ({arc.part})" if arc.part else "")
        for arc in arcs
    )


def _bundled(found: Fates) -> collapsed.Look:
    """How a bundle of edges is drawn where there is one node per layer."""

    def look(edges: Sequence[Edge], delayed: bool) -> tuple[Sequence[str], Line]:
        names = {edge.name for edge in edges}
        of = {
            role: {arc.edge for arc in found.arcs if arc.fate in fates_of and arc.edge in names}
            for fates_of, role, _ in _ROLES
        }
        entered = {name for _, name in found.entries if name in names}
        text = [count(len(edges), "edge")]
        text += [
            f"{len(n)} {word}" for n, word in ((entered, "entered"), (of["kept"], "kept"), (of["cut"], "cut")) if n
        ]
        role = "enters" if entered else next((role for role in ("kept", "cut") if of[role]), "passive")
        return [", ".join(text)], style.credit(role, delayed)

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

"""What does the derived algorithm say in mathematics? Per parameter: recursion, learning signal, gradient.

The equations are read off the product of the plan: places, arcs, factors and layouts. With S_v the influence on a place
v,

    S_v(t) = injection + sum over arcs u -> v of J(t) S_u(t - d)
    L_v(t) = dE/dv(t) + sum over arcs v -> w of delay 0 of J(t)^T L_w(t)
    gradient = sum over t of L S

A place is *held* if its influence has a line of its own: it is stored, or it is used more than once. The others are
eliminated by multiplying Jacobians along arcs of delay 0. Learning signals are sums over paths of the same step that
meet no held place; what first goes on to a held place is counted there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from forwardgrad.compiler.factors import Factor
from forwardgrad.compiler.labels import port_structure
from forwardgrad.compiler.plan import Plan
from forwardgrad.compiler.product import Arc, Injection
from forwardgrad.explain.notation import Equations, Line, Note, Symbol, Term, plain, printable
from forwardgrad.explain.outline import LONGEST, Outline
from forwardgrad.graph import Edge
from forwardgrad.structure import Structure


def equations(plan: Plan, name: str) -> Equations:
    """The equations of one trained parameter.

    Args:
        plan: the derived algorithm.
        name: the parameter.
    """
    return _Derivation(plan, name).equations()


class _Derivation(Outline):
    """The equations of one parameter: an outline, with a line written for each place that has one."""

    def __init__(self, plan: Plan, name: str) -> None:
        super().__init__(plan, name)
        self.notes: dict[Note, None] = {}
        self.by_unit = self._by_unit()
        self.adjoints: dict[int, tuple[Term, ...]] = {}
        for place in reversed(self.order):
            self.adjoints[place] = tuple(self._adjoint(place))

    # Symbols.

    @property
    def _own(self) -> str:
        """Indices of the parameter's entries."""
        return {"dense": "i,j", "sparse": "i,j", "scalar": ""}.get(self.parameter.kind, "i")

    @property
    def _letter(self) -> str:
        return {"bias": "b", "scalar": "w"}.get(self.parameter.kind, "W")

    def _weight_symbol(self, edge: Edge, kind: str, index: str, form: str = "") -> Symbol:
        scalar = edge.kind == "scalar"
        if kind == "W" and edge.param is None:
            self._note(Symbol("W", edge.name), "a fixed weight")
        name = edge.name if kind == "B" or edge.param is None else edge.param
        return Symbol("w" if scalar and kind == "W" else kind, name, "" if scalar else index, None, 0, form)

    def _influence(self, place: int, index: str, delay: int) -> Symbol:
        """The influence on a held place; the index is that of the target, `k`, or empty for the whole array."""
        here, word = self.product.places[place], self.shapes[place]
        kind = "ebar" if self.filters(place) else "S" if word is Structure.FULL else "eps"
        if kind == "eps" and place not in self.delayed:
            kind = "e"
        if index and self.parameter.kind == "scalar":
            entries_ = index
        elif index and word is Structure.FULL:
            entries_ = f"{index},{self._own}"
        elif index and word is Structure.SCALAR:
            entries_ = {"i,j": "j", "i": "i" if self.parameter.edges else ""}[self._own]
        else:
            entries_ = self._own if index else ""
        return Symbol(kind, here.node, entries_, delay, self.modes[place])

    def _signal(self, place: int, index: str) -> Symbol:
        return Symbol("L", self.node(place), index, 0, self.signal_modes[place])

    def _note(self, about: Symbol | None, text: str) -> None:
        self.notes.setdefault(Note(about, text))

    # Factors.

    def _gate(self, node_name: str, port: str, index: str) -> tuple[float, tuple[Symbol, ...]]:
        """The derivative of a node's op by a port, of one unit, or as a matrix where no index is given."""
        node = self.network.nodes[node_name]
        declared = node.op.port(port, node.ports)
        if declared.constant is not None:
            return declared.constant, ()
        others = self._others(node_name, port)
        if others is not None:
            form = "" if index else "diagonal"
            return 1.0, tuple(Symbol("value", e.source, index, e.delay, 0, form) for e in others)
        kind = "J" if declared.structure is Structure.FULL else "D" if node.op.smooth else "psi"
        symbol = Symbol(kind, f"{node_name},{port}" if len(node.ports) > 1 else node_name, index, 0)
        which = "declared derivative" if not node.op.smooth else "derivative"
        by = f" by port {printable(port)}" if len(node.ports) > 1 or not node.op.smooth else ""
        self._note(replace(symbol, index=""), f"{which} of {printable(node_name)} ({printable(node.op.name)}){by}")
        return 1.0, (symbol,)

    def _others(self, node_name: str, port: str) -> list[Edge] | None:
        """The edges into the other ports of a product, where each holds the bare value of one node."""
        node = self.network.nodes[node_name]
        rest = [q for q in node.ports if q != port]
        if not node.op.product or (node.bias is not None and node.bias_port in rest):
            return None
        into = [[edge for edge in self.network.into[node_name] if edge.port == q] for q in rest]
        if all(len(edges) == 1 and edges[0].kind == "identity" for edges in into):
            return [edges[0] for edges in into]
        return None

    def _matrix(self, arc: Arc, index: str, across: str = "") -> tuple[float, tuple[Symbol, ...]]:
        """What an arc has in place of its weight; `across` is the index at the far end of a weight that mixes."""
        edge, factor = self.network.edges[arc.edge], arc.factor
        if factor.numeric:
            if len(factor.values) == 1:
                return factor.values[0], ()
            self._note(Symbol("c", edge.name), "constants in place of the Jacobian")
            return 1.0, (Symbol("c", edge.name, index, None, 0, "" if index else "diagonal"),)
        if edge.kind == "identity":
            return 1.0, ()
        if edge.value is not None and edge.kind == "scalar" and factor.kind == "weight":
            return float(edge.value), ()
        return 1.0, (self._array(edge, factor, index, across),)

    def _array(self, edge: Edge, factor: Factor, index: str, across: str) -> Symbol:
        if factor.replaces:
            self._note(
                Symbol("B", edge.name), f"{factor.kind} feedback in place of the weight of {printable(edge.name)}"
            )
            kind = "B"
        else:
            kind = "W"
        if factor.kind == "diagonal":
            return self._weight_symbol(edge, kind, f"{index},{index}" if index else "", "" if index else "diagonal")
        if edge.kind == "diagonal":
            return self._weight_symbol(edge, kind, index, "" if index else "diagonal")
        if edge.kind == "scalar":
            return self._weight_symbol(edge, kind, "")
        form = "rest" if factor.kind == "rest" else ""
        return self._weight_symbol(edge, kind, f"{across},{index}" if across else "", form)

    # The recursion.

    def _terms(self, place: int, index: str) -> list[Term]:
        """The influence on a place by what is held and injected, of one unit or as a matrix."""
        found = [self._injection(site, index) for site in self.sites if site.place == place]
        for arc in self.into[place]:
            number, factors = self._step(arc, index)
            inner = (
                [Term(1.0, (), (self._influence(arc.source, index, arc.delay),))]
                if arc.source in self.held
                else self._terms(arc.source, index)
            )
            found += [replace(t, number=number * t.number, factors=(*factors, *t.factors)) for t in inner]
        return _ordered(found, self.product.places[place].node)

    def _step(self, arc: Arc, index: str) -> tuple[float, tuple[Symbol, ...]]:
        """The Jacobian of an arc."""
        edge = self.network.edges[arc.edge]
        outer = (1.0, ()) if arc.factor.numeric else self._gate(edge.target, edge.port, index)
        inner = self._matrix(arc, index)
        return outer[0] * inner[0], (*outer[1], *inner[1])

    def _injection(self, site: Injection, index: str) -> Term:
        """What a parameter puts into a place."""
        number, factors = self._gate(self.product.places[site.place].node, site.port, index)
        if site.edge is None:
            eye = () if index or factors else (Symbol("identity"),)
            return Term(number, (), (*factors, *eye))
        edge = self.network.edges[site.edge]
        if not index:
            form = {"dense": "outer", "sparse": "outer", "diagonal": "diagonal"}.get(edge.kind, "")
            if form == "outer":
                pattern = ", its columns at the entries of the pattern" if edge.kind == "sparse" else ""
                self._note(None, f"I (x) x^T: the derivative of W x by the rows of W, one after the other{pattern}.")
            return Term(number, (), (*factors, Symbol("value", edge.source, "", edge.delay, 0, form)))
        unit = "j" if edge.kind in ("dense", "sparse") else index
        return Term(number, (), (*factors, Symbol("value", edge.source, unit, edge.delay)))

    def _recursion(self, place: int) -> Line:
        index = "" if self.shapes[place] is Structure.FULL else "i"
        left = self._influence(place, index, 0)
        self._describe(place)
        return Line(left, tuple(self._terms(place, index)))

    def _describe(self, place: int) -> None:
        """Say what the influence on a place is."""
        here, word = self.product.places[place], self.shapes[place]
        entry = f"{self._letter}[{self._own}]" if self._own else self._letter
        single = self.parameter.kind == "scalar"
        alike = word is Structure.SCALAR and self.parameter.kind != "diagonal"
        unit = "" if single else "[k]" if word is Structure.FULL else "[i]"
        said = f"influence of {entry} on {plain(here.node)}{unit}"
        if self.modes[place]:
            said += f" in mode {printable(here.label)}"
        if not single and word is not Structure.FULL:
            said += ", none on its other units" + (", the same for every i" if alike else "")
        if self.filters(place):
            said += f"; filtered by the leak of {printable(here.filtered or '')}"
        index = "" if single else "k" if word is Structure.FULL else "i"
        self._note(self._influence(place, index, 0), said)

    # Learning signals.

    def _by_unit(self) -> bool:
        """Whether signals are written per unit: not where an influence is full, or the derivative of an op."""
        arcs = [a for p in self.order for a in self.out[p] if a.target not in self.held]
        rest = any(arc.factor.kind == "rest" for arc in arcs)
        edges = [self.network.edges[arc.edge] for arc in arcs if not arc.factor.numeric]
        mixes = any(port_structure(self.network, edge.target, edge.port) is Structure.FULL for edge in edges)
        return not rest and not mixes and Structure.FULL not in self.shapes.values()

    def _adjoint(self, place: int) -> Iterator[Term]:
        """The learning signal of a place, those of later places being known."""
        signal = self.product.places[place].signal
        if signal != "none":
            symbol = Symbol("E", self.node(place), "i" if self.by_unit else "", 0)
            if signal == "given":
                self._note(replace(symbol, index=""), "the learning signal that is given")
            yield Term(1.0, (), (symbol,))
        for arc in self.out[place]:
            if arc.target not in self.held and self.adjoints[arc.target]:
                yield self._pulled(arc)

    def _pulled(self, arc: Arc) -> Term:
        """The learning signal at the end of an arc, brought back over it."""
        edge = self.network.edges[arc.edge]
        mixing = not arc.factor.numeric and arc.factor.kind != "diagonal" and edge.kind in ("dense", "sparse")
        across = ("k" if mixing else "i") if self.by_unit else ""
        outer = (1.0, ()) if arc.factor.numeric else self._gate(edge.target, edge.port, across)
        inner = self._matrix(arc, "i" if self.by_unit else "", across if mixing else "")
        if not self.by_unit:
            outer = outer[0], tuple(replace(s, form="transposed") if s.kind == "J" else s for s in outer[1])
            turned = {"": "transposed", "rest": "rest transposed"}
            inner = inner[0], tuple(replace(s, form=turned[s.form]) if mixing else s for s in inner[1])
        number, factors = inner[0] * outer[0], (*inner[1], *outer[1])
        further = self._inside(arc.target, across)
        return Term(number * further.number, ("k",) if mixing and self.by_unit else (), (*factors, *further.factors))

    def _inside(self, place: int, index: str) -> Term:
        """A learning signal as it stands in another one: what it equals, if that is short."""
        terms = self.adjoints[place]
        if len(terms) == 1 and not terms[0].over and len(terms[0].factors) < LONGEST:
            return replace(terms[0], factors=tuple(_at(factor, index) for factor in terms[0].factors))
        return Term(1.0, (), (self._signal(place, index),))

    def _outside(self, place: int, index: str) -> Term:
        """A learning signal as it stands in the gradient: by name, unless it is the derivative of the loss."""
        terms = self.adjoints[place]
        if len(terms) == 1 and terms[0].number == 1 and len(terms[0].factors) == 1:
            return Term(1.0, (), (replace(terms[0].factors[0], index=index),))
        return Term(1.0, (), (self._signal(place, index),))

    # All of it.

    def _gradient(self) -> Line:
        terms: list[Term] = []
        for place in self.order:
            if not self.adjoints[place]:
                continue
            if place in self.held:
                summed = self.shapes[place] is Structure.FULL or self.parameter.kind == "scalar"
                index = "k" if summed else "i"
                signal = self._outside(place, index)
                over = ("k",) if summed else ()
                terms.append(Term(1.0, over, (*signal.factors, self._influence(place, index, 0))))
                continue
            over = ("i",) if self.parameter.kind == "scalar" else ()
            for site in self.sites:
                if site.place == place:
                    injected = self._injection(site, "i")
                    signal = self._outside(place, "i")
                    terms.append(replace(injected, over=over, factors=(*signal.factors, *injected.factors)))
        if self.parameter.pattern is not None and self.parameter.pattern.entries is not None:
            text = "W is the matrix of a kernel: the gradient of an entry is the sum over all pairs i, j that share it."
            self._note(None, text)
        left = Symbol("gradient", self.parameter.node or self.name, self._own, form=self._letter)
        return Line(left, tuple(terms), in_time=True)

    def _signals(self, *lines: Line) -> list[Line]:
        """The lines of the learning signals that the gradient names, and of those that these name."""
        titles = {self._signal(place, ""): place for place in self.order if self.adjoints[place]}
        waiting, found = list(lines), dict[Symbol, Line]()
        while waiting:
            line = waiting.pop(0)
            for factor in (f for term in line.right for f in term.factors if f.kind == "L"):
                bare = replace(factor, index="")
                if bare not in found:
                    left = replace(factor, index="i" if self.by_unit else "")
                    found[bare] = Line(left, self.adjoints[titles[bare]])
                    waiting.append(found[bare])
        return list(found.values())

    def equations(self) -> Equations:
        """All lines."""
        recursion = [self._recursion(place) for place in self.order if place in self.held]
        gradient = self._gradient()
        signals = self._signals(gradient)
        self._remarks()
        return Equations(
            tuple(recursion), tuple(signals), gradient, _in_order(self.notes, [*recursion, *signals, gradient])
        )

    def _remarks(self) -> None:
        """What happens besides, at the ends of blocks."""
        if not self.sites:
            self._note(None, "No kept path leads from it to a loss.")
        if not self.rule.carry:
            self._note(None, "At the end of a block all influence is dropped.")
        if self.delayed and self.rule.lossy:
            self._note(None, f"At the end of a block {self.rule.kept.compression(self.rule.argument)}.")


def _in_order(notes: Iterable[Note], lines: Sequence[Line]) -> tuple[Note, ...]:
    """The notes on symbols that stand in some line, in the order of these, and then the others."""
    used = [symbol for line in lines for symbol in (line.left, *(f for term in line.right for f in term.factors))]
    place = {_bare(symbol): number for number, symbol in reversed(list(enumerate(used)))}
    about = [note for note in notes if note.about and _bare(note.about) in place]
    about.sort(key=lambda note: place[_bare(note.about)] if note.about else 0)
    return (*about, *(note for note in notes if note.about is None))


def _bare(symbol: Symbol) -> Symbol:
    return replace(symbol, index="", delay=None, form="")


def _at(factor: Symbol, index: str) -> Symbol:
    """A factor of unit i at another index."""
    return replace(factor, index=factor.index.replace("i", index)) if factor.index else factor


def _ordered(terms: Sequence[Term], node: str) -> list[Term]:
    """A place's own past first, then what comes from others, then what is injected."""

    def rank(term: Term) -> int:
        last = term.factors[-1] if term.factors else None
        if last is None or last.kind in ("value", "identity", "D", "psi", "J"):
            return 2
        return 0 if last.name == node and (last.delay or 0) > 0 else 1

    return sorted(terms, key=lambda term: (rank(term), len(term.factors)))

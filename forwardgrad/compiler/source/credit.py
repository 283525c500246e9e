"""How is a reverse sweep written? Over the product graph: cycles step by step, all the rest for the block at once.

A sweep from the losses gives the adjoints of ports inside the block and of the boundary before it. A sweep from stored
places gives their Jacobian by the boundary, and by the ports at which parameters enter. An adjoint holds as many seeds
as its word asks for: `scalar` `(..., 1)`, `diagonal` `(..., size)`, `full` `(..., target, size)`; from the losses
always `(..., size)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx

from forwardgrad.compiler.factors import factor_structure
from forwardgrad.compiler.product import Arc
from forwardgrad.compiler.source.build import Build, Slope
from forwardgrad.compiler.source.stacks import Run, Stack, is_matrix, runs
from forwardgrad.compiler.source.text import Lines, Series, index, put, sum_of
from forwardgrad.structure import Structure, compose

Gate = tuple[int, str | None]
"""A place and its port, or the node itself."""

FLUSHED = 8
"""Steps after which decaying adjoints are flushed; shorter blocks end before it matters."""


@dataclass(frozen=True)
class Adjoint:
    """An adjoint as an expression, and the word of what it holds; no word in a sweep from the losses."""

    text: str
    word: Structure | None


@dataclass
class Swept:
    """Where a sweep leaves what it finds.

    Args:
        ports: the arrays over time of the adjoints of ports.
        words: of these.
        past: per stored place, the array of its adjoints before the block, `(lag, batch, ...)`, the latest step last.
        stacks: per stack, the array of its adjoints, and the places of its ports.
        windows: per place that only a few steps reach, the least and the largest number of steps from the end.
    """

    ports: dict[Gate, Series] = field(default_factory=dict[Gate, Series])
    words: dict[Gate, Structure | None] = field(default_factory=dict[Gate, "Structure | None"])
    past: dict[int, str] = field(default_factory=dict[int, str])
    stacks: dict[Stack, tuple[str, dict[int, int]]] = field(default_factory=dict[Stack, "tuple[str, dict[int, int]]"])
    windows: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])


class Sweep:
    """Writes one sweep.

    Args:
        build: what is known.
        slopes: the derivatives of nodes by ports.
        targets: the stored places it may start from, of equal words; none for a sweep from the losses.
        held: the places at which a sweep from the losses can be told to end in the last step.
        noisy: the places at which a sweep from the losses can be seeded besides.
    """

    def __init__(
        self,
        build: Build,
        slopes: Mapping[tuple[str, str], Slope],
        targets: Sequence[int] = (),
        held: Sequence[int] = (),
        noisy: Sequence[int] = (),
    ) -> None:
        self.build, self.plan, self.slopes = build, build.plan, slopes
        self.targets, self.held, self.noisy = tuple(targets), frozenset(held), frozenset(noisy)
        self.lines = Lines()
        self.out = Swept()
        self.words = self.plan.words[targets[0]] if targets else None
        self.places = [p for p in self.plan.order if self.words is None or p in self.words]
        self.leaving = {p: [arc for arc in self.plan.product.leaving[p] if self.known(arc.target)] for p in self.places}
        self.injected = {(i.place, i.port) for i in self.plan.product.injections if self.known(i.place)}
        self.late = max((self.plan.depth[target] for target in targets), default=1) > 1
        self.end = "end" if self.late else "steps"
        self.used = self._used()
        self.now: dict[Gate, str] = {}
        self.zeros: dict[int, str] = {}

    def known(self, place: int) -> bool:
        return self.words is None or place in self.words

    # Names, words and shapes.

    def gate(self, arc: Arc) -> Gate:
        return arc.target, None if arc.factor.numeric else self.build.network.edges[arc.edge].port

    def _used(self) -> dict[int, list[str | None]]:
        found: dict[int, dict[str | None, None]] = {place: {} for place in self.places}
        gates = [*self.injected, *(self.gate(arc) for place in self.places for arc in self.leaving[place])]
        for place, port in sorted(gates, key=str):
            if self.plan.port_word(place, port) is not Structure.ZERO:
                found[place][port] = None
        return {place: list(ports) for place, ports in found.items()}

    def word(self, place: int) -> Structure | None:
        return None if self.words is None else self.words[place]

    def word_at(self, gate: Gate) -> Structure | None:
        word = self.word(gate[0])
        return None if word is None else compose(word, self.plan.port_word(*gate))

    def tail(self, word: Structure | None, size: int) -> str:
        if word is Structure.FULL:
            return f"size, {size}"
        return "1" if word is Structure.SCALAR else str(size)

    def name(self, place: int) -> str:
        return self.build.names.of(f"d_{self.build.place(place)}", "adjoint", place)

    def port_name(self, gate: Gate) -> str:
        place, port = gate
        return self.name(place) if port is None else self.build.names.of(f"{self.name(place)}_{port}", "gate", gate)

    def zero(self, place: int) -> str:
        """Zeros of a place's adjoint at one step."""
        if place not in self.zeros:
            self.zeros[place] = self.build.names.of(f"no_{self.name(place)}", "zeros", place)
        return self.zeros[place]

    # Jacobians.

    def slope(self, place: int, port: str) -> Slope:
        node = self.build.network.nodes[self.plan.product.places[place].node]
        declared = node.op.port(port, node.ports)
        if declared.constant is not None:
            return Slope(declared.structure, constant=float(declared.constant))
        return self.slopes[node.name, port]

    def through_op(self, value: Adjoint, gate: Gate, at: bool) -> Adjoint:
        """The adjoint of a port, given the adjoint of the node."""
        place, port = gate
        if port is None:
            return value
        slope = self.slope(place, port)
        if slope.series is None:
            return value if slope.constant == 1.0 else Adjoint(f"{slope.constant} * {value.text}", value.word)
        s = slope.series.at() if at else slope.series.upto("end") if self.late else slope.series.all()
        word = None if value.word is None else compose(value.word, slope.word)
        b = value.text
        if slope.word is Structure.FULL:
            if value.word is None:
                return Adjoint(f"matmul({b}[..., None, :], {s})[..., 0, :]", None)
            return Adjoint(f"matmul({b}, {s})" if value.word is Structure.FULL else f"{b}[..., None] * {s}", word)
        if value.word is Structure.FULL:
            return Adjoint(
                f"{b} * {s}[..., None, :]" if slope.word is Structure.DIAGONAL else f"{b} * {s}[..., None]", word
            )
        return Adjoint(f"{b} * {s}", word)

    def over_edge(self, b: Adjoint, arc: Arc, at: bool) -> Adjoint:
        """What an adjoint of a port brings back over an edge."""
        edge = self.build.network.edges[arc.edge]
        w = self.build.weight(edge, arc.factor)
        word = None if b.word is None else compose(b.word, factor_structure(edge, arc.factor))
        if not arc.factor.numeric and arc.factor.kind != "diagonal" and is_matrix(edge):
            return self.over_matrix(b, w, at)
        return Adjoint(b.text if w in ("", "1.0") else f"{w} * {b.text}", word)

    def over_matrix(self, b: Adjoint, w: str, at: bool) -> Adjoint:
        if b.word is None:
            return Adjoint(f"matmul({b.text}, {w})" if at else f"pulled({b.text}, {w})", None)
        if b.word is Structure.FULL:
            return Adjoint(f"pulled({b.text}, {w})", Structure.FULL)
        return Adjoint(f"{b.text}[..., None] * {w}", Structure.FULL)

    def fitted(self, b: Adjoint, place: int) -> Adjoint:
        """An adjoint with a seed a unit, where those of a place have that."""
        if b.word is not None and self.word(place) is Structure.FULL and b.word is not Structure.FULL:
            return Adjoint(f"spread({b.text}, {self.plan.size(place)})", Structure.FULL)
        return b

    # What comes back to a place: a text for each group of arcs, by their delay.

    def back(self, place: int, inside: set[int] | None, at: bool, part: str = "") -> list[tuple[int, Adjoint]]:
        """What comes back over edges, and their delays.

        Args:
            place: to which.
            inside: the places of the loop it is in, to which the edges must lead; `None` for any.
            at: one step, or all.
            part: which steps of all, as an index in which `{d}` is the delay, for edges that have one; none for the
                edges without delay.
        """
        arcs = [arc for arc in self.leaving[place] if inside is None or arc.target in inside]
        arcs = [arc for arc in arcs if self.plan.port_word(*self.gate(arc)) is not Structure.ZERO]
        arcs = [arc for arc in arcs if at or (arc.delay > 0) == bool(part)]
        found: list[tuple[int, Adjoint]] = []
        for run, stack, members in self._runs(arcs):
            arcs = [arc for arc in arcs if arc not in members]
            name, _ = self.out.stacks[stack]
            start, stop = stack.columns(run.first, len(run.edges))
            columns = "" if stop - start == stack.width else f"[..., {start}:{stop}]"
            b = self._read(Series(name), run.delay, at, part) + columns
            word = self.word_at(self.gate(members[0]))
            found.append((run.delay, self.over_matrix(Adjoint(b, word), self.build.run_weight(run, stack), at)))
        for arc in arcs:
            gate = self.gate(arc)
            word = self.out.words[gate] if gate in self.out.words else self.word_at(gate)
            now = self.now.get(gate) if at and not arc.delay else None
            text = now or self._read(self.out.ports[gate], arc.delay, at, part)
            found.append((arc.delay, self.fitted(self.over_edge(Adjoint(text, word), arc, at), place)))
        return sorted(found, key=lambda pair: pair[0])

    def _read(self, series: Series, delay: int, at: bool, part: str) -> str:
        if at:
            return series.at(delay)
        return f"{series.name}[{part.format(d=delay)}]" if part else series.name

    def _runs(self, arcs: Sequence[Arc]) -> list[tuple[Run, Stack, list[Arc]]]:
        """The runs of stacks that serve several of these arcs at once."""
        by_stack: dict[Stack, list[Arc]] = {}
        for arc in arcs:
            edge = self.build.network.edges[arc.edge]
            at = self.build.place_in_stack.get((edge.target, edge.port)) if is_matrix(edge) else None
            if at is None or at[0] not in self.out.stacks or arc.factor.kind != "weight":
                continue
            if self.out.stacks[at[0]][1].get(at[1]) == arc.target:
                by_stack.setdefault(at[0], []).append(arc)
        found: list[tuple[Run, Stack, list[Arc]]] = []
        for stack, members in by_stack.items():
            by_edge = {arc.edge: arc for arc in members}
            for run in runs(stack, [self.build.network.edges[name] for name in by_edge]):
                if len(run.edges) > 1:
                    found.append((run, stack, [by_edge[edge.name] for edge in run.edges]))
        return found

    # Stacks of adjoints.

    def make_stacks(self) -> None:
        """An array for every stack of which this sweep serves two ports or more, each in one place and of one word."""
        by_stack: dict[Stack, dict[int, list[Gate]]] = {}
        for place in self.places:
            node = self.plan.product.places[place].node
            for port in self.used[place]:
                at = self.build.place_in_stack.get((node, port)) if port is not None else None
                if at is not None:
                    by_stack.setdefault(at[0], {}).setdefault(at[1], []).append((place, port))
        for stack, gates in by_stack.items():
            one = {at: found[0] for at, found in gates.items() if len(found) == 1}
            words = {self.word_at(gate) for gate in one.values()}
            finite = any(gate[0] in self.out.windows for gate in one.values())
            if len(one) < 2 or len(one) < len(gates) or len(words) > 1 or Structure.SCALAR in words or finite:
                continue
            if self.words is not None and words != {Structure.FULL}:
                continue  # compact adjoints go through no product
            name = self.build.names.of(f"d_{self.build.stack_name(stack)}", "stack of adjoints", stack.ports)
            tail = f"size, {stack.width}" if words == {Structure.FULL} else str(stack.width)
            whole = len(one) == len(stack.ports)
            self.lines.add(f"{name} = {'empty' if whole else 'np.zeros'}(({self.end}, batch, {tail}), dtype)")
            self.out.stacks[stack] = name, {at: gate[0] for at, gate in one.items()}
            for at, gate in one.items():
                start, stop = stack.columns(at)
                self.out.ports[gate] = Series(self.port_name(gate))
                self.out.words[gate] = self.word_at(gate)
                self.lines.add(f"{self.port_name(gate)} = {name}[..., {start}:{stop}]")

    # All steps at once.

    def place_of_block(self, place: int) -> None:
        """The adjoint of a place, and of its ports, over the block."""
        name, size = self.name(place), self.plan.size(place)
        terms = self.seeds_of_block(place)
        terms += [b.text for _, b in self.back(place, None, at=False)]
        late = [b.text for _, b in self.back(place, None, at=False, part="{d}:")]
        if not terms:
            self.lines.add(f"{name} = np.zeros(({self.end}, batch, {self.tail(self.word(place), size)}), dtype)")
        else:
            if late or place in self.held:  # it is changed in place, and as wide as it can become
                terms.append(f"np.zeros(({self.tail(self.word(place), size)},), dtype)")
            if len(terms) == 1 and terms[0].isidentifier():
                name = terms[0]  # the same array
            else:
                self.lines.add(f"{name} = {sum_of(terms)}")
        for text in late:
            self.lines.add(f"add_at({name}, 0, {text})")
        if place in self.held:
            with self.lines.indented("if hold:"):
                self.lines.add(f"held[{self.build.place(place)!r}] = {name}[-1].copy()", f"{name}[-1] = 0")
        for port in self.used[place]:
            gate = place, port
            b = self.through_op(Adjoint(name, self.word(place)), gate, at=False)
            self.out.words[gate] = b.word
            if gate in self.out.ports:  # it has room in a stack
                self.lines.add(put(self.out.ports[gate].name, b.text))
            elif b.text == name:
                self.out.ports[gate] = Series(name)
            else:
                self.lines.add(f"{self.port_name(gate)} = {b.text}")
                self.out.ports[gate] = Series(self.port_name(gate))

    def seeds_of_block(self, place: int) -> list[str]:
        """What a sweep from the losses is given at a place."""
        if self.words is not None:
            return []
        found = self.plan.product.places[place]
        terms: list[str] = []
        if found.signal != "none":
            kind = "losses" if found.signal == "loss" else "signals"
            terms.append(f"{kind}[{found.node!r}]")
        if place in self.noisy:
            terms.append(f"noise[{self.build.place(place)!r}]")
        return terms

    # Step by step.

    def loop(self, places: Sequence[int], finite: bool) -> None:
        """The adjoints of the places of a cycle, or of those that only the last steps reach."""
        inside = set(places)
        outside = {} if finite else {place: self._outside(place, inside) for place in places}
        for place in places:
            for port in self.used[place]:
                self._room(place, port, inside, finite)
        body = Lines()
        lines, self.lines = self.lines, body
        for place in places:
            self._place_at_step(place, inside, outside.get(place), finite)
        if not finite:
            self._flushed(inside)
        self.lines = lines
        for place in self.zeros:
            if place in inside:
                tail = self.tail(self.word(place), self.plan.size(place))
                self.lines.add(f"{self.zeros[place]} = np.zeros((batch, {tail}), dtype)")
        last = max((self.out.windows[place][1] for place in places), default=0) if finite else None
        if last == 0:
            self.lines.add(f"t = {self.end} - 1", *body.lines)
            return
        least = "-1" if last is None else f"max({index(-2 - last, self.end)}, -1)"
        head = (
            f"for t in reversed(range({self.end})):"
            if last is None
            else f"for t in range({self.end} - 1, {least}, -1):"
        )
        with self.lines.indented(head):
            self.lines.add(*body.lines)

    def _flushed(self, inside: set[int]) -> None:
        """Now and then, clear what a cycle has made nearly nothing."""
        arcs = [arc for place in self.places for arc in self.leaving[place] if place in inside]
        gates = [self.gate(arc) for arc in arcs if arc.delay and arc.target in inside]
        names = dict.fromkeys(self.out.ports[gate].name for gate in gates if gate in self.out.ports)
        with self.lines.indented(f"if t % {FLUSHED} == {FLUSHED - 1}:"):
            self.lines.add(*(f"flush({name}[t])" for name in names))

    def _outside(self, place: int, inside: set[int]) -> str | None:
        """The array of what comes to a place of a cycle from outside the cycle, at all steps."""
        beyond = {arc.target for arc in self.leaving[place]} - inside
        terms = self.seeds_of_block(place)
        terms += [b.text for _, b in self.back(place, beyond, at=False)]
        late = [b.text for _, b in self.back(place, beyond, at=False, part="{d}:")]
        if not terms and not late:
            return None
        if len(terms) == 1 and terms[0].isidentifier() and not late:
            return terms[0]
        name = self.build.names.of(f"{self.name(place)}_outside", "outside", place)
        if late:
            terms.append(f"np.zeros(({self.end}, batch, {self.tail(self.word(place), self.plan.size(place))}), dtype)")
        self.lines.add(f"{name} = {sum_of(terms)}")
        for text in late:
            self.lines.add(f"add_at({name}, 0, {text})")
        return name

    def _transient(self, gate: Gate, inside: set[int]) -> bool:
        """Whether the adjoint of a port is read in the same step only."""
        if gate in self.injected or gate in self.out.ports or gate[0] in self.out.windows:
            return False  # what a window holds is read in steps at which it is not computed, too
        readers = [(place, arc) for place in self.places for arc in self.leaving[place] if self.gate(arc) == gate]
        return all(place in inside and not arc.delay for place, arc in readers)

    def _room(self, place: int, port: str | None, inside: set[int], finite: bool) -> None:
        gate = place, port
        if gate in self.out.ports or self._transient(gate, inside):
            return
        one = port is None or self.slope(place, port).constant == 1.0
        name = self.name(place) if one else self.port_name(gate)
        self.out.ports[gate] = Series(name)
        self.out.words[gate] = self.word_at(gate)
        if one:
            for other in self.used[place]:  # they are the same array
                same = other is None or self.slope(place, other).constant == 1.0
                if same and other != port and (place, other) not in self.out.ports:
                    self.out.ports[place, other] = Series(name)
                    self.out.words[place, other] = self.word_at((place, other))
        tail = self.tail(self.word_at(gate), self.plan.size(place))
        self.lines.add(f"{name} = {'np.zeros' if finite else 'empty'}(({self.end}, batch, {tail}), dtype)")

    def _place_at_step(self, place: int, inside: set[int], outside: str | None, finite: bool) -> None:
        least, most = self.out.windows.get(place, (0, 0))
        if finite and (least or most != max(self.out.windows[p][1] for p in inside)):
            age = f"{self.end} - 1 - t"
            test = f"if {age} == {least}:" if least == most else f"if {least} <= {age} <= {most}:"
            with self.lines.indented(test):
                self._value_at_step(place, inside, outside)
        else:
            self._value_at_step(place, inside, outside)

    def _value_at_step(self, place: int, inside: set[int], outside: str | None) -> None:
        """The adjoint of a place at step `t`, and those of its ports."""
        now = self._node_at_step(place, inside, outside)
        if place in self.held:
            with self.lines.indented(f"if hold and t == {self.end} - 1:"):
                self.lines.add(f"held[{self.build.place(place)!r}] = {now}", f"{now} = np.zeros_like({now})")
        written: set[str] = set()
        for port in self.used[place]:
            gate = place, port
            b = self.through_op(Adjoint(now, self.word(place)), gate, at=True)
            series = self.out.ports.get(gate)
            if series is not None and series.name not in written:
                written.add(series.name)
                self.lines.add(put(series.at(), b.text))
            if b.text == now and place not in self.out.windows:
                self.now[gate] = now
            elif series is None:
                name = self.build.names.of(f"{self.port_name(gate)}_now", "gate now", gate)
                self.lines.add(f"{name} = {b.text}")
                self.now[gate] = name
            self.out.words.setdefault(gate, b.word)

    def _node_at_step(self, place: int, inside: set[int], outside: str | None) -> str:
        """The name of the adjoint of a place's node at step `t`."""
        now = self.build.names.of(f"{self.name(place)}_now", "now", place)
        found = self.back(place, inside, at=True)
        always = ([f"{outside}[t]"] if outside is not None else []) + [b.text for delay, b in found if not delay]
        late = [(delay, b.text) for delay, b in found if delay]
        seed = self.build.names.of(f"seed_{self.build.place(place)}", "seed", place) if place in self.targets else None
        if len(always) == 1 and always[0].isidentifier() and seed is None and not late and place not in self.held:
            return always[0]
        if always:
            self.lines.add(f"{now} = {sum_of(always)}")
            if seed is not None:
                self.lines.add(f"if t == {self.end} - 1:", f"    {now} = {now} + {seed}")
        elif late and (seed is None or late[0][0] == 1):
            delay, text = late.pop(0)
            self.lines.add(f"{now} = {text} if t + {delay} < {self.end} else {seed or self.zero(place)}")
        elif seed is not None:
            self.lines.add(f"{now} = {seed} if t == {self.end} - 1 else {self.zero(place)}")
        else:
            self.lines.add(f"{now} = {self.zero(place)}")
        for delay, text in late:
            self.lines.add(f"if t + {delay} < {self.end}:", f"    {now} = {now} + {text}")
        return now

    # The boundary.

    def boundary(self, place: int) -> None:
        """The adjoints of a stored place at the steps before the block."""
        depth, name = self.plan.depth[place], self.build.names.of(f"past_{self.name(place)}", "past adjoint", place)
        parts = self.back(place, None, at=False, part=":{d}")
        if not parts:
            return
        self.out.past[place] = name
        if depth == 1 and len(parts) == 1 and parts[0][1].word == self.word(place):
            self.lines.add(f"{name} = {parts[0][1].text}")
            return
        tail = self.tail(self.word(place), self.plan.size(place))
        self.lines.add(f"{name} = np.zeros(({depth}, batch, {tail}), dtype)")
        for delay, b in parts:
            self.lines.add(f"add_at({name}, {depth - delay}, {b.text})")

    # All of it.

    def written(self) -> list[str]:
        """The lines of the sweep."""
        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_nodes_from(self.places)
        graph.add_edges_from((arc.target, arc.source) for place in self.places for arc in self.leaving[place])
        order = {place: at for at, place in enumerate(self.places)}
        condensed = nx.condensation(graph)
        first = {c: min(order[place] for place in condensed.nodes[c]["members"]) for c in condensed}
        groups = [
            sorted(condensed.nodes[c]["members"], key=order.__getitem__)
            for c in nx.lexicographical_topological_sort(condensed, key=first.__getitem__)
        ]
        cyclic = [len(group) > 1 or graph.has_edge(group[0], group[0]) for group in groups]
        finite = self._windows(groups, cyclic) if self.words is not None else []
        self.make_stacks()
        if finite:
            self.loop([place for place in self.places if place in self.out.windows], finite=True)
        for group, loop in zip(groups, cyclic, strict=True):
            if group[0] in self.out.windows:
                continue
            if loop:
                self.loop(group, finite=False)
            else:
                self.place_of_block(group[0])
        for place in self.plan.stored:
            if place in order:
                self.boundary(place)
        return self.lines.lines

    def _windows(self, groups: Sequence[Sequence[int]], cyclic: Sequence[bool]) -> list[int]:
        """The places that only a few steps reach, noted with their least and largest numbers of steps from the end."""
        endless: set[int] = set()
        for group, loop in zip(groups, cyclic, strict=True):
            arcs = [arc for place in group for arc in self.leaving[place]]
            if loop or any(arc.target in endless for arc in arcs):
                endless |= set(group)
                continue
            place = group[0]
            ages = [(0, 0)] if place in self.targets else []
            ages += [tuple(age + arc.delay for age in self.out.windows[arc.target]) for arc in arcs]
            self.out.windows[place] = min(age[0] for age in ages), max(age[-1] for age in ages)
        return list(self.out.windows)

"""How is influence written in each layout: injected, carried, widened, contracted; and the gradient inside a block?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forwardgrad.compiler.product import Injection
from forwardgrad.compiler.source.build import ROWS, Build
from forwardgrad.compiler.source.credit import Swept
from forwardgrad.compiler.source.stacks import Stack, runs
from forwardgrad.compiler.source.text import Lines, index
from forwardgrad.graph import Edge
from forwardgrad.structure import Structure, compose

FULL, DIAGONAL, SCALAR = Structure.FULL, Structure.DIAGONAL, Structure.SCALAR


@dataclass(frozen=True)
class Kind:
    """How the influence of a parameter is handled, by the kind of its weight.

    Args:
        word: the weight kind, or `bias`.
        rows, columns: names of the arrays of a sparse pattern.
    """

    word: str
    rows: str = ""
    columns: str = ""

    def widened(self, s: str) -> str:
        """An influence of layout `scalar`, so that it fits one of layout `diagonal`."""
        s = f"({s})" if " * " in s else s
        return {"dense": f"{s}[:, None]", "bias": f"{s}[:, None]", "sparse": f"{s}[:, {self.columns}]"}.get(
            self.word, s
        )

    def injected(self, word: Structure, j: str, x: str) -> str:
        """The sum over a block of Jacobian times what the parameter multiplies."""
        if self.word == "bias":
            return f"{j}.sum(axis=0)" + ("[:, 0]" if word is SCALAR else "")
        if self.word == "diagonal":
            return f"injected_diagonal({j}, {x})"
        if self.word == "scalar":
            return f"injected_single({j}, {x})"
        if word is SCALAR:
            return f"injected({j}, {x})[:, 0]"
        if self.word == "dense":
            return f"injected({j}, {x})"
        return f"injected_sparse({j}, {x}, {self.rows}, {self.columns})"

    def carried(self, by: Structure, j: str, layout: Structure, s: str) -> str:
        """A Jacobian of that word times an influence."""
        if self.word == "scalar":
            return f"matmul({j}, {s}[..., None])[..., 0]" if by is FULL else f"{j} * {s}"
        if layout is FULL:
            return f"carried({j}, {s})" if by is FULL else f"scaled({j}, {s})"
        if compose(by, layout) is SCALAR:
            return f"{j}[:, 0] * {s}" if self.word == "bias" else f"{j} * {s}"
        s = self.widened(s) if layout is SCALAR else s
        if by is FULL:
            j = {"dense": f"{j}[..., None]", "sparse": f"{j}[..., {self.rows}]"}.get(self.word, j)
            return f"{j} * {s}[:, None]"
        if self.word == "dense":
            return f"{j}[..., None] * {s}"
        return f"{j}[:, {self.rows}] * {s}" if self.word == "sparse" and by is DIAGONAL else f"{j} * {s}"

    def contracted(self, a: str, layout: Structure, s: str) -> str:
        """The sum over the batch of adjoint times influence."""
        if self.word == "scalar":
            return f"np.asarray(({a} * {s}).sum())"
        if layout is FULL:
            return f"contracted_full({a}, {s})"
        if self.word == "diagonal" or (self.word == "bias" and layout is DIAGONAL):
            return f"({a} * {s}).sum(axis=0)"
        if layout is SCALAR:
            product = f"matmul({a}.T, {s})"
            return product if self.word != "sparse" else f"{product}[{self.rows}, {self.columns}]"
        return f"contracted_rows({a}, {s})" if self.word == "dense" else f"({a}[:, {self.rows}] * {s}).sum(axis=0)"

    def in_cache(self, by: Structure, layout: Structure, target: Structure) -> bool:
        """Whether `add_scaled` carries such an influence."""
        return self.word == "dense" and by is not FULL and layout is DIAGONAL and target is DIAGONAL

    def added(self, s: str, word: Structure, layout: Structure) -> str:
        """The statement that adds an influence of that word to `now`, of a layout at least as wide."""
        if word is layout or self.word == "scalar":
            return f"now += {s}"
        s = self.widened(s) if word is SCALAR else s
        if layout is not FULL:
            return f"now += {s}"
        return f"add_entries(now, {s}, {self.rows})" if self.word == "sparse" else f"add_diagonal(now, {s})"


@dataclass(frozen=True)
class _Through:
    """How the influence on one place comes from that on another.

    Args:
        kind: how the parameter is handled.
        by: the word of the Jacobian.
        known, layout: the layouts on the place it comes from, and on the one it comes to.
        depth: how many lags are stored where it comes from.
        most: the last step, counted from the end, from which it gets there; `None` for any.
    """

    kind: Kind
    by: Structure
    known: Structure
    layout: Structure
    depth: int
    most: int | None


class Influences:
    """Writes what is done with the influence of all parameters of lossless layout."""

    def __init__(self, build: Build, names: Sequence[str]) -> None:
        self.build, self.plan, self.names = build, build.plan, list(names)
        self.lines = Lines()
        self.shared = False
        """Whether the function being written serves several targets."""
        self._groups: dict[int, list[tuple[str, ...]]] = {}
        self._kinds = {name: self._kind(name) for name in self.names}
        self._sites: dict[str, list[Injection]] = {name: [] for name in self.names}
        for injection in self.plan.product.injections:
            if injection.parameter in self._sites:
                self._sites[injection.parameter].append(injection)
        self._stored: dict[int, list[str]] = {}
        for name in self.names:
            for place in self.plan.entries[name]:
                self._stored.setdefault(place, []).append(name)

    def kind(self, name: str) -> Kind:
        """How a parameter is handled."""
        return self._kinds[name]

    def _kind(self, name: str) -> Kind:
        parameter = self.plan.network.parameters[name]
        if parameter.pattern is None:
            return Kind(parameter.kind)
        return Kind(parameter.kind, *self.build.pattern(self.plan.network.edges[parameter.edges[0]]))

    def sites(self, name: str) -> list[Injection]:
        return self._sites[name]

    def x(self, edge: Edge) -> str:
        return self.build.value(edge.source, edge.delay).all()

    # Gradients.

    def gradients(self, out: Swept) -> list[str]:
        """The lines of the gradient inside the block, and through the influence on its boundary."""
        self.lines = Lines()
        first: set[str] = set()
        for name, text in self._products(out):
            kind = "=" if name not in first else "+="
            first.add(name)
            self.lines.add(f"grads[{name!r}] {kind} {text}")
        for name in self.names:
            if name not in first:
                self.lines.add(f"grads[{name!r}] = np.zeros({self.plan.network.parameters[name].shape}, dtype)")
        with self.lines.indented("if not fresh:"):
            for place in self.plan.stored:
                if place in out.past:
                    self._contracted(place, out.past[place])
        return self.lines.lines

    def _products(self, out: Swept) -> list[tuple[str, str]]:
        """Per site, the parameter and its gradient inside the block; neighbours in a stack are one product."""
        sites = [site for name in self.names for site in self.sites(name)]
        found: list[tuple[str, str]] = []
        done: set[Injection] = set()
        for stack, (array, places) in out.stacks.items():
            members = {site.edge: site for site in sites if self._in_stack(site, stack, places)}
            edges = [self.plan.network.edges[edge] for edge in members if edge is not None]
            for run in runs(stack, edges):
                if len(run.edges) < 2:
                    continue
                start, stop = stack.columns(run.first, len(run.edges))
                whole = stop - start == stack.width
                b = array if whole else f"{array}[..., {start}:{stop}]"
                made = self.build.names.of(f"g_{run.source}_{array}", "product", array, run.edges[0].name)
                self.lines.add(f"{made} = gradient_dense({b}, {self.x(run.edges[0])})")
                for place, edge in enumerate(run.edges):
                    one, two = stack.columns(run.first + place)
                    site = members[edge.name]
                    done.add(site)
                    found.append((site.parameter, f"{made}[{one - start}:{two - start}]"))
        for site in sites:
            series = out.ports.get((site.place, site.port))
            if site in done or series is None:
                continue
            kind = self.kind(site.parameter)
            x = "" if site.edge is None else f", {self.x(self.plan.network.edges[site.edge])}"
            word = {"bias": "bias", "diagonal": "diagonal", "scalar": "single"}.get(kind.word, "dense")
            text = f"gradient_{word}({series.all()}{x})"
            found.append((site.parameter, f"{text}[{kind.rows}, {kind.columns}]" if kind.rows else text))
        return found

    def _in_stack(self, site: Injection, stack: Stack, places: dict[int, int]) -> bool:
        if site.edge is None or self.plan.network.edges[site.edge].kind != "dense":
            return False
        node = self.plan.product.places[site.place].node
        at = self.build.place_in_stack.get((node, site.port))
        return at is not None and at[0] == stack and places.get(at[1]) == site.place

    def _contracted(self, place: int, past: str) -> None:
        depth = self.plan.depth[place]
        for members in self._alike(place):
            kind, layout = self.kind(members[0]), self.plan.layouts[members[0], place]
            lags = [f"{lag}" for lag in range(depth)] if depth <= 2 else ["lag"]
            head = f"for lag in range({depth}):" if depth > 2 else ""
            keys = [(name, self.build.key(name, place)) for name in members]

            def write(
                name: str, key: str, lags: Sequence[str] = lags, kind: Kind = kind, layout: Structure = layout
            ) -> None:
                for lag in lags:
                    back = index(depth - 1 - int(lag)) if lag.isdigit() else f"{depth - 1} - lag"
                    text = kind.contracted(f"{past}[{back}]", layout, f"state[{key}][{lag}]")
                    self.lines.add(f"grads[{name}] += {text}")

            def each(name: str, key: str, head: str = head) -> None:
                if head:
                    with self.lines.indented(head):
                        write(name, key)
                else:
                    write(name, key)

            if len(keys) == 1:
                each(repr(keys[0][0]), repr(keys[0][1]))
            else:
                with self.lines.indented(self.build.table("for name, key in ", keys, ":")):
                    each("name", "key")

    # Advance.

    def stored_on(self, place: int) -> list[str]:
        """The parameters whose influence on a place is stored."""
        return self._stored.get(place, [])

    def advance(self, target: int, out: Swept, late: bool, shared: bool) -> list[str]:
        """The lines that make the influence on a place after the block, `made`.

        Args:
            target: the place.
            out: what the sweep from it leaves.
            late: whether it has several lags.
            shared: whether the lines serve other places as well: keys are then looked up, those of the target in `own`.
        """
        self.lines, self.shared = Lines(), shared
        end = "end" if late else "steps"
        at = "lag - 1" if late else "0"
        for name in self.stored_on(target):
            self._injected(name, target, out, end, at)
        with self.lines.indented("if not fresh:"):
            self._carried(target, out, end, at)
        return self.lines.lines

    def _alike(self, place: int) -> list[tuple[str, ...]]:
        """The parameters stored on a place, those together that are of one kind and layout there."""
        if place not in self._groups:
            groups: dict[object, list[str]] = {}
            for name in self.stored_on(place):
                layout = self.plan.layouts[name, place]
                if layout is not Structure.ZERO:
                    groups.setdefault((self.kind(name), layout), []).append(name)
            self._groups[place] = [tuple(group) for group in groups.values()]
        return self._groups[place]

    def _sources(self, name: str, target: int, out: Swept) -> list[int]:
        return [p for p in self.plan.entries[name] if p in self.plan.words[target] and p in out.past]

    def _injected(self, name: str, target: int, out: Swept, end: str, at: str) -> None:
        """What enters in the block: `now` becomes that."""
        kind, layout, words = self.kind(name), self.plan.layouts[name, target], self.plan.words[target]
        own = f"own[{name!r}]" if self.shared else repr(self.build.key(name, target))
        self.lines.add(f"now = made[{own}][{at}]")
        parts: list[tuple[Structure, str, str]] = []
        for site in self.sites(name):
            series = out.ports.get((site.place, site.port))
            if series is None or site.place not in words:
                continue
            word = compose(words[site.place], self.plan.port_word(site.place, site.port))
            x = "" if site.edge is None else self.x(self.plan.network.edges[site.edge])
            x = x + (f"[:{end}]" if end == "end" and x else "")
            cut = ""
            if site.place in out.windows:
                least, most = out.windows[site.place]
                cut = f"[max({index(-1 - most, end)}, 0):max({index(-least, end)}, 0)]"
            parts.append((word, series.name + cut, x + cut if x else ""))
        parts.sort(key=lambda part: part[0] is not layout)
        for place, (word, j, x) in enumerate(parts):
            if place == 0 and word is layout:
                dense = kind.word == "dense"
                self.lines.add(f"injected({j}, {x}, now)" if dense else f"now[...] = {kind.injected(word, j, x)}")
                continue
            if place == 0:
                self.lines.add("now[...] = 0")
            self.lines.add(kind.added(kind.injected(word, j, x), word, layout))
        if not parts:
            self.lines.add("now[...] = 0")

    def _carried(self, target: int, out: Swept, end: str, at: str) -> None:
        """What was there before the block, times the Jacobian of the block."""
        groups: dict[tuple[object, ...], list[str]] = {}
        for name in self.stored_on(target):
            sources = self._sources(name, target, out)
            layouts = [self.plan.layouts[name, place] for place in (target, *sources)]
            kind: object = self.kind(name)
            if set(layouts) == {FULL} and self.kind(name).word != "scalar":
                kind = "full"  # what a number stands for makes no difference then
            if sources:
                groups.setdefault((kind, *layouts, *sources), []).append(name)
        if len(groups) > ROWS:
            self._crowded(target, out, end, at)
            return
        for members in groups.values():
            sources = self._sources(members[0], target, out)
            if self.shared:
                with self.lines.indented(self.build.table("for name in ", members, ":")):
                    places = [f"KEYS[{self.build.place(source)!r}][name]" for source in sources]
                    self._from(members[0], target, sources, ["own[name]", *places], out, end, at)
                continue
            keys = [tuple(self.build.key(name, place) for place in (target, *sources)) for name in members]
            if len(keys) == 1:
                self._from(members[0], target, sources, [repr(key) for key in keys[0]], out, end, at)
                continue
            with self.lines.indented(self.build.table("for entry in ", keys, ":")):
                named = [f"entry[{place}]" for place in range(len(sources) + 1)]
                self._from(members[0], target, sources, named, out, end, at)

    def _from(
        self, name: str, target: int, sources: Sequence[int], keys: Sequence[str], out: Swept, end: str, at: str
    ) -> None:
        self.lines.add(f"now = made[{keys[0]}][{at}]")
        for source, key in zip(sources, keys[1:], strict=True):
            if self.plan.layouts[name, source] is not Structure.ZERO:
                most = out.windows[source][1] if source in out.windows else None
                self._add(self._through(name, target, source, most), out.past[source], f"state[{key}]", end)

    def _through(self, name: str, target: int, source: int, most: int | None) -> _Through:
        plan = self.plan
        words = plan.words[target][source], plan.layouts[name, source], plan.layouts[name, target]
        return _Through(self.kind(name), *words, plan.depth[source], most)

    def _add(self, through: _Through, past: str, before: str, end: str) -> None:
        """Add to `now` what comes from one place, at all its lags."""
        kind, by, known, layout, depth = through.kind, through.by, through.known, through.layout, through.depth
        back, lag = ("1", "0") if depth == 1 else ("back", "back - 1")
        j = f"{past}[{0 if depth == 1 else f'{depth} - back'}]"
        statement = kind.added(kind.carried(by, j, known, f"{before}[{lag}]"), compose(by, known), layout)
        if kind.in_cache(by, known, layout):
            statement = f"add_scaled(now, {j}, {before}[{lag}])"
        if through.most is not None:  # further back all adjoints are zeros: no product with them
            test = f"if {end} + {back} <= {through.most + 1}:"
            statement = f"{test} {statement}" if depth > 1 else f"{test}\n    {statement}"
        if depth == 1:
            self.lines.add(*statement.split("\n"))
            return
        with self.lines.indented(f"for back in range(1, {depth + 1}):"):
            self.lines.add(statement)

    def _crowded(self, target: int, out: Swept, end: str, at: str) -> None:
        """`_carried` where parameters come to the target from many different sets of places: source by source."""
        laid: dict[Structure, set[str]] = {}
        for name in self.stored_on(target):
            laid.setdefault(self.plan.layouts[name, target], set()).add(name)
        found: dict[_Through, dict[int, tuple[str, ...]]] = {}
        for source in [place for place in self.plan.stored if place in self.plan.words[target] and place in out.past]:
            most = out.windows[source][1] if source in out.windows else None
            for group in self._alike(source):
                for names in laid.values():
                    chosen = group if names.issuperset(group) else tuple(name for name in group if name in names)
                    if chosen:
                        through = self._through(chosen[0], target, source, most)
                        found.setdefault(through, {})[source] = chosen
        if not self.shared:
            self.lines.add(f"own = KEYS[{self.build.place(target)!r}]")
        for through, sources in found.items():
            rows = [
                f"    ({out.past[source]}, KEYS[{self.build.place(source)!r}], {self.build.listed(names)}),"
                for source, names in sources.items()
            ]
            with (
                self.lines.indented("\n".join(["for past, before, names in (", *rows, "):"])),
                self.lines.indented("for name in names:"),
            ):
                self.lines.add(f"now = made[own[name]][{at}]")
                self._add(through, "past", "state[before[name]]", end)

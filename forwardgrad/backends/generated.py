"""How is generated source executed? Its functions are called block by block."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import Any

import numpy as np

from forwardgrad.backends.engine import State
from forwardgrad.backends.loading import by_rows, load
from forwardgrad.backends.onestep import Factors, StepJacobians, step_jacobians
from forwardgrad.backends.route import route
from forwardgrad.backends.stored_arrays import StoredArrays
from forwardgrad.backends.sweep import Adjoints
from forwardgrad.compiler import Plan
from forwardgrad.compiler.factors import Factor
from forwardgrad.compiler.source import Source, generate, support
from forwardgrad.compiler.source.credit import Swept
from forwardgrad.graph import Edge
from forwardgrad.layouts.traces import Passed, Traces
from forwardgrad.ops import Array
from forwardgrad.support import reuse


@dataclass
class Block:
    """A block that has been run forward by generated source.

    Args:
        source: the generated source.
        arrays: what it left, by the names that it uses.
        steps, batch: the shape of the block.
    """

    source: Source
    arrays: dict[str, Any]
    steps: int
    batch: int
    derived: bool = field(default=False)

    def values(self, name: str, delay: int = 0) -> Array:
        """What a node was `delay` steps before each step of the block: `(steps, batch, size)`."""
        series = self.source.build.value(name, delay)
        return self.arrays[series.name][series.first : series.first + self.steps]


class Generated:
    """An `Engine` that runs generated source.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
    """

    def __init__(self, plan: Plan, dtype: Any) -> None:
        self.plan, self.dtype = plan, np.dtype(dtype)
        self.traces: dict[str, Traces] = {
            name: plan.rules[name].kept.traces(plan, name, dtype) for name in plan.entries
        }
        self.source = generate(plan, dtype)
        self._routes = cache(partial(route, plan))
        self._functions = self._compiled()
        self._lossy = [name for name, traces in self.traces.items() if traces.lossy]
        self.lossy = bool(self._lossy)
        self._held = StoredArrays(plan, self.traces, self.dtype)
        self.start, self.shapes = self._held.start, self._held.shapes

    def _compiled(self) -> dict[str, Callable[..., Any]]:
        names: dict[str, Any] = {name: getattr(support, name) for name in dir(support) if not name.startswith("_")}
        names |= {
            "np": np,
            "empty": reuse.empty,
            "dtype": self.dtype.type,
            **self.source.constants,
            **self.source.tables,
        }
        names |= {name: self._op(node, port) for name, (node, port) in self.source.calls.items()}
        return load(self.source.text, names)

    def _op(self, node: str, port: str) -> Callable[..., Array]:
        return by_rows(self.plan.network.nodes[node], port)

    def forward(
        self,
        params: Mapping[str, Array],
        state: Mapping[str, Array],
        inputs: Mapping[str, Array],
        shape: tuple[int, int],
    ) -> Block:
        return Block(self.source, self._functions["forward"](params, state, inputs, *shape), *shape)

    def _derived(self, block: Block) -> dict[str, Any]:
        """The arrays of a block, with the derivatives of its nodes."""
        if not block.derived:
            block.arrays |= self._functions["slopes"](block.arrays)
            block.derived = True
        return block.arrays

    def gradients(
        self,
        tape: Block,
        state: Mapping[str, Array],
        after: Mapping[str, Array] | None,
        losses: Mapping[str, Array],
        signals: Mapping[str, Array],
        fresh: bool,
    ) -> dict[str, Array]:
        arrays = self._derived(tape)
        if not self.lossy:
            found = self._functions["credit"](arrays, losses, signals)
            return self._functions["gradients"](arrays, state, found, fresh)
        assert after is not None
        grads: dict[str, Array] = {}
        if len(self._lossy) < len(self.traces):
            whole = self._swept(tape, losses, signals)
            grads = self._functions["gradients"](arrays, state, whole.arrays, fresh)
        swept = self._ended(tape, losses, signals)
        for name in self._lossy:
            traces, old, new = self.traces[name], self._stored(state, name), self._stored(after, name)
            held = {(p, 1): found.held[p] for found in swept for p in traces.places if p in found.held}
            grads[name] = traces.gradient(tape, swept, [(held, new), *((found.boundary, old) for found in swept)])
        followers = self.plan.followers.items()
        return grads | {follower: grads[name].copy() for follower, name in followers if name in self._lossy}

    def _ended(self, tape: Block, losses: Mapping[str, Array], signals: Mapping[str, Array]) -> list[Found]:
        """Two sweeps: of the losses of the last step, ending at stored places; and of all before, if there are any."""
        if tape.steps == 1:
            ended = self._swept(tape, losses, signals, hold=True)
            ended.keep(self._beside)
            return [ended]
        last, earlier = ({name: _cut(a, part) for name, a in losses.items()} for part in (True, False))
        last_signals, earlier_signals = ({n: _cut(a, part) for n, a in signals.items()} for part in (True, False))
        return [self._swept(tape, earlier, earlier_signals), self._swept(tape, last, last_signals, hold=True)]

    @cached_property
    def _beside(self) -> frozenset[int]:
        """The places that credit of a step reaches in that step where it ends at those that lossy layouts store."""
        held = {place for name in self._lossy for place in self.traces[name].places}
        leaving, found = self.plan.product.leaving, set[int]()
        for place in self.plan.order:
            reached = any(arc.target in found for arc in leaving[place] if not arc.delay)
            if place not in held and (reached or self.plan.product.places[place].signal != "none"):
                found.add(place)
        return frozenset(found)

    def _stored(self, state: Mapping[str, Array], name: str) -> dict[Any, Array]:
        return {part: state[key] for part, key in self._held.keys[name].items()}

    # Lossy layouts: their classes are handed what the generated sweeps find.

    def _swept(
        self,
        block: Block,
        losses: Mapping[str, Array],
        signals: Mapping[str, Array],
        noise: Mapping[int, Array] | None = None,
        hold: bool = False,
    ) -> Found:
        build, noisy = self.source.build, noise or {}
        places = sorted({place for name in self._lossy for place in self.traces[name].places})
        none = {
            place: np.zeros((block.steps, block.batch, self.plan.size(place)), self.dtype)
            for place in places
            if place not in noisy
        }
        given = {build.place(place): array for place, array in {**none, **noisy}.items()}
        held: dict[str, Array] = {}
        more = (given, hold, held) if places else ()
        arrays = self._functions["credit"](self._derived(block), losses, signals, *more)
        found = Found(self.plan, self.source.credit, arrays, block.steps)
        found.held = {place: held[build.place(place)][:, None] for place in places if build.place(place) in held}
        return found

    def _rows(self, block: Block, place: int, lag: int) -> Found:
        jacobian = self.source.jacobians[place]
        end = block.steps - lag + 1
        given = [*([end] if jacobian.late else []), *([self.source.build.place(place)] if jacobian.several else [])]
        arrays = self._functions[jacobian.name](self._derived(block), *given)
        return Found(self.plan, jacobian.out, arrays, end)

    def _stepped(self, block: Block, place: int) -> StepJacobians:
        arrays, source = self._derived(block), self.source

        def slope(node: str, port: str) -> Any:
            if (found := source.slopes.get((node, port))) is not None:
                return arrays[found.name][found.first]
            declared = self.plan.network.nodes[node]
            constant = declared.op.port(port, declared.ports).constant
            return None if constant == 1.0 else constant

        def weight(edge: Edge, factor: Factor) -> Any:
            text = source.build.weight(edge, factor)
            found = arrays.get(text, source.constants.get(text))
            return found if found is not None or not text else float(text)

        return step_jacobians(self._routes(place), place, Factors(slope, weight), self.dtype.type)

    def _pulled(self, block: Block, seeds: Mapping[tuple[int, int], Array]) -> Found:
        noise: dict[int, Array] = {}
        for (place, lag), seed in seeds.items():
            shape = block.steps, block.batch, self.plan.size(place)
            noise.setdefault(place, np.zeros(shape, self.dtype))[block.steps - lag] += seed
        shape = block.steps, block.batch
        nodes = self.plan.network.nodes
        losses = {name: np.zeros((*shape, nodes[name].size), self.dtype) for name in self.plan.outputs}
        given = [place.node for place in self.plan.product.places if place.signal == "given"]
        signals = {name: np.zeros((*shape, nodes[name].size), self.dtype) for name in given}
        return self._swept(block, losses, signals, noise)

    def advance(self, tape: Block, state: Mapping[str, Array], fresh: bool) -> State:
        made = self._functions["advance"](self._derived(tape), state, fresh)
        if self.lossy:
            rows = cache(partial(self._rows, tape))
            stepped = cache(partial(self._stepped, tape))
            block = Passed(tape, rows, partial(self._pulled, tape), stepped)
            for name in self._lossy:
                after = self.traces[name].advance(block, self._stored(state, name))
                made |= {self._held.keys[name][part]: array for part, array in after.items()}
        return {key: made[key] for key in self._held.all}


def _cut(array: Array, last: bool) -> Array:
    """Learning signals of the last step alone, or of all but that."""
    made = array.copy()
    made[slice(None, -1) if last else slice(-1, None)] = 0
    return made


class Found(Adjoints):
    """What a generated sweep found, as the classes of lossy layouts read it: `(batch, seeds, size)`."""

    def __init__(self, plan: Plan, out: Swept, arrays: dict[str, Any], end: int) -> None:
        super().__init__()
        self._plan, self._out, self.arrays, self._end = plan, out, arrays, end
        self._kept: frozenset[int] | None = None
        for place, name in out.past.items():
            past = arrays[name]
            for lag in range(1, len(past) + 1):
                reached = place not in out.windows or end - 1 + lag <= out.windows[place][1]
                if reached:
                    self.boundary[place, lag] = self._seeded(past[len(past) - lag], place)

    def keep(self, places: Collection[int]) -> None:
        """Of a block of one step: leave what does not come over these places, which is zero."""
        self._kept = frozenset(places)
        arcs = self._plan.product.arcs
        entries = {(arc.source, arc.delay) for arc in arcs if arc.target in self._kept}
        self.boundary = {entry: adjoint for entry, adjoint in self.boundary.items() if entry in entries}

    def _seeded(self, adjoint: Array, place: int) -> Array:
        if adjoint.ndim == 3:
            return adjoint
        return np.broadcast_to(adjoint, (len(adjoint), self._plan.size(place)))[:, None]

    def at_port(self, place: int, port: str) -> tuple[list[int], Array] | None:
        series = self._out.ports.get((place, port))
        if series is None or (self._kept is not None and place not in self._kept):
            return None
        found = self.arrays[series.name]
        least, most = self._out.windows.get(place, (0, self._end - 1))
        steps = range(max(self._end - 1 - most, 0), max(self._end - least, 0))
        if not steps:
            return None
        array = found[steps.start : steps.stop]
        if array.ndim == 3:
            array = np.broadcast_to(array, (*array.shape[:2], self._plan.size(place)))[:, :, None]
        return list(steps), array

"""Influence: what is stored of one parameter between blocks, and where the parameter enters."""

from __future__ import annotations

from functools import cached_property

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.instructions import Slice
from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.synapses import Single, Synapses, synapses
from forwardgrad.array_program.values import Type, Value
from forwardgrad.compiler.keys import influence_key
from forwardgrad.compiler.layouts import stored_shape
from forwardgrad.compiler.product import Injection
from forwardgrad.structure import Structure


class Influence:
    """The influence of one parameter of lossless layout.

    Args:
        context: of the lowering.
        name: the parameter.
    """

    def __init__(self, context: Context, name: str) -> None:
        self.context, self.name, self.plan = context, name, context.plan
        self.places = self.plan.entries[name]
        self.sites = [site for site in self.plan.product.injections if site.parameter == name]
        self.shape = tuple(map(affine, context.network.parameters[name].shape))
        self._arrays: dict[tuple[str, int], Value] = {}

    @cached_property
    def synapses(self) -> Synapses | Single:
        """How it is injected, carried and contracted."""
        return synapses(self.context, self.name)

    def layout(self, place: int) -> Structure:
        """The word of what is stored on a place."""
        return self.plan.layouts[self.name, place]

    def depth(self, place: int) -> int:
        """The lags that are stored on a place."""
        return self.plan.depth[place]

    def stored(self, place: int) -> Value:
        """What is stored on a place before the block, `[lags batch ...]`, the latest first."""
        return self._array("state", "s", place)

    def advanced(self, place: int) -> Value:
        """What is stored on a place after the block."""
        return self._array("after", "new", place)

    def _array(self, group: str, word: str, place: int) -> Value:
        if (group, place) not in self._arrays:
            self._arrays[group, place] = self._declared(group, word, place)
        return self._arrays[group, place]

    def _declared(self, group: str, word: str, place: int) -> Value:
        parameter = self.context.network.parameters[self.name]
        shape = stored_shape(self.context.network, parameter, self.layout(place), self.plan.size(place))
        wanted = f"{word}_{self.name}_on_{self.context.place(place)}"
        kind = Type("float", (affine(self.depth(place)), affine("batch"), *map(affine, shape)))
        identifier = self.context.names.of(wanted, group, self.name, place)
        return self.context.given(group, influence_key(self.plan, self.name, place), identifier, kind)

    def presynaptic(self, builder: Builder, site: Injection, steps: Affine) -> Value | None:
        """What the parameter multiplies at a site, in so many steps from the first; `None` for a bias."""
        if site.edge is None:
            return None
        edge = self.context.network.edges[site.edge]
        series = self.context.nodes[edge.source]
        if steps == affine("steps"):
            return series.block(builder, edge.delay)
        return builder.add(Slice(series.value, 0, series.first - edge.delay, steps))

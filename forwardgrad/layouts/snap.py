"""The layout `snap(n)`: influence on the units that a parameter's own reaches within n - 1 transitions (SnAp-n).

Menick et al. 2021, arXiv 2006.07232. `compiler/reach.py` finds the pattern.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from forwardgrad.layouts.influence import Single, Synapses
from forwardgrad.layouts.jacobians import Diagonal, Jacobian, Wide
from forwardgrad.layouts.layout import Argument, Layout
from forwardgrad.layouts.patterns import Block, Rows, block_of, block_of_input
from forwardgrad.layouts.traces import Passed, Planned, Stored, Traces
from forwardgrad.ops import Array
from forwardgrad.structure import Structure, compose
from forwardgrad.support.blas import matmul


class MaskedTraces(Traces):
    """The influence on the units that are reached within n - 1 transitions (SnAp-n), and none on others.

    Only kept entries are stored, and only these are computed: entry by entry where a row reaches its own unit alone, in
    a small product for each row where it reaches more. What a block adds to others is dropped. A block of one step
    reads of a Jacobian what it needs; one of more steps makes it in full, since paths inside a block are all kept.
    """

    def __init__(self, plan: Planned, name: str, dtype: Any) -> None:
        super().__init__(plan, name, dtype)
        full = [place for place in self.places if plan.layouts[name, place] is Structure.FULL]
        reached: Mapping[int, Any] = plan.reached(name, self.rule.argument) if full else {}
        some = frozenset(place for place in full if not reached[place].all())
        self._blocks: dict[int, Block] = {}
        self._masks: dict[int, Array] = {}
        if isinstance(self.kind, Single):
            self._masks = {place: reached[place][:, 0] for place in some}
        elif some:
            rows = Rows(self.kind)
            self._blocks = {p: self._block(rows, p, reached[p] if p in full else None) for p in self.places}
        self._partial = some & self._blocks.keys()

    def _block(self, rows: Rows, place: int, reached: Array | None) -> Block:
        if self.plan.layouts[self.name, place] is Structure.SCALAR:
            return block_of_input(rows)
        return block_of(rows, np.eye(rows.units, dtype=np.bool_) if reached is None else reached)

    def partial(self, place: int) -> Block | None:
        """The kept entries of the influence on a place, row by row; `None` where all are kept, or there are no rows."""
        return self._blocks[place] if place in self._partial else None

    def kept(self, place: int) -> Any:
        """Which units of a place keep the influence of a scalar weight; `None` for all, or for another weight."""
        return self._masks.get(place)

    def block(self, place: int) -> Block:
        """All or some of the influence on a place, row by row, where some place keeps only some of its own."""
        return self._blocks[place]

    def mask(self, place: int) -> Any:
        """Which entries of the influence on a place are kept, shaped like it; `None` for all."""
        if place in self._partial and isinstance(self.kind, Synapses):
            reached = self._blocks[place].reached(self.size(place))
            return np.broadcast_to(self.kind.by_row(reached), self.full_shape(place))
        return self._masks.get(place)

    def encoded_shape(self, place: int) -> tuple[int, ...]:
        if place in self._partial:
            return self._blocks[place].shape
        mask = self._masks.get(place)
        return self.full_shape(place) if mask is None else (int(np.count_nonzero(mask)),)

    def encode(self, place: int, influence: Array) -> Array:
        mask = self.mask(place)
        return influence if mask is None else influence[:, mask].reshape(len(influence), *self.encoded_shape(place))

    def decode(self, place: int, stored: Array) -> Array:
        mask = self.mask(place)
        if mask is None:
            return stored
        influence = np.zeros((len(stored), *self.full_shape(place)), self.dtype)
        influence[:, mask] = stored.reshape(len(stored), -1)
        return influence

    def carried(self, place: int) -> int:
        return prod(self.encoded_shape(place))

    def products(self, target: int, source: int) -> int:
        if target not in self._partial:
            return super().products(target, source)
        lines = [self._blocks[place].lines.sum(axis=1) for place in (target, source)]
        return int((lines[0] * lines[1] * self._blocks[target].rows.counts).sum())

    def contracted(self, place: int, adjoint: Array, stored: Array) -> Array:
        if place not in self._partial:
            return super().contracted(place, adjoint, stored)
        if not stored.size:
            return np.zeros(self.plan.network.parameters[self.name].shape, self.dtype)
        block = self._blocks[place]
        influence = block.gathered(stored)
        lines = adjoint[:, : block.rows.units, None] if block.own else adjoint[:, block.units]
        if block.filled_up:
            lines = lines * block.lines
        if lines.shape[2] == 1:
            by_rows = (lines * influence[:, :, 0]).sum(axis=0)
        else:
            by_rows = (lines[..., None] * influence).sum(axis=(0, 2))
        return block.rows.kind.collapse(block.rows.entries(by_rows))

    def renewed(self, block: Passed, place: int, lag: int, stored: Stored) -> Array:
        if place not in self._partial:
            return super().renewed(block, place, lag, stored)
        if not stored[place].size:  # no unit is reached
            return np.zeros_like(stored[place][lag - 1])
        kept = self._blocks[place]
        parts = [
            _carried(j, kept, self._blocks[source], stored[source][back - 1])
            for (source, back), j in self._boundary(block, place, lag).items()
            if stored[source].size
        ]
        for j, x in self._injections(block, place, lag):
            entries = j.diagonal[..., : kept.rows.units, None] if kept.own else j.at(kept.units, kept.rows.own)
            parts.append(_injected(entries, kept.rows.read(x)))
        for part in parts[1:]:
            parts[0] += part
        return kept.scattered(parts[0]) if parts else np.zeros_like(stored[place][lag - 1])

    def _injections(self, block: Passed, place: int, lag: int) -> Iterator[tuple[Jacobian, Array]]:
        """The Jacobians of a place by where the parameter enters, and what the parameter multiplies there."""
        words = self.plan.words[place]
        for site in self.sites:
            x = self.presynaptic(block.tape, site)
            if block.tape.steps == 1:
                if (j := block.stepped(place).ports.get((site.place, site.port))) is not None:
                    yield j, x
            elif site.place in words and (found := block.rows(place, lag).at_port(site.place, site.port)) is not None:
                steps, array = found
                word = compose(words[site.place], self.plan.port_word(site.place, site.port))
                yield _jacobian(word, array), x[steps]

    def _boundary(self, block: Passed, place: int, lag: int) -> dict[tuple[int, int], Jacobian]:
        """The Jacobians of a place by what is stored."""
        if block.tape.steps == 1:
            found = block.stepped(place).boundary
            return {entry: found[entry] for entry in self.entries() if entry in found}
        arrays, words = block.rows(place, lag).boundary, self.plan.words[place]
        return {entry: _jacobian(words[entry[0]], arrays[entry]) for entry in self.entries() if entry in arrays}


def _jacobian(word: Structure, array: Array) -> Jacobian:
    """A Jacobian from a sweep over several steps, `(..., seeds, size)`."""
    return Wide(array) if word is Structure.FULL else Diagonal(array[..., 0, :])


def _injected(j: Array, x: Array) -> Array:
    """What a block injects into the lines of each row.

    Args:
        j: of each line, by its row: `(steps, batch, rows, lines)`; without steps in a block of one.
        x: what the entries of each row multiply: `(steps, batch, rows, entries)`, or of one row for all.
    """
    if j.ndim < 4:
        return j[..., None] * x[0][..., None, :]
    return matmul(j.transpose(1, 2, 3, 0), x.transpose(1, 2, 0, 3))


def _carried(j: Jacobian, target: Block, source: Block, stored: Array) -> Array:
    """A Jacobian times what is stored on a place, in the blocks of another."""
    if target.own and source.own:
        return j.diagonal[..., : target.rows.units, None, None] * source.gathered(stored)
    entries = j.at(target.units[:, :, None], source.units[:, None, :])
    if source.filled_up:
        entries = entries * source.lines[:, None]
    influence = source.gathered(stored)
    return entries * influence if source.units.shape[1] == 1 else matmul(entries, influence)


def _compression(order: int) -> str:
    return f"only the entries reached within n - 1 = {order - 1} transitions from a weight's own unit are kept"


SNAP = Layout(
    "snap",
    MaskedTraces,
    keeps="the entries on units that a parameter's own unit reaches within n - 1 transitions, found unit by unit",
    source="Menick et al. 2021, arXiv 2006.07232",
    compression=_compression,
    argument=Argument("n", 1, lambda n: n >= 1, "n >= 1, a whole number"),
    by_synapse=True,
)

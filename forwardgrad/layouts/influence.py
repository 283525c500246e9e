"""How is one parameter's influence stored in each layout, and how is it injected, carried and contracted?

Every parameter entry belongs to one unit of the node it enters (its row) and, on an edge, reads one unit of the source
(its column). A Jacobian J from that node to a stored node makes the influence `J[i, row] * x[column]`. It is stored

- in layout `full` as it is, `(batch, target, *shape)`;
- in layout `diagonal`, where J is diagonal, without the axis that repeats the row, `(batch, *shape)`;
- in layout `scalar`, where J is a number per sample, without the rows: `(batch, source)`, the filtered input.

Jacobians are handed over as a sweep makes them: `(batch, seeds, size)`, compact (one seed, for `scalar` and `diagonal`)
or wide (a seed per unit of the target, for `full`).

Where synapses share the entries of a parameter (a kernel), each has an influence of its own in the layouts `scalar` and
`diagonal`; in `full`, one for each entry, unless a layout asks for synapses apart. Gradients are by entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forwardgrad.graph import Network, Parameter
from forwardgrad.ops import Array
from forwardgrad.structure import Structure, compose
from forwardgrad.support.blas import matmul
from forwardgrad.weights import Pattern


@dataclass(frozen=True)
class Synapses:
    """Influence of a parameter with one row per entry: dense, sparse and diagonal weights, and biases.

    Args:
        kind: the weight kind, or `bias`.
        shape: of an array with a number for each synapse.
        units: number of units of the node it enters.
        source: size of the presynaptic node; 0 for a bias, which reads the constant 1.
        pattern: the synapse table, of a sparse weight.
        apart: whether synapses are kept apart in `full` that share an entry of the parameter.
    """

    kind: str
    shape: tuple[int, ...]
    units: int
    source: int
    pattern: Pattern | None = None
    apart: bool = False

    @property
    def rows(self) -> Array | None:
        """The row of each synapse in a table."""
        return None if self.pattern is None else self.pattern.rows

    @property
    def columns(self) -> Array | None:
        """The column of each synapse in a table."""
        return None if self.pattern is None else self.pattern.columns

    def collapse(self, synapses: Array) -> Array:
        """Numbers of synapses `(..., *shape)`, added up by the entries of the parameter that they share."""
        return synapses if self.pattern is None else self.pattern.collapse(synapses)

    def in_full(self, synapses: Array) -> Array:
        """Numbers of synapses `(..., *shape)` as a full influence has them behind its units."""
        return synapses if self.apart else self.collapse(synapses)

    def by_row(self, g: Array) -> Array:
        """`g[..., row]` for every entry, broadcastable to `(..., *shape)`, for `g` of shape `(..., size)`."""
        if self.kind == "dense":
            return g[..., :, None]
        return g if self.rows is None else g[..., self.rows]

    def by_column(self, x: Array) -> Array:
        """`x[..., column]` for every entry, broadcastable to `(..., *shape)`, for `x` of shape `(..., source)`."""
        if self.kind == "dense":
            return x[..., None, :]
        if self.kind == "bias":
            return x[..., None]
        return x if self.columns is None else x[..., self.columns]

    def gradient(self, b: Array, x: Array) -> Array:
        """Sum over time and batch of adjoint `(time, batch, size)` times presynaptic value `(time, batch, source)`."""
        if self.kind == "dense":
            return matmul(b.reshape(-1, b.shape[-1]).T, x.reshape(-1, x.shape[-1]))
        return self.collapse((self.by_row(b) * self.by_column(x)).sum(axis=(0, 1)).reshape(self.shape))

    def inject(self, word: Structure, j: Array, x: Array) -> Array:
        """The influence that enters in a block: the sum over time of J times presynaptic value.

        Args:
            word: structure word of J.
            j: `(time, batch, seeds, size)`.
            x: `(time, batch, source)`, or `(time, batch)` of ones for a bias.

        Returns:
            `(batch, ...)`, in the layout of that word.
        """
        if word is Structure.SCALAR:
            c = j[:, :, 0, 0]
            return (c.reshape(c.shape + (1,) * (x.ndim - 2)) * x).sum(axis=0)
        if self.kind == "dense":
            steps, batch, seeds, size = j.shape
            flat = matmul(j.reshape(steps, batch, seeds * size).transpose(1, 2, 0), x.transpose(1, 0, 2))
            return flat.reshape(batch, *((seeds,) if word is Structure.FULL else ()), size, x.shape[-1])
        if word is Structure.DIAGONAL:
            return (self.by_row(j[:, :, 0]) * self.by_column(x)).sum(axis=0)
        return self.in_full((self.by_row(j) * self.by_column(x)[:, :, None]).sum(axis=0))

    def widen(self, s: Array, word: Structure, to: Structure) -> Array:
        """The same influence in a wider layout."""
        if word is Structure.SCALAR and to > word:
            s, word = np.broadcast_to(self.by_column(s), (len(s), *self.shape)), Structure.DIAGONAL
        if word is Structure.DIAGONAL and to > word:
            s = self.in_full(self.by_row(np.eye(self.units, dtype=s.dtype)) * s[:, None])
        return s

    def carry(self, j_word: Structure, j: Array, word: Structure, s: Array) -> Array:
        """J times an influence in layout `word`; the result is in layout `compose(j_word, word)`."""
        if word is Structure.FULL:
            if j_word is Structure.FULL:
                flat = matmul(j, s.reshape(*s.shape[:2], -1))
                return flat.reshape(*flat.shape[:2], *s.shape[2:])
            return j[:, 0].reshape(*j[:, 0].shape, *(1,) * (s.ndim - 2)) * s
        if compose(j_word, word) is Structure.SCALAR:
            return j[:, 0, 0].reshape(len(s), *(1,) * (s.ndim - 1)) * s
        s = self.widen(s, word, Structure.DIAGONAL)
        if j_word is Structure.FULL:
            return self.in_full(self.by_row(j) * s[:, None])
        return self.by_row(j[:, 0]) * s

    def contract(self, adjoint: Array, word: Structure, s: Array) -> Array:
        """Sum over the batch of adjoint `(batch, target)` times influence: a gradient."""
        if word is Structure.FULL:
            total = matmul(adjoint.reshape(1, -1), s.reshape(adjoint.size, -1)).reshape(s.shape[2:])
            return self.collapse(total) if self.apart else total
        if self.kind == "dense" and word is Structure.SCALAR:
            return matmul(adjoint.T, s)
        return self.collapse((self.by_row(adjoint) * self.widen(s, word, Structure.DIAGONAL)).sum(axis=0))


@dataclass(frozen=True)
class Single:
    """Influence of a scalar weight: one number per unit of the target, `(batch, target)`, in every layout."""

    def gradient(self, b: Array, x: Array) -> Array:
        """Sum over time, batch and units of adjoint times presynaptic value."""
        return np.asarray((b * x).sum())

    def inject(self, word: Structure, j: Array, x: Array) -> Array:
        """The sum over time of J times presynaptic value, `(batch, target)`."""
        if word is Structure.FULL:
            return matmul(j, x[..., None])[..., 0].sum(axis=0)
        return (j[:, :, 0] * x).sum(axis=0)

    def widen(self, s: Array, word: Structure, to: Structure) -> Array:
        """The same influence: it is stored alike in every layout."""
        return s

    def carry(self, j_word: Structure, j: Array, word: Structure, s: Array) -> Array:
        """J times an influence."""
        return matmul(j, s[..., None])[..., 0] if j_word is Structure.FULL else j[:, 0] * s

    def contract(self, adjoint: Array, word: Structure, s: Array) -> Array:
        """Sum over batch and units of adjoint times influence: a gradient."""
        return np.asarray((adjoint * s).sum())


def influence_of(network: Network, parameter: Parameter, apart: bool) -> Synapses | Single:
    """How the influence of a parameter is stored; `apart`: as `Synapses` says."""
    if parameter.kind == "scalar":
        return Single()
    pattern = parameter.pattern
    units = pattern.shape[0] if pattern is not None else parameter.shape[0]
    source = network.nodes[network.edges[parameter.edges[0]].source].size if parameter.edges else 0
    return Synapses(parameter.kind, parameter.synapses, units, source, pattern, apart)

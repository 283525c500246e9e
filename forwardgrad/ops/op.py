"""What is an op? One registration: name, ports, value, derivative per port with its structure word, options, shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import OpError
from forwardgrad.structure import Structure

Array = NDArray[Any]


@dataclass(frozen=True)
class Option:
    """An option of an op, given as a flat node attribute.

    Args:
        default: its value where the node gives none.
        choices: the legal words, for an option that is a word; empty for a number or an array `(size,)`.
        positive: whether a number must be greater than zero.
    """

    default: float | str
    choices: tuple[str, ...] = ()
    positive: bool = False


@dataclass(frozen=True)
class Port:
    """One input of an op, and the derivative of the op's value by it.

    Args:
        name: name of the port; edges are summed into it.
        derivative: called like `Op.value` with the op's value appended, `derivative(*ports, y, **options)`.
            It returns the Jacobian in the form of its structure word: a number or `(rows, 1)` for `scalar`,
            `(rows, size)` for `diagonal`, `(rows, size, size)` with `[row, i, j] = dy_i / dx_j` for `full`.
        structure: the structure word of that Jacobian.
        constant: the derivative, where it is one number whatever the values (1 for `linear`), or `None`.
        vanishes: whether the derivative may be exactly 0 over a range of values, as a surrogate of bounded support is.
            Backends then look for zeros, and pass over products with them. What is computed stays the same.
    """

    name: str
    derivative: Callable[..., Any]
    structure: Structure = Structure.DIAGONAL
    constant: float | None = None
    vanishes: bool = False


@dataclass(frozen=True)
class Op:
    """A node's function of its ports, with the derivative that the compiler may use.

    Args:
        name: the word used in a node's `op` attribute.
        value: `value(*ports, **options)`; every port and the result are arrays `(rows, size)`.
        ports: the ports in the order in which `value` takes them; empty for an op without any (`input`).
        each_port: for an op of any number of ports named by the user (`mul`): `each_port(index)` is the port at
            that place, its name ignored. `ports` is then empty.
        least_ports: how many ports such an op needs at least; of named ports, all must be fed.
        given: whether the values come from outside, so that a node takes neither edges nor a bias (`input`).
        product: whether the value is the product of the ports (`mul`): equations then write the derivative by one port
            as the values of the others.
        joins: whether its node is put together from parts, one behind the other (`concat`).
        along: whether it serves the last axis of a node's shape at a time (`softmax`): `value` and the derivatives then
            take the length of that axis as `along` where a node has several axes, and all units where it is not given.
        options: the options with their defaults.
        smooth: `False` where the declared derivative is not that of `value` (a surrogate), so that finite
            differences say nothing about it.
        positive: whether it is defined, or smooth, where its ports are greater than zero only (`log`): tests of it then
            draw such numbers. A program that meets others raises `NonFiniteError`.
        shape: Graphviz shape it is drawn with.
    """

    name: str
    value: Callable[..., Any]
    ports: tuple[Port, ...] = ()
    each_port: Callable[[int], Port] | None = None
    least_ports: int = 0
    given: bool = False
    product: bool = False
    joins: bool = False
    along: bool = False
    options: Mapping[str, Option] = field(default_factory=lambda: MappingProxyType({}))
    smooth: bool = True
    positive: bool = False
    shape: str = "ellipse"

    def port(self, name: str, names: Sequence[str]) -> Port:
        """The port of that name on a node whose ports are `names`, in order."""
        if self.each_port is not None:
            return self.each_port(list(names).index(name))
        return next(port for port in self.ports if port.name == name)

    def evaluate(self, ports: Sequence[Array], options: Mapping[str, Any]) -> Array:
        """The value for port arrays `(rows, size)`: a new array `(rows, size)` of their dtype.

        The function gets copies, so that it may write into them, and its result is copied, so that it may keep it.

        Raises:
            OpError: if the function fails, or returns another shape.
        """
        shape = ports[0].shape
        y = self._result("value", self.value, ports, options)
        if y.ndim not in (0, len(shape)) or not _fits(y.shape, shape):
            raise OpError(
                f"op {self.name!r}: value returned shape {y.shape} for ports of shape {shape}.",
                "An op returns one array (rows, size), like its ports.",
            )
        return y if y.shape == shape else np.broadcast_to(y, shape).copy()

    def jacobian(
        self, name: str, names: Sequence[str], ports: Sequence[Array], y: Array, options: Mapping[str, Any]
    ) -> Array:
        """The derivative by one port: `(rows, 1)`, `(rows, size)` or `(rows, size, size)` by its structure word.

        Raises:
            OpError: if the registered derivative fails, or returns an array that does not fit its structure word.
        """
        port = self.port(name, names)
        rows, size = y.shape
        d = self._result(f"the derivative by port {name!r}", port.derivative, [*ports, y], options)
        shape = {
            Structure.ZERO: (rows, 1),
            Structure.SCALAR: (rows, 1),
            Structure.DIAGONAL: (rows, size),
            Structure.FULL: (rows, size, size),
        }[port.structure]
        if not _fits(d.shape, shape):
            raise OpError(
                f"op {self.name!r}: the derivative by port {name!r} has shape {d.shape}.",
                f"Its structure word {str(port.structure)!r} needs {shape}, (rows, size) being {y.shape}.",
            )
        return np.broadcast_to(d, shape)

    def _result(self, what: str, function: Any, given: Sequence[Array], options: Mapping[str, Any]) -> Array:
        """What a function returns, as a new array of the dtype of what it is given."""
        try:
            return np.array(function(*(np.array(array) for array in given), **options), given[0].dtype)
        except (TypeError, ValueError) as error:
            raise OpError(f"op {self.name!r}: {what} fails.", f"{type(error).__name__}: {error}") from error


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether an array can be repeated along axes until it has the wanted shape."""
    pairs = zip(reversed(shape), reversed(wanted), strict=False)
    return len(shape) <= len(wanted) and all(n in (1, m) for n, m in pairs)

"""Equations as they are printed, evaluated number by number."""

from __future__ import annotations

from typing import Any

import numpy as np
from checks import compiled, error

import forwardgrad as fg
from forwardgrad.explain.notation import Equations, Line, Symbol
from forwardgrad.graph import Network
from forwardgrad.ops import Array
from forwardgrad.ops import losses as loss_table
from forwardgrad.rules.feedback import random_feedback
from forwardgrad.testing import Problem


class Evaluated:
    """Equations of one parameter, executed as they are written, for one sample, a step at a time."""

    def __init__(self, program: fg.Program, given: Problem, name: str, sample: int) -> None:
        self.equations: Equations = program.rules[name].equations
        self.network, self.params, self.seed = program.network, given.params, program.chosen[name].seed
        self.parameter = self.network.parameters[name]
        inputs = {node: x[:, sample : sample + 1] for node, x in given.inputs.items()}
        self.values = {node: v[:, 0] for node, v in program.run(given.params, inputs).items()}
        self.steps = given.steps
        self.losses = {node: self._loss(program, given, node, sample) for node in given.loss}
        self.past: dict[Symbol, list[Array]] = {}

    def _loss(self, program: fg.Program, given: Problem, node: str, sample: int) -> Array:
        """The derivative of the loss by a node, `(time, size)`."""
        mask = given.mask[node] if isinstance(given.mask, dict) else given.mask
        weight = np.ones((given.steps, given.batch)) if mask is None else np.asarray(mask, float)
        weight = np.broadcast_to(weight[:, None] if weight.ndim == 1 else weight, (given.steps, given.batch))
        outputs = np.repeat(self.values[node][:, None], given.batch, axis=1)
        return loss_table.evaluate(program.losses[node], outputs, given.targets[node], weight)[1][:, sample]

    def gradient(self) -> Array:
        total: Any = np.zeros(self.entries)
        for t in range(self.steps):
            for line in self.equations.influence:
                self.past.setdefault(bare(line.left), []).append(self._line(line, t))
            self.signals: dict[Symbol, Array] = {}
            for line in reversed(self.equations.signals):
                self.signals[bare(line.left)] = self._line(line, t)
            total = total + self._line(self.equations.gradient, t)
        pattern = self.parameter.pattern
        if pattern is None:
            return np.asarray(total)
        synapses = np.asarray(total[pattern.rows, pattern.columns])
        if pattern.entries is None:
            return synapses
        return np.bincount(pattern.entries, synapses, int(np.prod(pattern.kernel))).reshape(pattern.kernel)

    @property
    def entries(self) -> tuple[int, ...]:
        """Shape of the parameter, a sparse one as a matrix."""
        pattern = self.parameter.pattern
        return self.parameter.shape if pattern is None else pattern.shape

    def _line(self, line: Line, t: int) -> Array:
        if line.left.index or line.left.kind == "gradient" or self._single(line):
            return self._by_unit(line, t)
        size = self.network.nodes[line.left.name].size
        total = np.zeros((size, *(() if line.left.kind == "L" else self.entries)))
        for term in line.right:
            product: Any = np.eye(size) if not term.factors else self._whole(term.factors[-1], t)
            for factor in reversed(term.factors[:-1]):
                left = self._whole(factor, t)
                product = np.tensordot(left, product, 1) if np.ndim(left) else left * product
            total = total + term.number * product
        return total

    def _single(self, line: Line) -> bool:
        """Whether the left side is one number for all units: a bias in layout `scalar`."""
        return line.left.kind in ("eps", "e", "ebar") and line.left.name in self._uniform

    @property
    def _uniform(self) -> set[str]:
        notes = self.equations.notes
        same = [n.about for n in notes if n.about and "the same for every i" in n.text and n.about.index == ""]
        return {symbol.name for symbol in same}

    def _by_unit(self, line: Line, t: int) -> Array:
        """Einstein sums: the letters on the left, all others summed over."""
        out = line.left.index.replace(",", "")
        total: Any = 0.0
        for term in line.right:
            letters = [factor.index.replace(",", "") for factor in term.factors]
            assert set(term.over).isdisjoint(out)
            assert set("".join(letters)) <= {*out, *term.over}, term
            arrays = [self._array(factor, t) for factor in term.factors]
            for letter in out:
                letters.append(letter)
                arrays.append(np.ones(self._size(line, letter)))
            product = np.einsum(",".join(letters) + "->" + out, *arrays) if letters else 1.0
            total = total + term.number * product
        return np.asarray(total)

    def _size(self, line: Line, letter: str) -> int:
        """How far an index on the left of a line goes."""
        if letter == "j":
            return self.entries[-1]
        return self.entries[0] if line.left.kind == "gradient" else self.network.nodes[line.left.name].size

    def _array(self, symbol: Symbol, t: int) -> Array:
        """A symbol with its indices."""
        if symbol.kind in ("S", "eps", "e", "ebar"):
            return self._influence(symbol, t)
        if symbol.kind == "L":
            return self.signals[bare(symbol)]
        if symbol.kind == "E":
            return self.losses[symbol.name][t]
        if symbol.kind == "value":
            return self._value(symbol.name, t - (symbol.delay or 0))
        if symbol.kind in ("D", "psi", "J"):
            return self._derivative(symbol.name, t)
        return self._weight(symbol)

    def _whole(self, symbol: Symbol, t: int) -> Array:
        """A symbol without indices: a matrix, a vector, a number or an influence on all units."""
        if symbol.kind == "identity":
            return np.eye(self.entries[0])
        array = self._array(symbol, t)
        if symbol.kind in ("eps", "e", "ebar"):
            return self._widened(symbol, array)
        if symbol.kind in ("D", "psi"):
            return np.diag(array)
        if symbol.form == "outer":
            rows = self.entries[0]
            return np.einsum("ki,j->kij", np.eye(rows), array)
        if symbol.form == "diagonal":
            return np.diag(array) if array.ndim == 1 else np.diag(np.diag(array))
        if symbol.form.startswith("rest"):
            array = array - np.diag(np.diag(array))
        return array.T if symbol.form.endswith("transposed") else array

    def _widened(self, symbol: Symbol, array: Array) -> Array:
        if self.parameter.kind == "scalar":
            return array
        (left,) = (line.left for line in self.equations.influence if bare(line.left) == bare(symbol))
        rows = np.eye(self.network.nodes[symbol.name].size)
        index = left.index.replace(",", "")
        own = "ij" if len(self.entries) == 2 else "i"
        return np.einsum(f"ki,{index}->k{own}", rows, array)

    def _influence(self, symbol: Symbol, t: int) -> Array:
        past, delay = self.past[bare(symbol)] if bare(symbol) in self.past else [], symbol.delay or 0
        if t < delay:
            (left,) = (line for line in self.equations.influence if bare(line.left) == bare(symbol))
            if left.left.index or self._single(left):
                return np.zeros([self._size(left, letter) for letter in left.left.index.replace(",", "")])
            return np.zeros((self.network.nodes[symbol.name].size, *self.entries))
        return past[t - delay]

    def _value(self, node: str, t: int) -> Array:
        return self.values[node][t] if t >= 0 else np.asarray(self.network.nodes[node].initial, float)

    def _derivative(self, name: str, t: int) -> Array:
        node_name, _, port = name.partition(",")
        node = self.network.nodes[node_name]
        ports = [self._port(node_name, q, t) for q in node.ports]
        name, y = port or node.ports[0], self.values[node_name][t][None]
        return node.op.jacobian(name, node.ports, ports, y, node.options)[0]

    def _port(self, name: str, port: str, t: int) -> Array:
        node = self.network.nodes[name]
        total = np.zeros((1, node.size))
        if node.bias is not None and node.bias_port == port:
            total = total + self.params[node.bias]
        for edge in self.network.into[name]:
            if edge.port == port:
                weight = 1.0 if edge.kind == "identity" else self._of_edge(edge.name)
                value = self._value(edge.source, t - edge.delay)
                total = total + (weight @ value if np.ndim(weight) == 2 else weight * value)
        return total

    def _of_edge(self, name: str) -> Array:
        edge = self.network.edges[name]
        array = self.params[edge.param] if edge.param is not None else edge.value
        return _matrix(self.network, name, np.asarray(array))

    def _weight(self, symbol: Symbol) -> Array:
        if symbol.kind == "B":
            edge = self.network.edges[symbol.name]
            shape = self.params[edge.param].shape if edge.param else np.shape(edge.value)
            return _matrix(self.network, symbol.name, random_feedback(symbol.name, shape, self.seed))
        if symbol.name in self.network.parameters:
            return self._of_edge(self.network.parameters[symbol.name].edges[0])
        return self._of_edge(symbol.name)


def _matrix(network: Network, name: str, array: Array) -> Array:
    pattern = network.edges[name].pattern
    if pattern is None:
        return array
    matrix = np.zeros(pattern.shape)
    matrix[pattern.rows, pattern.columns] = array if pattern.entries is None else array.ravel()[pattern.entries]
    return matrix


def bare(symbol: Symbol) -> Symbol:
    return Symbol(symbol.kind, symbol.name, mode=symbol.mode)


def evaluated(program: fg.Program, given: Problem) -> dict[str, Array]:
    """The gradients by the equations."""
    return {
        name: sum(Evaluated(program, given, name, sample).gradient() for sample in range(given.batch))
        for name in program.rules
    }


def assert_equations_hold(given: Problem, rule: Any) -> fg.Program:
    """Assert that the equations of every parameter, executed as they are written, give the program's gradient."""
    program = compiled(given, rule)
    wanted = program.gradient(given.params, given.inputs, given.targets, block=1, mask=given.mask).grads
    found = {name: np.broadcast_to(g, wanted[name].shape) for name, g in evaluated(program, given).items()}
    assert error(found, {name: wanted[name] for name in found}) <= 1e-10
    return program

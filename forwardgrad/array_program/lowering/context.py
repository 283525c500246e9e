"""What all parts of the lowering share: the plan, the names of its arrays, and where they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from forwardgrad.array_program import numpy_helpers
from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import Affine, affine
from forwardgrad.array_program.expressions import Tree, apply, is_test, places
from forwardgrad.array_program.formulas import option_arrays
from forwardgrad.array_program.inlining import bodies
from forwardgrad.array_program.instructions import Broadcast, Call, Read, Slice
from forwardgrad.array_program.lowering.derivatives import PortName, derivatives
from forwardgrad.array_program.lowering.groups import NodeFormula
from forwardgrad.array_program.regions import Function, Invoke
from forwardgrad.array_program.values import Type, Value, floats
from forwardgrad.compiler.keys import value_key
from forwardgrad.compiler.plan import Plan
from forwardgrad.graph import Node
from forwardgrad.layouts.compressed import CompressedTraces
from forwardgrad.layouts.draws import COUNT, DRAW
from forwardgrad.ops import Array
from forwardgrad.ops.formula import VJP, Printable
from forwardgrad.support.names import Names

STEP = "t"
"""The index of the steps of a block."""

NOW = Affine()
"""The index of a block's first step in an array that begins with it."""


@dataclass(frozen=True)
class Series:
    """An array over time, which may hold steps before the block, and at which index the block begins in it."""

    value: Value
    first: Affine = NOW

    def block(self, builder: Builder, delay: int = 0) -> Value:
        """The values of all steps of the block, or those that many steps before."""
        if self.first - delay == affine(0) and self.value.dims[0] == affine("steps"):
            return self.value
        return builder.add(Slice(self.value, 0, self.first - delay, affine("steps")))

    def cut(self, builder: Builder, start: Affine, count: Affine, delay: int = 0) -> Value:
        """The values of that many steps of the block from one on, or those so many steps before."""
        if start == affine(0) and count == affine("steps"):
            return self.block(builder, delay)
        return builder.add(Slice(self.value, 0, self.first - delay + start, count))

    def at(self, builder: Builder, delay: int = 0) -> Value:
        """The value at the step of a scan, or that many steps before."""
        return builder.add(Read(self.value, self.first - delay + STEP))


@dataclass(frozen=True)
class OpCall:
    """The value of a node's op, or its derivative by a port, as a function that can only be called."""

    node: str
    port: str


@dataclass(frozen=True)
class LayoutCall:
    """A function of a layout of a user's.

    Args:
        traces: the layout of a parameter, as the interpreter runs it.
        what: `compress` or `expand`.
        place, lag: of the influence; no lag where that makes no difference.
    """

    traces: CompressedTraces
    what: str
    place: int
    lag: int

    def run(self, array: Array, *counters: Array) -> Array:
        """What the function makes of an influence, or of what is stored, in the dtype of the program."""
        if self.what == "expand":
            return self.traces.decode(self.place, array)
        return self.traces.compressed(self.place, self.lag, array, dict(zip((DRAW, COUNT), counters, strict=False)))


class Context:
    """What is known while a plan is lowered.

    Args:
        plan: the derived algorithm.
        dtype: of all arrays.
    """

    def __init__(self, plan: Plan, dtype: Any) -> None:
        self.plan, self.network, self.dtype = plan, plan.network, np.dtype(dtype)
        self.names, self._places = Names(vars(numpy_helpers)), Names()
        self._modes = Counter(place.node for place in plan.product.places)
        self.weights = Builder()
        self.made_weights: dict[Hashable, Value] = {}
        self.constants: dict[Value, Array] = {}
        self.bindings: dict[str, tuple[str, str]] = {}
        self.calls: dict[str, OpCall | LayoutCall] = {}
        self.nodes: dict[str, Series] = {}
        self.ports: dict[PortName, Series] = {}
        self.slopes: dict[PortName, Series] = {}
        self.derivatives = derivatives(plan)
        self.needed = {(node, port) for (node, _), d in self.derivatives.items() for port in d.ports}
        for name, node in self.network.nodes.items():  # nodes get the plain names
            history = self.network.history(name)
            value = Value(self.names.of(name, "node"), floats(affine("steps") + history, "batch", node.size))
            self.nodes[name] = Series(value, affine(history))

    @cached_property
    def lossy_places(self) -> frozenset[int]:
        """The places that credit of parameters comes over whose layouts lose something; no others share them."""
        sites = {site.place for site in self.plan.product.injections if self.plan.rules[site.parameter].lossy}
        found, waiting = set(sites), list(sites)
        while waiting:
            ends = {arc.target for arc in self.plan.product.leaving[waiting.pop()]} - found
            found |= ends
            waiting += ends
        return frozenset(found)

    def vanishes(self, place: int) -> bool:
        """Whether a Jacobian of a stored place may have rows of zeros, or its influence: a sweep says over what."""
        return any(self.plan.product.places[reached].node in self._vanishing for reached in self.plan.words[place])

    @cached_property
    def _vanishing(self) -> frozenset[str]:
        """The nodes by whose ports a derivative may be exactly 0."""
        return frozenset(node for (node, _), each in self.derivatives.items() if each.declared.vanishes)

    # Names.

    def port_name(self, node: str, port: str) -> str:
        """The name of a port's array."""
        return self.names.of(f"{node}_{port}", "port", node, port)

    def place(self, place: int) -> str:
        """How a place is named: by its node, and by its mode where there are several."""
        found = self.plan.product.places[place]
        several = self._modes[found.node] > 1
        return self._places.of(f"{found.node}_{found.label}" if several else found.node, place)

    def given(self, group: str, key: str, name: str, kind: Type) -> Value:
        """An array that comes from outside."""
        value = Value(name, kind)
        self.bindings[name] = group, key
        return value

    def past(self, node: str) -> Value:
        """The values of a node before the block, the latest first."""
        name, history = self.names.of(f"past_{node}", "past", node), self.network.history(node)
        return self.given("state", value_key(node), name, floats(history, "batch", self.network.nodes[node].size))

    def seeds(self, place: int) -> list[Value]:
        """The learning signal that comes to a place, from its loss or from the user, at all steps; or none."""
        found = self.plan.product.places[place]
        if found.signal == "none":
            return []
        group, word = ("losses", "loss") if found.signal == "loss" else ("signals", "signal")
        name = self.names.of(f"{word}_{found.node}", group, found.node)
        return [self.given(group, found.node, name, floats("steps", "batch", self.plan.size(place)))]

    def constant(self, wanted: str, array: Any, dtype: str = "float") -> Value:
        """An array that is part of the program."""
        array = np.asarray(array, self.dtype if dtype == "float" else np.intp)
        name = self.names.of(wanted, "constant", wanted, array.shape, array.tobytes())
        value = Value(name, Type(dtype, tuple(map(affine, array.shape))))
        self.constants[value] = array
        return value

    # Ops.

    def evaluated(
        self, builder: Builder, node: Node, port: str, tree: Tree | None, arrays: Sequence[Value], kind: Type, name: str
    ) -> Value:
        """An op's value, or its derivative by a port: an expression where it is a formula, or else a call."""
        if tree is None:
            words = f"{'slope' if port else 'value'}_{node.op.name}_{port}".strip("_")
            function = self.call(words, OpCall(node.name, port))
            return builder.add(Call(function, tuple(arrays), kind), name)
        if is_test(tree):
            tree = apply("indicator", tree)
        elif self.dtype == np.float32 and not self._keeps(node, port):
            tree = apply("cast", tree)
        options = [self.constant(f"{option}_{node.name}", node.options[option]) for option in option_arrays(node)]
        if port and isinstance(node.op.port(port, node.ports).derivative, VJP):
            known = NodeFormula(self.constant, builder, node, [*arrays, arrays[-1], *options])
            return known.jacobian(tree, len(arrays), kind.dims, name)
        known = NodeFormula(self.constant, builder, node, [*arrays, *options])
        tree = known.without_groups(tree)
        operands = known.arguments
        read = [operands[place].dims for place in places(tree)]
        if not read or kind.dims in read:
            return builder.elementwise(tree, *operands, name=name, dims=kind.dims)
        units = builder.elementwise(tree, *operands, dims=max(read, key=len))  # it reads options alone
        axes = range(len(kind.dims) - len(units.dims), len(kind.dims))
        return builder.add(Broadcast(units, kind.dims, tuple(axes)), name)

    def call(self, wanted: str, called: OpCall | LayoutCall) -> str:
        """The name under which a function is called."""
        name = self.names.of(wanted, "call", called)
        self.calls[name] = called
        return name

    @staticmethod
    def _keeps(node: Node, port: str) -> bool:
        """Whether a formula gives numbers of the dtype that it is given."""
        declared = node.op.port(port, node.ports).derivative if port else node.op.value
        declared = declared.formula if isinstance(declared, VJP) else declared
        return not isinstance(declared, Printable) or declared.keeps(node.options)

    # Functions.

    def function(self, name: str, doc: str, builder: Builder, results: Sequence[Value]) -> Function:
        """A function of what was built, whose inputs are the values that it reads and does not make."""
        body = builder.body(*results)
        read: dict[Value, None] = {}
        made: set[Value] = set()
        for part in bodies(body):
            for statement in part.statements:
                made.update(statement.results)
                read.update(dict.fromkeys(statement.instruction.operands))
            read.update(dict.fromkeys(part.results))
        inputs = tuple(value for value in read if value not in made and value not in self.constants)
        return Function(name, doc, inputs, body)

    def invoke(self, builder: Builder, function: Function) -> None:
        """Run a function on the values of the same names."""
        results = function.body.results
        builder.define(results, Invoke(function.name, function.inputs, tuple(value.type for value in results)))

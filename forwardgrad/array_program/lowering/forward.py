"""The forward pass: a function for each stage, which gives the values of its nodes and the ports that sweeps read."""

from __future__ import annotations

from collections.abc import Sequence

from forwardgrad.array_program.builder import Builder
from forwardgrad.array_program.dimensions import affine
from forwardgrad.array_program.expressions import total
from forwardgrad.array_program.formulas import formula
from forwardgrad.array_program.instructions import Concat, Slice
from forwardgrad.array_program.lowering.context import STEP, Context, Series
from forwardgrad.array_program.lowering.stages import Group, stages
from forwardgrad.array_program.lowering.weights import parameter, product, stacked_product, stacks, weight
from forwardgrad.array_program.regions import Function, Scan
from forwardgrad.array_program.values import Value, floats
from forwardgrad.graph import Edge, Node
from forwardgrad.support.names import shown


def stage_functions(context: Context) -> list[Function]:
    """The functions of all stages."""
    return [_Stage(context, stage).function() for stage in stages(context.network)]


def forward(context: Context, weights: Sequence[Function], parts: Sequence[Function]) -> Function:
    """The function of the forward pass, which makes the weights and runs a function for each stage."""
    builder, tape = Builder(), list[Value]()
    for part in weights:
        context.invoke(builder, part)
        tape += part.body.results
    tape += [_input(context, builder, name) for name in context.network.inputs]
    for part in parts:
        context.invoke(builder, part)
        tape += part.body.results
    return context.function("forward", "Run a block forward.", builder, tape)


def _input(context: Context, builder: Builder, name: str) -> Value:
    """The values of an input node, those before the block included."""
    value, size = context.nodes[name].value, context.network.nodes[name].size
    if not context.network.history(name):
        return context.given("inputs", name, value.name, value.type)
    block = context.given("inputs", name, context.names.of(f"{name}_block"), floats("steps", "batch", size))
    return builder.add(Concat((_before(context, builder, name), block), 0), value.name)


def _before(context: Context, builder: Builder, name: str) -> Value:
    """The values of a node before the block, the latest last."""
    past = context.past(name)
    return builder.add(Slice(past, 0, affine(0), past.dims[0], backward=True))


class _Stage:
    """Lowers one stage."""

    def __init__(self, context: Context, stage: Group) -> None:
        self.context, self.network, self.stage = context, context.network, stage
        self.builder = Builder()
        self.now: dict[str, Value] = {}
        """The values of nodes at the present step of a scan."""
        self.results: list[Value] = []
        edges = [edge for name in stage.members for edge in self.network.into[name]]
        self.stacks = {
            name: found
            for inside in (False, True)
            for name, found in stacks(context, [edge for edge in edges if self._inside(edge) is inside]).items()
        }

    def function(self) -> Function:
        """The function of the stage."""
        members = self.stage.members
        nodes = [self.network.nodes[name] for name in members]
        if self.stage.cyclic:
            self._scan(nodes)
        else:
            for node in nodes:
                self._node_of_block(node)
        layers = {node.layer for node in nodes} - {None}
        word = layers.pop() if len(layers) == 1 else "_".join(members[:3])
        doc = f"{'Step by step' if self.stage.cyclic else 'All steps at once'}: {', '.join(map(shown, members))}."
        name = self.context.names.of(f"forward_{word}", "stage", members[0])
        return self.context.function(name, doc, self.builder, self.results)

    def _inside(self, edge: Edge) -> bool:
        """Whether an edge is followed step by step."""
        return self.stage.cyclic and edge.source in self.stage.members

    def _edges(self, node: Node, port: str, inside: bool) -> list[Edge]:
        return [edge for edge in self.network.into[node.name] if edge.port == port and self._inside(edge) is inside]

    def _product(self, builder: Builder, edge: Edge, x: Value) -> Value:
        """What an edge brings, given the values of its source."""
        if edge.name in self.stacks:
            stack, row = self.stacks[edge.name]
            return stacked_product(builder, stack, row, self.network.nodes[edge.target].size, x)
        return product(builder, weight(self.context, edge), x)

    # All steps at once.

    def _terms_of_block(self, node: Node, port: str) -> list[Value]:
        """What a port gets from outside a cycle, and its bias."""
        edges, dims = self._edges(node, port, inside=False), ("steps", "batch", node.size)
        terms = [
            self._product(self.builder, edge, self.context.nodes[edge.source].block(self.builder, edge.delay))
            for edge in edges
        ]
        if node.bias is not None and node.bias_port == port:
            terms = terms or [self.builder.fill(0.0, *dims)]
            terms.append(parameter(self.context, node.bias))
        return terms

    def _port_of_block(self, node: Node, port: str) -> Value:
        """A port to which nothing comes step by step, at all steps."""
        key, edges = (node.name, port), self._edges(node, port, inside=False)
        value = _sum(self.builder, self._terms_of_block(node, port))
        if key in self.context.needed:
            series = _source_of(self.context, node, port, edges)
            if series is None:
                value = self.builder.named(value, self.context.port_name(*key))
                self.results.append(value)
                series = Series(value)
            self.context.ports[key] = series
        return value

    def _node_of_block(self, node: Node) -> None:
        """The value of a node, at all steps."""
        context, builder, series = self.context, self.builder, self.context.nodes[node.name]
        ports = [self._port_of_block(node, port) for port in node.ports]
        tree, kind = formula(node, node.op.value, len(ports)), floats("steps", "batch", node.size)
        value = context.evaluated(builder, node, "", tree, ports, kind, "")
        if context.network.history(node.name):
            builder.add(Concat((_before(context, builder, node.name), value), 0), series.value.name)
        else:
            builder.named(value, series.value.name)
        self.results.append(series.value)

    # Step by step.

    def _scan(self, nodes: Sequence[Node]) -> None:
        """A scan over the steps, with what does not depend on them before it."""
        context, body = self.context, Builder(self.builder)
        outside = {(node.name, port): self._outside(node, port) for node in nodes for port in node.ports}
        series: list[Value] = []
        values: list[Value] = []
        before: list[Value | None] = []

        def comes_out(stacked: Value, value: Value, past: Value | None) -> None:
            series.append(stacked)
            values.append(value)
            before.append(past)

        for node in nodes:
            ports: list[Value] = []
            for port in node.ports:
                value = self._port_at_step(body, node, port, outside[node.name, port])
                if (node.name, port) in context.needed and (node.name, port) not in context.ports:
                    name = context.port_name(node.name, port)
                    stacked = Value(name, floats("steps", "batch", node.size))
                    context.ports[node.name, port] = Series(stacked)
                    value = body.own(value, values, context.names.of(f"{name}_now", "now", node.name, port))
                    comes_out(stacked, value, None)
                ports.append(value)
            tree, kind = formula(node, node.op.value, len(ports)), floats("batch", node.size)
            value = context.evaluated(body, node, "", tree, ports, kind, "")
            value = body.own(value, values, context.names.of(f"{node.name}_now", "now", node.name))
            self.now[node.name] = value
            past = _before(context, self.builder, node.name) if self.network.history(node.name) else None
            comes_out(context.nodes[node.name].value, value, past)
        scan = Scan(STEP, affine("steps"), backward=False, before=tuple(before), body=body.body(*values))
        self.builder.define(tuple(series), scan)
        self.results += series

    def _outside(self, node: Node, port: str) -> Value | None:
        """What a port of a node on a cycle gets from outside it, at all steps; `None` for nothing."""
        if not self._edges(node, port, inside=True):
            return self._port_of_block(node, port)
        terms = self._terms_of_block(node, port)
        if not terms:
            return None
        name = self.context.port_name(node.name, port)
        name = self.context.names.of(f"{name}_outside") if (node.name, port) in self.context.needed else name
        return self.builder.named(_sum(self.builder, terms), name)

    def _port_at_step(self, body: Builder, node: Node, port: str, outside: Value | None) -> Value:
        """A port at the step of the scan."""
        edges = self._edges(node, port, inside=True)
        terms = [] if outside is None else [Series(outside).at(body)]
        for edge in edges:
            u = self.context.nodes[edge.source].at(body, edge.delay) if edge.delay else self.now[edge.source]
            terms.append(self._product(body, edge, u))
        source = _source_of(self.context, node, port, edges) if outside is None else None
        if source is not None and (node.name, port) in self.context.needed:
            self.context.ports[node.name, port] = source
        return _sum(body, terms)


def _sum(builder: Builder, terms: Sequence[Value]) -> Value:
    return builder.elementwise(total(len(terms)), *terms)


def _source_of(context: Context, node: Node, port: str, edges: Sequence[Edge]) -> Series | None:
    """The node that is a port's only source and comes to it as it is, with its delay; `None` if there is none."""
    biased = node.bias is not None and node.bias_port == port
    if len(edges) != 1 or biased or weight(context, edges[0]) is not None:
        return None
    source = context.nodes[edges[0].source]
    return Series(source.value, source.first - edges[0].delay)

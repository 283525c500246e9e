"""How is the forward pass written? Stage by stage: cycles step by step, all the rest for the whole block at once."""

from __future__ import annotations

from forwardgrad.compiler.keys import value_key
from forwardgrad.compiler.source.build import Build, Slope, Stage
from forwardgrad.compiler.source.stacks import Run, Stack, is_matrix, runs
from forwardgrad.compiler.source.text import Lines, Series, broken, function, loaded, put, shown, stored, sum_of
from forwardgrad.graph import Edge, Node


def forward(build: Build) -> list[str]:
    """The text of the functions of all stages, and of `forward`, which calls them in order."""
    text: list[str] = []
    given = ["steps", "batch"]
    head: list[str] = []
    for name in build.network.nodes:
        if build.history[name]:
            past = build.names.of(f"past_{name}", "past", name)
            head.append(f"{past} = state[{value_key(name)!r}]")
            given.append(past)
    for name in build.network.inputs:
        x, past = build.value(name).name, build.names.of(f"past_{name}", "past", name)
        values = f"inputs[{name!r}]"
        head.append(f"{x} = behind({past}, {values})" if build.history[name] else f"{x} = {values}")
        given.append(x)
    bodies = [_stage(build, stage) for stage in build.stages]
    weights = [line.split(" = ", 1)[0] for line in build.weights]
    known = dict.fromkeys([*given, *weights])
    wanted = {build.value(name).name for name in build.network.nodes}
    wanted |= {build.ports[port].name for port in build.needed}
    calls: list[str] = []
    for stage, body in zip(build.stages, bodies, strict=True):
        arguments = [name for name in loaded(body) if name in known]
        results = [name for name in dict.fromkeys(_assigned(body)) if name in wanted]
        doc = f"{'Step by step' if stage.cyclic else 'All steps at once'}: {', '.join(map(shown, stage.nodes))}."
        text += function(stage.name, arguments, doc, [*body, f"return {', '.join(results)}"])
        calls.append(broken(f"{', '.join(results)} = {stage.name}(", arguments, ")"))
        known |= dict.fromkeys(results)
    made = [name for name in known if name in wanted and name not in ("steps", "batch")]
    held = set(weights)
    calls = [f"{name} = tape[{name!r}]" for name in loaded(calls) if name in held] + calls
    doc = (
        "Run a block forward: the values of all nodes, the ports that derivatives read, and weights.\n\n"
        "Args:\n    params: arrays by parameter.\n    state: what `start` or the block before gave.\n"
        "    inputs: `(steps, batch, size)` by input node.\n    steps, batch: the shape of the block."
    )
    made = ["steps", "batch", *made]
    ends = [broken("tape |= {", [f"{name!r}: {name}" for name in made], "}"), "return tape"]
    body = ["tape = weights(params)", *head, *calls, *ends]
    return [*text, *function("forward", ["params", "state", "inputs", "steps", "batch"], doc, body)]


def _assigned(body: list[str]) -> list[str]:
    order = {name: place for place, name in reversed(list(enumerate(_first_words(body))))}
    return sorted(stored(body), key=lambda name: order.get(name, len(order)))


def _first_words(body: list[str]) -> list[str]:
    return [line.strip().split(" ", 1)[0] for line in body]


class _Stage:
    """The lines of one stage."""

    def __init__(self, build: Build, stage: Stage) -> None:
        self.build, self.stage = build, stage
        self.network = build.network
        self.lines = Lines()
        self.begun: set[str] = set()
        self.runs: dict[tuple[str, str], list[tuple[Run, Stack]]] = {}
        """Per port, the runs that are due when it is first reached."""
        self.transposed: dict[str, str] = {}
        """By weight, the name of its transpose."""

    def inside(self, edge: Edge) -> bool:
        """Whether an edge is followed step by step."""
        return self.stage.cyclic and edge.source in self.stage.nodes

    def edges(self, node: str, port: str) -> list[Edge]:
        return [edge for edge in self.network.into[node] if edge.port == port]

    def stacked(self, node: str, port: str) -> bool:
        return (node, port) in self.build.place_in_stack

    # What an edge brings: at one step, or at all.

    def term(self, edge: Edge, at: bool) -> str:
        source = self.build.value(edge.source, edge.delay)
        u = source.at() if at else source.all()
        w = self.build.weight(edge)
        if is_matrix(edge):
            return f"matmul({u}, {self.by_columns(w)})" if at else f"times({u}, {w})"
        return f"{w} * {u}" if w else u

    def by_columns(self, w: str) -> str:
        """The transpose of a weight, made before the steps."""
        return self.transposed.setdefault(w, self.build.names.of(f"{w}_by_columns", "by columns", w))

    def bias(self, node: Node, port: str) -> list[str]:
        return [self.build.parameter(node.bias)] if node.bias is not None and node.bias_port == port else []

    def shape(self, columns: int) -> str:
        return f"(steps, batch, {columns})"

    # Stacks.

    def stacks(self) -> None:
        """Sort the runs of all stacks by the port at which they are due, and make the arrays that need room."""
        for stack in self.build.stacks[self.stage.name]:
            edges = [edge for port in stack.ports for edge in self.edges(*port) if is_matrix(edge)]
            for run in runs(stack, edges):
                ports = [(edge.target, edge.port) for edge in run.edges]
                self.runs.setdefault(min(ports, key=lambda port: self.rank(*port)), []).append((run, stack))

    def rank(self, node: str, port: str) -> tuple[int, int]:
        return self.stage.nodes.index(node), self.network.nodes[node].ports.index(port)

    def run(self, run: Run, stack: Stack, at: bool) -> None:
        """Add a run's product to its stack."""
        name, w = self.build.stack_name(stack), self.build.run_weight(run, stack)
        source = self.build.value(run.source, run.delay)
        product = f"matmul({source.at()}, {self.by_columns(w)})" if at else f"times({source.all()}, {w})"
        start, stop = stack.columns(run.first, len(run.edges))
        whole = stop - start == stack.width
        if whole and not at and name not in self.begun:
            self.lines.add(f"{name} = {product}")
            self.views(stack)
        else:
            self.begin(stack)
            columns = "" if whole else f", :, {start}:{stop}"
            self.lines.add(f"{name}[{'t' if at else ':'}{columns}] += {product}")
        self.begun.add(name)

    def begin(self, stack: Stack) -> None:
        """Make the array of a stack, if it is not there yet."""
        name = self.build.stack_name(stack)
        if name not in self.begun:
            self.begun.add(name)
            self.lines.add(f"{name} = np.zeros({self.shape(stack.width)}, dtype)")
            self.views(stack)

    def views(self, stack: Stack) -> None:
        name = self.build.stack_name(stack)
        for place, port in enumerate(stack.ports):
            start, stop = stack.columns(place)
            self.lines.add(f"{self.build.port_name(*port)} = {name}[..., {start}:{stop}]")
            self.build.ports[port] = Series(self.build.port_name(*port))

    # All steps at once.

    def port_of_block(self, node: Node, port: str) -> Series:
        """The array of a port over a block."""
        build, key = self.build, (node.name, port)
        edges, bias = self.edges(node.name, port), self.bias(node, port)
        name = build.port_name(node.name, port)
        if self.stacked(*key):
            for run, stack in self.runs.get(key, []):
                self.run(run, stack, at=False)
            for term in [self.term(edge, at=False) for edge in edges if not is_matrix(edge)] + bias:
                self.lines.add(f"{name} += {term}")
            return build.ports[key]
        if len(edges) == 1 and not bias and not build.weight(edges[0]):
            build.ports[key] = build.value(edges[0].source, edges[0].delay)
            return build.ports[key]
        terms = [self.term(edge, at=False) for edge in edges] + bias
        if not edges:
            terms.insert(0, f"np.zeros({self.shape(node.size)}, dtype)")
        self.lines.add(f"{name} = {sum_of(terms)}")
        build.ports[key] = Series(name)
        return build.ports[key]

    def node_of_block(self, node: Node) -> None:
        ports = [self.port_of_block(node, port).all() for port in node.ports]
        value = self.build.expression(node, node.op.value, ports, like=ports[0])
        if value is None:
            value = f"{self.build.called('value', node)}({', '.join(ports)})"
        name = self.build.value(node.name).name
        if value in {self.build.port_name(node.name, port) for port in node.ports}:
            own = self.lines.lines and self.lines.lines[-1].startswith(f"{value} = ")
            if own and (node.name, node.ports[0]) not in self.build.needed:  # a sum that needs no name of its own
                value = self.lines.lines.pop().split(" = ", 1)[1]
        past = self.build.names.of(f"past_{node.name}", "past", node.name)
        self.lines.add(f"{name} = behind({past}, {value})" if self.build.history[node.name] else f"{name} = {value}")

    # Step by step.

    def before_the_steps(self, node: Node, port: str) -> None:
        """What a port gets from outside the cycle, and its bias, for all steps at once."""
        build, key = self.build, (node.name, port)
        outside = [edge for edge in self.edges(node.name, port) if not self.inside(edge)]
        inside = [edge for edge in self.edges(node.name, port) if self.inside(edge)]
        bias, name = self.bias(node, port), build.port_name(node.name, port)
        if self.stacked(*key):
            for term in [self.term(edge, at=False) for edge in outside if not is_matrix(edge)] + bias:
                self.lines.add(f"{name} += {term}")
            return
        if len(inside) == 1 and not outside and not bias and not build.weight(inside[0]):
            build.ports[key] = build.value(inside[0].source, inside[0].delay)
            return
        if not inside:
            self.port_of_block(node, port)
        elif outside or bias:
            terms = [self.term(edge, at=False) for edge in outside]
            if not outside:
                terms.insert(0, f"np.zeros({self.shape(node.size)}, dtype)")
            if len(terms) + len(bias) == 1 and not build.weight(outside[0]) and key in build.needed:
                terms[0] += ".copy()"
            self.lines.add(f"{name} = {sum_of(terms + bias)}")
            build.ports[key] = Series(name)
        elif key in build.needed:
            self.lines.add(f"{name} = empty({self.shape(node.size)}, dtype)")
            build.ports[key] = Series(name)

    def port_at_step(self, node: Node, port: str) -> str:
        """The value of a port at step `t`, as an expression."""
        build, key = self.build, (node.name, port)
        inside = [edge for edge in self.edges(node.name, port) if self.inside(edge)]
        found = build.ports.get(key)
        if self.stacked(*key):
            for run, stack in self.runs.get(key, []):
                if self.stage.cyclic and run.source in self.stage.nodes:
                    self.run(run, stack, at=True)
            inside = [edge for edge in inside if not is_matrix(edge)]
        elif found is not None and found.name != build.port_name(node.name, port):
            return found.at()
        terms = [self.term(edge, at=True) for edge in inside]
        if found is None:
            return terms[0] if len(terms) == 1 else f"({sum_of(terms)})"
        if key in build.needed and terms:
            alone = not self.stacked(*key) and all(self.inside(edge) for edge in self.edges(*key))
            alone = alone and not self.bias(node, port)
            self.lines.add(f"{found.at()} {'=' if alone else '+='} {sum_of(terms)}")
            return found.at()
        return f"({sum_of([found.at(), *terms])})" if terms else found.at()

    def node_at_step(self, node: Node) -> None:
        ports = [self.port_at_step(node, port) for port in node.ports]
        value = self.build.expression(node, node.op.value, ports)
        for place, port in enumerate(node.ports):
            if value is not None and " " in ports[place] and value.count(ports[place]) > 1:  # computed once
                name = self.build.names.of(f"{node.name}_{port}_now", "now", node.name, port)
                self.lines.add(f"{name} = {ports[place]}")
                ports[place] = name
        value = self.build.expression(node, node.op.value, ports)
        if value is None:
            value = f"{self.build.called('value', node)}({', '.join(ports)})"
        self.lines.add(put(self.build.value(node.name).at(), value))

    def written(self) -> list[str]:
        """The lines of the stage."""
        self.stacks()
        nodes = [self.network.nodes[name] for name in self.stage.nodes]
        if not self.stage.cyclic:
            for node in nodes:
                self.node_of_block(node)
            return self.lines.lines
        for node in nodes:
            past = self.build.names.of(f"past_{node.name}", "past", node.name)
            name, history = self.build.value(node.name).name, self.build.history[node.name]
            steps = f"{history} + steps" if history else "steps"
            self.lines.add(f"{name} = empty(({steps}, batch, {node.size}), dtype)")
            if history:
                self.lines.add(f"{name}[:{history}] = {past}[::-1]")
        for stack in self.build.stacks[self.stage.name]:
            due = [(run, of) for found in self.runs.values() for run, of in found if of is stack]
            outside = [run for run, _ in due if run.source not in self.stage.nodes]
            for run in sorted(outside, key=lambda run: -len(run.edges)):
                self.run(run, stack, at=False)
            self.begin(stack)
        for node in nodes:
            for port in node.ports:
                self.before_the_steps(node, port)
        before = len(self.lines.lines)
        with self.lines.indented("for t in range(steps):"):
            for node in nodes:
                self.node_at_step(node)
        transposes = [f"{name} = by_columns({w}, steps * batch)" for w, name in self.transposed.items()]
        return [*self.lines.lines[:before], *transposes, *self.lines.lines[before:]]


def _stage(build: Build, stage: Stage) -> list[str]:
    return _Stage(build, stage).written()


def slopes(build: Build) -> tuple[list[str], dict[tuple[str, str], Slope]]:
    """The lines that compute the derivatives of all nodes by ports, and where each is found."""
    lines: list[str] = []
    found: dict[tuple[str, str], Slope] = {}
    for node_name, port_name in build.derivatives:
        node = build.network.nodes[node_name]
        port, y = node.op.port(port_name, node.ports), build.value(node_name).all()
        read = build.ports_read(node_name, port_name)
        ports = [build.ports[node_name, name] if name in read else None for name in node.ports]
        arguments = [*(series.all() if series else None for series in ports), y]
        name = build.names.of(
            f"slope_{node_name}" + (f"_{port_name}" if len(node.ports) > 1 else ""), "slope", node_name, port_name
        )
        if build.inlined(port):
            text = build.expression(node, port.derivative, arguments, like=y)
            same = [s for s in ports if s is not None and s.all() == text]
            if same:
                found[node_name, port_name] = Slope(port.structure, series=same[0])
                continue
        else:
            text = f"{build.called('slope', node, port_name)}({', '.join(filter(None, arguments))})"
        lines.append(f"{name} = {text}")
        found[node_name, port_name] = Slope(port.structure, series=Series(name))
    return lines, found

"""What flowed in a run? Sizes of eligibility traces, learning signals and their products, at every place and step."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from forwardgrad.backends import Engine
from forwardgrad.backends.tape import Tape
from forwardgrad.compiler import Plan
from forwardgrad.compiler.keys import influence_key, value_key
from forwardgrad.errors import DataError, did_you_mean
from forwardgrad.explain.notation import printable
from forwardgrad.explain.tables import html_table
from forwardgrad.ops import Array
from forwardgrad.ops import losses as loss_table
from forwardgrad.ops.losses import Loss
from forwardgrad.program.blocks import Block
from forwardgrad.program.flow import Flow, Moment

At = tuple[str, str, str]
"""Parameter, node and mode."""

Along = tuple[str, str, str, str]
"""Parameter, edge, mode at its source and mode at its target."""


@dataclass(frozen=True)
class Sizes:
    """What flows at a node or over an edge, all modes taken together: numbers per step, `(time,)` each.

    Args:
        trace: the root of the summed squares of the traces in all modes.
        product: the size of the gradient of each step's loss that passes, summed over modes before its size is taken.
        signal: as `trace`; an edge has none.
    """

    trace: Array
    product: Array
    signal: Array | None = None


@dataclass(frozen=True, repr=False)
class Record:
    """What flowed in a run: numbers per step, `(time,)` each.

    A size is a Euclidean norm. That of traces and signals is of one sample, its root mean square over the batch taken;
    that of a product is of the batch, as gradients are.

    Args:
        loss: of each step.
        grads: as `Program.gradient` gives them.
        traces: per parameter, node and mode, the size of the influence on the node: its eligibility trace there.
        signals: per node and mode, the size of the learning signal: the derivative by the node, of the loss of the
            same step, along kept edges.
        products: per parameter, node and mode, the size of the gradient of the step's loss that passes through it:
            learning signal times trace.
        gradients: per parameter, the size of the gradient of the step's loss.
        edge_traces: per parameter and kept edge, the size of the influence that comes over it.
        edge_products: the same, times the learning signal where the edge ends.
        node_products, whole_edge_products: per parameter and node, or edge, the products of all modes added up before
            their size is taken. Traces that the leak of a readout filters are no part of them.
        step_gradients: per parameter, the gradient of each step's loss, `(time, *shape)`, where they were to be kept.
        steps: how many.
        batch: number of samples.
        plan: the derived algorithm.
    """

    loss: Array
    grads: dict[str, Array]
    traces: Mapping[At, Array]
    signals: Mapping[tuple[str, str], Array]
    products: Mapping[At, Array]
    gradients: Mapping[str, Array]
    edge_traces: Mapping[Along, Array]
    edge_products: Mapping[Along, Array]
    node_products: Mapping[tuple[str, str], Array]
    whole_edge_products: Mapping[tuple[str, str], Array]
    step_gradients: Mapping[str, Array]
    steps: int
    batch: int
    plan: Plan = field(repr=False, compare=False)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that were recorded."""
        return tuple(self.gradients)

    def nodes(self, parameter: str | None = None) -> dict[str, Sizes]:
        """What flows at every node, all modes taken together.

        Args:
            parameter: whose flow; by default all parameters' together, as roots of summed squares.

        Raises:
            DataError: if the parameter was not recorded.
        """
        self._check(parameter)
        filtered = {(place.node, place.label) for place in self.plan.product.places if place.filtered is not None}
        keys: dict[str, list[At]] = {}
        for key in self.traces:
            if parameter in (None, key[0]) and key[1:] not in filtered:
                keys.setdefault(key[1], []).append(key)
        return {
            node: Sizes(
                self._together(self.traces, keys[node]),
                self._together(self.node_products, [key[:2] for key in keys[node]]),
                self._together(self.signals, [key[1:] for key in keys[node]]),
            )
            for node in self.plan.network.nodes
            if node in keys
        }

    def _check(self, parameter: str | None) -> None:
        if parameter is not None and parameter not in self.gradients:
            raise DataError(f"parameter {parameter!r} was not recorded.", did_you_mean(parameter, self.gradients))

    def _together(self, rows: Mapping[Any, Array], keys: Sequence[Any]) -> Array:
        """Root of the summed squares of rows, each once, step by step."""
        return np.sqrt(sum((np.square(rows[key]) for key in dict.fromkeys(keys)), np.zeros(self.steps)))

    def rows(self) -> list[dict[str, Any]]:
        """As plain rows, one per parameter, node and step, which `pandas.DataFrame` takes.

        Columns are `parameter`, `node`, `step`, `trace`, `signal` and `product`, as `nodes` gives them.
        """
        return [
            {
                "parameter": name,
                "node": node,
                "step": step,
                **{what: float(size[step]) for what, size in vars(sizes).items()},
            }
            for name in self.parameters
            for node, sizes in self.nodes(name).items()
            for step in range(self.steps)
        ]

    def __repr__(self) -> str:
        names = printable(", ".join(self.parameters))
        return f"Record({self.steps} steps, batch {self.batch}, parameters {names})"

    def _repr_html_(self) -> str:
        rows: list[list[str]] = []
        for name in self.parameters:
            most = {node: float(sizes.trace.max(initial=0.0)) for node, sizes in self.nodes(name).items()}
            at = max(most, key=most.__getitem__, default="")
            size = _norm(self.grads[name])
            rows.append([name, f"{size:.3g}", ", ".join(most), f"{most[at]:.3g} at {at}" if most else "none"])
        header = ["parameter", "size of its gradient", "traces on", "largest trace"]
        caption = f"Record of {self.steps} steps, batch {self.batch}: loss {float(self.loss.sum()):.4g} in all"
        return html_table(caption, header, rows)

    def edges(self, parameter: str | None = None) -> dict[str, Sizes]:
        """What flows over every edge that carries credit, all modes taken together; argument as for `nodes`."""
        self._check(parameter)
        keys: dict[str, list[Along]] = {}
        for key in self.edge_traces:
            if parameter in (None, key[0]):
                keys.setdefault(key[1], []).append(key)
        return {
            edge: Sizes(
                self._together(self.edge_traces, keys[edge]),
                self._together(self.whole_edge_products, [key[:2] for key in keys[edge]]),
            )
            for edge in self.plan.network.edges
            if edge in keys
        }


class Recorder:
    """Collects a `Record`, block by block.

    Args:
        plan: the derived algorithm.
        engine: that runs it; only its layouts are read.
        losses: by output node.
        parameters: whose flow is collected.
        dtype: of the arrays.
        keep: whether to keep the gradient of each step.
    """

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        losses: Mapping[str, Loss],
        parameters: Collection[str],
        dtype: Any,
        keep: bool = False,
    ) -> None:
        self.plan, self.engine, self.losses, self.dtype = plan, engine, losses, dtype
        self.parameters = tuple(parameters)
        self.batch, self.keep = 0, keep
        self._kept: dict[str, list[Array]] = {name: [] for name in parameters} if keep else {}
        self._loss: list[float] = []
        self._rows: dict[str, dict[Any, list[float]]] = {}
        self._grads: dict[str, Array] = {}

    def flow(self, params: Mapping[str, Array], state: Mapping[str, Array], piece: Block) -> tuple[Flow, list[float]]:
        """What flows in a block, and the loss of each of its steps.

        Args:
            params: the parameters.
            state: what came before the block.
            piece: the block.
        """
        network = self.plan.network
        past = {name: state[value_key(name)] for name in network.nodes if network.history(name)}
        tape = Tape(network, params, past, piece.inputs, piece.steps, piece.batch, self.dtype)
        total, by_node = np.zeros(piece.steps), dict[str, Array]()
        for name, loss in self.losses.items():
            y, target, weight = tape.values(name), piece.targets[name], piece.mask.get(name)
            for t in range(piece.steps):
                now = slice(t, t + 1)
                total[t] += loss_table.evaluate(loss, y[now], target[now], None if weight is None else weight[now])[0]
            by_node[name] = loss_table.evaluate(loss, y, target, weight)[1]
        given = {name: signal / piece.batch for name, signal in piece.signals.items()}  # of the mean, as of a loss
        sources: dict[str, Mapping[str, Array]] = {"loss": by_node, "given": given, "none": {}}
        seeds = {
            index: seed
            for index, place in enumerate(self.plan.product.places)
            if (seed := sources[place.signal].get(place.node)) is not None
        }
        return Flow(self.plan, tape, seeds), total.tolist()

    def moments(
        self, flow: Flow, state: Mapping[str, Array], after: Mapping[str, Array]
    ) -> Iterator[tuple[str, Iterator[Moment]]]:
        """The steps of each parameter in a block."""
        for name in self.parameters:
            traces = self.engine.traces[name]
            keys = {part: influence_key(self.plan, name, part) for part in traces.shapes()}
            before = {part: state[key] for part, key in keys.items()}
            then = {part: after[key] for part, key in keys.items()} if traces.lossy else None
            yield name, flow.of(name, traces, before, then)

    def add(
        self,
        params: Mapping[str, Array],
        state: Mapping[str, Array],
        after: Mapping[str, Array],
        piece: Block,
        grads: Mapping[str, Array],
    ) -> None:
        """Collect a block.

        Args:
            params: the parameters.
            state: what came before the block.
            after: what came after it; read where influence is kept with loss.
            piece: the block.
            grads: its gradient.
        """
        flow, losses = self.flow(params, state, piece)
        self.batch = piece.batch
        self._grads = {name: grads[name] + self._grads.get(name, 0) for name in grads}
        for index, place in enumerate(self.plan.product.places):
            sizes = np.sqrt(np.square(flow.signals[index]).sum(axis=(1, 2)) * piece.batch)
            for t, size in enumerate(sizes):
                self._put("signals", (place.node, place.label), t, size)
        for name, moments in self.moments(flow, state, after):
            for moment in moments:
                self._moment(name, flow, moment)
        self._loss += losses

    def _put(self, table: str, key: Any, step: int, value: float) -> None:
        """Note a number for a step of this block; steps that were passed over have none, and count as 0."""
        row = self._rows.setdefault(table, {}).setdefault(key, [])
        row += [0.0] * (len(self._loss) + step - len(row))
        row.append(float(value))

    def _moment(self, name: str, flow: Flow, moment: Moment) -> None:
        places, t = self.plan.product.places, moment.step
        total = np.zeros(self.plan.network.parameters[name].shape, self.dtype)
        by_node: dict[str, Array] = {}
        for index, influence in moment.places.items():
            key = name, places[index].node, places[index].label
            passing = influence.contracted(flow.signals[index][t])
            self._put("traces", key, t, influence.size())
            self._put("products", key, t, _norm(passing))
            if places[index].filtered is None:
                by_node[places[index].node] = by_node.get(places[index].node, 0) + passing
            if index in flow.seeds:
                total = total + influence.contracted(flow.seeds[index][t])
        for node, passing in by_node.items():
            self._put("node_products", (name, node), t, _norm(passing))
        self._put("gradients", name, t, _norm(total))
        if self.keep:
            self._kept[name].append(total)
        by_edge: dict[str, Array] = {}
        for index, influence in moment.carried.items():
            arc = self.plan.product.arcs[index]
            along = name, arc.edge, places[arc.source].label, places[arc.target].label
            self._put("edge_traces", along, t, influence.size())
            passing = influence.contracted(flow.signals[arc.target][t])
            self._put("edge_products", along, t, _norm(passing))
            by_edge[arc.edge] = by_edge.get(arc.edge, 0) + passing
        for edge, passing in by_edge.items():
            self._put("whole_edge_products", (name, edge), t, _norm(passing))

    def record(self) -> Record:
        """What was collected."""
        steps = len(self._loss)

        def table(name: str) -> dict[Any, Array]:
            rows = self._rows.get(name, {})
            return {key: np.array(row + [0.0] * (steps - len(row))) for key, row in rows.items()}

        return Record(
            loss=np.array(self._loss),
            grads=self._grads,
            traces=table("traces"),
            signals=table("signals"),
            products=table("products"),
            gradients=table("gradients"),
            edge_traces=table("edge_traces"),
            edge_products=table("edge_products"),
            node_products=table("node_products"),
            whole_edge_products=table("whole_edge_products"),
            step_gradients={name: np.array(rows) for name, rows in self._kept.items()},
            steps=steps,
            batch=self.batch,
            plan=self.plan,
        )


def _norm(array: Array) -> float:
    return float(np.linalg.norm(np.ravel(array)))

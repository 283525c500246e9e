"""What does a user hold after compiling? A `Program`: immutable, stateless; parameters and state go in and come out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad import budget, numerics
from forwardgrad import losses as loss_table
from forwardgrad.arrays import (
    Given,
    Target,
    check_names,
    count,
    finite,
    numeric,
    read_inputs,
    read_params,
    read_signals,
    read_targets,
    shape_without_inputs,
    truths,
)
from forwardgrad.backends import BACKENDS, Engine, State
from forwardgrad.backends.estimates import COUNT, DRAW, PERIOD
from forwardgrad.blocks import Block, Length, cut, marking_last
from forwardgrad.compiler import Decision, Plan, make_plan
from forwardgrad.compiler.derivation import Derived, listing
from forwardgrad.compiler.keys import influence_key
from forwardgrad.compiler.operations import flops
from forwardgrad.compiler.source import generate, standalone
from forwardgrad.cost import Cost, working_bytes
from forwardgrad.errors import DataError, GraphError, RuleError, did_you_mean
from forwardgrad.graph import Network
from forwardgrad.graph import draw as draw_parameter
from forwardgrad.graph.schema import is_whole, show
from forwardgrad.losses import Loss
from forwardgrad.ops import Array
from forwardgrad.recording import Record, Recorder
from forwardgrad.rules import Rule
from forwardgrad.rules import rule as read_rule

MOST_LAGS = 2**17
"""The most lags at which influence may be carried, over all parameters: a block goes through them one by one."""

AMPLE = 4
"""As many times the cost of blocks of one step are enough for each step of a block, with room to spare."""


@dataclass(frozen=True)
class Step:
    """What a block gives.

    Args:
        loss: sum over the block's steps.
        grads: the block's gradient of each trainable parameter, shaped like it.
        outputs: per node with a loss, its values, `(time, batch, size)`.
        state_norm, grad_norm: the Euclidean norms of the state after the block, influence and values, and of the
            gradients; infinite where squares overflow.
    """

    loss: float
    grads: dict[str, Array]
    outputs: dict[str, Array]
    state_norm: float = 0.0
    grad_norm: float = 0.0


@dataclass(frozen=True)
class Result:
    """What a sequence gives: the loss summed over time, and the gradient of each trainable parameter."""

    loss: float
    grads: dict[str, Array]


class Program:
    """A declared graph compiled to an online learning algorithm. Made by `forwardgrad.compile`.

    Attributes:
        graph: the declared graph (a frozen copy).
        network: the graph validated, with every default filled in.
        losses: the loss of each output node.
        rules: what was derived for each trained parameter (`Derived`), by name.
        chosen: the rule of each trainable parameter, also of those that their rule leaves untrained.
        plan: the derived algorithm, as the compiler hands it to a backend.
        dtype: of all arrays.
        decisions: what the compiler decided and why.
    """

    def __init__(
        self,
        graph: nx.MultiDiGraph[str],
        plan: Plan,
        losses: Mapping[str, Loss],
        rules: Mapping[str, Rule],
        dtype: Any,
        backend: str = "numpy",
    ) -> None:
        self.graph = graph
        self.network: Network = plan.network
        self.losses = MappingProxyType(dict(losses))
        self.dtype = np.dtype(dtype)
        self.decisions: tuple[Decision, ...] = plan.decisions
        self.plan = plan
        self.backend = backend
        self._engine: Engine = BACKENDS[backend](plan, self.dtype)
        self._numbers = tuple(
            influence_key(plan, name, DRAW) for name, traces in self._engine.traces.items() if DRAW in traces.shapes()
        )
        counts = (influence_key(plan, name, COUNT) for name in self._engine.traces if self._numbers)
        self._counters = frozenset((*self._numbers, *counts)) & self._engine.shapes(1).keys()
        self._draws = itertools.count()
        self.chosen: Mapping[str, Rule] = MappingProxyType(dict(rules))
        self.rules: Mapping[str, Derived] = MappingProxyType({name: self._derived(name) for name in plan.entries})
        _check_lags({name: sum(derived.lags.values()) for name, derived in self.rules.items()})

    def init(self, seed: int = 0) -> dict[str, Array]:
        """Initial parameters, as the graph's `init` and `bias` attributes say.

        Args:
            seed: a whole number; each parameter draws from a stream of its own.

        Returns:
            `{name: array}`, trainable and frozen parameters.

        Raises:
            MemoryBudgetError: if they do not fit in what is free.
        """
        entries = sum(prod(parameter.shape) for parameter in self.plan.parameters.values())
        budget.room(f"init: {entries:,} parameters", 8 * entries)  # all are drawn in double precision
        return {name: draw_parameter(p, seed).astype(self.dtype) for name, p in self.plan.parameters.items()}

    def start(self, batch: int = 1, max_memory: int | str | None = None, *, draw: int | None = None) -> State:
        """The state before t = 0: initial values, and no influence.

        Args:
            batch: number of samples.
            max_memory: bytes that state and a block of one step may take, as a number or a text such as `"2GiB"`; by
                default 80 % of what is free, where the machine tells: the least that memory, limits of resources and
                control groups leave.
            draw: for random layouts (`uoro`, `kronecker`): the number of the signs to draw, from 0 to 2^23 - 1. The
                same number gives the same signs. By default each start takes the next one from a counter of the
                program, so that noise averages out over sequences.

        Raises:
            DataError: if the batch or the draw is not such a number.
            MemoryBudgetError: if they would take more, before anything is allocated.
        """
        number = _draw("start", draw)
        self.fits(count("start: batch", batch), 1, max_memory)
        return self._begun(batch, number)

    def _begun(self, batch: int, draw: int | None) -> State:
        """The state before t = 0, its signs numbered."""
        state = self._engine.start(batch)
        if self._numbers:
            number = next(self._draws) % PERIOD if draw is None else draw  # one call of C: threads get one each
            for key in self._numbers:
                state[key][...] = number
        return state

    def fits(
        self,
        batch: int,
        block: int,
        max_memory: int | str | None = None,
        *,
        held: State | None = None,
        last: bool = False,
        what: str = "start",
    ) -> None:
        """Refuse a block that costs more memory than it may.

        Args:
            batch, max_memory: as for `start`.
            block: steps of the block.
            held: the state before it, where there is one already.
            last: whether no block comes after it.
            what: names the call in the error.

        Raises:
            MemoryBudgetError: as for `start`.
        """
        limit = budget.usual() if max_memory is None else budget.size_of(max_memory)
        if limit is None:
            return
        limit += sum(array.nbytes for array in (held or {}).values())
        if block > 1 and AMPLE * block * self.cost(batch).total <= limit:
            return  # no need to find out exactly

        def price(rule: str) -> Cost:
            rules = dict.fromkeys(self.chosen, read_rule(rule))
            plan = make_plan(self.network, tuple(self.losses), rules)
            return Program(self.graph, plan, self.losses, rules, self.dtype, self.backend)._cost(batch, block, last)

        names = {name: str(rule) for name, rule in self.chosen.items()}
        budget.hold(what, self._cost(batch, block, last), limit, price, names, lambda steps: self.cost(batch, steps))

    @budget.told("step")
    def step(
        self,
        params: Mapping[str, Any],
        state: Mapping[str, Any],
        inputs: Mapping[str, Any],
        targets: Mapping[str, Any],
        mask: Any = None,
        signals: Mapping[str, Any] | None = None,
    ) -> tuple[State, Step]:
        """Run one block: any number of steps with fixed weights.

        Args:
            params: `{name: array}`.
            state: from `start`, an earlier `step` or `reset`.
            inputs: `{input node: (time, batch, size)}`.
            targets: `{output node: (time, batch, size)}`, or `(time, batch)` labels.
            mask: weights of the loss, `(time,)` or `(time, batch)`, for all outputs or as `{output node: mask}`.
            signals: `{node: (time, batch, size)}`, for rules with `feedback="signal"`: what stands in place of the
                derivative of the loss by the node.

        Returns:
            The state after the block, and the block's loss, gradients and outputs.

        Raises:
            DataError: if an array does not fit.
            NonFiniteError: if loss, gradients or the state after the block are not finite, naming the first node or
                parameter at which, and the step.
            MemoryBudgetError: if the system refuses memory. Nothing is priced before: `fits` does.
        """
        return self._step(params, self._checked(state), inputs, targets, mask, signals)

    def _step(
        self,
        params: Any,
        state: State,
        inputs: Any,
        targets: Any,
        mask: Any,
        signals: Any,
        *,
        fresh: bool = False,
        last: bool = False,
        at: int = 0,
    ) -> tuple[State, Step]:
        """A block. A fresh state holds no influence; after the last block none is needed; `at` steps lie before it."""
        weights = read_params(self.plan.parameters, params, self.dtype)
        values, shape = read_inputs(self.network, inputs, self.dtype, (None, _batch(state)))
        shape = shape or shape_without_inputs(targets, self.losses)
        goals = read_targets(self.network, self.losses, targets, mask, shape, self.dtype)
        given = Given(weights, values, goals, read_signals(self.network, self.signalled, signals, self.dtype, shape))
        if _batch(state) not in (None, shape[1]):
            raise DataError(f"step: the state is of batch {_batch(state)}, the inputs are of batch {shape[1]}.")

        def again(t: int, before: State | None) -> numerics.Passed:
            began = before is None
            return self._pass(given.step(t), state if began else before, (1, shape[1]), fresh and began, False)

        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what comes of it is told in our words
            block = self._pass(given, state, shape, fresh, last)
            if not block.sound:
                raise numerics.locate(self.network.order, block, shape[0], again).later(at)
            norms = (
                numerics.norm(self._measured(block.after).values(), block.size),
                numerics.norm(block.grads.values(), block.slope),
            )
        return block.after, Step(block.loss, block.grads, block.outputs, *norms)

    def _measured(self, state: State) -> State:
        """A state without the counters of draws, which measure nothing."""
        return {key: array for key, array in state.items() if key not in self._counters} if self._counters else state

    def _pass(self, given: Given, state: State, shape: tuple[int, int], fresh: bool, last: bool) -> numerics.Passed:
        tape = self._engine.forward(given.params, state, given.inputs, shape)
        outputs = {name: tape.values(name).copy() for name in self.losses}
        loss, seeds = self._losses(outputs, given.targets)
        after = self._engine.advance(tape, state, fresh) if not last or self._engine.lossy else None
        grads = self._engine.gradients(tape, state, after, seeds, given.signals, fresh)
        size, slope = (numerics.squares(arrays.values()) for arrays in (self._measured(after or {}), grads))
        return numerics.Passed(tape, loss, outputs, seeds, grads, after or {}, size, slope)

    def _losses(self, outputs: Mapping[str, Array], goals: Mapping[str, Target]) -> tuple[float, dict[str, Array]]:
        total, seeds = 0.0, dict[str, Array]()
        for name, loss in self.losses.items():
            value, seeds[name] = loss_table.evaluate(loss, outputs[name], goals[name].values, goals[name].weight)
            total += value
        return total, seeds

    def gradient(
        self,
        params: Mapping[str, Any],
        inputs: Any,
        targets: Mapping[str, Any] | None = None,
        block: Length = "auto",
        mask: Any = None,
        signals: Mapping[str, Any] | None = None,
        *,
        draw: int | None = None,
    ) -> Result:
        """The gradient over a sequence from the start state, weights frozen, in blocks; memory does not grow with time.

        Args:
            params: `{name: array}`.
            inputs: `{input node: (time, batch, size)}`; or an iterable of `(inputs, targets)` or
                `(inputs, targets, mask)`, pieces of a sequence that need not fit in memory (then without `targets`).
            targets: as in `step`.
            block: number of steps per block; a piece longer than that is cut into blocks. `"auto"` chooses it from the
                program, the batch and memory, never from the length of the sequence.
            mask, signals: as in `step`.
            draw: as in `start`: by default each call draws signs of its own.

        Returns:
            The loss and the gradients, summed over the sequence.

        Raises:
            DataError: if an array does not fit, or the iterable is empty.
            MemoryBudgetError: if state and block would take more memory than is free, as in `start`.
            NonFiniteError: as in `step`. What the iterable raises passes unchanged.

        >>> import forwardgrad as fg, networkx as nx, numpy as np
        >>> g = nx.MultiDiGraph()
        >>> g.add_node("x", op="input", size=1)
        >>> g.add_node("y", op="linear", size=1)
        >>> _ = g.add_edge("x", "y", weight="dense")
        >>> _ = g.add_edge("y", "y", value=0.5, delay=1)
        >>> program = fg.compile(g, loss={"y": "mse"}, rule="rtrl")
        >>> x = np.ones((3, 1, 1))
        >>> result = program.gradient({"x->y": np.array([[1.0]])}, {"x": x}, {"y": 0 * x}, block=1)
        >>> result.loss, result.grads["x->y"]   # y is 1, 1.5, 1.75
        (6.3125, array([[12.625]]))
        """
        total, grads = 0.0, dict[str, Array]()
        weights = self._frozen(params)
        for *_, step in self._passed("gradient", weights, inputs, targets, mask, signals, block, draw):
            total += step.loss
            grads = {name: step.grads[name] + grads[name] if grads else step.grads[name] for name in step.grads}
        return Result(total, grads)

    def _frozen(self, params: Any) -> dict[str, Array]:
        """Parameters of our own: the code of a stream may change those that it was called with."""
        return {name: array.copy() for name, array in read_params(self.plan.parameters, params, self.dtype).items()}

    def _passed(
        self,
        what: str,
        params: Mapping[str, Array],
        inputs: Any,
        targets: Any,
        mask: Any,
        signals: Any,
        block: Length,
        draw: int | None,
    ) -> Iterator[tuple[State, State, Block, Step]]:
        """The blocks of a sequence from the start state, weights frozen: states before and after, block, and step."""
        pieces = inputs
        if isinstance(inputs, Mapping):
            pieces = [(inputs, targets, mask, signals)]  # pyright: ignore[reportUnknownVariableType]
        elif targets is not None or mask is not None or signals is not None:
            raise DataError(f"{what}: targets, mask and signals come with the pieces of an iterable.")
        state, passed, longest, number = None, 0, 0, _draw(what, draw)
        for piece, last in marking_last(self.blocks(pieces, block)):
            if piece.steps > longest:
                self.fits(piece.batch, piece.steps, held=state, last=last, what=what)
                longest = piece.steps
            before = self._begun(piece.batch, number) if state is None else state
            after, step = self._step(
                params,
                before,
                piece.inputs,
                piece.targets,
                piece.mask,
                piece.signals,
                fresh=state is None,
                last=last,
                at=passed,
            )
            yield before, after, piece, step
            state, passed = after, passed + piece.steps
        if state is None:
            raise DataError(f"{what}: the sequence is empty.")

    @budget.told("record")
    def record(
        self,
        params: Mapping[str, Any],
        inputs: Any,
        targets: Mapping[str, Any] | None = None,
        block: Length = "auto",
        mask: Any = None,
        signals: Mapping[str, Any] | None = None,
        only: Iterable[str] | None = None,
        keep: bool = False,
        *,
        draw: int | None = None,
    ) -> Record:
        """Run a sequence as `gradient` does, and collect what flows: traces, learning signals and their products.

        Influence is followed at every place, step by step, which takes much longer than the gradient alone.

        Args:
            params, inputs, targets, block, mask, signals, draw: as in `gradient`.
            only: the parameters to follow; by default all that are trained.
            keep: whether to keep the gradient of each step's loss: an array like the parameter per step.

        Returns:
            Sizes per parameter, node, mode and step; and the gradient, the same as without recording (of one draw).

        Raises:
            DataError: if an array does not fit, or a parameter is not trained.

        >>> import forwardgrad as fg, networkx as nx, numpy as np
        >>> g = nx.MultiDiGraph()
        >>> g.add_node("x", op="input", size=1)
        >>> g.add_node("y", op="linear", size=1)
        >>> _ = g.add_edge("x", "y", weight="dense")
        >>> _ = g.add_edge("y", "y", value=0.5, delay=1)
        >>> program = fg.compile(g, loss={"y": "mse"}, rule="rtrl")
        >>> x = np.ones((3, 1, 1))
        >>> record = program.record({"x->y": np.array([[1.0]])}, {"x": x}, {"y": 0 * x})
        >>> record.traces["x->y", "y", "all"]
        array([1.  , 1.5 , 1.75])
        """
        if isinstance(only, str):
            raise DataError(f"record: only is a collection of names, got {only!r}.", f"Write only=[{only!r}].")
        chosen = tuple(self.plan.entries) if only is None else tuple(dict.fromkeys(only))
        for name in chosen:
            if name not in self.plan.entries:
                raise DataError(f"record: {name!r} is no trained parameter.", did_you_mean(name, self.plan.entries))
        recorder = Recorder(self.plan, self._engine, self.losses, chosen, self.dtype, keep)
        weights = self._frozen(params)
        for before, after, piece, step in self._passed("record", weights, inputs, targets, mask, signals, block, draw):
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # sizes of large numbers; masked losses
                recorder.add(weights, before, after, piece, step.grads)
        return recorder.record()

    @property
    def signalled(self) -> tuple[str, ...]:
        """The nodes on which the user gives learning signals, for rules with `feedback="signal"`."""
        return tuple(dict.fromkeys(place.node for place in self.plan.product.places if place.signal == "given"))

    def blocks(self, stream: Iterable[Any], block: Length = "auto") -> Iterator[Block]:
        """Cut a stream into blocks, none made before it is asked for.

        Args:
            stream: pieces `(inputs, targets)` or `(inputs, targets, mask)`, arrays as in `step`.
            block: steps per block; a longer piece is cut. `None`: each piece is a block.

        Raises:
            DataError: if an array does not fit.
        """
        return cut(self.plan, self.losses, self.signalled, self.dtype, stream, block)

    def reset(self, state: Mapping[str, Any], where: Any) -> State:
        """The state with some samples started afresh: activations and influence.

        Random layouts go on counting what they have drawn, for these samples too.

        Args:
            state: a state; it is not changed.
            where: `(batch,)` truth values: the samples to start afresh.

        Raises:
            DataError: if a shape does not fit.
        """
        state = self._checked(state)
        batch = _batch(state)
        if batch is None:
            return {}
        chosen = truths("reset: where", where, (batch,))
        self.fits(batch, 1, held=state, what="reset")
        fresh = self._engine.start(batch) | {key: state[key] for key in self._counters}
        return {
            key: np.where(chosen.reshape(1, -1, *(1,) * (array.ndim - 2)), fresh[key], array)
            for key, array in state.items()
        }

    @budget.told("run")
    def run(
        self,
        params: Mapping[str, Any],
        inputs: Mapping[str, Any],
        state: Mapping[str, Any] | None = None,
        *,
        steps: int | None = None,
        batch: int | None = None,
    ) -> dict[str, Array]:
        """Run the declared graph forward only.

        Args:
            params: `{name: array}`.
            inputs: `{input node: (time, batch, size)}`.
            state: a state to go on from; by default the start.
            steps, batch: for a graph without inputs, how long to run it and with how many samples.

        Returns:
            `{node: (time, batch, size)}` for every node.

        Raises:
            DataError: if an array does not fit.
        """
        weights = read_params(self.plan.parameters, params, self.dtype)
        steps = None if steps is None else count("run: steps", steps)
        batch = None if batch is None else count("run: batch", batch)
        state = None if state is None else self._checked(state)
        known = batch if state is None else _batch(state)
        values, shape = read_inputs(self.network, inputs, self.dtype, (steps, known))
        if shape is None:
            if steps is None:
                raise DataError("run: this graph has no inputs, so nothing says how long to run.", "Pass steps=100.")
            shape = steps, known or 1
        if state is None:
            state = self._engine.start(shape[1])
        tape = self._engine.forward(weights, state, values, shape)
        return {name: tape.values(name).copy() for name in self.network.nodes}

    def cost(self, batch: int = 1, block: int = 1) -> Cost:
        """What the program stores and computes, known before it runs; raises `DataError` for what is no number."""
        return self._cost(count("cost: batch", batch), count("cost: block", block), last=False)

    def _cost(self, batch: int, block: int, last: bool) -> Cost:
        influence = {name: batch * derived.bytes for name, derived in self.rules.items()}
        nodes = self.network.nodes
        values = (
            sum(self.network.history(name) * node.size for name, node in nodes.items()) * batch * self.dtype.itemsize
        )
        working = working_bytes(self.plan, batch, block, self.dtype, last)
        operations = {name: batch * derived.flops for name, derived in self.rules.items()}
        return Cost(batch, block, influence, operations, values, working)

    def pattern(self, name: str) -> tuple[Array, Array]:
        """Rows and columns of the entries of a sparse parameter, in the order of its array.

        Raises:
            GraphError: if there is no sparse parameter of that name.
        """
        parameter = self.network.parameters.get(name) if isinstance(name, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
        if parameter is None or parameter.pattern is None:
            known = [p.name for p in self.network.parameters.values() if p.pattern is not None]
            raise GraphError(f"there is no sparse parameter {name!r}.", did_you_mean(name, known))
        return parameter.pattern.rows.copy(), parameter.pattern.columns.copy()

    def __str__(self) -> str:
        trained = [self.network.parameters[name] for name in self.rules]
        title = (
            f"Program: {len(self.network.nodes)} nodes, {len(self.network.edges)} edges, {len(trained)} trainable "
            f"parameters ({sum(prod(p.shape) for p in trained):,} numbers), {self.dtype}, "
            f"loss {', '.join(f'{loss.name} on {name}' for name, loss in self.losses.items())}"
        )
        untrained = {name: self.chosen[name] for name in self.plan.untrained}
        return listing(title, list(self.rules.values()), untrained)

    def source(self) -> str:
        """The derived algorithm as a module of readable NumPy, which runs on its own and needs nothing else.

        Its `gradient(params, inputs, targets, block)` and `step(params, state, inputs, targets)` do what the methods
        of those names do here, without checking what they are given; its state has the same keys. An op or a loss of
        yours is taken along where it is a formula or a plain function of NumPy; otherwise its place is marked.

        Raises:
            RuleError: if a layout is lossy.

        >>> import forwardgrad as fg, numpy as np
        >>> program, module = fg.compile(fg.load("elman"), rule="rtrl"), {}
        >>> exec(program.source(), module)
        >>> x, y = {"x": np.ones((6, 1, 1))}, {"y": np.zeros((6, 1, 1))}
        >>> loss, grads = module["gradient"](program.init(), x, y, block=2)
        >>> wanted = program.gradient(program.init(), x, y, block=2)
        >>> all(np.array_equal(grads[name], wanted.grads[name]) for name in grads)
        True
        """
        for name, rule in self.chosen.items():
            if name in self.rules and rule.layout != "lossless":
                raise RuleError(
                    f"source: parameter {name!r} has layout {rule.layout!r}, which is not written as source.",
                    "Give it a rule of lossless layout.",
                )
        return standalone(generate(self.plan, self.dtype), self.losses, f"Generated by forwardgrad.\n\n{self}")

    def _checked(self, state: Any) -> State:
        shapes = self._engine.shapes(1)
        check_names("state", state, shapes)
        found = {key: numeric(f"state {key!r}", state[key], self.dtype) for key in shapes}
        shapes = self._engine.shapes(_batch(found) or 1)
        for key, array in found.items():
            _check_shape(key, array, shapes[key])
        with np.errstate(over="ignore", invalid="ignore"):
            whole = numerics.finite(found.values())
        for key, array in found.items() if not whole else ():
            finite(f"state {key!r}", array, "index", "The run has diverged, or the state was damaged.")
        return found

    def _derived(self, name: str) -> Derived:
        plan, traces = self.plan, self._engine.traces[name]
        shapes = {part: shape for part, shape in traces.shapes().items() if isinstance(part, int)}
        places = plan.product.places
        labels = {place: f"{places[place].node} ({places[place].label})" for place in shapes}
        return Derived(
            parameter=name,
            rule=self.chosen[name],
            layouts=MappingProxyType({labels[place]: plan.layouts[name, place] for place in shapes}),
            shapes=MappingProxyType({labels[place]: shape[1:] for place, shape in shapes.items()}),
            lags=MappingProxyType({labels[place]: shape[0] for place, shape in shapes.items()}),
            exact=not plan.dropped[name] and not plan.reasons[name],
            dropped=plan.dropped[name],
            reasons=plan.reasons[name],
            bytes=sum(prod(shape) for shape in traces.shapes().values()) * self.dtype.itemsize,
            flops=flops(plan, name, traces.carried),
            plan=plan,
        )


def _check_lags(lags: Mapping[str, int]) -> None:
    if sum(lags.values()) > MOST_LAGS:
        name = max(lags, key=lags.__getitem__)
        raise RuleError(
            f"delays: influence would be carried at {sum(lags.values()):,} lags, more than {MOST_LAGS:,}; "
            f"at {lags[name]:,} of parameter {name!r}.",
            "Shorten the longest delay inside a recurrent layer, or take a rule that drops its credit.",
        )


def _draw(what: str, given: Any) -> int | None:
    """The number of a draw, if one is given; raises `DataError`."""
    if given is None:
        return None
    if not is_whole(given) or not 0 <= given < PERIOD:
        raise DataError(f"{what}: draw must be a whole number from 0 to {PERIOD - 1:,}, got {show(given)}.")
    return int(given)


def _check_shape(key: str, array: Array, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise DataError(
            f"state {key!r}: expected shape {expected}, got {array.shape}.",
            "A state belongs to the program and batch size it was started with.",
        )


def _batch(state: State) -> int | None:
    for array in state.values():
        return array.shape[1] if array.ndim > 1 else None
    return None

"""What does a user hold after compiling? A `Program`: immutable, stateless; parameters and state go in and come out."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from types import MappingProxyType
from typing import Any

import networkx as nx
import numpy as np

from forwardgrad.arrays import count, truths
from forwardgrad.backends import State
from forwardgrad.compiler import Decision, Plan
from forwardgrad.errors import DataError, GraphError, did_you_mean
from forwardgrad.explain.derivation import Derived, about, listing, listing_html
from forwardgrad.explain.notation import printable
from forwardgrad.graph import Network
from forwardgrad.graph import draw as draw_parameter
from forwardgrad.ops import Array
from forwardgrad.ops.losses import Loss
from forwardgrad.program import budget
from forwardgrad.program.blocks import Block, Length, cut
from forwardgrad.program.border import read_params
from forwardgrad.program.cost import Cost
from forwardgrad.program.derived import derive
from forwardgrad.program.execution import Execution, Step, batch_of, read_draw
from forwardgrad.program.pricing import price, refuse_too_large
from forwardgrad.program.recording import Record, Recorder
from forwardgrad.program.sequence import Result, as_pieces, executed, total
from forwardgrad.rules.table import Rule


class Program:
    """A declared graph compiled to an online learning algorithm. Made by `forwardgrad.compile`.

    It can be copied and pickled. Loading compiles it again; register ops, losses and layouts of your own before. Copies
    count their draws from 0 again.

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
        self._execution = Execution(plan, self.losses, self.dtype, backend)
        self._engine = self._execution.engine
        self.chosen: Mapping[str, Rule] = MappingProxyType(dict(rules))
        self.rules: Mapping[str, Derived] = MappingProxyType(derive(self._execution, self.chosen))

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
        number = read_draw("start", draw)
        self.fits(count("start: batch", batch), 1, max_memory)
        return self._execution.start(batch, number)

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
        refuse_too_large(self._execution, self.rules, self.chosen, (batch, block, last), max_memory, held, what)

    @budget.told("step")
    def step(
        self,
        params: Mapping[str, Any],
        state: Mapping[str, Any],
        inputs: Mapping[str, Any],
        targets: Mapping[str, Any],
        mask: Any = None,
        signals: Mapping[str, Any] | None = None,
        *,
        last: bool = False,
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
            last: whether the state after the block is not needed. Then it is empty, and what it costs is saved, unless
                the rule loses something at the ends of blocks.

        Returns:
            The state after the block, and the block's loss, gradients and outputs.

        Raises:
            DataError: if an array does not fit.
            NonFiniteError: if loss, gradients or the state after the block are not finite, naming the first node or
                parameter at which, and the step.
            MemoryBudgetError: if the system refuses memory. Nothing is priced before: `fits` does.
        """
        before = self._execution.read_state(state)
        after, step = self._execution.step(params, before, inputs, targets, mask, signals, last=last)
        return {} if last else after, step

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
        weights = self._frozen(params)
        return total(
            step for *_, step in self._executed("gradient", weights, inputs, targets, mask, signals, block, draw)
        )

    def _executed(
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
        blocks = self.blocks(as_pieces(what, inputs, targets, mask, signals), block)
        return executed(self._execution, what, params, blocks, draw, self.fits)

    def _frozen(self, params: Any) -> dict[str, Array]:
        """Parameters of our own: the code of a stream may change those that it was called with."""
        return {name: array.copy() for name, array in read_params(self.plan.parameters, params, self.dtype).items()}

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

        >>> import forwardgrad as fg, numpy as np
        >>> program, x = fg.compile(fg.load("elman")), np.ones((3, 1, 1))
        >>> record = program.record(program.init(), {"x": x}, {"y": 0 * x})
        >>> record.traces["h->h", "h", "all"].round(2)
        array([ 0.  ,  7.04, 11.03])
        """
        if isinstance(only, str):
            raise DataError(f"record: only is a collection of names, got {only!r}.", f"Write only=[{only!r}].")
        chosen = tuple(self.plan.entries) if only is None else tuple(dict.fromkeys(only))
        for name in chosen:
            if name not in self.plan.entries:
                raise DataError(f"record: {name!r} is no trained parameter.", did_you_mean(name, self.plan.entries))
        recorder = Recorder(self.plan, self._engine, self.losses, chosen, self.dtype, keep)
        weights = self._frozen(params)
        for before, after, piece, step in self._executed(
            "record", weights, inputs, targets, mask, signals, block, draw
        ):
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # sizes of large numbers; masked losses
                recorder.add(weights, before, after, piece, step.grads)
        return recorder.record()

    @property
    def signalled(self) -> tuple[str, ...]:
        """The nodes on which the user gives learning signals, for rules with `feedback="signal"`."""
        return self._execution.signalled

    @budget.told("advance")
    def advance(
        self, params: Mapping[str, Any], state: Mapping[str, Any], inputs: Mapping[str, Any]
    ) -> tuple[State, dict[str, Array]]:
        """Run one block of which nothing is asked yet: the state after it, and its outputs.

        What `step` finds from targets, `step(..., last=True)` finds later, from the state before the block.

        Args:
            params: `{name: array}`.
            state: from `start`, `step`, `advance` or `reset`.
            inputs: `{input node: (time, batch, size)}`.

        Returns:
            The state after the block, and `{output node: (time, batch, size)}`.

        Raises:
            DataError: if an array does not fit, or the graph has no inputs.

        >>> import forwardgrad as fg, numpy as np
        >>> program = fg.compile(fg.load("elman"))
        >>> state, outputs = program.advance(program.init(), program.start(2), {"x": np.ones((5, 2, 1))})
        >>> outputs["y"].shape
        (5, 2, 1)
        """
        return self._execution.advance(params, self._execution.read_state(state), inputs)

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
        state = self._execution.read_state(state)
        batch = batch_of(state)
        if batch is None:
            return {}
        chosen = truths("reset: where", where, (batch,))
        self.fits(batch, 1, held=state, what="reset")
        return self._execution.reset(state, chosen)

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
        steps = None if steps is None else count("run: steps", steps)
        batch = None if batch is None else count("run: batch", batch)
        state = None if state is None else self._execution.read_state(state)
        return self._execution.run(params, inputs, state, steps, batch)

    def cost(self, batch: int = 1, block: int = 1) -> Cost:
        """What the program stores and computes, known before it runs; raises `DataError` for what is no number."""
        return price(self._execution, self.rules, count("cost: batch", batch), count("cost: block", block), False)

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

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Program:
        graph = copy.deepcopy(self.graph, memo)
        return Program(graph, self.plan, self.losses, self.chosen, self.dtype, self.backend)

    __copy__ = __deepcopy__

    def __str__(self) -> str:
        return listing(self)

    def __repr__(self) -> str:
        return f"Program({printable(about(self))})"

    def _repr_html_(self) -> str:
        return listing_html(self)

    def source(self) -> str:
        """The derived algorithm as a module of readable NumPy, which runs on its own and needs nothing else.

        Its `gradient(params, inputs, targets, block)` and `step(params, state, inputs, targets)` do what the methods
        of those names do here, without checking what they are given; its state has the same keys. An op or a loss of
        yours is taken along where it is a formula or a plain function of NumPy; otherwise its place is marked.

        Raises:
            RuleError: if the program is so large that it is interpreted.

        >>> import forwardgrad as fg, numpy as np
        >>> program, module = fg.compile(fg.load("elman"), rule="rtrl"), {}
        >>> exec(program.source(), module)
        >>> x, y = {"x": np.ones((6, 1, 1))}, {"y": np.zeros((6, 1, 1))}
        >>> loss, grads = module["gradient"](program.init(), x, y, block=2)
        >>> wanted = program.gradient(program.init(), x, y, block=2)
        >>> all(np.array_equal(grads[name], wanted.grads[name]) for name in grads)
        True
        """
        from forwardgrad.array_program.standalone import standalone  # with all that makes array programs

        return standalone(self.plan, self.dtype, self.losses, f"Generated by forwardgrad.\n\n{self}")

    def as_jax(self, losses: Mapping[str, Any] | None = None) -> Any:
        """The program as pure functions of JAX, to be put inside your own `jit`, `vmap` and `lax.scan`.

        Args:
            losses: `{output node: value(y, target) -> (rows,)}` in `jax.numpy`, for losses of your own.

        Returns:
            `JaxFunctions`: `init`, `step`, `run` and `reset`.

        Raises:
            MissingExtraError: if JAX is not installed.
            RuleError: if an op or a layout is a function of Python, which JAX cannot run.
            DataError: if a loss has no form in JAX, or the program is of float64 and that is off in JAX.
        """
        from forwardgrad.backends.jax_functions import JaxFunctions  # and with it JAX

        execution = self._execution
        return JaxFunctions(self.plan, self.losses, self.dtype, execution.start, execution.counters, dict(losses or {}))

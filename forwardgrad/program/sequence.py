"""A whole sequence: blocks from the start state, weights frozen, each block priced before it is executed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from forwardgrad.backends import State
from forwardgrad.backends.counting import CountingEngine
from forwardgrad.backends.refusals import refuse_large
from forwardgrad.compiler import Plan
from forwardgrad.errors import DataError, did_you_mean
from forwardgrad.ops import Array
from forwardgrad.ops.losses import Loss
from forwardgrad.program import budget
from forwardgrad.program.blocks import Block, Length, cut, marking_last
from forwardgrad.program.border import read_params
from forwardgrad.program.execution import Execution, Step, read_draw
from forwardgrad.program.recording import Record, Recorder


@dataclass(frozen=True)
class Result:
    """What a sequence gives: the loss summed over time, and the gradient of each trainable parameter."""

    loss: float
    grads: dict[str, Array]


@dataclass(frozen=True)
class Activity:
    """How much of the work of carrying influence was left over by zeros. Made by `Program.activity`.

    Args:
        executed: multiply-adds of Jacobians with full influence that were made.
        bound: those that it would take without zeros, of which `Cost.flops` counts two operations each.
    """

    executed: int
    bound: int

    @property
    def fraction(self) -> float:
        """The part that was executed; 1 where no full influence is carried."""
        return self.executed / self.bound if self.bound else 1.0


def total(steps: Iterable[Step]) -> Result:
    """The sum over the blocks of a sequence."""
    loss, grads = 0.0, dict[str, Array]()
    for step in steps:
        loss += step.loss
        grads = {name: step.grads[name] + grads[name] if grads else step.grads[name] for name in step.grads}
    return Result(loss, grads)


def as_pieces(what: str, inputs: Any, targets: Any, mask: Any, signals: Any) -> Iterable[Any]:
    """The pieces of a sequence: one, if arrays are given, or those of the iterable that is given in their place."""
    if isinstance(inputs, Mapping):
        return [(cast("Mapping[str, Any]", inputs), targets, mask, signals)]
    if targets is not None or mask is not None or signals is not None:
        raise DataError(f"{what}: targets, mask and signals come with the pieces of an iterable.")
    return inputs


def executed(
    execution: Execution,
    what: str,
    params: Mapping[str, Array],
    blocks: Iterator[Block],
    draw: Any,
    fits: Callable[..., None],
) -> Iterator[tuple[State, State, Block, Step]]:
    """Execute blocks one after another from the start state.

    Args:
        execution: executes a block.
        what: names the call in errors.
        params: `{name: array}`.
        blocks: not empty.
        draw: the number of the signs of random layouts, if one is given.
        fits: refuses a block that costs more memory than it may; asked whenever a block is the longest so far.

    Yields:
        The states before and after a block, the block, and what it gives.
    """
    state, passed, longest, number = None, 0, 0, read_draw(what, draw)
    for block, last in marking_last(blocks):
        if block.steps > longest:
            fits(block.batch, block.steps, held=state, last=last, what=what)
            longest = block.steps
        before = execution.start(block.batch, number) if state is None else state
        arguments = params, before, block.inputs, block.targets, block.mask, block.signals
        after, step = execution.step(*arguments, fresh=state is None, last=last, at=passed)
        yield before, after, block, step
        state, passed = after, passed + block.steps
    if state is None:
        raise DataError(f"{what}: the sequence is empty.")


class Sequences:
    """The methods of a `Program` that go through a whole sequence."""

    plan: Plan
    losses: MappingProxyType[str, Loss]
    dtype: np.dtype[Any]
    fits: Callable[..., None]
    _execution: Execution

    @property
    def signalled(self) -> tuple[str, ...]:
        """The nodes on which the user gives learning signals, for rules with `feedback="signal"`."""
        return self._execution.signalled

    def gradient(
        self,
        params: Mapping[str, Any],
        inputs: Any,
        targets: Mapping[str, Any] | None = None,
        mask: Any = None,
        signals: Mapping[str, Any] | None = None,
        *,
        block: Length = "auto",
        draw: int | None = None,
    ) -> Result:
        """The gradient over a sequence from the start state, weights frozen, in blocks; memory does not grow with time.

        Args:
            params: `{name: array}`.
            inputs: `{input node: (time, batch, size)}`; or an iterable of `(inputs, targets)` or
                `(inputs, targets, mask)`, pieces of a sequence that need not fit in memory (then without `targets`).
            targets, mask, signals: as in `step`.
            block: number of steps per block; a piece longer than that is cut into blocks. `"auto"` chooses it from the
                program, the batch and memory, never from the length of the sequence.
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

    def activity(
        self,
        params: Mapping[str, Any],
        inputs: Any,
        targets: Mapping[str, Any] | None = None,
        mask: Any = None,
        signals: Mapping[str, Any] | None = None,
        *,
        block: Length = 1,
        draw: int | None = None,
    ) -> Activity:
        """Run a sequence as `gradient` does, and count the multiply-adds that carry full influence, S' = J S + I.

        Where a derivative may be exactly zero, as that of a spike or of `relu`, the backends `numpy` and `c` look for
        rows and columns of zeros in J and S, sample by sample, and pass over them where that pays. Nothing is lost: the
        gradient is the same (Subramoney 2023, arXiv 2303.05641). It is counted as the backend `numpy` works.

        Args:
            params, inputs, targets, mask, signals, draw: as in `gradient`.
            block: as in `gradient`; by default 1, since the Jacobian of a longer block has fewer zeros.

        Raises:
            DataError, MemoryBudgetError, NonFiniteError: as in `gradient`.
            RuleError: if the program is so large that it is interpreted.

        >>> import forwardgrad as fg, networkx as nx, numpy as np
        >>> g = nx.MultiDiGraph()
        >>> g.add_node("x", op="input", size=64)
        >>> g.add_node("h", op="relu", size=64, bias=-1.0)
        >>> _ = g.add_edge("x", "h", weight="identity")
        >>> _ = g.add_edge("h", "h", weight="dense", delay=1)
        >>> program, x = fg.compile(g, loss={"h": "mse"}), np.full((20, 1, 64), -50.0)
        >>> x[:, :, :16] = 5.0   # a quarter of the units is active
        >>> round(program.activity(program.init(), {"x": x}, {"h": x}).fraction, 3)
        0.073
        """
        refuse_large(self.plan, "numpy")
        engine = CountingEngine(self.plan, self.dtype)
        execution = Execution(self.plan, self.losses, self.dtype, "numpy")
        execution.engine = engine
        pieces = self.blocks(as_pieces("activity", inputs, targets, mask, signals), block)
        for _ in executed(execution, "activity", self._frozen(params), pieces, draw, self.fits):
            pass
        return Activity(engine.executed, engine.bound)

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
        mask: Any = None,
        signals: Mapping[str, Any] | None = None,
        *,
        block: Length = "auto",
        only: Iterable[str] | None = None,
        keep: bool = False,
        draw: int | None = None,
    ) -> Record:
        """Run a sequence as `gradient` does, and collect what flows: traces, learning signals and their products.

        Influence is followed at every place, step by step, which takes much longer than the gradient alone.

        Args:
            params, inputs, targets, mask, signals, block, draw: as in `gradient`.
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
        if self.plan.per_sample:
            raise DataError("record: sizes are those of the mean over the batch.", "Compile without per_sample=True.")
        if isinstance(only, str):
            raise DataError(f"record: only is a collection of names, got {only!r}.", f"Write only=[{only!r}].")
        chosen = tuple(self.plan.entries) if only is None else tuple(dict.fromkeys(only))
        for name in chosen:
            if name not in self.plan.entries:
                raise DataError(f"record: {name!r} is no trained parameter.", did_you_mean(name, self.plan.entries))
        recorder = Recorder(self.plan, self._execution.engine, self.losses, chosen, self.dtype, keep)
        weights = self._frozen(params)
        for before, after, piece, step in self._executed(
            "record", weights, inputs, targets, mask, signals, block, draw
        ):
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # sizes of large numbers; masked losses
                recorder.add(weights, before, after, piece, step.grads)
        return recorder.record()

    def blocks(self, stream: Iterable[Any], block: Length = "auto") -> Iterator[Block]:
        """Cut a stream into blocks, none made before it is asked for.

        Args:
            stream: pieces `(inputs, targets)` or `(inputs, targets, mask)`, arrays as in `step`.
            block: steps per block; a longer piece is cut. `None`: each piece is a block.

        Raises:
            DataError: if an array does not fit.
        """
        return cut(self.plan, self.losses, self.signalled, self.dtype, stream, block)

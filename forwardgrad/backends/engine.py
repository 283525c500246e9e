"""What does a program ask of a backend? A state in, a state out; and which backends there are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from forwardgrad.layouts.traces import Traces
from forwardgrad.ops import Array

State = dict[str, Array]
"""Activations and influence between two blocks: a flat dictionary of arrays, the batch on axis 1 of each."""

Back = Callable[[Mapping[str, Array], Mapping[str, Array]], dict[str, Array]]
"""`back(losses, signals)`: the gradient of each parameter in a step that was run, arguments as in `gradients`."""

Ahead = Callable[[Mapping[str, Array], State, Mapping[str, Array]], tuple[dict[str, Array], State, Back]]
"""`ahead(params, state, inputs)`: one step. It gives `(1, batch, size)` by output node, the state after, and `back`."""


class WholeSteps(Protocol):
    """Steps that are one call each, losses and update included, in arrays that the engine owns.

    Attributes:
        inputs, targets, signals: the arrays that the next step reads, `(batch, size)` by node. Targets of a loss of
            labels are 1 at the label, and 0 elsewhere.
        shares: the factor of each sample's loss, `(batch,)` by output node: its mask, divided by the number of samples.
    """

    inputs: dict[str, Array]
    targets: dict[str, Array]
    signals: dict[str, Array]
    shares: dict[str, Array]

    @property
    def taken(self) -> int:
        """How many steps have been taken since it began."""
        ...

    @property
    def learned(self) -> int:
        """How many of them had targets."""
        ...

    @property
    def squares(self) -> tuple[float, float]:
        """The sums of the squares of the state after the last step, without what counts, and of its gradients."""
        ...

    def begin(self, params: Mapping[str, Array], state: State, memory: Mapping[str, Array]) -> None:
        """Go on from parameters, a state, and what the optimizer remembers, in its own form; they are copied."""
        ...

    def change(self, optimizer: Mapping[str, Any] | None, clip: float | None) -> bool:
        """Go on with other settings of the same kind of optimizer, as in `Engine.whole_steps`; whether it is one."""
        ...

    def learn(self) -> float:
        """Take a step from inputs and targets, and give its loss.

        The loss is NaN, and the step not taken, if something in it is not finite, or the sum of all squares.
        """
        ...

    def predict(self) -> bool:
        """Take a step from inputs alone, without learning; whether it is taken, as in `learn`."""
        ...

    def outputs(self) -> dict[str, Array]:
        """The outputs after the last step, `(batch, size)` by node, copied."""
        ...

    def memory(self) -> dict[str, Array]:
        """What the optimizer remembers after the last step, in its own form, copied."""
        ...

    def names(self, group: str) -> Collection[str]:
        """The names of the arrays of a group that it has: what it lacks, a step neither reads nor changes."""
        ...

    def current(self, group: str) -> dict[str, Array]:
        """The arrays of a group (`params`, `state`, `grads`) after the last step, copied."""
        ...


class Engine(Protocol):
    """Executes a plan. Nothing that it is given is changed."""

    @property
    def traces(self) -> Mapping[str, Traces]:
        """What each parameter keeps between blocks."""
        ...

    @property
    def lossy(self) -> bool:
        """Whether the gradient of a block needs the state after it."""
        ...

    def start(self, batch: int) -> State:
        """The state before t = 0."""
        ...

    def shapes(self, batch: int) -> Mapping[str, tuple[int, ...]]:
        """The shapes of the arrays of a state."""
        ...

    def keeps(self, array: Any) -> bool:
        """Whether an array of a state is one of its own, which need not be one of NumPy."""
        ...

    def forward(
        self, params: Mapping[str, Array], state: Mapping[str, Array], inputs: Mapping[str, Array], shape: Any
    ) -> Any:
        """Run the declared graph for a block of shape `(steps, batch)`."""
        ...

    def gradients(
        self,
        tape: Any,
        state: Mapping[str, Array],
        after: Mapping[str, Array] | None,
        losses: Mapping[str, Array],
        signals: Mapping[str, Array],
        fresh: bool,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The block's part of the gradient of each parameter, and the gradient by each input that the plan probes.

        Args:
            tape: the block's forward pass.
            state: what came before the block.
            after: the state after the block; needed where a layout is lossy.
            losses: the gradient of the loss by each output node, `(steps, batch, size)`.
            signals: the learning signals that the user gives, by node, shaped alike.
            fresh: whether the state holds no influence yet.
        """
        ...

    def advance(self, tape: Any, state: Mapping[str, Array], fresh: bool) -> State:
        """The state after the block."""
        ...

    def stepper(self, outputs: Collection[str], batch: int) -> Ahead:
        """The function that runs one step of a batch of this size.

        Args:
            outputs: the nodes whose values are asked for.
            batch: number of samples.
        """
        ...

    def whole_steps(
        self,
        losses: Mapping[str, str],
        optimizer: Mapping[str, Any] | None,
        clip: float | None,
        batch: int,
        counters: Collection[str],
    ) -> Callable[[], WholeSteps] | None:
        """What makes steps for a stream that are one call each; `None` if the engine has none of this kind.

        Args:
            losses: the name of the built-in loss of each output node.
            optimizer: the `config` of a built-in optimizer; `None` leaves parameters as they are.
            clip: largest joint norm of the gradients that it gets, or `None`.
            batch: number of samples.
            counters: the keys of what counts, in a state, and measures nothing.
        """
        ...

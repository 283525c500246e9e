"""A readout by recursive least squares over layers that learn by gradients, or not at all, online."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from forwardgrad.compiling import compile
from forwardgrad.errors import DataError, FileError, GraphError
from forwardgrad.learning import checkpoint
from forwardgrad.learning.freezing import frozen
from forwardgrad.learning.learner import Learner, Update
from forwardgrad.learning.least_squares import RLS
from forwardgrad.learning.optimizers import Optimizer
from forwardgrad.learning.readouts import ReadoutLearner
from forwardgrad.learning.transforms import as_optimizer
from forwardgrad.ops import Array
from forwardgrad.program import Program

NOTE = "hybrid"
"""Under which name a checkpoint notes the settings of a hybrid learner, and keeps what least squares remember."""


class HybridLearner:
    """Learns the readout of a network by recursive least squares, and all that lies below it by its rule's gradient.

    In each block the layers below learn first, by the error of the readout as it was. Then the readout is set to the
    best one, in squares, for all steps seen so far; with a forgetting factor later steps count more, as they must where
    features change. Layers below may be of any kind: trained under any rule, fixed (`cells.reservoir`), or fixed in
    part, such as a diagonal recurrence with fixed poles (`learning.freezing.frozen`).

    Sources: RLS readouts of a reservoir, Jaeger & Haas 2004, doi 10.1126/science.1091277. Readouts solved for while
    the layers below follow gradients are separable least squares, Golub & Pereyra 1973, doi 10.1137/0710036; to do
    so online is our combination.

    Args:
        program: in which the readout is trainable; its rules are those of the layers below.
        params: `{name: array}`; they are copied.
        optimizer: of the layers below.
        output: the node; by default the only one with a loss.
        rls: the settings; by default all steps count alike.
        clip: largest joint norm of a block's gradients, or `None`.

    Attributes:
        learner: of the layers below; its parameters are all parameters, the readout's as they are by now.

    Raises:
        GraphError: if the output does not exist, is not linear, is read by other nodes, or reads a delayed value by
            weights that are to be found; or if nothing is left to learn below it.

    >>> import forwardgrad as fg, numpy as np
    >>> program = fg.compile(fg.load("leaky_stack"), rule="eprop")
    >>> hybrid = HybridLearner(program, program.init(), fg.Adam(0.001), rls=RLS(forgetting=0.999))
    >>> x = np.random.default_rng(0).normal(size=(400, 1, 1))
    >>> y = np.concatenate([np.zeros((1, 1, 1)), x[:-1]])  # what came in one step ago
    >>> updates = hybrid.fit([({"x": x}, {"y": y})], block=10)
    >>> bool(np.mean([update.loss for update in updates[-10:]]) < 0.1)
    True
    """

    def __init__(
        self,
        program: Program,
        params: Mapping[str, Any],
        optimizer: Optimizer,
        *,
        output: str | None = None,
        rls: RLS | None = None,
        clip: float | None = None,
    ) -> None:
        self.readout = ReadoutLearner(program, params, output, rls)
        if self.readout.delay:
            raise GraphError(
                f"hybrid: readout {self.readout.output!r} reads a delayed value by weights that are to be found.",
                "Let it read a node that holds that value: an identity after the delay.",
            )
        rules = {glob.escape(name): rule for name, rule in program.chosen.items() if name not in self.readout.learned}
        if not rules:
            raise GraphError(
                f"hybrid: below readout {self.readout.output!r} nothing is trained.", "ReadoutLearner finds such a one."
            )
        below = frozen(program.graph, [glob.escape(name) for name in self.readout.learned])
        where: dict[str, Any] = {"dtype": program.dtype, "backend": program.backend, "devices": program.devices}
        self.learner = Learner(compile(below, program.losses, rules, **where), params, optimizer, clip=clip)

    def fit(self, stream: Iterable[Any], *, block: int | None = None) -> list[Update]:
        """Learn from a stream; call it again to go on from where it ended.

        Args:
            stream: pieces `(inputs, targets)` or `(inputs, targets, mask)`, as for `Learner.fit`. The readout leaves
                out steps with a mask of 0.
            block: steps per update; a longer piece is cut. `None`: a piece is a block.

        Returns:
            What each block gave before it was learned from, without arrays.

        Raises:
            DataError: if an array does not fit.
            NonFiniteError: if something is not finite.
        """
        learner, output, updates = self.learner, self.readout.output, list[Update]()
        for piece in learner.program.blocks(stream, block=block):
            values = learner.program.run(learner.params, piece.inputs, state=learner.state)
            updates += learner.fit([(piece.inputs, piece.targets, piece.mask or None)])
            self.readout.params = {name: learner.params[name] for name in self.readout.params}
            self.readout.learn(values, piece.targets, piece.mask.get(output))
            learner.params = {**learner.params, **{name: self.readout.params[name] for name in self.readout.learned}}
        return updates

    def predict(self, inputs: Mapping[str, Any], *, go_on: bool = False) -> dict[str, Array]:
        """The values of the outputs, as `Learner.predict` gives them."""
        return self.learner.predict(inputs, go_on=go_on)

    def save(self, path: Any) -> None:
        """Write both methods to one file, whole or not at all: parameters, and all that each of them remembers.

        Raises:
            FileError: as for `Learner.save`.
        """
        readout = self.readout
        settings = {"output": readout.output, "rls": asdict(readout.rls)}
        settings["program"] = checkpoint.describe(readout.program)
        self.learner.save(path, {NOTE: settings}, {NOTE: readout.memory})

    @classmethod
    def load(cls, path: Any, program: Program | None = None, *, optimizer: Any = None) -> HybridLearner:
        """Read a hybrid learner back; it goes on bit for bit as if it had never stopped.

        Args:
            path: a file written by `save`.
            program, optimizer: as for `Learner.load`; the program is the one in which the readout is trainable.

        Raises:
            FileError: as for `Learner.load`, or if the file is one of another learner.
        """
        saved = checkpoint.read(path)
        try:
            noted: Any = saved.notes[NOTE]
            described, output, rls = noted["program"], noted["output"], RLS(**noted["rls"])
            memory = saved.kept[NOTE]
        except (KeyError, TypeError, DataError) as error:
            raise FileError(
                f"checkpoint {str(path)!r}: says nothing that can be read of a hybrid: {error}.", "Use Learner.load."
            ) from error
        program = checkpoint.match(path, described, program)
        optimizer = checkpoint.optimizer(path, saved.optimizer, None if optimizer is None else as_optimizer(optimizer))
        hybrid = cls(program, saved.params, optimizer, output=output, rls=rls, clip=saved.clip)
        checkpoint.check(path, "least squares", memory, hybrid.readout.memory)
        hybrid.learner = Learner.load(path, hybrid.learner.program, optimizer=optimizer)
        hybrid.readout.memory = dict(memory)
        return hybrid

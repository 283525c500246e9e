"""A program as a module of PyTorch: its backward pass is the rule's, forward in time, whatever surrounds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from forwardgrad.arrays import check_names
from forwardgrad.compiling import recompiled
from forwardgrad.errors import DataError, MissingExtraError
from forwardgrad.program import Program
from forwardgrad.program.border import read_params
from forwardgrad.rules.table import rule as read_rule

try:
    import torch
except ImportError as error:
    raise MissingExtraError(
        'forwardgrad.bridges.torch.Module needs PyTorch: pip install "forwardgrad[torch]"'
    ) from error

Array = NDArray[Any]


class Module(torch.nn.Module):
    """A compiled program as a layer.

    `forward` runs a block, of one step or of many. What comes back in the backward pass is the gradient along the paths
    of the program's rule: of its weights through everything since the start of the sequence, in the memory of one
    block; and of its inputs through the paths inside the block. So a loss, an optimizer, and layers before and after it
    are those of PyTorch. Weights that change between blocks are as in every online algorithm.

    Numbers are computed on the CPU in the precision of the program. Outputs come back in that of the inputs, and on
    their device. Second derivatives are not available.

    Args:
        program: the program; the nodes with a loss are the outputs, and which losses these are plays no role.
        params: the weights to start from; by default `program.init()`.
        inputs_rule: the rule whose paths lead to the inputs; by default that of the weights, or `rtrl` where these have
            several.
        batch_first: whether tensors are `(batch, time, size)` and not `(time, batch, size)`.
        keep: whether a block goes on where the last one ended, until `reset`; else each starts afresh.

    Attributes:
        program: the program that is run, compiled again for this.
        state: that after the last block, or `None` before the first.

    Raises:
        DataError: if weights do not fit, the graph has no inputs, or the rule takes learning signals from the user.

    >>> import forwardgrad as fg
    >>> layer = Module(fg.compile(fg.load("elman"), rule="rtrl"))
    >>> readout = torch.nn.Linear(1, 1).double()
    >>> outputs = readout(layer(torch.ones(5, 2, 1, dtype=torch.float64)))
    >>> outputs.square().mean().backward()
    >>> layer.weights["h->h"].grad.shape
    torch.Size([32, 32])
    """

    state: dict[str, Array] | None
    trained: tuple[str, ...]

    def __init__(
        self,
        program: Program,
        params: Mapping[str, Any] | None = None,
        *,
        inputs_rule: Any = None,
        batch_first: bool = False,
        keep: bool = True,
    ) -> None:
        super().__init__()
        if program.signalled:
            raise DataError(
                f"torch: the rule takes learning signals on {', '.join(map(repr, program.signalled))} from you.",
                "In a module they come from the layers above; take feedback 'exact', 'random' or 'adaptive'.",
            )
        if not program.network.inputs:
            raise DataError("torch: the graph has no inputs.", "Give it one, also if it is always zero.")
        self.batch_first, self.keep, self.state = batch_first, keep, None
        rules = list(dict.fromkeys(program.chosen.values()))
        below = read_rule(inputs_rule or (rules[0] if len(rules) == 1 else "rtrl"))
        self.program = recompiled(
            program.graph,
            dict.fromkeys(program.losses, "signal"),
            {**dict.fromkeys(program.network.inputs, below), **program.chosen},
            program.dtype.name,
            program.backend,
            by_inputs=True,
            devices=program.devices,
        )
        start = {**self.program.init(), **(params or {})}
        self._names = {name: name.replace(".", "_") for name in start}
        self.trained = (*self.program.rules, *self.program.plan.followers)
        for name, array in read_params(self.program.plan.parameters, start, self.program.dtype).items():
            tensor = torch.as_tensor(np.array(array))
            if hasattr(self, self._names[name]):
                raise DataError(
                    f"torch: parameter {name!r} cannot be registered as {self._names[name]!r}: that name is taken.",
                    "Give its edge another 'param', or its node another name.",
                )
            if name in self.trained:
                self.register_parameter(self._names[name], torch.nn.Parameter(tensor))
            else:
                self.register_buffer(self._names[name], tensor)

    @property
    def weights(self) -> dict[str, Any]:
        """The tensors of all weights, by their names in the graph. (In `state_dict`, `.` is `_`.)"""
        return {name: getattr(self, registered) for name, registered in self._names.items()}

    def reset(self, where: Any = None) -> None:
        """Start afresh: all samples, or those of these truth values, `(batch,)`."""
        if where is None or self.state is None:
            self.state = None
        else:
            self.state = self.program.reset(self.state, where)

    def forward(self, inputs: Any) -> Any:
        """Run a block.

        Args:
            inputs: a tensor `(time, batch, size)`, or `{input node: tensor}` where there are several.

        Returns:
            The values of the output, `(time, batch, size)`; `{output node: tensor}` where there are several.

        Raises:
            DataError: if a tensor does not fit.
        """
        names: tuple[str, ...] = self.program.network.inputs
        if not isinstance(inputs, Mapping) and len(names) > 1:
            raise DataError(
                f"torch: the graph has {len(names)} inputs.", f"Pass {{{', '.join(map(repr, names))}: ...}}."
            )
        given: dict[str, Any] = dict(inputs) if isinstance(inputs, Mapping) else dict.fromkeys(names, inputs)
        check_names("inputs", given, names)
        for name, tensor in given.items():
            if not isinstance(tensor, torch.Tensor) or tensor.ndim < 3:
                raise DataError(
                    f"torch: input {name!r} must be a tensor of three axes.", "Such as (time, batch, size)."
                )
        tensors = [given[name].transpose(0, 1) if self.batch_first else given[name] for name in names]
        trained = [self.weights[name] for name in self.trained]
        outputs = cast("list[Any]", list(_Block.apply(self, *tensors, *trained)))
        if self.batch_first:
            outputs = [output.transpose(0, 1) for output in outputs]
        return outputs[0] if len(outputs) == 1 else dict(zip(self.program.losses, outputs, strict=True))

    def begins(self, batch: int) -> dict[str, Array]:
        """The state that a block of this many samples begins with."""
        if self.state is None or not self.keep:
            return self.program.start(batch)
        known = next((array.shape[1] for array in self.state.values() if array.ndim > 1), batch)
        if known != batch:
            raise DataError(
                f"torch: the last block had {known} samples, and this one has {batch}.",
                "Call reset() between sequences, or pass keep=False.",
            )
        return self.state


class _Block(torch.autograd.Function):
    """One block: its outputs and the state after it, and what its weights and inputs get of what arrives."""

    @staticmethod
    def forward(ctx: Any, module: Module, *tensors: Any) -> Any:
        program = module.program
        inputs, params = _read(module, tensors)
        module.state, prediction = program.predict(params, inputs, state=module.begins(tensors[0].shape[1]))
        ctx.module, ctx.prediction = module, prediction
        ctx.save_for_backward(*tensors)
        return tuple(torch.as_tensor(prediction.outputs[name]).to(tensors[0]) for name in program.losses)

    @staticmethod
    def backward(ctx: Any, *arriving: Any) -> Any:
        program, tensors = ctx.module.program, ctx.saved_tensors  # refused if they were changed since
        batch = tensors[0].shape[1]  # a program takes the mean over the batch of what it is given
        signals = {name: batch * _array(each) for name, each in zip(program.losses, arriving, strict=True)}
        step = program.credit(ctx.prediction, signals=signals)
        found = [
            step.by_inputs[name].reshape(tensor.shape)
            for name, tensor in zip(program.network.inputs, tensors, strict=False)
        ]
        found += [step.grads[name] for name in ctx.module.trained]
        grads = (torch.as_tensor(array).to(tensor) for array, tensor in zip(found, tensors, strict=True))
        return None, *grads


def _read(module: Module, tensors: Any) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs and weights as arrays, by name."""
    names = module.program.network.inputs
    inputs = {name: _array(tensor) for name, tensor in zip(names, tensors, strict=False)}
    weights = module.weights | dict(zip(module.trained, tensors[len(names) :], strict=True))
    return inputs, {name: _array(tensor) for name, tensor in weights.items()}


def _array(tensor: Any) -> Array:
    return tensor.detach().cpu().numpy()

"""How does PyTorch compute it? Backpropagation through time on the CPU: `nn.LSTM`, `nn.RNN`, and a loop for spikes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.contestants import EXACT, Contestant
from benchmarks.networks import DAMPENING, LEAK, THRESHOLD
from benchmarks.tasks import Gradient, Task

GATES = {"lstm": "ifgo", "rnn": ("",), "lif": ("",)}
"""The order in which PyTorch stacks gates."""


class _Spike(torch.autograd.Function):
    """A step at the threshold, with a triangle for its derivative."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(v)
        return (v > THRESHOLD).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        (v,) = ctx.saved_tensors
        slope = torch.clamp(1 - torch.abs(v - THRESHOLD) / THRESHOLD, min=0)
        return grads[0] * (DAMPENING / THRESHOLD) * slope


class Spiking(nn.Module):
    """Recurrent leaky integrate-and-fire units."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight_ih_l0 = nn.Parameter(torch.empty(units, inputs))
        self.weight_hh_l0 = nn.Parameter(torch.empty(units, units))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Spikes over time from inputs over time."""
        drive, recurrent = x @ self.weight_ih_l0.T, self.weight_hh_l0.T
        v = z = torch.zeros_like(drive[0])
        spikes = []
        for now in drive:
            v = LEAK * v + now + z @ recurrent - THRESHOLD * z
            z = _Spike.apply(v)
            spikes.append(z)
        return torch.stack(spikes), None


def _module(task: Task) -> nn.Module:
    network = task.network
    if network.cell == "lif":
        return Spiking(network.inputs, network.units[0])
    (size,) = set(network.units)
    kind = nn.LSTM if network.cell == "lstm" else nn.RNN
    return kind(network.inputs, size, num_layers=len(network.units))


def bptt(task: Task) -> Contestant:
    """Backpropagation through time."""
    network, of = task.network, task.params
    dtype = torch.float64 if task.double else torch.float32
    module, readout = _module(task).to(dtype), nn.Linear(network.units[-1], network.outputs).to(dtype)
    names: dict[nn.Parameter, list[str]] = {
        readout.weight: [f"{network.layers[-1].out}->y"],
        readout.bias: ["y.bias"],
    }
    for n, layer in enumerate(network.layers):
        columns = zip(*(layer.weights(gate) for gate in GATES[network.cell]), strict=True)
        for key, column in zip(("weight_ih", "weight_hh", "bias_ih"), columns, strict=True):
            if column[0] in of:
                names[getattr(module, f"{key}_l{n}")] = list(column)
        if hasattr(module, f"bias_hh_l{n}"):  # a second bias, which says the same
            nn.init.zeros_(getattr(module, f"bias_hh_l{n}")).requires_grad_(False)
    with torch.no_grad():
        for parameter, column in names.items():
            parameter.copy_(torch.from_numpy(np.concatenate([of[name] for name in column])))
    x, target = torch.from_numpy(task.x), torch.from_numpy(task.target)
    loss_of: Callable[..., torch.Tensor] = (
        nn.functional.cross_entropy if network.loss == "cross_entropy" else nn.functional.mse_loss
    )

    def run() -> Any:
        y = readout(module(x)[0])
        # The mean over time and batch, times the number of steps.
        loss = task.steps * loss_of(y.flatten(0, 1), target.flatten(0, 1))
        return loss, torch.autograd.grad(loss, list(names))

    def read(found: Any) -> Gradient:
        grads: dict[str, np.ndarray] = {}
        for column, grad in zip(names.values(), found[1], strict=True):
            grads |= dict(zip(column, np.split(grad.numpy(), len(column)), strict=True))
        return Gradient(float(found[0].detach()), grads)

    return Contestant("torch BPTT", EXACT, run, read, type(module).__name__)

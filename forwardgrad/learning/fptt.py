"""FPTT, forward propagation through time: an optimizer whose loss has a regularizer that follows past updates.

It sees gradients only, so it goes with every rule: with `tbptt` in blocks, as published, or with `rtrl`, `eprop` or
`immediate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from forwardgrad.learning.optimizers import (
    DECAY,
    FRACTION,
    Arrays,
    Check,
    Optimizer,
    check_settings,
    is_number,
    remembered,
    with_gradient,
)
from forwardgrad.learning.transforms import as_inner, inner_state
from forwardgrad.ops import Array


@dataclass(frozen=True)
class FPTT:
    """An optimizer of the loss of each part of a sequence, kept near a running mean of the parameters.

    Each parameter p has a mean m, which starts as p, and a multiplier l, which starts at 0. The optimizer gets

        g + alpha (p - m) - (1 - rho) l,   the gradient of   loss(p) + alpha/2 |p - m|^2 - (1 - rho) <l, p>

    and after its update, with the new p and then the new l,

        l = l - alpha (p - m);   m = (1 - beta) m + beta p - (beta / alpha) l

    If an update minimizes that objective, at rho = 0, its gradient is 0 there, which makes the new l the gradient of
    the loss: the multiplier estimates it without another pass. At a fixed point p = m, l = 0 and g = 0.

    Source: Kag & Saligrama 2021, "Training recurrent neural networks via forward propagation through time", ICML, PMLR
    139:5189-5200; with spikes: Yin, Corradi & Bohte 2023, doi 10.1038/s42256-023-00650-4. Names, signs and `rho` are
    those of the authors' code (github.com/anilkagak2/FPTT), whose default is `rho=0`. The papers write the regularizer
    as alpha/2 |p - m - l / (2 alpha)|^2 with the last gradient for l. Its gradient, alpha (p - m) - l/2, is that of
    `rho=0.5`. With `beta=0.5` the mean is the papers': (m + p) / 2 - l / (2 alpha).

    The gradient that a `Learner` hands over is that of the mean loss per step of a block, so a block is a part. Where
    only the end of a sequence has a target, the papers ask for it at the end of every part, with weights that grow:
    see `examples/fptt_adding.py`. They clip what the optimizer gets: `FPTT(Clipped(Adam(0.001), norm=1.0))`.

    Args:
        optimizer: makes the updates.
        alpha: weight of the regularizer, >= 0. At 0 this is the optimizer alone.
        beta: weight of the new parameters in the mean, > 0 and at most 1.
        rho: by how much the multiplier is weakened in the gradient, in [0, 1).

    Raises:
        DataError: if a setting is out of range.

    A gradient of 4, and then none. The regularizer takes back a part of the first update:

    >>> from forwardgrad.learning.optimizers import SGD
    >>> fptt, params = FPTT(SGD(0.5), alpha=0.5), {"p": np.array([1.0])}
    >>> params, state = fptt.update(params, {"p": np.array([4.0])}, fptt.start(params))
    >>> params["p"], state["mean:p"], 0.5 * state["multiplier:p"]
    (array([-1.]), array([-1.]), array([1.]))
    >>> fptt.update(params, {"p": np.array([0.0])}, state)[0]["p"]
    array([-0.5])
    """

    optimizer: Optimizer
    alpha: float = 0.1
    beta: float = 0.5
    rho: float = 0.0
    name: ClassVar[str] = "fptt"

    def __post_init__(self) -> None:
        check_settings(self, alpha=DECAY, beta=_SHARE, rho=FRACTION)

    def start(self, params: Arrays) -> dict[str, Array]:
        """State: `mean:NAME` and `multiplier:NAME` of each parameter's shape and dtype, and that of the optimizer.

        The multiplier is kept as l / alpha, so that `alpha=0` needs no case of its own.
        """
        means = {f"mean:{name}": np.array(p) for name, p in params.items()}
        multipliers = {f"multiplier:{name}": np.zeros_like(p) for name, p in params.items()}
        return {**means, **multipliers, **as_inner(self.optimizer.start(params))}

    def update(self, params: Arrays, grads: Arrays, state: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
        """One update of the optimizer with the regularized gradient. Parameters without a gradient pass through.

        Raises:
            DataError: if a gradient or the state does not fit the parameters, or a gradient is not finite.
        """
        regularized: dict[str, Array] = {}
        for name, p, g in with_gradient(params, grads):
            mean, multiplier = _memory(state, name, p)
            pull = self.alpha * (p - mean - (1 - self.rho) * multiplier)
            regularized[name] = np.asarray(g + pull, p.dtype)
        new, inner = self.optimizer.update(params, regularized, inner_state(state))
        memory = {**state, **as_inner(inner)}
        for name in grads:
            p = new[name]
            mean, multiplier = _memory(state, name, p)
            multiplier = multiplier - (p - mean)
            memory[f"multiplier:{name}"] = np.asarray(multiplier, p.dtype)
            memory[f"mean:{name}"] = np.asarray((1 - self.beta) * mean + self.beta * (p - multiplier), p.dtype)
        return new, memory

    def config(self) -> dict[str, Any]:
        """Name and settings."""
        settings = {"alpha": self.alpha, "beta": self.beta, "rho": self.rho}
        return {"name": self.name, "optimizer": self.optimizer.config(), **settings}


_SHARE: Check = (lambda value: is_number(value) and 0 < value <= 1, "a number > 0 and at most 1")


def _memory(state: Arrays, name: str, p: Array) -> tuple[Array, Array]:
    """The mean of a parameter, and its multiplier divided by alpha."""
    return remembered(state, f"mean:{name}", p.shape), remembered(state, f"multiplier:{name}", p.shape)

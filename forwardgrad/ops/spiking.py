"""How does a spike pass credit? A step function with a declared (surrogate) derivative."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from forwardgrad.ops.op import Array, Op, Option, Port
from forwardgrad.ops.registry import add

_SURROGATES: Mapping[str, Callable[[Array], Array]] = {
    # Bellec et al. 2020 (doi 10.1038/s41467-020-17236-y), there with dampening 0.3 / threshold, width = threshold.
    "triangle": lambda d: np.maximum(0.0, 1.0 - np.abs(d)),
    "boxcar": lambda d: np.abs(d) < 0.5,
    "gaussian": lambda d: np.exp(-0.5 * d * d),
    # Zenke & Ganguli 2018 (SuperSpike, doi 10.1162/neco_a_01086).
    "fast_sigmoid": lambda d: 1.0 / (1.0 + np.abs(d)) ** 2,
}


def _spike(x: Array, *, threshold: Any, **_: Any) -> Array:
    return (x > threshold).astype(x.dtype)


def _surrogate(x: Array, y: Array, *, threshold: Any, surrogate: str, dampening: Any, width: Any) -> Array:
    return dampening * _SURROGATES[surrogate]((x - threshold) / width)


add(
    Op(
        "spike",
        value=_spike,
        ports=(Port("in", _surrogate),),
        options={
            "threshold": Option(1.0),
            "surrogate": Option("triangle", choices=tuple(_SURROGATES)),
            "dampening": Option(0.3, positive=True),
            "width": Option(1.0, positive=True),
        },
        smooth=False,
        shape="diamond",
    )
)

"""How does a spike pass credit? A step function with a declared (surrogate) derivative."""

from __future__ import annotations

from forwardgrad.ops.formula import Formula
from forwardgrad.ops.op import Op, Option, Port
from forwardgrad.ops.registry import add

_SURROGATES = {
    # Bellec et al. 2020 (doi 10.1038/s41467-020-17236-y), there with dampening 0.3 / threshold, width = threshold.
    "triangle": "dampening * np.maximum(0.0, 1.0 - np.abs((x - threshold) / width))",
    "boxcar": "dampening * (np.abs((x - threshold) / width) < 0.5).astype(x.dtype)",
    "gaussian": "dampening * np.exp(-0.5 * np.square((x - threshold) / width))",
    # Zenke & Ganguli 2018 (SuperSpike, doi 10.1162/neco_a_01086).
    "fast_sigmoid": "dampening / np.square(1.0 + np.abs((x - threshold) / width))",
}

add(
    Op(
        "spike",
        value=Formula("(x > threshold).astype(x.dtype)"),
        ports=(Port("in", Formula(_SURROGATES, "x, y", by="surrogate")),),
        options={
            "threshold": Option(1.0),
            "surrogate": Option("triangle", choices=tuple(_SURROGATES)),
            "dampening": Option(0.3, positive=True),
            "width": Option(1.0, positive=True),
        },
        smooth=False,
        shape="hexagon",
    )
)

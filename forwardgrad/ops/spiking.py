"""How does a spike pass credit? A step function with a declared (surrogate) derivative."""

from __future__ import annotations

from forwardgrad.ops.formula import Formula
from forwardgrad.ops.op import Op, Option, Port
from forwardgrad.ops.registry import add

# Each is `dampening` high where x is at the threshold.
_SURROGATES = {
    # Bellec et al. 2020 (doi 10.1038/s41467-020-17236-y), there with dampening 0.3 / threshold, width = threshold.
    "triangle": "dampening * np.maximum(0.0, 1.0 - np.abs((x - threshold) / width))",
    # Wu et al. 2018 (STBP, doi 10.3389/fnins.2018.00331), h1, there with dampening = 1 / width.
    "boxcar": "dampening * (np.abs((x - threshold) / width) < 0.5).astype(x.dtype)",
    # Wu et al. 2018, h4, there with dampening = 1 / (sqrt(2 pi) width).
    "gaussian": "dampening * np.exp(-0.5 * np.square((x - threshold) / width))",
    # Zenke & Ganguli 2018 (SuperSpike, doi 10.1162/neco_a_01086), there with width = 1 / beta.
    "fast_sigmoid": "dampening / np.square(1.0 + np.abs((x - threshold) / width))",
    # Fang et al. 2021 (arXiv 2007.05785), there with dampening 1, width 1/2; 1.57... is pi / 2.
    "arctan": "dampening / (1.0 + np.square(1.5707963267948966 * (x - threshold) / width))",
    # Zenke & Vogels 2021 (doi 10.1162/neco_a_01367), the derivative of a sigmoid of (x - threshold) / width, times 4.
    "sigmoid": "dampening * (1.0 - np.square(np.tanh(0.5 * (x - threshold) / width)))",
}

add(
    Op(
        "spike",
        value=Formula("(x > threshold).astype(x.dtype)"),
        ports=(Port("in", Formula(_SURROGATES, "x, y", by="surrogate"), vanishes=True),),
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

"""How much noise has an estimate without bias? As much as its published scales leave: both rules written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from checks import compiled
from nets import problem, vanilla

from forwardgrad.array_program.expressions import Number
from forwardgrad.array_program.lowering.lossy import product, rank_one
from forwardgrad.layouts import kronecker, uoro
from forwardgrad.ops import Array, losses
from forwardgrad.testing import Problem
from mutations.comparison import Disagreement

RULES = ("uoro", "kf-rtrl")
DRAWS = 60
WIDER = 1.3
"""By how much the spread over these draws may be larger than that by hand."""


def unscaled(patch: pytest.MonkeyPatch) -> None:
    """The two factors of an estimate are not scaled such that its variance is least; its mean stays right."""
    for layout in (uoro, kronecker):
        patch.setattr(layout, "ratio", lambda over, under: np.ones_like(over))
    for lowered in (rank_one, product):
        patch.setattr(
            lowered,
            "ratio",
            lambda builder, over, under, name: builder.elementwise(Number(1), name=name, dims=over.dims),
        )


def given() -> Problem:
    """A tanh layer whose credit fades, so that the two factors are far apart where they are not scaled."""
    drawn = problem(vanilla(), "y", steps=10, batch=2, gain=1.5)
    drawn.params["h->h"] *= 0.5
    return drawn


def by_hand(rule: str, of: Problem, signs: Array) -> Array:
    """Estimates of the gradient of `h->h`, blocks of one step, as the papers print them: `(draw, *shape)`.

    UORO: Tallec & Ollivier 2017 (arXiv 1702.05043), algorithm 1. KF-RTRL: Mujika et al. 2018 (arXiv 1805.10842).

    Args:
        rule: `uoro` or `kf-rtrl`.
        of: a problem on `vanilla`.
        signs: `(draw, time, batch, count)`, of which `uoro` takes one a unit and `kf-rtrl` two.
    """
    p, draws, units = of.params, len(signs), len(of.params["h.bias"])
    h = np.zeros((of.batch, units))
    rows, columns = (units, 0) if rule == "uoro" else (units, units)
    a = np.zeros((draws, of.batch, rows, *([columns] if columns else [])))  # on the layer
    b = np.zeros((draws, of.batch, units, *([] if columns else [units])))  # on the parameter
    total = np.zeros((draws, units, units))
    for t in range(of.steps):
        before, h = h, np.tanh(of.inputs["x"][t] @ p["x->h"].T + h @ p["h->h"].T + p["h.bias"])
        slope, sign = 1 - h * h, signs[:, t]
        jacobian = slope[:, :, None] * p["h->h"]
        y = h @ p["h->y"].T
        back = losses.get("mse").gradient(y, of.targets["y"][t]) @ p["h->y"] / of.batch
        if rule == "uoro":
            a, s = np.einsum("nij,dnj->dni", jacobian, a), sign[..., :units]
            injected = (s * slope)[..., None] * before[:, None]
            carried, entering = _scale(b, a), _scale(injected, s)
            a, b = _by(carried, a) + _by(entering, s), _over(b, carried) + _over(injected, entering)
            total += np.einsum("dni,dnjk,ni->djk", a, b, back)
        else:
            terms = [
                (sign[..., 0], b, np.einsum("nij,dnjk->dnik", jacobian, a)),
                (sign[..., 1], before + 0 * b, slope[:, :, None] * np.eye(units) + 0 * a),
            ]
            scales = [_scale(m, x) for _, x, m in terms]
            b = sum(_by(s * scale, x) for (s, x, _), scale in zip(terms, scales, strict=True))
            a = sum(_by(s, _over(m, scale)) for (s, _, m), scale in zip(terms, scales, strict=True))
            total += np.einsum("dnik,dnj,ni->dkj", a, b, back)
    return total


def _scale(over: Array, under: Array) -> Array:
    """The root of the ratio of two norms, `(draw, batch)`; 0 where one is zero: such a term is left out."""
    one, two = (np.sqrt(np.square(x).reshape(*x.shape[:2], -1).sum(axis=2)) for x in (over, under))
    good = (one > 0) & (two > 0)
    return np.where(good, np.sqrt(one / np.where(good, two, 1)), 0)


def _by(scale: Array, array: Array) -> Array:
    return scale.reshape(*scale.shape, *(1,) * (array.ndim - 2)) * array


def _over(array: Array, scale: Array) -> Array:
    return _by(np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 0), array)


def spread(estimates_: Array) -> float:
    """The root mean square distance of estimates from their mean."""
    return float(np.sqrt(np.square(estimates_ - estimates_.mean(axis=0)).sum(axis=(1, 2)).mean()))


@cache
def wanted(rule: str) -> float:
    """The spread by hand, over ten times as many draws of other signs."""
    of = given()
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (10 * DRAWS, of.steps, of.batch, 3))
    return spread(by_hand(rule, of, signs))


def wide(backend: str) -> Iterator[Disagreement]:
    """The rules whose estimates have more noise than they should."""
    of = given()
    for rule in RULES:
        program = compiled(of, {"h->h": rule, "*": "rtrl"}, backend=backend)
        call = (of.params, of.inputs, of.targets)
        found = [program.gradient(*call, block=1, draw=draw).grads["h->h"] for draw in range(DRAWS)]
        times = spread(np.array(found)) / wanted(rule)
        if not times <= WIDER:
            yield Disagreement(f"{rule}, block 1, {DRAWS} draws", f"{times:.1f} times the spread")

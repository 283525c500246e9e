"""What a network does in a run: activity of its units, predictions beside targets, and a score, packed for a page."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from forwardgrad.ops import Array
from forwardgrad.program import Program
from forwardgrad.render.scene import loops

COLUMNS = 600
"""Steps that a map of activity shows at the most."""

UNITS = 64
"""Units of a node that it shows at the most."""

ENTRIES = 900_000
"""Numbers in all maps together, a byte each."""

FEATURES = 3
"""Features of an output whose predictions are shown."""

Pack = Callable[[Array], dict[str, Any]]


def activity(program: Program, values: Mapping[str, Array], steps: Array) -> dict[str, Any]:
    """The activity of the first sample, as maps of units over time.

    Args:
        program: a compiled program.
        values: of each node, `(time, batch, size)`.
        steps: those that the page shows.

    Returns:
        Plain data: the steps of the columns; and per node its index, how many units it has and how many are shown,
        whether they spike, the least and the largest value, a byte per unit and step, unit by unit; and whether it is
        an input, an output or holds a state, which is what is looked at first.
    """
    columns = steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), COLUMNS)).round().astype(int))]
    units = max(1, min(UNITS, ENTRIES // (len(columns) * len(program.network.nodes))))
    maps, states = list[dict[str, Any]](), loops(program.network)[1]
    for index, (name, node) in enumerate(program.network.nodes.items()):
        first = np.asarray(values[name], np.float64)[:, 0]
        chief = node.op.given or name in program.losses or name in states
        maps.append({**_map(index, first, columns, units, not node.op.smooth), "chief": chief})
    return {"steps": columns.tolist(), "nodes": maps}


def _map(index: int, values: Array, columns: Array, units: int, rough: bool) -> dict[str, Any]:
    shown = values[:, :units]
    spikes = rough and bool(np.isin(shown, (0.0, 1.0)).all())
    if spikes:  # a spike between two columns is not lost: it is shown in the later one
        starts = np.concatenate([[0], columns[:-1] + 1])
        picked = np.maximum.reduceat(shown[: columns[-1] + 1], starts, axis=0)
    else:
        picked = shown[columns]
    finite = picked[np.isfinite(picked)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    scale = (high - low) or 1.0
    levels = np.nan_to_num((picked - low) / scale, nan=0.0, posinf=1.0, neginf=0.0)
    packed = np.round(255 * levels).astype(np.uint8).T
    return {
        "node": index,
        "units": values.shape[1],
        "shown": packed.shape[0],
        "spikes": spikes,
        "low": low,
        "high": high,
        "bytes": base64.b64encode(np.ascontiguousarray(packed).tobytes()).decode(),
    }


def predictions(
    program: Program, values: Mapping[str, Array], targets: Mapping[str, Any], mask: Any, pack: Pack
) -> list[dict[str, Any]]:
    """Predictions of the first sample beside their targets, and a score of all samples, per output.

    Args:
        program: a compiled program.
        values: of each node, `(time, batch, size)`.
        targets, mask: as for `Program.gradient`.
        pack: numbers over time as plain data.
    """
    names, found = list(program.network.nodes), list[dict[str, Any]]()
    for name, loss in program.losses.items():
        value, target = np.asarray(values[name], np.float64), np.asarray(targets[name], np.float64)
        weight = _weights(mask, name, value.shape[:2])
        if loss.labels:
            said, wanted = value.argmax(axis=2)[..., None].astype(np.float64), target[..., None]
            unit, score = "class", _share(said == wanted, weight)
        elif loss.name == "bernoulli":
            with np.errstate(over="ignore"):
                said, wanted = 1 / (1 + np.exp(-value)), target
            unit, score = "probability", _share((said > 0.5) == (wanted > 0.5), weight)
        else:
            said, wanted = value, target
            unit, score = "value", _nmse(said, wanted, weight)
        features = [
            {
                "prediction": pack(said[:, 0, k]),
                "target": pack(np.where(weight[:, 0] > 0, wanted[:, 0, k], np.nan)),
            }
            for k in range(min(FEATURES, said.shape[2]))
            if wanted.shape == said.shape
        ]
        about = {"unit": unit, "loss": loss.name, "score": score, "features": features, "size": said.shape[2]}
        found.append({"node": names.index(name), **about})
    return found


def _weights(mask: Any, name: str, shape: tuple[int, ...]) -> Array:
    """The weight of every step and sample."""
    given: Any = cast("Mapping[str, Any]", mask).get(name) if isinstance(mask, Mapping) else mask
    if given is None:
        return np.ones(shape)
    weight = np.asarray(given, np.float64)
    return np.broadcast_to(weight[:, None] if weight.ndim == 1 else weight, shape)


def _share(right: Array, weight: Array) -> str:
    """How often it is right, over the steps that count."""
    counted = np.broadcast_to((weight > 0)[..., None], right.shape)
    if not counted.any():
        return "accuracy: no step counts"
    return f"accuracy {100 * float(right[counted].mean()):.1f} % of {int(counted.sum()):,}"


def _nmse(said: Array, wanted: Array, weight: Array) -> str:
    """Squared error by the variance of the targets, over the steps that count."""
    counted = weight > 0
    if said.shape != wanted.shape or not counted.any():
        return "no score"
    with np.errstate(over="ignore", invalid="ignore"):
        error = float(np.square(said[counted] - wanted[counted]).mean())
        spread = float(np.var(wanted[counted]))
    return f"NMSE {error / spread:.4g}" if spread > 0 else f"MSE {error:.4g}"

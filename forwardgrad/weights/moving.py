"""`slice`, `take`, `place`: units that come to other places as they are. Credit is moved by them, and not mixed."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import GraphError
from forwardgrad.support.attributes import MOST, sizes, whole
from forwardgrad.weights.forms import FORMS, Ends, Pattern
from forwardgrad.weights.kind import Kind


def _one(attributes: Mapping[str, Any], ends: Ends) -> float:
    return 1.0


def _selected(place: str, indices: NDArray[np.intp], ends: Ends) -> Pattern:
    """Unit i of the target is that of the source which is named by index i."""
    target, source = ends.sizes
    if len(indices) != target:
        raise GraphError(f"{place}: {len(indices)} units are read, and the target has {target}.")
    return Pattern(np.arange(target), indices, (target, source))


def _slice(attributes: Mapping[str, Any], source: int) -> NDArray[np.intp]:
    given = (attributes.get(name) for name in ("start", "stop", "step"))
    return np.arange(source)[slice(*(None if each is None else int(each) for each in given))]


def _sliced(place: str, attributes: Mapping[str, Any], source: tuple[int, ...]) -> tuple[int, ...]:
    count = len(_slice(attributes, int(np.prod(source))))
    if not count:
        raise GraphError(f"{place}: the slice is empty; the source has {int(np.prod(source))} units.")
    return (count,)


def _slice_pattern(place: str, attributes: Mapping[str, Any], ends: Ends) -> Pattern:
    _sliced(place, attributes, ends.source)
    return _selected(place, _slice(attributes, ends.sizes[1]), ends)


def _slice_example(random: np.random.Generator, ends: Ends) -> dict[str, Any] | None:
    target, source = ends.sizes
    if target > source:
        return None
    step = int(random.integers(1, (source - 1) // (target - 1) + 1)) if target > 1 else 1
    start = int(random.integers(source - (target - 1) * step))
    return {"start": start, "stop": start + (target - 1) * step + 1, "step": step}


def _needs_indices(place: str, given: Set[str]) -> None:
    if "indices" not in given:
        raise GraphError(f"{place}: weight 'take' needs to know which units.", "Give 'indices', such as [2, 0, 0].")


def _taken(place: str, attributes: Mapping[str, Any], source: tuple[int, ...]) -> tuple[int, ...]:
    return (len(np.atleast_1d(np.asarray(attributes["indices"]))),)


def _take_pattern(place: str, attributes: Mapping[str, Any], ends: Ends) -> Pattern:
    indices = np.atleast_1d(np.asarray(attributes["indices"], np.intp))
    if indices.max() >= ends.sizes[1]:
        raise GraphError(
            f"{place}: 'indices' has {int(indices.max())}, and the source has {ends.sizes[1]} units.",
            "Units are counted from 0.",
        )
    return _selected(place, indices, ends)


def _take_example(random: np.random.Generator, ends: Ends) -> dict[str, Any]:
    target, source = ends.sizes
    return {"indices": random.integers(source, size=target).tolist()}


def _one_place(place: str, given: Set[str]) -> None:
    if {"at", "part"} <= given:
        raise GraphError(f"{place}: 'part' says where units are placed, and so does 'at'.", "Give one of the two.")


def _place_pattern(place: str, attributes: Mapping[str, Any], ends: Ends) -> Pattern:
    (target, source), at = ends.sizes, int(attributes.get("at") or 0)
    if at + source > target:
        raise GraphError(f"{place}: units {at} to {at + source - 1} are filled, and the target has {target}.")
    return Pattern(at + np.arange(source), np.arange(source), (target, source))


def _place_example(random: np.random.Generator, ends: Ends) -> dict[str, Any] | None:
    target, source = ends.sizes
    return {"at": int(random.integers(target - source + 1))} if target >= source else None


SLICE = Kind(
    "slice",
    FORMS["sparse"],
    attributes={"start": whole(-MOST), "stop": whole(-MOST), "step": whole(1)},
    reshaped=_sliced,
    pattern=_slice_pattern,
    value=_one,
    moves=True,
    example=_slice_example,
)
TAKE = Kind(
    "take",
    FORMS["sparse"],
    attributes={"indices": sizes(0)},
    check=_needs_indices,
    reshaped=_taken,
    pattern=_take_pattern,
    value=_one,
    moves=True,
    example=_take_example,
)
PLACE = Kind(
    "place",
    FORMS["sparse"],
    attributes={"at": whole(0), "part": whole(0)},
    check=_one_place,
    pattern=_place_pattern,
    value=_one,
    moves=True,
    example=_place_example,
)

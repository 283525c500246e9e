"""Windows that slide over the axes of a node's shape: which unit each entry of a window reads, at each place of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwardgrad.errors import GraphError


@dataclass(frozen=True)
class Windows:
    """Windows over the axes of a shape behind the first, which is that of channels.

    Args:
        kernel: entries of a window, along each axis.
        stride: units from one place of it to the next.
        padding: units without a value that are put before and after each axis.
        dilation: units from one entry of it to the next.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @classmethod
    def read(cls, place: str, attributes: Mapping[str, Any], axes: int) -> Windows:
        """Those of an edge's attributes, each a number for all axes or a list of one for each.

        Raises:
            GraphError: if a list is not as long as there are axes.
        """
        found: list[tuple[int, ...]] = []
        for name, default in (("kernel", None), ("stride", 1), ("padding", 0), ("dilation", 1)):
            given = attributes.get(name)
            each = np.atleast_1d(np.asarray(default if given is None else given))
            if len(each) not in (1, axes):
                raise GraphError(f"{place}: {name!r} has {len(each)} numbers, and the source has {axes} axes.")
            found.append(tuple(int(number) for number in np.broadcast_to(each, (axes,))))
        return cls(*found)

    def places(self, place: str, space: tuple[int, ...]) -> tuple[int, ...]:
        """At how many places a window stands, along each axis of a space.

        Raises:
            GraphError: if it does not fit in.

        >>> Windows((3,), (2,), (1,), (1,)).places("edge", (7,))
        (4,)
        """
        found: list[int] = []
        for axis, size in enumerate(space):
            room = size + 2 * self.padding[axis] - self.dilation[axis] * (self.kernel[axis] - 1) - 1
            if room < 0:
                raise GraphError(
                    f"{place}: a kernel of {self.kernel} does not fit into {space}, with padding {self.padding} and "
                    f"dilation {self.dilation}.",
                    "Make it smaller, or give more 'padding'.",
                )
            found.append(room // self.stride[axis] + 1)
        return tuple(found)

    def table(self, place: str, space: tuple[int, ...]) -> NDArray[np.intp]:
        """Which unit of a space, flat, each entry of a window reads at each place: `(places, entries)`; -1 for padding.

        >>> Windows((3,), (2,), (1,), (1,)).table("edge", (4,))
        array([[-1,  0,  1],
               [ 1,  2,  3]])
        """
        table, inside = np.zeros((1, 1), np.intp), np.ones((1, 1), np.bool_)
        for axis, count in enumerate(self.places(place, space)):
            first = np.arange(count) * self.stride[axis] - self.padding[axis]
            units = first[:, None] + np.arange(self.kernel[axis]) * self.dilation[axis]
            here = (units >= 0) & (units < space[axis])
            shape = (len(table) * count, table.shape[1] * self.kernel[axis])
            table = (table[:, None, :, None] * space[axis] + units[:, None]).reshape(shape)
            inside = (inside[:, None, :, None] & here[:, None]).reshape(shape)
        return np.where(inside, table, -1)

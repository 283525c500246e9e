"""Which op multiplies its ports? `mul`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from forwardgrad.ops.formula import Printable
from forwardgrad.ops.op import Array, Op, Port
from forwardgrad.ops.registry import add


@dataclass(frozen=True)
class _Product(Printable):
    """The product of the ports, but for the one at a place, whose derivative it then is; the value is not read."""

    without: int | None = None

    def __call__(self, *ports_and_value: Array) -> Array:
        return reduce(np.multiply, self._factors(ports_and_value))

    def _factors(self, given: Sequence[Any]) -> list[Any]:
        if self.without is None:
            return list(given)
        return [factor for index, factor in enumerate(given[:-1]) if index != self.without]

    def printed(
        self,
        arguments: Sequence[str | None],
        options: Mapping[str, Any],
        written: Callable[[str, Any], str] = lambda _, value: repr(value),
    ) -> str:
        factors = self._factors(arguments)
        if None in factors:
            raise LookupError("a product reads a port that is not there.")
        return " * ".join(f"({factor})" if " " in factor else factor for factor in factors)

    def reads(self, count: int, options: Mapping[str, Any]) -> frozenset[int]:
        return frozenset(self._factors(range(count)))

    def keeps(self, options: Mapping[str, Any]) -> bool:
        return True


def _factor(index: int) -> Port:
    """The port at one place of a product: its derivative is the product of the others."""
    return Port("", _Product(index))


add(Op("mul", value=_Product(), each_port=_factor, least_ports=2, product=True, shape="octagon"))

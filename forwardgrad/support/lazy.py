"""Packages whose names are imported when they are first asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def lazily(package: str, homes: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and the `__dir__` of a package that imports none of its names itself (PEP 562).

    Args:
        package: its name.
        homes: the modules below it, each with the names that the package takes from it. Modules below it that are not
            listed are attributes of the package, too.

    >>> getattr, dir = lazily("forwardgrad.graph", {"files": ["dumps"]})
    >>> getattr("dumps").__module__, "dumps" in dir()
    ('forwardgrad.graph.files', True)
    """
    home = {name: f"{package}.{module}" for module, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name in home:
            value = getattr(import_module(home[name]), name)
            setattr(sys.modules[package], name, value)
            return value
        if not name.startswith("_") and find_spec(f"{package}.{name}") is not None:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find, lambda: sorted({*vars(sys.modules[package]), *home})

"""Locks after a fork: no thread of a child would release what another thread had locked, so a child gets new locks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cached_property
from threading import RLock


def in_child(renew: Callable[[], None]) -> None:
    """Have a function called in every child that is forked, before anything else runs there."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)


def _renew_cached_properties() -> None:
    """Python 3.11 locks a cached property while it is computed, those of networkx that compiling reads among them."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("forwardgrad", "networkx.classes")):
            for owner in [found for found in vars(module).values() if isinstance(found, type)]:
                for found in vars(owner).values():
                    if isinstance(found, cached_property):
                        found.lock = RLock()  # pyright: ignore[reportAttributeAccessIssue]


if sys.version_info < (3, 12):
    in_child(_renew_cached_properties)

"""What Hypothesis learns from forwardgrad: how `st.from_type` draws a problem and a rule.

Hypothesis calls `register` whenever it is imported, also for tests that have nothing to do with forwardgrad. So nothing
is imported here before it is needed: a class is registered when its module has been imported by somebody else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

DRAWN = {
    "forwardgrad.rules.paths": ("PathRule", "path_rules"),
    "forwardgrad.rules.rule": ("Rule", "path_rules"),
    "forwardgrad.testing.problem": ("Problem", "problems"),
}
"""By module: the class, and the function of `forwardgrad.testing.strategies` that draws it."""


def register() -> None:
    """Called by Hypothesis, by the entry point of that group, when it is imported first.

    >>> from hypothesis import Phase, find, settings, strategies as st
    >>> once = settings(phases=[Phase.generate])  # what is drawn first, without looking for less
    >>> import forwardgrad as fg
    >>> from forwardgrad.testing import Problem
    >>> register()
    >>> find(st.from_type(Problem), lambda problem: True, settings=once).batch
    1
    >>> str(find(st.from_type(fg.PathRule), lambda rule: True, settings=once))
    'all'
    """
    waiting = DRAWN.keys() - sys.modules.keys()
    for name in DRAWN.keys() - waiting:
        _register(sys.modules[name])
    if waiting and not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


def _register(module: ModuleType) -> None:
    """Tell Hypothesis how the class of this module is drawn."""
    from hypothesis import strategies as st

    name, function = DRAWN[module.__name__]
    drawn = getattr(module, name)

    def strategy(_: Any) -> Any:
        from forwardgrad.testing import strategies

        made = getattr(strategies, function)()
        return made.map(drawn) if name == "Rule" else made

    st.register_type_strategy(drawn, strategy)


class _Waiting(MetaPathFinder):
    """Finds the modules of `DRAWN` as Python would, and registers their classes once they have been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in DRAWN:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _register(module)

        spec.loader.exec_module = exec_module
        return spec

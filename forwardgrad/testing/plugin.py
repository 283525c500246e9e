"""What does Hypothesis learn from forwardgrad? How `st.from_type` draws a problem and a rule. All imports are late."""

from __future__ import annotations

from typing import Any


def register() -> None:
    """Called by Hypothesis, by the entry point of that group, when it is imported first.

    >>> from hypothesis import find, strategies as st
    >>> import forwardgrad as fg
    >>> from forwardgrad.testing import Problem
    >>> register()
    >>> find(st.from_type(Problem), lambda problem: True).batch
    1
    >>> str(find(st.from_type(fg.PathRule), lambda rule: True))
    'all'
    """
    from hypothesis import strategies as st

    from forwardgrad.paths import PathRule
    from forwardgrad.rule import Rule
    from forwardgrad.testing.problem import Problem

    def drawn(name: str, *made: Any) -> Any:
        def strategy(_: Any) -> Any:
            from forwardgrad.testing import strategies

            found = getattr(strategies, name)()
            return found.map(made[0]) if made else found

        return strategy

    st.register_type_strategy(Problem, drawn("problems"))
    st.register_type_strategy(PathRule, drawn("path_rules"))
    st.register_type_strategy(Rule, drawn("path_rules", Rule))

"""What asserts that a rule, a program or an op does what it says? Plain functions, and Hypothesis strategies.

`forwardgrad.testing.strategies` needs the extra `testing`; everything here needs nothing.
"""

from importlib import import_module
from typing import Any

from forwardgrad.errors import CheckError, VacuousError
from forwardgrad.testing.bias import Bias, assert_unbiased
from forwardgrad.testing.comparing import Difference
from forwardgrad.testing.containment import Path, assert_contained
from forwardgrad.testing.gradients import assert_block_invariant, assert_exact, assert_rule_matches_paths
from forwardgrad.testing.opchecks import assert_op
from forwardgrad.testing.problem import Origin, Problem
from forwardgrad.testing.refactoring import assert_refactoring_invariant, refactored
from forwardgrad.testing.report import GradientReport, gradient_report
from forwardgrad.testing.vacuity import Vacuity

__all__ = [
    "Bias",
    "CheckError",
    "Difference",
    "GradientReport",
    "Origin",
    "Path",
    "Problem",
    "Vacuity",
    "VacuousError",
    "assert_block_invariant",
    "assert_contained",
    "assert_exact",
    "assert_op",
    "assert_refactoring_invariant",
    "assert_rule_matches_paths",
    "assert_unbiased",
    "gradient_report",
    "refactored",
]


def __getattr__(name: str) -> Any:
    """`testing.strategies`, imported when it is asked for first, since it needs Hypothesis."""
    if name == "strategies":
        return import_module("forwardgrad.testing.strategies")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

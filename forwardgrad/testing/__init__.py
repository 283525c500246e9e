"""What asserts that a rule, a program or an op does what it says? Plain functions, and Hypothesis strategies.

`forwardgrad.testing.strategies` needs the extra `testing`; everything here needs nothing.
"""

from typing import TYPE_CHECKING

from forwardgrad.errors import CheckError, VacuousError

if TYPE_CHECKING:
    from forwardgrad.testing.bias import Bias, assert_unbiased
    from forwardgrad.testing.comparing import Difference
    from forwardgrad.testing.containment import Path, assert_contained
    from forwardgrad.testing.gradients import assert_block_invariant, assert_exact, assert_rule_matches_paths
    from forwardgrad.testing.opchecks import assert_op
    from forwardgrad.testing.problem import Origin, Problem
    from forwardgrad.testing.refactoring import assert_refactoring_invariant, refactored
    from forwardgrad.testing.report import GradientReport, gradient_report
    from forwardgrad.testing.vacuity import Vacuity
else:
    from forwardgrad.support.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "bias": ["Bias", "assert_unbiased"],
            "comparing": ["Difference"],
            "containment": ["Path", "assert_contained"],
            "gradients": ["assert_block_invariant", "assert_exact", "assert_rule_matches_paths"],
            "opchecks": ["assert_op"],
            "problem": ["Origin", "Problem"],
            "refactoring": ["assert_refactoring_invariant", "refactored"],
            "report": ["GradientReport", "gradient_report"],
            "vacuity": ["Vacuity"],
        },
    )

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

"""The compiler: labels, product, pruning, layouts, schedule. One question a file; `plan` runs them in order."""

from forwardgrad.compiler.decisions import Decision, Kind
from forwardgrad.compiler.merging import merged_layers
from forwardgrad.compiler.plan import Plan, make_plan

__all__ = ["Decision", "Kind", "Plan", "make_plan", "merged_layers"]

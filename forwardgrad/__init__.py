"""forwardgrad: compile a declared recurrent graph into an online learning algorithm."""

from forwardgrad.compiling import compile
from forwardgrad.errors import (
    DataError,
    DeadParameterWarning,
    FileError,
    ForwardgradError,
    GraphError,
    MissingExtraError,
    OpError,
    RenderError,
    RuleError,
)
from forwardgrad.losses import Loss
from forwardgrad.paths import EdgeView, NodeView, PathRule
from forwardgrad.program import Program
from forwardgrad.rules import Rule

__all__ = [
    "DataError",
    "DeadParameterWarning",
    "EdgeView",
    "FileError",
    "ForwardgradError",
    "GraphError",
    "Loss",
    "MissingExtraError",
    "NodeView",
    "OpError",
    "PathRule",
    "Program",
    "RenderError",
    "Rule",
    "RuleError",
    "compile",
]

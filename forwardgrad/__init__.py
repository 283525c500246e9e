"""forwardgrad: compile a declared recurrent graph into an online learning algorithm."""

from forwardgrad import oracle, render, testing
from forwardgrad.audit import audit
from forwardgrad.compiling import compile
from forwardgrad.errors import (
    CheckError,
    DataError,
    DeadParameterWarning,
    FileError,
    ForwardgradError,
    GraphError,
    MemoryBudgetError,
    MissingExtraError,
    NonFiniteError,
    NonFiniteWarning,
    OpError,
    RenderError,
    RuleError,
    VacuousError,
)
from forwardgrad.extend import register_loss, register_op
from forwardgrad.graph.files import load, save
from forwardgrad.learner import Learner
from forwardgrad.losses import Loss
from forwardgrad.optimizers import SGD, Adam
from forwardgrad.paths import EdgeView, NodeView, PathRule, determinised
from forwardgrad.program import Program
from forwardgrad.rules import Rule

__all__ = [
    "SGD",
    "Adam",
    "CheckError",
    "DataError",
    "DeadParameterWarning",
    "EdgeView",
    "FileError",
    "ForwardgradError",
    "GraphError",
    "Learner",
    "Loss",
    "MemoryBudgetError",
    "MissingExtraError",
    "NodeView",
    "NonFiniteError",
    "NonFiniteWarning",
    "OpError",
    "PathRule",
    "Program",
    "RenderError",
    "Rule",
    "RuleError",
    "VacuousError",
    "audit",
    "compile",
    "determinised",
    "load",
    "oracle",
    "register_loss",
    "register_op",
    "render",
    "save",
    "testing",
]

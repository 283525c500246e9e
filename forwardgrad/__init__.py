"""forwardgrad: compile a declared recurrent graph into an online learning algorithm."""

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from forwardgrad import oracle, render, testing
    from forwardgrad.compiling import compile
    from forwardgrad.extend import register_layout, register_loss, register_op
    from forwardgrad.graph.files import load, save
    from forwardgrad.learner import Learner
    from forwardgrad.losses import Loss
    from forwardgrad.optimizers import SGD, Adam
    from forwardgrad.paths import EdgeView, NodeView, PathRule
    from forwardgrad.program import Program
    from forwardgrad.rules import Rule
    from forwardgrad.subsets import determinised
    from forwardgrad.testing.auditing import audit
else:  # a script that needs two names does not wait for the rest
    from forwardgrad.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "compiling": ["compile"],
            "extend": ["register_layout", "register_loss", "register_op"],
            "graph.files": ["load", "save"],
            "learner": ["Learner"],
            "losses": ["Loss"],
            "optimizers": ["SGD", "Adam"],
            "paths": ["EdgeView", "NodeView", "PathRule"],
            "program": ["Program"],
            "rules": ["Rule"],
            "subsets": ["determinised"],
            "testing.auditing": ["audit"],
        },
    )

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
    "register_layout",
    "register_loss",
    "register_op",
    "render",
    "save",
    "testing",
]

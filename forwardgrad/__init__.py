"""forwardgrad: compile a declared recurrent graph into an online learning algorithm."""

from typing import TYPE_CHECKING

from forwardgrad.errors import (
    CheckError,
    CompilerError,
    DataError,
    DeadParameterWarning,
    FileError,
    ForwardgradError,
    GraphError,
    MemoryBudgetError,
    MergedLayersWarning,
    MissingExtraError,
    NonFiniteError,
    NonFiniteWarning,
    OpError,
    ProcessError,
    RenderError,
    RuleError,
    VacuousError,
)

__version__ = "0.1.0"

if TYPE_CHECKING:
    from forwardgrad import oracle, render, testing
    from forwardgrad.bridges.nir import from_nir, to_nir
    from forwardgrad.compiling import compile
    from forwardgrad.extend import register_layout, register_loss, register_op
    from forwardgrad.graph.files import load, save
    from forwardgrad.learning.learner import Learner
    from forwardgrad.learning.optimizers import SGD, Adam
    from forwardgrad.ops.losses import Loss
    from forwardgrad.program import Program, Stream
    from forwardgrad.rules.paths import EdgeView, NodeView, PathRule
    from forwardgrad.rules.subsets import determinised
    from forwardgrad.rules.table import Rule
    from forwardgrad.testing.auditing import audit
else:  # a script that needs two names does not wait for the rest
    from forwardgrad.support.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "bridges.nir": ["from_nir", "to_nir"],
            "compiling": ["compile"],
            "extend": ["register_layout", "register_loss", "register_op"],
            "graph.files": ["load", "save"],
            "learning.learner": ["Learner"],
            "learning.optimizers": ["SGD", "Adam"],
            "ops.losses": ["Loss"],
            "program": ["Program", "Stream"],
            "rules.paths": ["EdgeView", "NodeView", "PathRule"],
            "rules.subsets": ["determinised"],
            "rules.table": ["Rule"],
            "testing.auditing": ["audit"],
        },
    )

__all__ = [
    "SGD",
    "Adam",
    "CheckError",
    "CompilerError",
    "DataError",
    "DeadParameterWarning",
    "EdgeView",
    "FileError",
    "ForwardgradError",
    "GraphError",
    "Learner",
    "Loss",
    "MemoryBudgetError",
    "MergedLayersWarning",
    "MissingExtraError",
    "NodeView",
    "NonFiniteError",
    "NonFiniteWarning",
    "OpError",
    "PathRule",
    "ProcessError",
    "Program",
    "RenderError",
    "Rule",
    "RuleError",
    "Stream",
    "VacuousError",
    "audit",
    "compile",
    "determinised",
    "from_nir",
    "load",
    "oracle",
    "register_layout",
    "register_loss",
    "register_op",
    "render",
    "save",
    "testing",
    "to_nir",
]

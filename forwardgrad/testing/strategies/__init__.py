"""Which graphs, problems, rules, blocks and streams does Hypothesis draw for property tests of forwardgrad?"""

from forwardgrad.errors import MissingExtraError

try:
    import hypothesis as _  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        'forwardgrad.testing.strategies needs Hypothesis: pip install "forwardgrad[testing]"'
    ) from error

from forwardgrad.testing.strategies.automata import (
    PATHS,
    RandomAutomaton,
    automata,
    path_rules,
    points,
    rule_mappings,
    rule_texts,
)
from forwardgrad.testing.strategies.blocks import partitions
from forwardgrad.testing.strategies.brought import brought_losses, brought_ops
from forwardgrad.testing.strategies.graphs import SEEDS, graphs
from forwardgrad.testing.strategies.problems import problems
from forwardgrad.testing.strategies.streams import PieceStream, StreamBroke, streams

__all__ = [
    "PATHS",
    "SEEDS",
    "PieceStream",
    "RandomAutomaton",
    "StreamBroke",
    "automata",
    "brought_losses",
    "brought_ops",
    "graphs",
    "partitions",
    "path_rules",
    "points",
    "problems",
    "rule_mappings",
    "rule_texts",
    "streams",
]

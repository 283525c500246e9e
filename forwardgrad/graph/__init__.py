"""The declared graph: its schema, its validation, its files."""

from forwardgrad.graph.network import Edge, Network, Node, Parameter, Pattern
from forwardgrad.graph.parameters import draw
from forwardgrad.graph.validate import validate

__all__ = ["Edge", "Network", "Node", "Parameter", "Pattern", "draw", "validate"]

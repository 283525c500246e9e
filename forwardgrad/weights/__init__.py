"""Weight kinds: what an edge of a declared graph may name as its `weight`, one file a kind."""

from forwardgrad.weights.forms import FORMS, Ends, Form, Pattern
from forwardgrad.weights.kind import Kind
from forwardgrad.weights.kinds import ATTRIBUTES, KINDS, read_off

__all__ = ["ATTRIBUTES", "FORMS", "KINDS", "Ends", "Form", "Kind", "Pattern", "read_off"]

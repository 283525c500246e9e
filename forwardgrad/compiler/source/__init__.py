"""How does a derived algorithm read as NumPy? Straight-line functions in the user's names, generated from a plan."""

from forwardgrad.compiler.source.module import Jacobian, Source, generate
from forwardgrad.compiler.source.standalone import standalone

__all__ = ["Jacobian", "Source", "generate", "standalone"]

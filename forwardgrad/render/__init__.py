"""Pictures: DOT text made by us, laid out by whichever Graphviz is at hand."""

from forwardgrad.render.declared import graph
from forwardgrad.render.engines import available, render, write

__all__ = ["available", "graph", "render", "write"]

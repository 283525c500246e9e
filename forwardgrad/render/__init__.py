"""Pictures: DOT text made by us, laid out by whichever Graphviz is at hand; and pages that show a run."""

from forwardgrad.render.credit import credit
from forwardgrad.render.declared import graph
from forwardgrad.render.engines import available, render
from forwardgrad.render.flowing import flow
from forwardgrad.render.paging import Training
from forwardgrad.render.picture import Picture, write
from forwardgrad.render.report import Page, report
from forwardgrad.render.unrolled import unrolled

__all__ = [
    "Page",
    "Picture",
    "Training",
    "available",
    "credit",
    "flow",
    "graph",
    "render",
    "report",
    "unrolled",
    "write",
]

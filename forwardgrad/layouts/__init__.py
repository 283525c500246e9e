"""Layouts: how influence is kept between blocks. One file for each."""

from forwardgrad.layouts.kronecker import KRONECKER
from forwardgrad.layouts.layout import Argument, Layout
from forwardgrad.layouts.lossless import LOSSLESS
from forwardgrad.layouts.snap import SNAP
from forwardgrad.layouts.table import add, get, names, registered
from forwardgrad.layouts.uoro import UORO

SHIPPED = tuple(add(layout) for layout in (LOSSLESS, SNAP, UORO, KRONECKER))
"""The layouts that the library comes with."""

__all__ = ["LOSSLESS", "SHIPPED", "SNAP", "Argument", "Layout", "add", "get", "names", "registered"]

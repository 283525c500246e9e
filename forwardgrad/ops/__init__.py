"""Ops: what a node computes, and the derivative that credit uses."""

from forwardgrad.ops import elementwise, products, spiking
from forwardgrad.ops.formula import Formula
from forwardgrad.ops.op import Array, Op, Option, Port
from forwardgrad.ops.registry import add, get, names, registered

__all__ = [
    "Array",
    "Formula",
    "Op",
    "Option",
    "Port",
    "add",
    "elementwise",
    "get",
    "names",
    "products",
    "registered",
    "spiking",
]

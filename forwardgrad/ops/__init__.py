"""Ops: what a node computes, and the derivative that credit uses."""

from forwardgrad.ops import elementwise, normalization, products, spiking
from forwardgrad.ops.formula import VJP, Formula
from forwardgrad.ops.op import Array, Op, Option, Port
from forwardgrad.ops.registry import add, get, names, registered

SHIPPED = {name: get(name) for name in names()}
"""The ops that the library comes with."""

__all__ = [
    "SHIPPED",
    "VJP",
    "Array",
    "Formula",
    "Op",
    "Option",
    "Port",
    "add",
    "elementwise",
    "get",
    "names",
    "normalization",
    "products",
    "registered",
    "spiking",
]

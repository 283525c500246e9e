"""Cells: macros that add common subgraphs in one call, and of which no trace remains.

A cell named `l1` adds nodes `l1.h` and so on, drawn in one cluster, and returns the name of its output node. It adds
everything or, when something is wrong, nothing. The compiler sees nodes and edges only.
"""

from collections.abc import Callable, Mapping

from forwardgrad.cells.gated import gru, lstm
from forwardgrad.cells.integrate_and_fire import alif, lif, readout
from forwardgrad.cells.rate import elman, leaky_tanh

__all__ = ["TABLE", "alif", "elman", "gru", "leaky_tanh", "lif", "lstm", "readout"]

TABLE: Mapping[str, Callable[..., str]] = {
    "elman": elman,
    "leaky_tanh": leaky_tanh,
    "lstm": lstm,
    "gru": gru,
    "lif": lif,
    "alif": alif,
    "readout": readout,
}
"""The cells by name, as `[[cells]]` in a file names them."""

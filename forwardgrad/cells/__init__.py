"""Cells: macros that add common subgraphs in one call, and of which no trace remains.

A cell named `l1` adds nodes `l1.h` and so on, drawn in one cluster, and returns the name of its output node. It adds
everything or, when something is wrong, nothing. The compiler sees nodes and edges only.
"""

from collections.abc import Callable, Mapping

from forwardgrad.cells.delays import delay_line
from forwardgrad.cells.diagonal import indrnn, lru, rtu
from forwardgrad.cells.elementwise import columnar_lstm, elstm
from forwardgrad.cells.gated import gru, lstm, mgu
from forwardgrad.cells.integrate_and_fire import alif, cuba_lif, lif, readout
from forwardgrad.cells.minimal import min_gru, min_lstm
from forwardgrad.cells.rate import elman, leaky_tanh, reservoir

TABLE: Mapping[str, Callable[..., str]] = {
    "elman": elman,
    "leaky_tanh": leaky_tanh,
    "reservoir": reservoir,
    "indrnn": indrnn,
    "lstm": lstm,
    "gru": gru,
    "mgu": mgu,
    "min_gru": min_gru,
    "min_lstm": min_lstm,
    "elstm": elstm,
    "columnar_lstm": columnar_lstm,
    "lru": lru,
    "rtu": rtu,
    "lif": lif,
    "alif": alif,
    "cuba_lif": cuba_lif,
    "delay_line": delay_line,
    "readout": readout,
}
"""The cells by name, as `[[cells]]` in a file names them."""

__all__ = [
    "TABLE",
    "alif",
    "columnar_lstm",
    "cuba_lif",
    "delay_line",
    "elman",
    "elstm",
    "gru",
    "indrnn",
    "leaky_tanh",
    "lif",
    "lru",
    "lstm",
    "mgu",
    "min_gru",
    "min_lstm",
    "readout",
    "reservoir",
    "rtu",
]

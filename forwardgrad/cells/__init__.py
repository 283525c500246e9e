"""Cells: macros that add common subgraphs in one call, and of which no trace remains.

A cell named `l1` adds nodes `l1.h` and so on, drawn in one cluster, and returns the name of its output node. It adds
everything or, when something is wrong, nothing. The compiler sees nodes and edges only.
"""

from collections.abc import Callable, Mapping

from forwardgrad.cells.delays import delay_line
from forwardgrad.cells.diagonal import indrnn, lru, rtu
from forwardgrad.cells.elementwise import columnar_lstm, elstm
from forwardgrad.cells.gated import egru, gru, lstm, mgu
from forwardgrad.cells.integrate_and_fire import alif, cuba_lif, lif, readout
from forwardgrad.cells.minimal import min_gru, min_lstm
from forwardgrad.cells.pooling import max_pool
from forwardgrad.cells.rate import ei_pair, elman, leaky_tanh, low_rank
from forwardgrad.cells.reservoirs import parallel_reservoirs, reservoir
from forwardgrad.cells.running_norm import running_norm
from forwardgrad.cells.stack import LAYERS, stack

LAYERS.update(
    elman=elman,
    leaky_tanh=leaky_tanh,
    low_rank=low_rank,
    ei_pair=ei_pair,
    reservoir=reservoir,
    parallel_reservoirs=parallel_reservoirs,
    indrnn=indrnn,
    lstm=lstm,
    gru=gru,
    egru=egru,
    mgu=mgu,
    min_gru=min_gru,
    min_lstm=min_lstm,
    elstm=elstm,
    columnar_lstm=columnar_lstm,
    lru=lru,
    rtu=rtu,
    lif=lif,
    alif=alif,
    cuba_lif=cuba_lif,
    delay_line=delay_line,
)

TABLE: Mapping[str, Callable[..., str]] = {
    **LAYERS,
    "readout": readout,
    "stack": stack,
    "max_pool": max_pool,
    "running_norm": running_norm,
}
"""The cells by name, as `[[cells]]` in a file names them."""

__all__ = [
    "TABLE",
    "alif",
    "columnar_lstm",
    "cuba_lif",
    "delay_line",
    "egru",
    "ei_pair",
    "elman",
    "elstm",
    "gru",
    "indrnn",
    "leaky_tanh",
    "lif",
    "low_rank",
    "lru",
    "lstm",
    "max_pool",
    "mgu",
    "min_gru",
    "min_lstm",
    "parallel_reservoirs",
    "readout",
    "reservoir",
    "rtu",
    "running_norm",
    "stack",
]

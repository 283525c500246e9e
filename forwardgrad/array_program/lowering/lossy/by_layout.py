"""Which layout is lowered by what: a class for each that holds influence in its way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from forwardgrad.array_program.lowering.context import Context
from forwardgrad.array_program.lowering.influence import Influence
from forwardgrad.array_program.lowering.lossy.patterned import PatternedInfluence
from forwardgrad.array_program.lowering.lossy.product import ProductInfluence
from forwardgrad.array_program.lowering.lossy.rank_one import RankOneInfluence
from forwardgrad.array_program.lowering.lossy.users import CompressedInfluence
from forwardgrad.layouts.compressed import CompressedTraces
from forwardgrad.layouts.kronecker import KroneckerTraces
from forwardgrad.layouts.snap import MaskedTraces
from forwardgrad.layouts.traces import Traces
from forwardgrad.layouts.uoro import RankOneTraces

LOWERED: Mapping[type[Traces], Callable[[Context, str, Any], Influence]] = {
    Traces: lambda context, name, _: Influence(context, name),
    MaskedTraces: PatternedInfluence,
    RankOneTraces: RankOneInfluence,
    KroneckerTraces: ProductInfluence,
    CompressedTraces: CompressedInfluence,
}
"""By the class that runs a layout in the interpreter."""


def influence(context: Context, name: str) -> Influence:
    """The influence of a parameter in the layout of its rule."""
    traces = context.plan.rules[name].kept.traces(context.plan, name, context.dtype)
    return next(LOWERED[kind] for kind in type(traces).__mro__ if kind in LOWERED)(context, name, traces)

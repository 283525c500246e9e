"""`forwardgrad explain`: what a rule becomes on a graph, as a listing, as equations, or as plain data."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from textwrap import indent
from typing import Any

from forwardgrad.backends import Devices
from forwardgrad.cli.options import add_graph, add_json, add_loss, add_rule, fitting, losses, print_json
from forwardgrad.compiling import compile
from forwardgrad.explain.derivation import Derived
from forwardgrad.explain.notation import printable
from forwardgrad.graph.files import load
from forwardgrad.program import Program


def options(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_graph(parser)
    add_rule(parser)
    add_loss(parser)
    parser.add_argument("--equations", action="store_true", help="print the equations of every trained parameter, too")
    parser.add_argument(
        "--param", metavar="PATTERN", help="print the equations of the parameters that fit, such as 'l1.*'"
    )
    parser.add_argument("--latex", action="store_true", help="equations as LaTeX")
    parser.add_argument("--decisions", action="store_true", help="print every decision of the compiler, too")
    parser.add_argument(
        "--devices", metavar="N", help="print the layout of a state on N devices, or on batch=N,influence=M"
    )


def run(given: argparse.Namespace) -> int:
    graph = load(given.graph)
    program = compile(graph, loss=losses(graph, given.loss), rule=given.rule, dead="warn")
    grid = None if given.devices is None else Devices.parse(given.devices)
    layout = None if grid is None else program.shards(grid.batch, grid)
    chosen = fitting(program.rules, given.param)
    if given.json:
        decisions = {"decisions": [str(decision) for decision in program.decisions]} if given.decisions else {}
        layouts = {} if layout is None else {"devices": layout.data()}
        print_json({**_report(program, chosen), **decisions, **layouts})
        return 0
    print(program)
    if layout is not None:
        print(f"\n{layout}")
    if given.equations or given.latex or given.param is not None:
        for name, derived in chosen.items():
            print(f"\n{printable(name)}\n\n{derived.latex() if given.latex else indent(derived.equation, '  ')}")
    if given.decisions:
        print("\n" + "\n".join(map(str, program.decisions)))
    return 0


def _report(program: Program, chosen: Mapping[str, Derived]) -> dict[str, Any]:
    """The program as plain data, with what was derived for these parameters."""
    return {
        "nodes": len(program.network.nodes),
        "edges": len(program.network.edges),
        "dtype": program.dtype.name,
        "loss": {name: loss.name for name, loss in program.losses.items()},
        "parameters": {
            name: {
                "rule": str(derived.rule),
                "paths": str(derived.rule.paths),
                "exact": derived.exact,
                "dropped": list(derived.dropped),
                "stores": {
                    place: {"layout": str(word), "shape": derived.shapes[place], "lags": derived.lags[place]}
                    for place, word in derived.layouts.items()
                },
                "bytes": derived.bytes,
                "flops": derived.flops,
                "equation": derived.equation,
                "latex": derived.latex(),
            }
            for name, derived in chosen.items()
        },
    }

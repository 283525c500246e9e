"""`forwardgrad render`: a declared graph or the credit of a parameter as a picture, or a run as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

import networkx as nx
import numpy as np
from tqdm import tqdm

from forwardgrad import render
from forwardgrad.cli.options import (
    add_graph,
    add_json,
    add_loss,
    at_least_two,
    fitting,
    losses,
    not_negative,
    parameter,
    positive,
    print_json,
    refuse_too_long,
    refuse_unwritable,
    split_rules,
)
from forwardgrad.compiling import compile
from forwardgrad.errors import RenderError
from forwardgrad.graph.files import load
from forwardgrad.support.defaults import RULE
from forwardgrad.testing import checking

BESIDE = ("eprop-deep", "eprop")
"""The rules that a page shows beside its own."""


def options(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_graph(parser)
    parser.add_argument("--param", metavar="NAME", help="draw what a rule keeps of this parameter's credit")
    parser.add_argument("--rule", help=f"of credit, or of the page (default: {RULE})")
    add_loss(parser)
    parser.add_argument(
        "--unrolled", type=positive, metavar="STEPS", help="draw that credit in time, a column per step"
    )
    parser.add_argument(
        "--html", action="store_true", help="write a page that shows a run on random data step by step (-o FILE.html)"
    )
    parser.add_argument(
        "--beside",
        action="append",
        metavar="RULE,...",
        help=f"further rules on the page (default: {', '.join(BESIDE)})",
    )
    parser.add_argument("--steps", type=at_least_two, help="of the run on the page (default: 100)")
    parser.add_argument("--batch", type=positive, help="samples in it (default: 4)")
    parser.add_argument("--seed", type=not_negative, help="of its parameters and data (default: 0)")
    parser.add_argument("-o", "--output", help=".svg, .png, .pdf, .dot or .html file (default: NAME.svg or NAME.html)")


def run(given: argparse.Namespace) -> int:
    graph = load(given.graph)
    html = given.html or Path(given.output or "").suffix.lower() == ".html"
    path = Path(given.output or f"{Path(given.graph).stem}{'.html' if html else '.svg'}")
    for option in ("beside", "steps", "batch", "seed"):
        if not html and getattr(given, option) is not None:
            raise RenderError(f"--{option} is for a page.", "Write one: --html, or -o FILE.html.")
    written = _page(given, graph, path) if html else _picture(given, graph, path)
    if given.json:
        print_json({"written": str(written)})
    else:
        print(f"wrote {written}")
    return 0


def _picture(given: argparse.Namespace, graph: nx.MultiDiGraph[str], path: Path) -> Path:
    """Draw the graph, or the credit of one parameter."""
    if given.param is not None:
        program = compile(graph, loss=losses(graph, given.loss), rule=given.rule or RULE, dead="warn")
        name = parameter(program.rules, given.param)
        if given.unrolled is None:
            return render.write(render.credit(program, name), path)
        return render.write(render.unrolled(program, name, given.unrolled), path)
    if given.unrolled is not None:
        raise RenderError("--unrolled draws the credit of one parameter.", "Name it: --param NAME.")
    if given.rule is not None:
        raise RenderError("--rule makes no difference to the graph.", "Draw credit: --param NAME; or a page: --html.")
    return render.write(render.graph(graph, title=graph.graph.get("title")), path)


def _page(given: argparse.Namespace, graph: nx.MultiDiGraph[str], path: Path) -> Path:
    """Write the page of a run on random parameters and data."""
    if path.suffix.lower() != ".html":
        raise RenderError(f"cannot write {str(path)!r}: a page is an .html file.")
    if given.unrolled is not None:
        raise RenderError("--unrolled draws a picture.", "Leave it out, or write a .svg file.")
    refuse_unwritable(path)
    steps, seed, batch = given.steps or 100, given.seed or 0, given.batch or 4
    refuse_too_long(graph, steps, batch)
    program = compile(graph, loss=losses(graph, given.loss), rule=given.rule or RULE, dead="warn")
    beside = [rule for text in given.beside for rule in split_rules(text)] if given.beside else list(BESIDE)
    random = np.random.default_rng(seed)
    params = checking.random_params(program, random, seed)
    inputs, targets = checking.random_data(program, random, steps, batch)
    only = None if given.param is None else list(fitting(program.rules, given.param))
    with tqdm(total=1 + len(beside), unit=" rules", desc="recording", disable=None) as bar:
        page = render.report(
            program,
            params,
            inputs,
            targets,
            rules=beside,
            block=max(1, steps // 3),
            only=only,
            title=graph.graph.get("title") or given.graph,
            progress=bar.update,
        )
    return page.write(path)

"""Makes gallery.md and its pictures: python docs/make_gallery.py

For every shipped graph: the graph, what each rule stores and computes for it, what e-prop keeps of the credit of a
weight (recurrent where there is one), that weight's credit in time under several rules, and one step of a run on noise.
Pictures are laid out by whichever Graphviz is at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import prod
from pathlib import Path

import networkx as nx
import numpy as np

import forwardgrad as fg
from forwardgrad import render
from forwardgrad.graph import library, validate
from forwardgrad.testing import checking

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "images" / "gallery"
RULES = ("rtrl", "eprop-deep", "eprop", "hops(2)")
PRICED = ("rtrl", "snap(1)", "eprop-deep", "eprop", "immediate")
STEPS, BATCH, MOMENT = 30, 4, 20

HEAD = f"""# Gallery

Every shipped graph, and how credit flows in it. `python docs/make_gallery.py` makes this page and its pictures. Any of
them can be drawn from a terminal:

    forwardgrad render elman -o elman.svg
    forwardgrad render elman --rule eprop --param "h->h" -o credit.svg
    forwardgrad render elman --rule eprop --param "h->h" --unrolled 4 -o unrolled.svg
    forwardgrad render elman --html -o elman.html

The last writes a page that shows a run step by step, under several rules side by side. Each picture explains its lines
and shapes; [one code](design.md#8-pictures) holds for all of them. Flows are those of step {MOMENT} of a run on noise.

Tables say of a rule for how many parameters its gradient is exact, in which form influence is stored, by parameter and
place ([scalar, diagonal or full](design.md#5-layouts-are-derived-not-chosen)), how much that is for one sample, and
what it takes to carry it one step on.
"""


def main() -> None:
    """Make all of it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.svg"):
        old.unlink()
    (HERE / "gallery.md").write_text(page(draw=True), encoding="utf-8")


def page(draw: bool = False) -> str:
    """The text of the page; its pictures are drawn if asked for."""
    return HEAD + "".join(_of(name, title, draw) for name, title in library.titles().items())


def _of(name: str, title: str, draw: bool) -> str:
    graph = fg.load(name)
    programs = {rule: fg.compile(graph, rule=rule, dead="ignore") for rule in RULES}
    parameter = _shown(programs["rtrl"])
    text = f"\n\n## {name}: {title}\n"

    def picture(what: str, words: str, drawing: Callable[[], render.Picture]) -> str:
        path = FOLDER / f"{name}-{what}.svg"
        if draw:
            render.write(drawing(), path)
        return f"\n![{words}]({path.relative_to(HERE).as_posix()})\n"

    text += picture("graph", f"The graph {name}", lambda: render.graph(graph))
    text += _prices(graph)
    text += f"\nWhat e-prop keeps of the credit of `{parameter}`:\n"
    text += picture("credit", f"Credit of {parameter} under eprop", lambda: render.credit(programs["eprop"], parameter))
    text += f"\nCredit of one use of `{parameter}` in time, under {', '.join(f'`{rule}`' for rule in RULES)}:\n"
    for number, rule in enumerate(RULES):
        words = f"Credit of {parameter} in time under {rule}"
        text += picture(f"unrolled-{number}", words, lambda rule=rule: render.unrolled(programs[rule], parameter, 3))
    text += f"\nWhat flows under e-prop at step {MOMENT}:\n"
    text += picture("flow", f"Flow of {parameter} at step {MOMENT}", lambda: _flow(programs["eprop"], parameter))
    return text


def _prices(graph: nx.MultiDiGraph[str]) -> str:
    """What a graph consists of, and what each rule stores and computes for it."""
    rows = [_price(fg.compile(graph, rule=rule, dead="ignore"), rule) for rule in PRICED]
    network = validate(graph)
    numbers = sum(prod(parameter.shape) for parameter in network.parameters.values())
    layers = nx.number_strongly_connected_components(nx.DiGraph(graph))
    head = f"\n{len(network.nodes)} nodes in {layers} components, {len(network.edges)} edges, "
    head += f"{len(network.parameters)} parameters of {numbers:,} numbers.\n\n"
    head += "| rule | exact | influence | bytes | operations a step |\n| --- | --- | --- | --- | --- |\n"
    return head + "".join(rows)


def _price(program: fg.Program, rule: str) -> str:
    cost, derived = program.cost(), program.rules.values()
    words = Counter(word for each in derived for word in each.layouts.values())
    stored = ", ".join(f"{words[word]} {word}" for word in sorted(words)) or "none"
    exact = f"{sum(each.exact for each in derived)} of {len(program.chosen)}"
    return f"| `{rule}` | {exact} | {stored} | {sum(cost.influence.values()):,} | {sum(cost.flops.values()):,} |\n"


def _shown(program: fg.Program) -> str:
    """The first parameter that mixes units inside a cycle, or else one on a cycle, that is remembered, or any."""
    labels = program.plan.labels.edges
    edges = [edge for edge in program.network.edges.values() if edge.param in program.rules]
    weights = {edge.param: labels[edge.name] for edge in edges if edge.param}
    explicit = [name for name, label in weights.items() if label.explicit]
    recurrent = [name for name, label in weights.items() if label.recurrent]
    return [*explicit, *recurrent, *(name for name in weights if program.rules[name].layouts), *weights][0]


def _flow(program: fg.Program, parameter: str) -> render.Picture:
    random = np.random.default_rng(0)
    params = checking.random_params(program, random, 0)
    inputs, targets = checking.random_data(program, random, STEPS, BATCH)
    return render.flow(program.record(params, inputs, targets, only=[parameter]), MOMENT, parameter)


if __name__ == "__main__":
    main()

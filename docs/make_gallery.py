"""Makes gallery.md and its pictures: python docs/make_gallery.py

For every shipped graph: the graph, what e-prop keeps of the credit of a weight (recurrent where there is one), that
weight's credit in time under several rules, and one step of a run on noise. Pictures are laid out by whichever Graphviz
is at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import forwardgrad as fg
from forwardgrad import render
from forwardgrad.graph import library
from forwardgrad.testing import checking

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "images" / "gallery"
RULES = ("rtrl", "eprop-deep", "eprop", "hops(2)")
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
    text += f"\nWhat e-prop keeps of the credit of `{parameter}`:\n"
    text += picture("credit", f"Credit of {parameter} under eprop", lambda: render.credit(programs["eprop"], parameter))
    text += f"\nCredit of one use of `{parameter}` in time, under {', '.join(f'`{rule}`' for rule in RULES)}:\n"
    for number, rule in enumerate(RULES):
        words = f"Credit of {parameter} in time under {rule}"
        text += picture(f"unrolled-{number}", words, lambda rule=rule: render.unrolled(programs[rule], parameter, 3))
    text += f"\nWhat flows under e-prop at step {MOMENT}:\n"
    text += picture("flow", f"Flow of {parameter} at step {MOMENT}", lambda: _flow(programs["eprop"], parameter))
    return text


def _shown(program: fg.Program) -> str:
    """The first parameter that mixes units inside a cycle, or else one on a cycle, or else one that is remembered."""
    labels = program.plan.labels.edges
    weights = {edge.param: labels[edge.name] for edge in program.network.edges.values() if edge.param}
    explicit = [name for name, label in weights.items() if label.explicit]
    recurrent = [name for name, label in weights.items() if label.recurrent]
    return [*explicit, *recurrent, *(name for name in weights if program.rules[name].layouts)][0]


def _flow(program: fg.Program, parameter: str) -> render.Picture:
    random = np.random.default_rng(0)
    params = checking.random_params(program, random, 0)
    inputs, targets = checking.random_data(program, random, STEPS, BATCH)
    return render.flow(program.record(params, inputs, targets, only=[parameter]), MOMENT, parameter)


if __name__ == "__main__":
    main()

"""`python -m experiments.report`: makes docs/results.md and its plots from the raw results."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import catalogue, results
from experiments.experiment import Experiment
from experiments.results import Results
from experiments.tables import table

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = "images/results"

HEAD = """# Results

Systems of the literature, each beside its own number, and questions that we know no measurement of. This page is made
by `python -m experiments.report` from the raw results in `experiments/results/`, one file of JSON for each experiment,
and a test compares it with them. `python -m experiments NAME` makes what is missing of an experiment; `--list` says
what there is.

Numbers are medians over seeds, with the range in brackets; pictures show medians as lines and ranges as bars or bands.
A setting that is *not run* has no run yet, and the command of its part makes it. What falls short of a published number
is left in. A claim about a rule holds for the optimiser, the precision and the sizes that stand with its table, and for
no others. Under `kf-rtrl` biases are learned by `uoro`, since its layout is one of dense weights.
"""


def section(experiment: Experiment, found: Results) -> str:
    """The part of the page about one experiment."""
    fixed = ", ".join(f"{name} {value}" for name, value in found.fixed.items())
    made = sorted({run.made for run in found.runs.values()})
    minutes = sum(run.seconds for run in found.runs.values()) / 60
    picture = "" if experiment.draw is None else f"\n![{experiment.title}]({PICTURES}/{experiment.name}.png)\n"
    return f"""## {experiment.title}

```sh
python -m experiments {experiment.name}
```

{experiment.page(found).strip()}
{picture}
Settings: {fixed}. Seeds of a setting: {found.seeds}. The {len(found.runs)} runs took {minutes:.0f} minutes of one core
({"; ".join(made)}); budget {experiment.minutes:g} minutes on two cores.
"""


def glance(found: dict[str, Results]) -> str:
    """The table that begins the page: published levels, and our own."""
    rows: list[list[str]] = []
    for name, each in found.items():
        experiment = catalogue.get(name)
        rows.append([f"[{experiment.title}](#{_anchor(experiment.title)})", *experiment.gist(each)])
    return table(["experiment", "published", "here, medians over seeds"], rows) + "\n"


def _anchor(title: str) -> str:
    """By which a heading is linked to, as the site and GitHub name it.

    >>> _anchor("Deep credit: classify, then count?")
    'deep-credit-classify-then-count'
    """
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def held() -> dict[str, Results]:
    """All results that there are, in the order of the page."""
    paths = {name: results.FOLDER / f"{name}.json" for name in catalogue.NAMES}
    return {name: results.read(path) for name, path in paths.items() if path.exists()}


def page() -> str:
    """The text of docs/results.md."""
    found = held()
    return "\n".join([HEAD, glance(found), *(section(catalogue.get(name), each) for name, each in found.items())])


def draw(folder: Path) -> bool:
    """Draw all plots; returns whether that was possible."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in held().items():
        experiment = catalogue.get(name)
        if experiment.draw is not None:
            figure = Figure(figsize=(11, experiment.height), layout="constrained")
            experiment.draw(found, figure)
            FigureCanvasAgg(figure).print_png(folder / f"{name}.png", metadata={"Software": None})
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m experiments.report", description=__doc__)
    parser.add_argument("--no-plots", action="store_true", help="write the page alone")
    given = parser.parse_args(arguments)
    (DOCS / "results.md").write_text(page(), encoding="utf-8")
    if not given.no_plots and not draw(DOCS / PICTURES):
        print('no plots: they need matplotlib, pip install "forwardgrad[plot]"', file=sys.stderr)
    print(f"wrote {DOCS / 'results.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

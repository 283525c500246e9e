"""What does a check find, parameter by parameter? A table of how far each gradient is from its references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from forwardgrad.errors import VacuousError
from forwardgrad.explain.notation import printable
from forwardgrad.explain.tables import html_table, table
from forwardgrad.ops import Array
from forwardgrad.program import Program
from forwardgrad.testing import checking
from forwardgrad.testing.comparing import Comparison, exact_gradient, gradient
from forwardgrad.testing.problem import Problem
from forwardgrad.testing.vacuity import drops_nothing, nothing_stored, one_block, silent_spikes, zero_gradient


@dataclass(frozen=True)
class Row:
    """One parameter.

    Args:
        parameter: its name.
        largest: largest entry of its gradient.
        paths: largest error against the paths its rule keeps, over all blocks, relative to the largest entry of all
            parameters; `None` where the layout is lossy.
        blocks: largest difference between block lengths, relative to the same.
        exact: error against the exact gradient, relative to its own length.
        cosine: of the angle to the exact gradient; `None` where one of the two is zero.
        claims: whether the program says that it is exact.
        dropped: the edges at which the program says that credit is dropped.
    """

    parameter: str
    largest: float
    paths: float | None
    blocks: float
    exact: float
    cosine: float | None
    claims: bool
    dropped: tuple[str, ...]

    @property
    def says(self) -> str:
        """What the program says of it, in a few words."""
        drops = f"drops {', '.join(map(printable, self.dropped))}" if self.dropped else "not exact"
        return "exact" if self.claims else drops


_HEADER = ("parameter", "largest", "to kept paths", "between blocks", "to exact", "cosine", "claims")


@dataclass(frozen=True, repr=False)
class GradientReport:
    """What `gradient_report` found; `str` of it is a table, and `pandas.DataFrame(found.rows)` takes its rows.

    Args:
        rows: a row per trained parameter.
        blocks: the block lengths compared.
        vacuous: what these comparisons cannot say, by kind.
    """

    rows: tuple[Row, ...]
    blocks: tuple[int, ...]
    vacuous: dict[str, str]

    def __str__(self) -> str:
        return "\n".join([table(_HEADER, self._lines()), *self._vacuous()])

    def __repr__(self) -> str:
        found = f"{len(self.rows)} parameters, blocks of {', '.join(map(str, self.blocks))} steps"
        return f"GradientReport({', '.join([found, *self.vacuous])})"

    def _repr_html_(self) -> str:
        caption = f"Errors of the gradient, in blocks of {', '.join(map(str, self.blocks))} steps"
        return html_table(caption, _HEADER, self._lines(), "\n".join(self._vacuous()))

    def _vacuous(self) -> list[str]:
        return [f"{kind}: {text}" for kind, text in self.vacuous.items()]

    def _lines(self) -> list[list[str]]:
        return [
            [
                printable(row.parameter),
                f"{row.largest:.1e}",
                "lossy" if row.paths is None else f"{row.paths:.1e}",
                f"{row.blocks:.1e}",
                f"{row.exact:.1e}",
                "none" if row.cosine is None else f"{row.cosine:.3f}",
                row.says,
            ]
            for row in self.rows
        ]

    def report(self) -> dict[str, Any]:
        """The same as plain data."""
        return {"blocks": list(self.blocks), "vacuous": self.vacuous, "rows": [asdict(row) for row in self.rows]}


def gradient_report(program: Program, problem: Problem | None = None, *, blocks: Sequence[int] = ()) -> GradientReport:
    """Compare a program's gradient with that of its rules' paths, between blocks, and with the exact gradient.

    Args:
        program: what is looked at.
        problem: parameters and data; by default drawn from seed 0, as the graph's `init` says.
        blocks: block lengths; by default one step, about a third of the sequence, and all of it.

    Returns:
        A table, and the ways in which its comparisons are vacuous.

    Raises:
        DataError: if the problem does not fit the program.

    >>> import forwardgrad as fg
    >>> found = gradient_report(fg.compile(fg.load("leaky_stack"), rule="eprop"))
    >>> [row.parameter for row in found.rows if row.claims]
    ['h1->y', 'h2->y', 'y.bias']
    >>> all(row.paths < 1e-10 for row in found.rows), found.vacuous
    (True, {})
    """
    given = Problem.of(program) if problem is None else problem
    lengths = tuple(blocks) or checking.usual_blocks(given.steps)
    first = gradient(program, given, lengths[0])
    own = {name: first[name] for name in program.rules if name in first}
    exact = exact_gradient(program, given)
    lossy = any(rule.lossy for rule in program.chosen.values())
    kept = None if lossy else Comparison.with_paths(program, given)
    paths = kept.worst(lengths) if kept else {}
    between = Comparison(program, given, lambda block: own).worst(lengths)
    rows = [_row(program, name, g, exact[name], paths.get(name), between[name]) for name, g in own.items()]
    told = _told(program, given, kept.wanted(lengths[0]) if kept else own, lengths)
    return GradientReport(tuple(rows), lengths, {str(each.kind): str(each).splitlines()[0] for each in told})


def _row(program: Program, name: str, found: Array, exact: Array, paths: float | None, blocks: float) -> Row:
    lengths = float(np.linalg.norm(found)) * float(np.linalg.norm(exact))
    cosine = float(np.sum(found * exact)) / lengths if lengths > 0 else None
    error = float(np.linalg.norm(found - exact)) / (float(np.linalg.norm(exact)) or 1.0)
    derived = program.rules[name]
    return Row(name, float(np.abs(found).max()), paths, blocks, error, cosine, derived.exact, derived.dropped)


def _told(program: Program, problem: Problem, wanted: Any, blocks: Sequence[int]) -> list[VacuousError]:
    """All that makes a comparison vacuous, nothing refused."""
    found = [
        zero_gradient(program, wanted),
        silent_spikes(program, problem),
        one_block(blocks, problem.steps),
        nothing_stored(program),
        drops_nothing(program),
    ]
    return [each for each in found if each is not None]

"""How do the findings of an audit read? As a table, as plain data, and as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from forwardgrad.errors import DataError
from forwardgrad.explain.notation import printable
from forwardgrad.explain.tables import html_table, table
from forwardgrad.ops import Array
from forwardgrad.support import plotting
from forwardgrad.support.plotting import literal

ALL = "(all trained)"
"""What stands for all trained parameters together, where the name of a parameter would."""


@dataclass(frozen=True)
class Spread:
    """A number over seeds; seeds in which it is not defined are NaN, and left out of the statistics."""

    values: tuple[float, ...]

    @property
    def _known(self) -> Array:
        found = np.array([value for value in self.values if not math.isnan(value)])
        return found if len(found) else np.array([math.nan])

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(self._known.mean())

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds, with divisor n."""
        return float(self._known.std())

    @property
    def least(self) -> float:
        """The smallest."""
        return float(self._known.min())

    @property
    def largest(self) -> float:
        """The largest."""
        return float(self._known.max())

    def report(self) -> dict[str, Any]:
        """As plain data; `None` stands for what is not defined."""
        shown = {"mean": self.mean, "std": self.deviation, "min": self.least, "max": self.largest}
        values = [_plain(value) for value in self.values]
        return {**{name: _plain(value) for name, value in shown.items()}, "values": values}

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "-"
        if len(self.values) == 1:
            return _short(self.mean)
        return (
            f"{_short(self.mean)} ±{_short(self.deviation, self.mean)} ({_short(self.least)}..{_short(self.largest)})"
        )


@dataclass(frozen=True)
class Line:
    """One parameter under one rule.

    Args:
        parameter: its name, or `ALL` for all that the rule trains, taken as one vector.
        rule: as it was asked for.
        trained: `False` where the rule leaves it as drawn; then there is nothing else to say.
        exact: whether the compiler proved the gradient exact.
        bytes: of influence, per sample.
        cosine: of the angle between the rule's gradient and the exact one; 0 where the rule's is zero, not defined
            where the exact one is.
        ratio: norm of the rule's gradient by that of the exact one.
        error: norm of their difference by that of the exact one.
        removed: per dropped edge, the part of the error that goes away when this edge alone is re-admitted; negative
            where the error grows.
        cut_by_graph: the dropped edges that the attribute `credit` cuts, whatever the rule.
    """

    parameter: str
    rule: str
    trained: bool
    exact: bool = False
    bytes: int = 0
    cosine: Spread = Spread(())
    ratio: Spread = Spread(())
    error: Spread = Spread(())
    removed: Mapping[str, Spread] | None = None
    cut_by_graph: tuple[str, ...] = ()

    @property
    def edges(self) -> str:
        """What re-admitting each dropped edge removes, the most first, as text."""
        found = sorted((self.removed or {}).items(), key=lambda item: -np.nan_to_num(item[1].mean, nan=-math.inf))
        parts = [
            f"{edge}{' (cut by the graph)' if edge in self.cut_by_graph else ''} {_percent(spread)}"
            for edge, spread in found
        ]
        return ", ".join(parts) or "-"

    def report(self) -> dict[str, Any]:
        """As plain data."""
        if not self.trained:
            return {"trained": False}
        dropped = {
            edge: {"cut_by": "credit" if edge in self.cut_by_graph else "rule", "removes": spread.report()}
            for edge, spread in (self.removed or {}).items()
        }
        numbers = {"cosine": self.cosine, "norm_ratio": self.ratio, "relative_error": self.error}
        measured = {name: spread.report() for name, spread in numbers.items()}
        return {"trained": True, "exact": self.exact, "bytes": self.bytes, **measured, "dropped": dropped}


_HEADER = ("parameter", "rule", "cosine", "norm ratio", "relative error", "error removed by re-admitting")


@dataclass(frozen=True, repr=False)
class Audit:
    """Rules held against the exact gradient.

    Args:
        lines: parameter by parameter, rule by rule; at the end, per rule, all parameters together.
        rules: as they were asked for.
        blocks: steps per block that each rule ran with.
        seeds: of parameters and data; empty where these were given.
        steps: length of the sequences.
        batch: number of samples in each.
    """

    lines: tuple[Line, ...]
    rules: tuple[str, ...]
    blocks: tuple[int, ...]
    seeds: tuple[int, ...]
    steps: int
    batch: int

    def line(self, parameter: str, rule: str) -> Line:
        """The line of one parameter under one rule, as it was asked for; raises `DataError` if there is none."""
        for line in self.lines:
            if (line.parameter, line.rule) == (parameter, rule):
                return line
        raise DataError(f"the audit has no parameter {parameter!r} under rule {rule!r}.")

    def table(self) -> str:
        """As text: a row per parameter and rule."""
        lines = self._lines()
        for before, line in zip(lines[-2::-1], lines[:0:-1], strict=True):
            line[0] = "" if before[0] == line[0] else line[0]  # from the end, so that none is compared with a blank
        return f"{self._about}\n\n{table(_HEADER, lines)}"

    def rows(self) -> list[dict[str, Any]]:
        """As plain rows, one per parameter, rule and dropped edge, which `pandas.DataFrame` takes.

        Columns are `parameter`, `rule`, `trained`, `exact`, `bytes`; `cosine`, `norm_ratio` and `relative_error`, means
        over the seeds, `None` where not defined; and `edge` with `removes`, the part of the error that goes away when
        this dropped edge alone is re-admitted. A line that drops no edge has one row, with `None` in these two.

        >>> import forwardgrad as fg
        >>> program, random = fg.compile(fg.load("elman")), np.random.default_rng(0)
        >>> x, y = ({name: random.normal(size=(9, 1, 1))} for name in "xy")
        >>> found = fg.audit(program.graph, program.init(), x, y, rules=["rtrl", "eprop"])
        >>> [(row["rule"], row["edge"]) for row in found.rows() if row["parameter"] == "h->h"]
        [('rtrl', None), ('eprop', 'h->h')]
        """
        found: list[dict[str, Any]] = []
        for line in self.lines:
            numbers = {"cosine": line.cosine, "norm_ratio": line.ratio, "relative_error": line.error}
            row = {
                "parameter": line.parameter,
                "rule": line.rule,
                "trained": line.trained,
                "exact": line.exact,
                "bytes": line.bytes,
                **{name: _plain(spread.mean) if line.trained else None for name, spread in numbers.items()},
            }
            removed = {edge: _plain(spread.mean) for edge, spread in (line.removed or {}).items()}
            found += [{**row, "edge": edge, "removes": part} for edge, part in (removed or {None: None}).items()]
        return found

    def __repr__(self) -> str:
        names = {line.parameter for line in self.lines} - {ALL}
        rules = printable(", ".join(self.rules))
        return f"Audit({len(names)} parameters under {rules}; {self.steps} steps, batch {self.batch})"

    def _repr_html_(self) -> str:
        return html_table(f"Audit: {self._about}", _HEADER, self._lines())

    @property
    def _about(self) -> str:
        ran = ", ".join(f"{rule} {block}" for rule, block in zip(self.rules, self.blocks, strict=True))
        seeds = f"{len(self.seeds)} seeds, mean ± standard deviation (least..largest), " if len(self.seeds) > 1 else ""
        return f"{seeds}{self.steps} steps, batch {self.batch}; steps per block: {ran}"

    def _lines(self) -> list[list[str]]:
        rows: list[list[str]] = []
        for line in self.lines:
            shown = [str(line.cosine), str(line.ratio), str(line.error), line.edges] if line.trained else ["untrained"]
            rows.append([line.parameter, line.rule, *shown, *[""] * (4 - len(shown))])
        return rows

    def report(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        found: dict[str, Any] = {
            rule: {"block": block, "overall": None, "parameters": {}}
            for rule, block in zip(self.rules, self.blocks, strict=True)
        }
        for line in self.lines:
            if line.parameter == ALL:
                found[line.rule]["overall"] = line.report()
            else:
                found[line.rule]["parameters"][line.parameter] = line.report()
        return {"seeds": list(self.seeds), "steps": self.steps, "batch": self.batch, "rules": found}


def picture(audit: Audit, title: str = "") -> bytes:
    """Cosine, norm ratio and relative error per parameter and rule, as PNG: the mean, and a bar from least to largest.

    Args:
        audit: what was found.
        title: what stands above it.

    Raises:
        MissingExtraError: without the extra `plot`.
    """
    make_figure, print_png = plotting.matplotlib("the picture of an audit")
    names = list(dict.fromkeys(line.parameter for line in audit.lines))
    height = 1.6 + len(names) * (0.2 + 0.15 * len(audit.rules))
    figure: Any = make_figure(figsize=(11, height), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for panel, (label, perfect) in zip(panels, (("cosine", 1), ("norm ratio", 1), ("relative error", 0)), strict=True):
        panel.axvline(perfect, color="0.3", linewidth=1, linestyle=":")
        for number, rule in enumerate(audit.rules):
            _points(panel, audit, names, number, rule, label)
        _scale(panel, audit, label)
        panel.set_xlabel(label)
        for row in range(1, len(names)):
            panel.axhline(row - 0.5, color="0.85", linewidth=0.8)
    panels[0].set_yticks(range(len(names)), [literal(name) for name in names])
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 5), title=literal(title) or None)
    buffer = io.BytesIO()
    print_png(figure, buffer)
    return buffer.getvalue()


def _points(panel: Any, audit: Audit, names: list[str], number: int, rule: str, label: str) -> None:
    """One rule's points in one panel, each in its row, a little below those of the rule before."""
    found = [(names.index(line.parameter), _chosen(line, label)) for line in audit.lines if line.rule == rule]
    known = [(row, spread) for row, spread in found if spread is not None and not math.isnan(spread.mean)]
    rows = [row + 0.72 * ((number + 0.5) / len(audit.rules) - 0.5) for row, _ in known]
    means = [spread.mean for _, spread in known]
    sides = [[spread.mean - spread.least for _, spread in known], [spread.largest - spread.mean for _, spread in known]]
    marker = "osD^vP*X"[number % 8]
    panel.errorbar(
        means,
        rows,
        xerr=np.maximum(sides, 0),
        fmt=marker,
        markersize=4,
        linewidth=1.2,
        color=f"C{number}",
        label=literal(rule),
    )


def _scale(panel: Any, audit: Audit, label: str) -> None:
    """Cosines up to 1; sizes from 0, and beyond 2 by powers of ten where one is far above 1."""
    spreads = [spread for line in audit.lines if (spread := _chosen(line, label)) is not None]
    known = [spread for spread in spreads if not math.isnan(spread.mean)]
    if label == "cosine":
        least = min((spread.least for spread in known), default=0.0)
        panel.set_xlim(-1.05 if least < 0 else -0.05, 1.05)
        return
    largest = max((spread.largest for spread in known), default=1.0)
    if largest > 5:
        panel.set_xscale("symlog", linthresh=2, linscale=2)
    panel.set_xlim(-0.05 * min(largest, 5), max(1.1, 1.1 * largest))


def _chosen(line: Line, label: str) -> Spread | None:
    if not line.trained:
        return None
    return {"cosine": line.cosine, "norm ratio": line.ratio, "relative error": line.error}[label]


def _plain(value: float) -> float | None:
    """JSON knows no NaN and no infinity."""
    return value if math.isfinite(value) else None


def _short(value: float, beside: float = 0.0) -> str:
    """To three digits, or as a power of ten; what is rounding error beside another number is 0."""
    plain = 1e-3 <= abs(value) < 1e3 or abs(value) <= 1e-12 * abs(beside)
    return f"{value:.3f}" if plain or value == 0 else f"{value:.1e}"


def _percent(spread: Spread) -> str:
    if math.isnan(spread.mean):
        return "-"
    deviation = f" ±{100 * spread.deviation:.0f}" if len(spread.values) > 1 else ""
    return f"{round(100 * spread.mean)}{deviation} %"

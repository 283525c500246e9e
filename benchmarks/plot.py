"""How does it look? Bars of what every contestant took, a panel a case; and curves of how our time grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Result

if TYPE_CHECKING:
    from benchmarks.growth import Curve

OURS, OTHERS = "#0b6e4f", "#9aa5b1"
COLUMNS = 2


def bars(results: Sequence[Result], path: Path) -> bool:
    """Draw what contestants took, on a logarithmic axis; returns whether there is matplotlib, and something to draw."""
    results = [result for result in results if result.timings]
    figure = _figure(9.5, 1.0 + 2.1 * -(-len(results) // COLUMNS)) if results else None
    if figure is None:
        return False
    panels = figure.subplots(-(-len(results) // COLUMNS), COLUMNS, squeeze=False).ravel()
    for axes, result in zip(panels, results, strict=False):
        timed = result.timings[0].unit == "s"
        scale = 1e3 if timed else 1.0
        names = [timing.name for timing in result.timings]
        medians = [scale * timing.median for timing in result.timings]
        low = [scale * (timing.median - min(timing.values)) for timing in result.timings]
        high = [scale * (max(timing.values) - timing.median) for timing in result.timings]
        axes.barh(names, medians, xerr=(low, high), color=[OURS, *[OTHERS] * (len(names) - 1)], ecolor="0.3")
        for verdict in result.verdicts:
            at = names.index(verdict.against)
            goal = verdict.goal.limit * medians[at]
            axes.plot([goal, goal], [-0.4, 0.4], color="#d1495b", linewidth=2)
        if timed:
            _logarithmic(axes, scale * min(min(timing.values) for timing in result.timings) / 3)
        axes.invert_yaxis()
        axes.set_title("\n".join(wrap(result.title, 62)), fontsize=7)
        axes.set_xlabel("milliseconds" if timed else result.timings[0].unit, fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in panels[len(results) :]:
        axes.set_axis_off()
    figure.suptitle("Medians; whiskers from the least to the most; red: what the goal allows us", fontsize=9)
    return _save(figure, path)


def _logarithmic(axes: Any, left: float) -> None:
    """A logarithmic axis of plain numbers, few enough to be read."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_xlim(left=left)
    narrow = axes.get_xlim()[1] < 50 * left
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def curves(found: Sequence[Curve], rate: float, path: Path) -> bool:
    """Draw how time grows, a row a network and a column an axis, with parts of a rate; returns as `bars`."""
    rows = list(dict.fromkeys(curve.title for curve in found))
    columns = list(dict.fromkeys(curve.axis for curve in found))
    figure = _figure(2.6 * len(columns), 0.6 + 2.5 * len(rows)) if found else None
    if figure is None:
        return False
    panels = figure.subplots(len(rows), len(columns), squeeze=False, sharey="row")
    for curve in found:
        axes = panels[rows.index(curve.title)][columns.index(curve.axis)]
        at = [point.at for point in curve.points]
        axes.loglog(at, [point.timing.median for point in curve.points], "o-", color=OURS, markersize=4)
        for point in curve.points:
            share, place = f"{point.achieved / rate:.0%}", (point.at, point.timing.median)
            axes.annotate(share, place, (0, 5), textcoords="offset points", ha="center", fontsize=6.5, color="0.35")
        if curve.chosen:
            axes.axvline(curve.chosen, color="#d1495b", linestyle="--", linewidth=1)
            place = axes.get_xaxis_transform()
            axes.annotate("auto", (curve.chosen, 0.04), (-3, 0), place, "offset points", ha="right", fontsize=8)
        axes.set_xticks(at, [f"{x:,}" for x in at])
        axes.minorticks_off()
        axes.margins(0.1)
        axes.grid(True, color="0.9")
        axes.set_xlabel(curve.axis, fontsize=8)
        axes.tick_params(labelsize=7)
    for row, title in zip(panels, rows, strict=True):
        row[0].set_ylabel(f"{title}\nseconds", fontsize=8)
    figure.suptitle(
        "Time of a gradient, and the part of the machine's rate of matrix products it is done at", fontsize=9
    )
    return _save(figure, path)


def shards(rows: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Draw memory per device by the number of devices, a panel for each number of units; returns as `bars`."""
    sizes = list(dict.fromkeys(row["units"] for row in rows))
    figure = _figure(3.4 * len(sizes), 2.8) if rows else None
    if figure is None:
        return False
    for axes, units in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True):
        those = [row for row in rows if row["units"] == units]
        at = [row["devices"] for row in those]
        for key, label, color in (("planned", "a step", OURS), ("held", "state", "#3b5bdb")):
            mib = [row[key] / 2**20 for row in those]
            axes.loglog(at, mib, "o-", color=color, label=label, markersize=4)
            axes.loglog(at, [mib[0] * at[0] / n for n in at], ":", color="0.6", linewidth=1)
        axes.set_xticks(at, [f"{n}" for n in at])
        axes.minorticks_off()
        axes.grid(True, color="0.9")
        axes.set_title(f"{units} units", fontsize=9)
        axes.set_xlabel("devices", fontsize=8)
        axes.set_ylabel("MiB per device", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=7)
    figure.suptitle("Exact RTRL; dotted: one device's memory, divided by the devices", fontsize=9)
    return _save(figure, path)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return True

"""What pictures of experiments share: a rule looks alike in all of them, and legends cover nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.results import Spread

LOOKS: Mapping[str, tuple[str, str]] = {
    "rtrl": ("black", "o"),
    "symmetric": ("black", "o"),
    "eprop": ("tab:red", "s"),
    "eprop-deep": ("tab:orange", "D"),
    "eprop-random": ("tab:pink", "v"),
    "random": ("tab:pink", "v"),
    "eprop-adaptive": ("tab:brown", "8"),
    "adaptive": ("tab:brown", "8"),
    "ostl": ("tab:green", "P"),
    "hops(2)": ("#1b6e3c", "h"),
    "rflo": ("#b8860b", "<"),
    "snap(1)": ("tab:purple", "p"),
    "snap(2)": ("#b79bd6", "H"),
    "window": ("#4a4ac8", "1"),
    "uoro": ("tab:olive", ">"),
    "kf-rtrl": ("tab:cyan", "X"),
    "dsf": ("#7b5b12", "d"),
    "tbptt": ("#26408b", "*"),
    "immediate": ("tab:blue", "^"),
    "reservoir": ("0.55", "x"),
    "parts": ("tab:blue", "s"),
    "fptt": ("tab:red", "D"),
    "fptt-paper": ("tab:orange", "v"),
    "fptt-weak": ("tab:pink", "<"),
    "columnar": ("tab:purple", "P"),
    "constructive": ("tab:green", "X"),
}
"""Colour and marker of rules and methods: neither tells them apart alone where some eyes see less."""

LINES = ("-", "--", ":")


def look(name: str) -> dict[str, Any]:
    """How a rule is drawn; variants such as `eprop; autapses=implicit` differ from it in their line."""
    head, *rest = re.split(r"; | & ", name)
    colour, marker = LOOKS.get(head) or LOOKS[head.split("(")[0]]
    return {"color": colour, "marker": marker, "linestyle": LINES[len(rest)], "markersize": 4, "linewidth": 1.3}


def curve(axes: Any, at: Any, curves: Sequence[Sequence[float]], name: str) -> None:
    """The median of curves of several seeds, and their range as a band."""
    if not curves:
        return
    values, style = np.array(curves), look(name)
    axes.plot(at, np.median(values, axis=0), label=name, markevery=max(1, len(values[0]) // 8), **style)
    if len(values) > 1:
        axes.fill_between(at, values.min(axis=0), values.max(axis=0), alpha=0.15, color=style["color"], linewidth=0)


def points(axes: Any, at: Any, spreads: Sequence[Spread], name: str, **style: Any) -> None:
    """Medians over seeds as a line, and their ranges as error bars; runs that are missing leave a gap."""
    middle = np.array([spread.median for spread in spreads])
    if np.isnan(middle).all():
        return
    ends = [[spread.median - min(spread.known, default=np.nan) for spread in spreads]]
    ends += [[max(spread.known, default=np.nan) - spread.median for spread in spreads]]
    axes.errorbar(at, middle, yerr=ends, label=name, capsize=2, elinewidth=0.8, **(style or look(name)))


def bars(axes: Any, at: Any, spreads: Sequence[Spread], width: float, name: str, **style: Any) -> None:
    """Medians over seeds as bars, and their ranges on them."""
    axes.bar(at, [spread.median for spread in spreads], width, label=name, **style)
    points(axes, at, spreads, "_", fmt="none", ecolor="0.35")


def levels(axes: Any, values: Sequence[float]) -> None:
    """Known levels, as thin broken lines."""
    for value in values:
        axes.axhline(value, color="0.5", linestyle="--", linewidth=0.8, zorder=0)


def legend(figure: Any, columns: int = 7) -> None:
    """One legend for all plots, below them; nothing where nothing is drawn."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(
            entries.values(),
            entries.keys(),
            loc="outside lower center",
            ncols=min(columns, len(entries)),
            frameon=False,
        )

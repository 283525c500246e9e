"""How is a run looked at step by step? One HTML file with everything in it: pictures, plots, equations, an audit."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from forwardgrad.compiling import compile
from forwardgrad.errors import DataError, RenderError, did_you_mean
from forwardgrad.explain.notation import printable
from forwardgrad.program import Program
from forwardgrad.program.recording import Record
from forwardgrad.render import engines
from forwardgrad.render.collapsed import CAP
from forwardgrad.render.declared import graph as declared
from forwardgrad.render.paging import Shown, Training, page_text
from forwardgrad.support import atomic
from forwardgrad.testing.audited import Audit
from forwardgrad.testing.auditing import audit as held_against_the_exact

KEPT = 5e7
"""Numbers of the gradients of single steps that are kept, to compare rules by them; beyond, that is left out."""


@dataclass(frozen=True, repr=False)
class Page:
    """A report: one HTML file that needs nothing beside it. A notebook shows it as it is.

    Args:
        text: the HTML.
        records: what was recorded, by the name of the rule.
        audit: the rules held against the exact gradient, if asked for.
    """

    text: str
    records: Mapping[str, Record]
    audit: Audit | None

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the file, whole or not at all; raises `FileError` if that fails."""
        path = Path(path)
        atomic.write_bytes(path, self.text.encode("utf-8", "replace"))
        return path

    def __repr__(self) -> str:
        return f"Page(rules {printable(', '.join(self.records))}; {len(self.text):,} characters; .write('NAME.html'))"

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{html.escape(self.text)}" style="width:100%;height:46rem;border:0"></iframe>'


def report(
    program: Program,
    params: Mapping[str, Any],
    inputs: Mapping[str, Any],
    targets: Mapping[str, Any],
    *,
    rules: Sequence[Any] = (),
    block: Any = "auto",
    mask: Any = None,
    signals: Mapping[str, Any] | None = None,
    only: Iterable[str] | None = None,
    audit: bool = True,
    title: str | None = None,
    training: Training | None = None,
    timeout: float = engines.TIMEOUT,
    progress: Callable[[int], Any] = lambda n: None,
) -> Page:
    """Record a run and put it on a page: what the network does, and what flows, under one rule or two side by side.

    The page shows predictions beside targets, the loss, and the activity of all nodes; where two rules differ; the
    declared graph with the sizes of traces, learning signals and gradients at a step, which a slider, a play button,
    keys and the address choose; the same numbers as a table and over time; the derived equations; and an audit. It
    asks nothing of any server, and its policy forbids it to. A long run is thinned, and its numbers rounded; the page
    says so.

    Args:
        program: a compiled program.
        params, inputs, targets, block, mask, signals: as for `Program.gradient`.
        rules: further rules for the same graph, to be looked at beside that of the program.
        only: the parameters to follow; by default all that are trained.
        audit: whether to hold the rules against the exact gradient on these data.
        title: of the page; by default the title of the graph.
        training: how the parameters came about, if they were trained.
        timeout: seconds that the layout of the picture may take.
        progress: called with 1 after each rule.

    Returns:
        The page; `.write(path)` writes it.

    Raises:
        DataError: if an array does not fit.
        RenderError: if the graph is too large, or there is no engine to lay it out.
    """
    network = program.network
    if len(network.nodes) > CAP:
        raise RenderError(
            f"too large for a report: {len(network.nodes)} nodes; the limit is {CAP}.",
            "Draw it with one node per layer: render.graph, or render.credit for one parameter.",
        )
    if not isinstance(inputs, Mapping) or not isinstance(targets, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError("report: inputs and targets are arrays by node.", "To look at a stream, give a piece of it.")
    if isinstance(only, str):
        raise DataError(f"report: only is a collection of names, got {only!r}.", f"Write only=[{only!r}].")
    picture = _picture(program, timeout)
    title = str(title or program.graph.graph.get("title") or "forwardgrad")
    programs = _programs(program, rules)
    wanted = list(dict.fromkeys(only if only is not None else (n for each in programs.values() for n in each.rules)))
    for name in wanted:
        if all(name not in each.rules for each in programs.values()):
            raise DataError(f"report: {name!r} is no trained parameter.", did_you_mean(name, program.rules))
    numbers = sum(prod(network.parameters[name].shape) for name in wanted)
    length = max((np.shape(array)[0] for array in targets.values() if np.ndim(array)), default=0)
    keep = len(programs) > 1 and numbers * length * len(programs) <= KEPT
    records: dict[str, Record] = {}
    for name, each in programs.items():
        chosen = [parameter for parameter in wanted if parameter in each.rules]
        given = {node: (signals or {})[node] for node in each.signalled if node in (signals or {})}
        own = _params(program, each, params)
        records[name] = each.record(own, inputs, targets, mask, given or None, block=block, only=chosen, keep=keep)
        progress(1)
    found = None
    if audit:
        weights = {name: params[name] for name in network.parameters if name in params}
        found = held_against_the_exact(
            program.graph, weights, inputs, targets, dict(program.losses), _rules(programs), mask, signals=signals
        )
    values = program.run(_params(program, program, params), inputs)
    text = page_text(title, programs, records, found, picture, Shown(values, targets, mask, training))
    return Page(text, records, found)


def _programs(program: Program, rules: Sequence[Any]) -> dict[str, Program]:
    """The programs that are shown, by the names of their rules; equal rules once, equal names numbered."""
    programs = {_name(program.chosen): program}
    for rule in rules:
        other = compile(program.graph, dict(program.losses), rule, dtype=program.dtype, dead="ignore")
        if any(other.chosen == each.chosen for each in programs.values()):
            continue
        name, number = _name(other.chosen), 2
        while name in programs:
            name, number = f"{_name(other.chosen)} ({number})", number + 1
        programs[name] = other
    return programs


def _params(first: Program, other: Program, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of another rule: its matrices of adaptive feedback are drawn, those of the first are left out."""
    if other is first:
        return params
    drawn = other.init(0) if other.plan.followers else {}
    common = {name: array for name, array in params.items() if name not in first.plan.followers}
    return {**common, **{name: params.get(name, drawn[name]) for name in other.plan.followers}}


def _name(rules: Mapping[str, Any]) -> str:
    """How the rules of a program are called: by their one rule, or each by its parameter."""
    names = {name: str(rule) for name, rule in rules.items()}
    if len(set(names.values())) <= 1:
        return next(iter(names.values()), "no rule")
    return "; ".join(f"{name}: {rule}" for name, rule in names.items())


def _rules(programs: Mapping[str, Program]) -> list[Any]:
    return [
        next(iter(p.chosen.values())) if len(set(p.chosen.values())) == 1 else dict(p.chosen) for p in programs.values()
    ]


def _picture(program: Program, timeout: float) -> str:
    """The declared graph as SVG that can stand inside a page."""
    text = declared(program.network, cap=None).svg(timeout, legend=False)
    text = re.sub(r"<style>.*?</style>", "", text[text.index("<svg") :], count=1, flags=re.DOTALL)
    return re.sub(r' style="[^"]*"', "", text, count=1)

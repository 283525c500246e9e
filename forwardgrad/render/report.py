"""How is a run looked at step by step? One HTML file with everything in it: pictures, plots, equations, an audit."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from forwardgrad.compiling import compile
from forwardgrad.errors import DataError, RenderError, did_you_mean
from forwardgrad.explain.notation import printable
from forwardgrad.graph import Network
from forwardgrad.ops import Array
from forwardgrad.program import Program
from forwardgrad.program.recording import Record, Sizes
from forwardgrad.render import engines
from forwardgrad.render.collapsed import CAP
from forwardgrad.render.declared import graph as declared
from forwardgrad.render.fates import fates
from forwardgrad.render.text import shorten
from forwardgrad.support import atomic
from forwardgrad.testing.audited import ALL, Audit
from forwardgrad.testing.auditing import audit as held_against_the_exact

MOST = 400_000
"""Numbers that a page holds as they are; more are rounded to 16 bits, beyond four times that steps are left out."""

STEPS = 2000
"""Steps that a page shows at the most."""

LONGEST = 200
"""Characters of a name, and of what is said of a parameter, that stand on a page."""

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
    timeout: float = engines.TIMEOUT,
    progress: Callable[[int], Any] = lambda n: None,
) -> Page:
    """Record a run and put it on a page: what flows at every step, under one rule or several side by side.

    The page shows the declared graph with the sizes of traces, learning signals and gradients at a step, which a
    slider, a play button, keys and the address choose; the same numbers as a table; small plots over time; where two
    rules differ; the derived equations; and an audit. It asks the network for nothing, and its policy forbids it to. A
    long run is thinned, and its numbers rounded to 16 bits; the page says so.

    Args:
        program: a compiled program.
        params, inputs, targets, block, mask, signals: as for `Program.gradient`.
        rules: further rules for the same graph, to be looked at beside that of the program.
        only: the parameters to follow; by default all that are trained.
        audit: whether to hold the rules against the exact gradient on these data.
        title: of the page; by default the title of the graph.
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
        records[name] = each.record(own, inputs, targets, block, mask, given or None, chosen, keep)
        progress(1)
    found = None
    if audit:
        weights = {name: params[name] for name in network.parameters if name in params}
        found = held_against_the_exact(
            program.graph, weights, inputs, targets, dict(program.losses), _rules(programs), mask, signals=signals
        )
    text = _page(title, programs, records, found, picture)
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


def _page(
    title: str,
    programs: Mapping[str, Program],
    records: Mapping[str, Record],
    audit: Audit | None,
    picture: str,
) -> str:
    first = next(iter(records.values()))
    network = first.plan.network
    parameters = list(dict.fromkeys(name for record in records.values() for name in record.parameters))
    if not parameters:
        raise DataError("report: no parameter is followed.", "Name trained parameters, or leave 'only' out.")
    flows = {rule: {name: _flows(record, name) for name in record.parameters} for rule, record in records.items()}
    rows = sum(_rows(flow) for each in flows.values() for flow in each.values())
    steps = _steps(first.steps, rows)
    exact = rows * len(steps) <= MOST
    packed, nodes, edges = _Packer(steps, exact), list(network.nodes), list(network.edges)
    data = {
        "steps": steps.tolist(),
        "total": first.steps,
        "nodes": [_seen(name) for name in nodes],
        "edges": [_seen(name) for name in edges],
        "parameters": [_seen(name) for name in parameters],
        "entries": [[edges.index(edge) for edge in network.parameters[name].edges] for name in parameters],
        "biased": [nodes.index(n) if (n := network.parameters[name].node) else -1 for name in parameters],
        "loss": packed(first.loss),
        "rules": [
            {
                "name": _seen(rule),
                "parameters": [
                    _parameter(programs, records, rule, name, flows[rule][name], packed, network)
                    if name in flows[rule]
                    else None
                    for name in parameters
                ],
            }
            for rule in records
        ],
    }
    thinned = [f"{first.steps:,} steps were run, {len(steps):,} are shown."]
    thinned.append("Numbers have seven digits." if exact else "Numbers are rounded to 1/65,535 of a row's largest.")
    about = (
        f"{len(network.nodes)} nodes, {len(network.edges)} edges, batch {first.batch}, {first.steps:,} steps; rules: "
        + ", ".join(records)
    )
    style, script = _file("page.css"), _file("page.js")
    return _filled(
        _file("page.html"),
        {
            "TITLE": html.escape(_seen(title)),
            "ABOUT": html.escape(_seen(about)),
            "THINNED": html.escape(" ".join(thinned)),
            "STYLE_HASH": _hash(style),
            "SCRIPT_HASH": _hash(script),
            "STYLE": style,
            "SCRIPT": script,
            "SVG": picture,
            "AUDIT": "" if audit is None else _audit_table(audit),
            "DATA": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        },
    )


def _filled(template: str, words: Mapping[str, str]) -> str:
    """A template with its words in place, each looked at once, so that nothing that a user wrote is a word."""
    return re.sub(r"%%([A-Z_]+)%%", lambda match: words[match[1]], template)


def _file(name: str) -> str:
    return (resources.files("forwardgrad.render") / name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _seen(text: str) -> str:
    """Text in which nothing is hidden, and of which nothing is too long to be read."""
    return shorten("".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: 2 * LONGEST]), LONGEST)


Flows = tuple[dict[str, Sizes], dict[str, Sizes]]


def _flows(record: Record, name: str) -> Flows:
    return record.nodes(name), record.edges(name)


def _rows(flows: Flows) -> int:
    return 3 * len(flows[0]) + 2 * len(flows[1]) + 2


def _steps(total: int, rows: int) -> Array:
    """The steps that are shown: all, or evenly spaced ones, the first and the last among them."""
    most = min(total, STEPS, max(2, 4 * MOST // max(rows, 1)))
    return np.unique(np.linspace(0, total - 1, most).round().astype(int))


class _Packer:
    """Numbers over time as text: little-endian single precision or 16 bits, times a scale."""

    def __init__(self, steps: Array, exact: bool) -> None:
        self.steps, self.exact = steps, exact

    def __call__(self, array: Array) -> dict[str, Any]:
        values = np.asarray(array, np.float64)[self.steps]
        finite = np.isfinite(values)
        scale = float(np.abs(values[finite]).max(initial=0.0)) or 1.0
        if self.exact or not finite.all() or values.min(initial=0.0) < 0:
            return {"bytes": _encoded((values / scale).astype("<f4")), "scale": scale, "wide": True}
        return {
            "bytes": _encoded(np.round(values / scale * 65535).astype("<u2")),
            "scale": scale / 65535,
            "wide": False,
        }


def _encoded(array: Array) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _parameter(
    programs: Mapping[str, Program],
    records: Mapping[str, Record],
    rule: str,
    name: str,
    flows: Flows,
    packed: _Packer,
    network: Network,
) -> dict[str, Any]:
    derived, record, fated = programs[rule].rules[name], records[rule], fates(programs[rule], name)

    def rows(found: Mapping[str, Sizes], names: Iterable[str]) -> dict[int, Any]:
        return {
            index: {
                "trace": packed(found[at].trace),
                "product": packed(found[at].product),
                **({} if (signal := found[at].signal) is None else {"signal": packed(signal)}),
            }
            for index, at in enumerate(names)
            if at in found
        }

    cosines = {
        index: packed(_cosines(record.step_gradients[name], other.step_gradients[name]))
        for index, (label, other) in enumerate(records.items())
        if label != rule and name in record.step_gradients and name in other.step_gradients
    }
    return {
        "verdict": _seen(derived.verdict),
        "cuts": [index for index, edge in enumerate(network.edges) if fated.cuts(edge) and edge not in flows[1]],
        "equation": derived.equation,
        "gradient": packed(record.gradients[name]),
        "nodes": rows(flows[0], network.nodes),
        "edges": rows(flows[1], network.edges),
        "cosines": cosines,
    }


def _cosines(a: Array, b: Array) -> Array:
    """Per step, the cosine of the angle between two gradients; no number where one of them is zero."""
    a, b = (array.reshape(len(array), -1) for array in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.where(norms > 0, (a * b).sum(axis=1) / np.where(norms > 0, norms, 1), np.nan)


def _audit_table(audit: Audit) -> str:
    rows: list[str] = []
    for line in audit.lines:
        name = "all trained parameters" if line.parameter == ALL else line.parameter
        cells = [line.rule, *(map(str, (line.cosine, line.ratio, line.error)) if line.trained else ("–",) * 3)]
        cells.append(line.edges if line.trained else "untrained")
        body = "".join(f"<td>{html.escape(_seen(cell))}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{html.escape(_seen(name))}</th>{body}</tr>')
    titles = ("parameter", "rule", "cosine", "norm ratio", "relative error", "error removed by re-admitting")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    blocks = ", ".join(f"{rule}: {block}" for rule, block in zip(audit.rules, audit.blocks, strict=True))
    caption = f"{audit.steps} steps, batch {audit.batch}; steps per block: {html.escape(_seen(blocks))}"
    return (
        '<section aria-labelledby="audit-title">\n<h2 id="audit-title">Audit: held against the exact gradient</h2>\n'
        '<div class="scroll" tabindex="0" role="region" aria-labelledby="audit-title"><table>\n'
        f"<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table></div>\n</section>"
    )

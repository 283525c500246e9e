"""The text of a page: `page.html`, `page.css`, `charts.js` and `page.js` with what was recorded put in."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np

from forwardgrad.errors import DataError
from forwardgrad.graph import Network
from forwardgrad.ops import Array
from forwardgrad.program import Program
from forwardgrad.program.recording import Record, Sizes
from forwardgrad.render import style
from forwardgrad.render.activity import activity, predictions
from forwardgrad.render.credit import stored
from forwardgrad.render.fates import fates
from forwardgrad.render.text import shorten
from forwardgrad.testing.audited import ALL, Audit

MOST = 400_000
"""Numbers that a page holds as they are; more are rounded to 16 bits, beyond four times that steps are left out."""

STEPS = 2000
"""Steps that a page shows at the most."""

LONGEST = 200
"""Characters of a name, and of what is said of a parameter, that a page shows."""


@dataclass(frozen=True)
class Training:
    """How the parameters on a page came about.

    Args:
        facts: what is said of it, in pairs of words, such as a command, settings and scores.
        curve: a score per pass over the data.
        levels: other scores to compare it with, by name.
        score: what the score is called.
    """

    facts: Mapping[str, str]
    curve: Sequence[float] = ()
    levels: Mapping[str, float] = field(default_factory=dict[str, float])
    score: str = "loss"


@dataclass(frozen=True)
class Shown:
    """What is shown beside credit."""

    values: Mapping[str, Array]
    targets: Mapping[str, Any]
    mask: Any
    training: Training | None


def page_text(
    title: str,
    programs: Mapping[str, Program],
    records: Mapping[str, Record],
    audit: Audit | None,
    picture: str,
    shown: Shown,
) -> str:
    first, program = next(iter(records.values())), next(iter(programs.values()))
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
        "outputs": predictions(program, shown.values, shown.targets, shown.mask, packed),
        "activity": activity(program, shown.values, steps),
        "agreement": _agreement(list(records.values()), parameters),
        "curve": None if shown.training is None else _curve(shown.training),
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
    sheet, script = f"{style.stylesheet()}\n{_file('page.css')}", _file("charts.js") + _file("page.js")
    return _filled(
        _file("page.html"),
        {
            "TITLE": html.escape(_seen(title)),
            "ABOUT": html.escape(_seen(about)),
            "THINNED": html.escape(" ".join(thinned)),
            "STYLE_HASH": _hash(sheet),
            "SCRIPT_HASH": _hash(script),
            "STYLE": sheet,
            "SCRIPT": script,
            "SVG": picture,
            "AUDIT": "" if audit is None else _audit_table(audit),
            "FACTS": "" if shown.training is None else _facts(shown.training),
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


def _seen(text: str, limit: int = LONGEST) -> str:
    """Text in which nothing is hidden, and of which nothing is too long to be read."""
    return shorten("".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: 2 * limit]), limit)


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
        "seeds": sorted({list(network.nodes).index(node) for node, _ in fated.seeds}),
        "stored": [index for index, node in enumerate(network.nodes) if stored(programs[rule], name, node)],
        "bytes": derived.bytes,
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


def _agreement(records: Sequence[Record], parameters: Sequence[str]) -> list[list[list[Any]]]:
    """Per pair of rules and parameter: cosine and ratio of the lengths of the gradients of the whole run.

    `None` stands where a rule leaves the parameter untrained, or a gradient is zero or not finite.
    """
    return [[[_apart(one, other, name) for name in parameters] for other in records] for one in records]


def _apart(one: Record, other: Record, name: str) -> Any:
    if name not in one.grads or name not in other.grads:
        return None
    a, b = (np.ravel(record.grads[name]).astype(np.float64) for record in (one, other))
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        cosine = float(a @ b) / (lengths[0] * lengths[1]) if all(lengths) else np.nan
    found = [cosine, lengths[0] / lengths[1]] if all(lengths) else [np.nan, np.nan]
    return [round(value, 6) for value in found] if np.isfinite(found).all() else None


def _curve(training: Training) -> dict[str, Any]:
    """The learning curve, as plain data."""
    levels = {_seen(name): value for name, value in training.levels.items() if np.isfinite(value)}
    return {"score": _seen(training.score), "values": [float(x) for x in training.curve], "levels": levels}


def _facts(training: Training) -> str:
    rows = [
        f"<dt>{html.escape(_seen(k))}</dt><dd>{html.escape(_seen(v, 2000))}</dd>" for k, v in training.facts.items()
    ]
    return '<dl class="facts">\n' + "\n".join(rows) + "\n</dl>"


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

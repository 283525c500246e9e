"""How does the table of rules read? As text for a terminal, as plain data, and as the page `docs/rules.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forwardgrad import layouts
from forwardgrad.errors import RuleError, did_you_mean
from forwardgrad.layouts import Layout
from forwardgrad.rules.feedback import KINDS
from forwardgrad.rules.table import AUTOMATA, RULES, TABLE, Row, rule

EXAMPLES: Mapping[str, str] = {
    "hops": "hops(2)",
    "snap": layouts.SNAP.example,
    "dsf": "dsf(0.5)",
    "window": "window(5)",
    "settle": "settle(3)",
    "cut": "cut(['h->h'])",
}
"""A spelling of each row that takes arguments, whose coordinates are shown."""

COMMAND = "python -m forwardgrad rules --markdown > docs/rules.md"
"""What writes the page."""


@dataclass(frozen=True)
class Entry:
    """A row of the table, as it is shown.

    Args:
        name: as it is written, arguments included.
        example: a spelling without placeholders; the name itself where it takes no arguments.
        coordinates: the point that the example is, in the form that `rule` reads.
        keeps: what it keeps and drops.
        limits: known limits; empty for a bare automaton.
        source: where it comes from.
    """

    name: str
    example: str
    coordinates: str
    keeps: str
    limits: str
    source: str

    @property
    def instance(self) -> str:
        """What is said behind the coordinates, where they are those of one instance."""
        if self.example == self.name:
            return ""
        return ", for instance" if self.example == self.coordinates else f", for {self.example}"


def entry(name: str) -> Entry:
    """The entry of one name.

    Args:
        name: of the table; what stands in brackets behind it is left aside.

    Raises:
        RuleError: if it is not in the table.

    >>> entry("snap").coordinates
    "all; layout='snap(1)'"
    """
    key = name.partition("(")[0].strip()
    row: Row | None = TABLE.get(key)
    if row is None:
        raise RuleError(f"unknown rule {name!r}.", did_you_mean(key, TABLE))
    example = EXAMPLES[key] if row.arguments else key
    return Entry(key + row.arguments, example, rule(example).text, row.keeps, row.limits, row.source)


def report() -> dict[str, dict[str, dict[str, str]]]:
    """All tables as plain data: `{"rules", "automata" or "layouts": {name: fields}}`."""
    kept = {layout.name: _layout(layout) for layout in layouts.SHIPPED}
    return {
        "rules": {n: vars(entry(n)) for n in RULES},
        "automata": {n: vars(entry(n)) for n in AUTOMATA},
        "layouts": kept,
    }


def _layout(layout: Layout) -> dict[str, str]:
    """A row of the table of layouts, as plain data."""
    kind = "lossless" if layout.lossless else "random" if layout.random else "lossy"
    return {"name": layout.form, "kind": kind, "keeps": layout.keeps, "source": layout.source}


def text(names: list[str] | None = None) -> str:
    """A paragraph a row.

    Args:
        names: of the rows; by default all, the named rules first.
    """
    if names is not None:
        return "\n\n".join(_paragraph(entry(name)) for name in names)
    automata = "Automata, to compose rules with (such as 'eprop-deep & near'):"
    kept = "Layouts, how influence is kept between blocks (such as 'rtrl; layout=uoro'):"
    rows = "\n\n".join(_paragraph_of(layout) for layout in layouts.SHIPPED)
    return f"{text(list(RULES))}\n\n\n{automata}\n\n{text(list(AUTOMATA))}\n\n\n{kept}\n\n{rows}"


def _paragraph_of(layout: Layout) -> str:
    lines = {key: line for key, line in _layout(layout).items() if key != "name" and line}
    return "\n".join([layout.form, *(f"  {key:<8}{line}" for key, line in lines.items())])


def _paragraph(row: Entry) -> str:
    lines = {"is": row.coordinates + row.instance, "keeps": row.keeps, "limits": row.limits, "source": row.source}
    return "\n".join([row.name, *(f"  {key:<8}{line}" for key, line in lines.items() if line)])


def markdown() -> str:
    """The page `docs/rules.md`."""
    return "\n".join(
        [
            "# The rules",
            "",
            f"Made by `{COMMAND}` from the table in `forwardgrad/rules/table.py`; a test holds it to that.",
            "",
            "A rule is a point: which credit paths count (an automaton), then, after a semicolon, the coordinates that",
            "are not at their defaults: `layout`, `feedback`, `operator`, `carry`, `autapses`, `seed`. `--rule` and",
            "`compile(rule=...)` read both columns on the left; two spellings of one point are one rule. Terms compose",
            "with `&`: `hops(2) & synaptic; feedback=random, seed=3`. What the words mean stands in",
            "[design.md](design.md).",
            "",
            "## Named rules",
            "",
            *_rows(list(RULES), limits=True),
            "",
            "## Automata to compose with",
            "",
            *_rows(list(AUTOMATA), limits=False),
            "",
            "## Layouts",
            "",
            "How influence is kept between blocks, after the semicolon: `rtrl; layout=uoro`. Others can be added by",
            "`forwardgrad.register_layout`.",
            "",
            "| layout | | keeps | source |",
            "| --- | --- | --- | --- |",
            *(f"| `{r['name']}` | {r['kind']} | {r['keeps']} | {r['source']} |" for r in map(_layout, layouts.SHIPPED)),
            "",
            "## Feedback",
            "",
            "Through which weights credit comes back: `eprop; feedback=random(1.0)` for all weights into output",
            "layers, or by edge: `eprop; feedback={h->y: random(1.0), h2->y: [[0.5, -1]]}`. Names and words need no",
            "quotes unless they hold commas, colons, quotes, or square or curly brackets.",
            "",
            "| feedback | what brings credit back |",
            "| --- | --- |",
            *(f"| {word if ' ' in word else f'`{word}`'} | {line} |" for word, line in KINDS.items()),
            "",
        ]
    )


def _rows(names: list[str], *, limits: bool) -> list[str]:
    found = [entry(name) for name in names]
    header = ["rule", "coordinates", "keeps and drops", *(["limits"] if limits else []), "source"]
    lines = [header, ["---"] * len(header)]
    for row in found:
        limit = [row.limits] if limits else []
        lines.append([f"`{row.name}`", f"`{row.coordinates}`{row.instance}", row.keeps, *limit, row.source])
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]

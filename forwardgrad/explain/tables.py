"""Tables: aligned text for a terminal, HTML for a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence

from forwardgrad.explain.notation import printable


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns of text."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    return "\n".join(line.rstrip() for line in lines)


def html_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], below: str = "") -> str:
    """Rows as an HTML table that a notebook shows; every text is escaped.

    It sets no colours, so that it has those of the page around it, light or dark. The first cell of a row names it.

    >>> print(html_table("one <rule>", ["parameter", "bytes"], [["h->h", "12"]]).splitlines()[1])
    <caption style="text-align:left">one &lt;rule&gt;</caption>
    """
    head = "".join(f'<th scope="col" style="text-align:left">{_escaped(title)}</th>' for title in header)
    lines = [
        f'<tr><th scope="row" style="text-align:left">{_escaped(first)}</th>'
        + "".join(f'<td style="text-align:left">{_escaped(cell)}</td>' for cell in rest)
        + "</tr>"
        for first, *rest in rows
    ]
    return "\n".join(
        [
            '<table class="forwardgrad" style="font-variant-numeric:tabular-nums">',
            f'<caption style="text-align:left">{_escaped(caption)}</caption>',
            f"<thead><tr>{head}</tr></thead>",
            "<tbody>",
            *lines,
            "</tbody></table>",
            *([f"<pre>{html.escape(below)}</pre>"] if below else []),
        ]
    )


def _escaped(text: str) -> str:
    return html.escape(printable(text))

"""The pieces of a report's page: text, tables and sections as HTML.

Owns escaping and layout, no content.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence

from livescope.calls import Viability
from livescope.errors import AssayError

__all__ = ["STYLE", "escaped", "note", "number", "paragraph", "section", "table", "viability_words"]

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #ddd}svg{max-width:100%;height:auto}
table{border-collapse:collapse;font-size:.9rem}td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
th{border-bottom:1px solid #999}figure{display:inline-block;margin:.3rem;text-align:center;font-size:.75rem}
figure
img{width:96px;height:96px;image-rendering:pixelated;display:block}pre{background:#f5f5f5;padding:1rem;overflow:auto}
.note{color:#8a4b00}
"""


def escaped(words: str) -> str:
    """Return words as HTML text."""
    return html.escape(words)


def paragraph(words: str) -> str:
    """Return words as a paragraph."""
    return f"<p>{escaped(words)}</p>"


def note(words: str) -> str:
    """Return words that the reader must not miss."""
    return f'<p class="note">{escaped(words)}</p>'


def section(title: str, content: Callable[[], str]) -> str:
    """Return a section; where the data do not allow it, it says why."""
    try:
        inside = content()
    except AssayError as error:
        inside = note(str(error))
    return f"<h2>{escaped(title)}</h2>{inside}"


def table(head: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> str:
    """Return a table of words."""
    top = "" if head is None else "<tr>" + "".join(f"<th>{escaped(cell)}</th>" for cell in head) + "</tr>"
    body = "".join("<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{top}{body}</table>"


def number(value: float | None) -> str:
    """Return a figure with three decimals, nothing where there is none."""
    return "" if value is None else f"{value:.3f}"


def viability_words(v: Viability) -> str:
    """Return a viability with its interval and number."""
    if math.isnan(v.fraction):
        return "no cell called"
    return f"{100 * v.fraction:.1f} % ({100 * v.low:.1f} to {100 * v.high:.1f}), {v.n_live + v.n_dead} cells"

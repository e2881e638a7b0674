"""`livescope report`: what it writes and what it says.

Owns progress and words of the command. The page is `livescope.report.run`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from livescope.assay.pooled import BorderRule
from livescope.errors import SettingsError
from livescope.report.run import write_report

__all__ = ["report_runs"]


def report_runs(
    records: Sequence[Path],
    *,
    compare: bool = False,
    plate: Path | None = None,
    at_h: float | None = None,
    border: BorderRule | None = None,
    dye: str | None = None,
    out: Path | None = None,
) -> int:
    """Write a page for each record, or with `compare` one for all; returns the exit code.

    Raises
    ------
    SettingsError
        The options do not go together.
    """
    console = Console()
    if compare and len(records) < 2:
        raise SettingsError("--compare takes two records or more.")
    if at_h is not None and plate is None:
        raise SettingsError("--at is the time of the wells of a plate map: give --plate too, or leave it out.")
    if out is not None and len(records) > 1 and not compare:
        raise SettingsError("several records give a page each; leave out --out, or put them on one with --compare.")
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise SettingsError(f"--out {str(out)!r} must end in .html: a browser opens the page, and prints it to PDF.")
    for group in [list(records)] if compare else [[record] for record in records]:
        warnings: list[str] = []
        with console.status(escape(f"reading {', '.join(record.name for record in group)}")):
            written = write_report(group, out, plate, at_h, border=border, dye=dye, warn=warnings.append)
        for warning in warnings:
            console.print(f"[yellow]warning[/] {escape(warning)}", soft_wrap=True, highlight=False)
        for path in written:
            console.print(f"-> {path}", soft_wrap=True, highlight=False, markup=False)
    return 0

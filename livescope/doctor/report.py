"""The lines of `livescope doctor` and how they are shown.

Owns `Check` and `Report`. What is checked lies in the modules beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["Check", "Report", "Verdict"]


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """Something will not work, but a run is possible."""
    FAIL = "fail"
    """Something that every run needs is missing."""


_COLOUR = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAIL: "bold red"}


@dataclass(slots=True, frozen=True)
class Check:
    """One line: what was looked at, what was found, and the next step where it is not well."""

    name: str
    verdict: Verdict
    found: str
    next_step: str = ""


@dataclass(slots=True)
class Report:
    """All lines, by area."""

    areas: dict[str, list[Check]] = field(default_factory=dict)

    def gather(self, area: str, *sources: Callable[[], Iterable[Check]]) -> None:
        """Run checks. One that breaks is a line of the report, not the end of it."""
        checks = self.areas.setdefault(area, [])
        for source in sources:
            try:
                checks.extend(source())
            except Exception as error:  # noqa: BLE001 - whatever is broken on this machine is what the report is for
                found = f"{type(error).__name__}: {error}"
                checks.append(Check(area, Verdict.FAIL, found, "install livescope again (python tools/demo.py)"))

    @property
    def exit_code(self) -> int:
        """0, or 1 if a check failed."""
        return int(any(check.verdict is Verdict.FAIL for checks in self.areas.values() for check in checks))

    def show(self, as_json: bool) -> None:
        """Print as a table or as JSON."""
        if as_json:
            areas = {area: [asdict(check) for check in checks] for area, checks in self.areas.items()}
            print(json.dumps({"exit_code": self.exit_code, "areas": areas}, indent=2))
            return
        console = Console()
        for area, checks in self.areas.items():
            grid = Table.grid(padding=(0, 2, 0, 0))
            grid.add_column(width=len(Verdict.WARNING))
            grid.add_column(width=22, overflow="fold")
            grid.add_column(overflow="fold")
            for check in checks:
                verdict = f"[{_COLOUR[check.verdict]}]{check.verdict}[/]"
                step = f"\n[bold]next:[/] {escape(check.next_step)}" if check.next_step else ""
                grid.add_row(verdict, escape(check.name), escape(check.found) + step)
            console.print(f"\n[bold]{escape(area)}[/]")
            console.print(grid)

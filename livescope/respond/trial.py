"""`livescope rules`: when each rule would have fired in a recorded run; nothing is carried out.

Owns what is printed. The engine and the readings are those of a live run (`rules`, `readings`).
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from livescope.assay.pooled import BorderRule
from livescope.record.reader import Record, open_record
from livescope.respond.readings import readings_of_record, shift_of
from livescope.respond.rules import Firing, RuleEngine, Rules, load_rules

__all__ = ["try_rules"]


def try_rules(rules_path: Path, record_path: Path, console: Console, border: BorderRule | None = None) -> list[Firing]:
    """Run rules over a record and print when each would have fired.

    Parameters
    ----------
    rules_path, record_path
        The rules, and the record of the run.
    console
        For progress and table.
    border
        Which cells at the border count; None takes what the run was told.

    Raises
    ------
    SettingsError
        A rule is wrong.
    RecordError
        It is not a record.
    """
    rules, record = load_rules(rules_path), open_record(record_path)
    engine, fired = RuleEngine(rules), list[Firing]()
    readings = readings_of_record(record, focus="focus" in rules.metrics, border=border)
    first_s: float | None = None
    for reading in track(readings, "reading", len(record.analysed), console=console, transient=True):
        first_s = reading.time_s if first_s is None else first_s
        fired += engine.update(reading)
    console.print(_table(rules, fired, first_s or 0.0))
    unknown = {"disk_free_gb"} if shift_of(record) else {"disk_free_gb", "shift"}
    for name in sorted(rules.metrics & unknown):
        console.print(
            f"[yellow]note[/] a record does not tell {name!r}, so rules that look at it did not fire here.",
            soft_wrap=True,
        )
    if not record.analysed:
        console.print("[yellow]note[/] no frame of this record was analysed.")
    _compare(record, fired, console)
    return fired


def _table(rules: Rules, fired: list[Firing], first_s: float) -> Table:
    table = Table("rule", "frame", "after", "position", "why", "would do", title="dry run", title_justify="left")
    for rule in rules.rules:
        of_rule = [firing for firing in fired if firing.rule == rule.name]
        for firing in of_rule:
            actions = ", ".join(action.action for action in firing.actions)
            after = f"{(firing.time_s - first_s) / 60:.1f} min"
            row = (rule.name, str(firing.frame_index), after, firing.position or "", firing.reason, actions)
            table.add_row(*map(escape, row))
        if not of_rule:
            conditions = " and ".join(str(condition) for condition in rule.when)
            table.add_row(escape(rule.name), "never", "", "", escape(conditions), "")
    return table


def _compare(record: Record, fired: list[Firing], console: Console) -> None:
    """Say what was done in the run itself, if it had rules."""
    done = record.manifest.get("firings", [])
    if done:
        told = ", ".join(f"{one['rule']!r} ({one['action']}) at frame {one['frame']}" for one in done)
        console.print(f"In the run itself: {told}.", soft_wrap=True, highlight=False, markup=False)

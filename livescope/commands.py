"""What the commands do, as functions: demo, run, analyze, verify.

Owns the order in which a command calls the rooms. Options and help are in `livescope.cli`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from livescope.headless import exit_code, print_summary, run_headless, write_summary
from livescope.session import Session
from livescope.settings import Settings, load_settings

__all__ = ["analyze", "demo", "has_display", "run", "verify"]

_console = Console()


def has_display() -> bool:
    """Whether a window can be opened here. On Linux that takes an X or Wayland display."""
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def demo(out: Path, headless: bool, overrides: Sequence[str], summary: Path | None) -> int:
    """Run the demonstration; returns the exit code."""
    if not headless and not has_display():
        _console.print("No display: going on headless.")
        headless = True
    stem = out / f"demo-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    defaults = ["source.kind=simulated", f"record.path={str(stem) + '.ome.zarr'!r}"]
    if headless and not any(o.startswith(("run.frames", "run.seconds")) for o in overrides):
        defaults.append("run.seconds=20")
    settings = load_settings(None, [*defaults, *overrides])
    out.mkdir(parents=True, exist_ok=True)
    if headless:
        return run(settings, headless, summary or Path(f"{stem}.json"), Path(f"{stem}.png"))
    return run(settings, headless, summary, None)


def run(settings: Settings, headless: bool, summary: Path | None, picture: Path | None) -> int:
    """Run a session with or without a window; returns the exit code."""
    with Session(settings) as session:
        if not headless:
            from livescope.view.window import show

            return show(session)
        figures = run_headless(session, _console)
        analysis = session.latest_analysis()
    if picture is not None and analysis is not None:
        from livescope.view.picture import save_picture

        save_picture(picture, analysis)
        figures["picture"] = str(picture)
    if summary is not None:
        write_summary(figures, summary)
    print_summary(figures, _console)
    return exit_code(figures)


def analyze(source: Path, model: str, pixel_um: float | None, out: Path, settings: Settings) -> int:
    """Call every cell of stored images and write the table; returns the exit code."""
    from livescope.offline import analyze_input

    done = analyze_input(source, model, pixel_um, out, settings, _console)
    for warning in done.warnings:
        _console.print(f"[yellow]warning[/] {warning}", soft_wrap=True)
    _console.print(
        f"{done.cells} cells in {done.frames} frames ({done.live} live, {done.dead} dead, {done.uncertain} uncertain) "
        f"-> {out}",
        soft_wrap=True,
        highlight=False,
    )
    return 0


def verify(record: Path) -> int:
    """Check a record against its own hashes and sums; returns the exit code."""
    from livescope.errors import RecordError
    from livescope.record.verify import verify as verify_record

    with Progress(console=_console, transient=True) as progress:
        task = progress.add_task("checking", total=None)
        found = verify_record(record, lambda done, total: progress.update(task, completed=done, total=total))
    _console.print(str(found), soft_wrap=True, highlight=False)
    return 0 if found.ok else RecordError.exit_code

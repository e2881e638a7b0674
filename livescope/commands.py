"""What the commands that run a session do, as functions: demo and run.

Owns the order in which a command calls the rooms. Options and help are in `livescope.cli`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from livescope.headless import exit_code, print_summary, run_headless, summarise, write_summary
from livescope.outputs import make_room
from livescope.qt_libraries import has_display
from livescope.session import Session
from livescope.settings import Settings, load_settings
from livescope.view.monitor import monitoring

__all__ = ["demo", "run"]

_console = Console()


def demo(out: Path, headless: bool, overrides: Sequence[str], summary: Path | None) -> int:
    """Run the demonstration; returns the exit code."""
    if not headless and not has_display():
        _console.print("No display: going on headless.")
        headless = True
    stem = out / f"demo-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    defaults = ["source.kind=simulated", f"record.path={json.dumps(f'{stem}.ome.zarr', ensure_ascii=False)}"]
    if headless and not any(o.startswith(("run.frames", "run.seconds")) for o in overrides):
        defaults.append("run.seconds=20")
    settings = load_settings(None, [*defaults, *overrides])
    make_room("--out", Path(f"{stem}.png"))
    if headless:
        return run(settings, headless, summary or Path(f"{stem}.json"), Path(f"{stem}.png"))
    return run(settings, headless, summary, None)


def run(
    settings: Settings, headless: bool, summary: Path | None, picture: Path | None, *, allow_actions: bool = False
) -> int:
    """Run a session with or without a window; returns the exit code.

    `summary` and `picture` are of the session that was opened first, should another be opened from its window.
    """
    for option, path in (("--summary", summary), ("--picture", picture)):
        if path is not None:
            make_room(option, path)
    started_s = time.perf_counter()
    with Session(settings, allow_actions=allow_actions) as session:
        if headless:
            with monitoring(session, settings.view.monitor) as monitor:
                if monitor is not None:
                    _console.print(f"monitor: {monitor.url}", soft_wrap=True, markup=False)
                figures = run_headless(session, _console)
        else:
            from livescope.view.window import show

            code = show(session)
    if not headless:
        figures = summarise(session, time.perf_counter() - started_s)
    analysis = session.latest_analysis()
    if picture is not None and analysis is not None:
        from livescope.view.picture import save_picture

        save_picture(picture, analysis)
        figures["picture"] = str(picture)
    if summary is not None:
        write_summary(figures, summary)
    if headless:
        print_summary(figures, _console)
        code = exit_code(figures)
    if summary is not None:
        _console.print(f"summary: {summary}", soft_wrap=True, highlight=False, markup=False)
    return code

"""A session without a window: progress in the terminal, Ctrl-C that ends cleanly, a summary as a table and as JSON.

Owns what is printed and written about a run. What happens in it lies in `livescope.session`.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from livescope.errors import SettingsError
from livescope.session import Session, Status
from livescope.status import SessionState

__all__ = ["print_summary", "run_headless", "summarise"]

_DISK_TIMEOUT_S = 600.0
"""A record is given this long to reach the disk after the camera has stopped."""
_ERRORS_SHOWN = 5
"""Errors printed; the summary holds all of them."""


def run_headless(session: Session, console: Console) -> dict[str, Any]:
    """Run a session to its end and return its summary.

    Parameters
    ----------
    session
        Not started. It ends after `run.frames` or `run.seconds`, at the end of its files, or at Ctrl-C.

    Raises
    ------
    LivescopeError
        The start failed: nothing was acquired.
    """
    limits = session.settings.run
    started_s = time.perf_counter()
    session.start().result()
    with _progress(console) as progress, _terminate_as_interrupt():
        task = progress.add_task("running", total=limits.frames, numbers="")
        try:
            while not session.wait(0.1):
                status = session.status()
                progress.update(task, completed=status.delivered, numbers=_numbers(status))
                if limits.seconds is not None and time.perf_counter() - started_s >= limits.seconds:
                    break
        except KeyboardInterrupt:
            console.print("[yellow]interrupted: stopping cleanly; what was acquired is kept.[/]")
        try:
            session.stop()
            session.wait(_DISK_TIMEOUT_S)
        except KeyboardInterrupt:
            if (record := session.status().record) is not None:
                hint = f"interrupted again: finish the record with livescope recover {record}"
                console.print(hint, style="yellow", markup=False, highlight=False, soft_wrap=True)
            raise
        progress.update(task, completed=session.status().delivered, numbers=_numbers(session.status()))
    return summarise(session, time.perf_counter() - started_s)


def summarise(session: Session, seconds: float) -> dict[str, Any]:
    """Gather the figures of a run, ready for JSON: no NaN, no path objects."""
    status = session.status()
    analysis = session.latest_analysis()
    latency = status.latency_ms
    tally = session.book.tally
    return {
        "state": status.state.value,
        "reason": status.reason,
        "seconds": round(seconds, 3),
        "frames_delivered": status.delivered,
        "frames_lost": status.lost,
        "frames_recorded": status.recorded,
        "frames_analysed": status.analysed,
        "frames_shown": status.shown,
        "losses": session.book.ledger.rows(),
        "fps": round(session.book.mean_fps(), 3),
        "latency_ms": None if latency is None else dict(zip(("p50", "p95", "p99"), latency, strict=True)),
        "deaths": status.deaths,
        "cadence": status.cadence,
        "actions": list(status.actions),
        "viability": None if analysis is None else _jsonable(analysis.viability),
        "cameras": {label: _jsonable(a.viability) for label, a in sorted(session.book.newest_by_camera.items())},
        "truth": None if tally is None else _clean(tally.summary()),
        "backend": None if status.backend is None else _jsonable(status.backend),
        "model": status.model,
        "record": None if status.record is None else str(status.record),
        "warnings": list(status.warnings),
        "errors": list(status.errors),
    }


def write_summary(summary: dict[str, Any], path: Path) -> None:
    """Write a summary as JSON.

    Raises
    ------
    SettingsError
        The path cannot be written.
    """
    try:
        path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"summary {str(path)!r} cannot be written: {error.strerror}. Choose another path."
        ) from None


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print a summary as a table."""
    table = RichTable(title="livescope run", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()

    def row(name: str, what: str) -> None:
        table.add_row(escape(name), escape(what))

    lost = ", ".join(f"{cause} {count}" for cause, count in summary["frames_lost"].items() if count) or "none"
    row("state", summary["state"] + (f": {summary['reason']}" if summary["reason"] else ""))
    row(
        "frames",
        f"{summary['frames_delivered']} delivered, {summary['frames_recorded']} recorded, "
        f"{summary['frames_analysed']} analysed ({summary['cadence']}), {summary['frames_shown']} shown",
    )
    row("lost or skipped", lost)
    row("rate", f"{summary['fps']:.1f} frames/s over {summary['seconds']:.1f} s")
    if summary["latency_ms"]:
        row("latency", ", ".join(f"{k} {v:.0f} ms" for k, v in summary["latency_ms"].items()))
    if summary["viability"]:
        row("viability (last frame)", viability_text(summary["viability"]))
    for label, viability in summary["cameras"].items() if len(summary["cameras"]) > 1 else ():
        row(f"viability of {label}", viability_text(viability))
    if summary["deaths"]:
        row("deaths seen", str(summary["deaths"]))
    for action in summary["actions"]:
        became = "done" if action["ok"] else f"failed: {action['message']}"
        row("rule", f"{action['rule']}: {action['action']}, frame {action['frame']}: {became}")
    if summary["truth"]:
        row("against the truth", truth_text(summary["truth"]))
    backend = summary["backend"]
    row(
        "model",
        summary["model"]
        + (f" on {backend['backend']} ({backend['device']}, {backend['precision']})" if backend else ""),
    )
    console.print(table)
    for name in ("record", "picture"):  # below the table, whole: in it a long path is cut or broken
        if summary.get(name):
            console.print(f"{name}: {summary[name]}", soft_wrap=True, highlight=False, markup=False)
    if not summary["record"]:
        console.print("nothing stored: record.path is not set")
    for warning in summary["warnings"]:
        console.print(f"[yellow]warning[/] {escape(warning)}", soft_wrap=True)
    for error in summary["errors"][:_ERRORS_SHOWN]:
        console.print(f"[red]error[/] {escape(error)}", soft_wrap=True)
    if len(summary["errors"]) > _ERRORS_SHOWN:
        console.print(f"[red]and {len(summary['errors']) - _ERRORS_SHOWN} more errors[/]")


def viability_text(viability: dict[str, Any]) -> str:
    """Say a viability in words, with its interval and n."""
    counts = f"live {viability['n_live']}, dead {viability['n_dead']}, uncertain {viability['n_uncertain']}"
    if viability["fraction"] is None:
        return f"no call ({counts})"
    percent = _percent(viability["fraction"])
    percent += f" (95 % interval {_percent(viability['low'])} to {_percent(viability['high'])})"
    if viability["corrected"] is not None:
        percent += f", corrected for the model's errors {_percent(viability['corrected'])}"
        percent += f" ({_percent(viability['corrected_low'])} to {_percent(viability['corrected_high'])})"
    return f"{percent}; {counts}"


def truth_text(truth: dict[str, Any]) -> str:
    """Say how calls agree with a truth: detection, then state, with what they were counted on."""
    found = f"detection F1 {_figure(truth['f1'])} (precision {_figure(truth['precision'])}, recall of live "
    found += f"{_figure(truth['recall_live'])}, of dead {_figure(truth['recall_dead'])})"
    state = f"balanced accuracy {_figure(truth['balanced_accuracy'])} (without the uncertain "
    state += f"{_figure(truth['uncertain'])}: {_figure(truth['balanced_accuracy_decided'])})"
    return f"{found}; {state}; {truth['n_true']} cells in {truth['frames']} frames"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _numbers(status: Status) -> str:
    lost = sum(status.lost[cause] for cause in ("core", "camera", "recorder"))
    return (
        f"{status.delivered} frames  {status.fps_acquired:.0f} fps  {status.analysed} analysed  "
        f"{status.recorded} recorded  {lost} lost"
    )


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the run as cleanly as Ctrl-C does; only the main thread may ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _jsonable(record: Any) -> dict[str, Any]:
    """Turn a slotted dataclass into a dict without NaN."""
    return _clean(asdict(record))


def _clean(tree: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in tree.items()}


def exit_code(summary: dict[str, Any]) -> int:
    """0 for a run that ended well, 4 for one that failed or had errors."""
    return 4 if summary["state"] == SessionState.FAILED.value or summary["errors"] else 0

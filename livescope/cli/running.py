"""The commands that run a microscope, real or simulated, and the one that says whether it could run.

Owns their options, help and examples; each calls one function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from livescope.cli.base import Frames, Headless, Monitor, Seconds, Set, Summary, app

__all__ = ["demo", "doctor", "run", "start"]

_PANEL = "At the microscope"


@app.command(rich_help_panel=_PANEL, epilog="Example: livescope start")
def start() -> None:
    """Open the first page: try the demo, open a config or a record, train a network."""
    from livescope.view.start import show_start

    raise typer.Exit(show_start())


@app.command(rich_help_panel=_PANEL, epilog="Example: livescope demo --headless --seconds 20")
def demo(
    headless: Headless = False,
    frames: Frames = None,
    seconds: Seconds = None,
    set_: Set = None,
    summary: Summary = None,
    monitor: Monitor = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for record, picture and summary.")] = Path("runs"),
) -> None:
    """Simulated living cells, called live or dead: the whole job on any laptop.

    Opens a window if there is a screen; else, or with --headless, writes a record, a picture and a summary.
    """
    from livescope.commands import demo as run_demo

    raise typer.Exit(run_demo(out, headless, _limits(frames, seconds, set_, monitor), summary))


@app.command(
    rich_help_panel=_PANEL,
    epilog="Example: livescope run configs/simulated.yaml --headless --frames 200 --set record.path=run.ome.zarr",
)
def run(
    config: Annotated[Path, typer.Argument(help="YAML file; see configs/ for commented ones.")],
    headless: Headless = False,
    frames: Frames = None,
    seconds: Seconds = None,
    set_: Set = None,
    summary: Summary = None,
    monitor: Monitor = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Write the last analysed frame with its calls as PNG.")
    ] = None,
    allow_actions: Annotated[
        bool, typer.Option("--allow-actions", help="Let the rules (run.rules) run commands and call URLs.")
    ] = False,
) -> None:
    """Run a session: acquire, call, record, with a window unless --headless."""
    from livescope.commands import run as run_session
    from livescope.settings import load_settings

    settings = load_settings(config, _limits(frames, seconds, set_, monitor))
    raise typer.Exit(run_session(settings, headless, summary, picture, allow_actions=allow_actions))


@app.command(rich_help_panel=_PANEL, epilog="Example: livescope doctor --json")
def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    record: Annotated[
        Path | None, typer.Option("--record", help="Where records will be stored: its disk is measured.")
    ] = None,
) -> None:
    """Say what was found on this machine and what to do about what was not."""
    from livescope.doctor import run_doctor

    raise typer.Exit(run_doctor(as_json=json, record=record))


def _limits(
    frames: int | None, seconds: float | None, overrides: list[str] | None, monitor: int | None = None
) -> list[str]:
    """Say --frames, --seconds and --monitor as settings: what the command line can say a config can say."""
    limits = [f"run.frames={frames}"] if frames is not None else []
    limits += [f"run.seconds={seconds}"] if seconds is not None else []
    limits += [f"view.monitor.port={monitor}"] if monitor is not None else []
    return [*(overrides or []), *limits]

"""The commands on what was stored: records and images.

Owns their options, help and examples; each calls one function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from livescope.cli.base import PixelUm, RecordPath, Set, app

__all__ = ["analyze", "recover", "verify", "view"]

_PANEL = "Stored images and records"


@app.command(rich_help_panel=_PANEL, epilog="Example: livescope view runs/day1.ome.zarr")
def view(record: RecordPath) -> None:
    """Show a recorded run with its calls: time slider, play, correct; also one that is still going on."""
    from livescope.view.recorded import view_record

    raise typer.Exit(view_record(record))


@app.command(
    rich_help_panel=_PANEL,
    epilog='Example: livescope analyze "day 1/" --model suspension --pixel-um 0.65 --out calls.parquet',
)
def analyze(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="An image, a folder of images, or a record.")],
    model: Annotated[
        str, typer.Option("--model", help="Name of a bundled model, or the path of a bundle's .onnx file.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Table to write: .parquet or .csv, one row a cell.")],
    pixel_um: PixelUm = None,
    set_: Set = None,
) -> None:
    """Call every cell of stored images, by the same code path as live."""
    from livescope.commands import analyze as analyze_input
    from livescope.settings import load_settings

    raise typer.Exit(analyze_input(source, model, pixel_um, out, load_settings(None, set_ or [])))


@app.command(rich_help_panel=_PANEL, epilog="Example: livescope verify runs/day1.ome.zarr")
def verify(record: RecordPath) -> None:
    """Check a record against its own hashes and sums; exit code 6 if anything differs."""
    from livescope.commands import verify as verify_record

    raise typer.Exit(verify_record(record))


@app.command(rich_help_panel=_PANEL, epilog="Example: livescope recover runs/day1.ome.zarr")
def recover(record: RecordPath) -> None:
    """Finish a record that was cut off by a crash: exactly the frames of its journal are kept."""
    from livescope.record.recover import recover as recover_record

    typer.echo(str(recover_record(record)))

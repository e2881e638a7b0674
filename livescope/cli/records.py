"""The commands on what was stored: records and images.

Owns their options, help and examples; each calls one function.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from livescope.cli.base import PixelUm, RecordPath, Set, app

__all__ = ["analyze", "export", "recover", "report", "rules", "verify", "view"]

_PANEL = "Stored images and records"


class Outlines(StrEnum):
    """How cells of stored images are outlined."""

    RAYS = "rays"
    REFINED = "refined"


RecordOrUrl = Annotated[
    str,
    typer.Argument(
        metavar="RECORD", help="The record's folder, NAME.ome.zarr, or its URL, e.g. s3://lab/NAME.ome.zarr."
    ),
]


class Format(StrEnum):
    """What a record can be exported to."""

    CSV = "csv"
    ANNDATA = "anndata"
    OME_TIFF = "ome-tiff"
    LABELS = "labels"
    MP4 = "mp4"
    GIF = "gif"


@app.command(rich_help_panel=_PANEL, epilog="Example: livescope view runs/day1.ome.zarr")
def view(record: RecordPath) -> None:
    """Show a recorded run with its calls: time slider, play, correct; also one that is still going on."""
    from livescope.view.recorded import view_record

    raise typer.Exit(view_record(record))


@app.command(
    rich_help_panel=_PANEL,
    epilog='Examples: livescope analyze "day 1/" --model suspension --pixel-um 0.65 --out calls.parquet; '
    "livescope analyze runs/day1.ome.zarr --workers 4",
)
def analyze(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="An image, a folder of images, or a record (also s3://...).")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", help="A bundled model's name, or a bundle's .onnx file; for a record that of the run."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Table to write, .parquet or .csv; for a record beside it.")
    ] = None,
    pixel_um: PixelUm = None,
    outlines: Annotated[
        Outlines, typer.Option("--outlines", help="What areas and rays are of: live's rays, or refined ones.")
    ] = Outlines.RAYS,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Folder without pictures for a label image (TIFF) of each image's cells."),
    ] = None,
    every_frame: Annotated[
        bool, typer.Option("--every-frame", help="Of a record also frames that the run skipped.")
    ] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes for a record.")] = None,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", metavar="ADDRESS", help="Dask scheduler for a record.")
    ] = None,
    set_: Set = None,
) -> None:
    """Call every cell of stored images or of a record, by the same code path as live: one row a cell.

    Of a record the calls are compared with those of the run: same model and backend give the same bits.
    """
    from livescope.stored import analyze as analyze_stored

    how: dict[str, Any] = {"workers": workers, "scheduler": scheduler, "every_frame": every_frame}
    refined = outlines is Outlines.REFINED
    raise typer.Exit(analyze_stored(source, model, out, set_ or [], pixel_um, refined, labels, **how))


@app.command(rich_help_panel=_PANEL, epilog="Example: livescope export runs/day1.ome.zarr --to csv")
def export(
    record: RecordOrUrl,
    to: Annotated[
        Format,
        typer.Option(
            "--to", help="csv, anndata: cells; ome-tiff, labels: pictures for QuPath, Fiji, TrackMate; mp4, gif: movie."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; no TIFF is replaced. Else beside the record.")
    ] = None,
    image: Annotated[
        str, typer.Option("--image", help="Image group of the record, e.g. images/1; without it the first.")
    ] = "",
) -> None:
    """Write a record in a format of other tools: tables, pictures, label images, movies."""
    from livescope.stored import export as export_record

    raise typer.Exit(export_record(record, to.value, out, image))


@app.command(rich_help_panel=_PANEL, epilog="Example: livescope verify runs/day1.ome.zarr")
def verify(record: RecordOrUrl) -> None:
    """Check a record against its own hashes and sums; exit code 6 if anything differs."""
    from livescope.stored import verify as verify_record

    raise typer.Exit(verify_record(record))


@app.command(rich_help_panel=_PANEL, epilog="Example: livescope recover runs/day1.ome.zarr")
def recover(record: RecordPath) -> None:
    """Finish a record that was cut off by a crash: exactly the frames of its journal are kept."""
    from livescope.record.recover import recover as recover_record

    typer.echo(str(recover_record(record)))


@app.command(
    rich_help_panel=_PANEL,
    epilog="Examples: livescope report runs/day1.ome.zarr; "
    "livescope report runs/a.ome.zarr runs/b.ome.zarr --compare --plate configs/platemap.csv",
)
def report(
    records: Annotated[list[Path], typer.Argument(metavar="RECORD...", help="One record or several.")],
    compare: Annotated[bool, typer.Option("--compare", help="Several records side by side on one page.")] = False,
    plate: Annotated[
        Path | None, typer.Option("--plate", help="Plate map, CSV or YAML: which well got what; see configs/.")
    ] = None,
    at_h: Annotated[
        float | None, typer.Option("--at", min=0, help="Hours since the start for plate and dose; default: the end.")
    ] = None,
    border: Annotated[
        Literal["all", "inside", "brick"] | None,
        typer.Option("--border", help="Cells at the border that count; default: as in the run."),
    ] = None,
    dye: Annotated[
        str | None, typer.Option("--dye", help="Channel of a dead-cell dye; default: the only one that was not called.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="HTML file; default: NAME.report.html.")] = None,
) -> None:
    """Write what a run found as one HTML page that opens anywhere, with its tables as CSV and Parquet."""
    from livescope.report.command import report_runs

    raise typer.Exit(report_runs(records, compare=compare, plate=plate, at_h=at_h, border=border, dye=dye, out=out))


@app.command(rich_help_panel=_PANEL, epilog="Example: livescope rules configs/rules.yaml runs/day1.ome.zarr")
def rules(
    rules_file: Annotated[Path, typer.Argument(metavar="RULES", help="Rules, YAML; see configs/rules.yaml.")],
    record: RecordPath,
) -> None:
    """Try rules on a recorded run: when each would have fired, and why. Nothing is carried out."""
    from rich.console import Console

    from livescope.respond.trial import try_rules

    try_rules(rules_file, record, Console())

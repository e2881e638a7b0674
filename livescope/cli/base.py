"""What all commands share: the application, and the options that several of them take.

Owns names, meaning and help of those options. No command is defined here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from livescope import __version__

__all__ = ["Frames", "Headless", "Model", "Monitor", "PixelUm", "RecordPath", "Seconds", "Set", "Summary", "app"]

app = typer.Typer(
    name="livescope",
    help="Which cells are alive and which are dead, live at the microscope and without a stain.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


Headless = Annotated[
    bool, typer.Option("--headless", help="No window: progress in the terminal, pictures and a summary.")
]
Frames = Annotated[int | None, typer.Option("--frames", min=1, help="End after so many frames.")]
Seconds = Annotated[
    float | None, typer.Option("--seconds", min=0.1, help="Without a window: end after so many seconds.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; may be repeated.")
]
RecordPath = Annotated[Path, typer.Argument(metavar="RECORD", help="The record's folder, NAME.ome.zarr.")]
PixelUm = Annotated[
    float | None, typer.Option("--pixel-um", min=0.001, max=100, help="Micrometres a pixel on the sample.")
]
Summary = Annotated[Path | None, typer.Option("--summary", help="Write the summary as JSON.")]
Monitor = Annotated[
    int | None,
    typer.Option("--monitor", min=0, max=65_535, help="Port of a read-only page on the run, for a browser."),
]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Name of a bundled model, or the path of a bundle's .onnx file.")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"livescope {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass

"""The command line: a line per command, each calls one function.

Owns options, help and exit codes. Errors that livescope explains are printed without a traceback.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from livescope import __version__
from livescope.errors import LivescopeError, SettingsError

__all__ = ["app", "main"]

app = typer.Typer(
    name="livescope",
    help="Which cells are alive and which are dead, live at the microscope and without a stain.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class PixelType(StrEnum):
    """Pixel types of a camera."""

    UINT8 = "uint8"
    UINT16 = "uint16"


class Precision(StrEnum):
    """Arithmetic of an engine."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class TensorRt(StrEnum):
    """The two TensorRTs."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


Headless = Annotated[
    bool, typer.Option("--headless", help="No window: progress in the terminal, pictures and a summary.")
]
Frames = Annotated[int | None, typer.Option("--frames", min=1, help="End after so many frames.")]
Seconds = Annotated[float | None, typer.Option("--seconds", min=0.1, help="End after so many seconds.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; may be repeated.")
]
RecordPath = Annotated[Path, typer.Argument(metavar="RECORD", help="The record's folder, NAME.ome.zarr.")]
PixelUm = Annotated[float | None, typer.Option("--pixel-um", min=0.001, help="Micrometres a pixel on the sample.")]
Summary = Annotated[Path | None, typer.Option("--summary", help="Write the summary as JSON.")]


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"livescope {__version__}")
        raise typer.Exit


@app.command(epilog="Example: livescope demo --headless --seconds 20")
def demo(
    headless: Headless = False,
    frames: Frames = None,
    seconds: Seconds = None,
    set_: Set = None,
    summary: Summary = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for record, picture and summary.")] = Path("runs"),
) -> None:
    """Simulated living cells, called live or dead: the whole job on any laptop.

    Opens a window if there is a screen; else, or with --headless, writes a record, a picture and a summary.
    """
    from livescope.commands import demo as run_demo

    raise typer.Exit(run_demo(out, headless, _limits(frames, seconds, set_), summary))


@app.command(
    epilog="Example: livescope run configs/simulated.yaml --headless --frames 200 --set record.path=run.ome.zarr"
)
def run(
    config: Annotated[Path, typer.Argument(help="YAML file; see configs/ for commented ones.")],
    headless: Headless = False,
    frames: Frames = None,
    seconds: Seconds = None,
    set_: Set = None,
    summary: Summary = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Write the last analysed frame with its calls as PNG.")
    ] = None,
) -> None:
    """Run a session: acquire, call, record, with a window unless --headless."""
    from livescope.commands import run as run_session
    from livescope.settings import load_settings

    settings = load_settings(config, _limits(frames, seconds, set_))
    raise typer.Exit(run_session(settings, headless, summary, picture))


@app.command(epilog='Example: livescope analyze "day 1/" --model suspension --pixel-um 0.65 --out calls.parquet')
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


@app.command(epilog="Example: livescope doctor --json")
def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    record: Annotated[
        Path | None, typer.Option("--record", help="Where records will be stored: its disk is measured.")
    ] = None,
) -> None:
    """Say what was found on this machine and what to do about what was not."""
    from livescope.doctor import run_doctor

    raise typer.Exit(run_doctor(as_json=json, record=record))


@app.command(epilog="Example: livescope recover runs/day1.ome.zarr")
def recover(record: RecordPath) -> None:
    """Finish a record that was cut off by a crash: exactly the frames of its journal are kept."""
    from livescope.record.recover import recover as recover_record

    typer.echo(str(recover_record(record)))


@app.command(epilog="Example: livescope view runs/day1.ome.zarr")
def view(record: RecordPath) -> None:
    """Show a recorded run with its calls: time slider, play, correct; also one that is still going on."""
    from livescope.view.recorded import view_record

    raise typer.Exit(view_record(record))


@app.command(epilog="Example: livescope verify runs/day1.ome.zarr")
def verify(record: RecordPath) -> None:
    """Check a record against its own hashes and sums; exit code 6 if anything differs."""
    from livescope.commands import verify as verify_record

    raise typer.Exit(verify_record(record))


@app.command(epilog="Example: livescope engine suspension --shape 2048x2048 --pixel-um 0.65 --out suspension.plan")
def engine(
    model: Annotated[str, typer.Argument(help="Name of a bundled model, or the path of a bundle's .onnx file.")],
    shape: Annotated[str, typer.Option("--shape", help="Rows x columns of the frames, e.g. 2048x2048.")],
    out: Annotated[Path | None, typer.Option("--out", help="Plan to write.")] = None,
    triton: Annotated[
        Path | None, typer.Option("--triton", help="Model repository of a GPU server to write into.")
    ] = None,
    dtype: Annotated[PixelType, typer.Option("--dtype", help="Pixel type of the frames.")] = PixelType.UINT16,
    precision: Annotated[Precision, typer.Option("--precision", help="Arithmetic of the network.")] = Precision.FP16,
    backend: Annotated[TensorRt, typer.Option("--backend", help="Which TensorRT.")] = TensorRt.TENSORRT,
    pixel_um: PixelUm = None,
    max_cells: Annotated[int, typer.Option("--max-cells", min=1, max=3840, help="Rows of the table.")] = 1024,
) -> None:
    """Build a TensorRT engine ahead of time, for frames of one shape; or hand the model to a GPU server."""
    from livescope.engine import build_engine, export_triton, frame_spec

    if out is None and triton is None:
        raise SettingsError("engine has nothing to write: give --out PLAN, or --triton REPOSITORY.")
    spec = frame_spec(shape, dtype.value, pixel_um)
    if out is not None:
        build_engine(model, spec, precision.value, backend.value, max_cells, out, Console())
    if triton is not None:
        export_triton(model, spec, precision.value, max_cells, triton, Console())


@app.command(name="int8", epilog="Example: livescope int8 suspension --frames images/ --out suspension8.onnx")
def int8(
    model: Annotated[str, typer.Argument(help="Name of a bundled model, or the path of a bundle's .onnx file.")],
    frames: Annotated[
        Path, typer.Option("--frames", help="Image, folder of images or record: what the model will see.")
    ],
    out: Annotated[Path, typer.Option("--out", help="NAME.onnx of the new bundle.")],
    pixel_um: PixelUm = None,
) -> None:
    """Make an 8-bit version of a model, judged against the model itself on frames of yours."""
    from livescope.engine import make_int8

    make_int8(model, frames, pixel_um, out, Console())


def _limits(frames: int | None, seconds: float | None, overrides: list[str] | None) -> list[str]:
    """Say --frames and --seconds as settings: what the command line can say a config can say."""
    limits = [f"run.frames={frames}"] if frames is not None else []
    limits += [f"run.seconds={seconds}"] if seconds is not None else []
    return [*(overrides or []), *limits]


def main() -> None:
    """Run the command line; explained errors end it with their exit code."""
    try:
        app()
    except LivescopeError as error:
        Console(stderr=True).print(f"[bold red]error[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)

"""The commands on networks: training, validation, engines and smaller versions of them.

Owns their options, help and examples; each calls one function.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from livescope.cli.base import Model, PixelUm, Set, app
from livescope.errors import SettingsError

__all__ = ["calibrate", "engine", "evaluate", "import_", "int8", "package", "train"]

_PANEL = "Networks"


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


@app.command(
    rich_help_panel=_PANEL,
    epilog="Example: livescope train configs/finetune.yaml --from adherent  (or configs/dye.yaml, from dye pairs)",
)
def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file; see configs/train.yaml.")],
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help="Fine-tune this network instead of starting from chance."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the new bundle (default: the config's).")] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            help="Go on from an interrupted training. Default: if there is one of these settings and data.",
        ),
    ] = None,
    set_: Set = None,
) -> None:
    """Train a network on labelled pictures, or fine-tune one, and validate it on groups that were kept out.

    Writes NAME.onnx with its card, the course of the losses, the thresholds of a dye, and a validation sheet.
    """
    from livescope.train.command import run_train

    # quoted: a folder 2024-05-01 is no date
    named = {"start": from_, "out": None if out is None else str(out)}
    given = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in named.items() if value is not None]
    run_train(config, [*given, *(set_ or [])], resume, Console())


@app.command(
    rich_help_panel=_PANEL, epilog="Example: livescope evaluate suspension data/ldc --split series --out sheet/"
)
def evaluate(
    model: Model,
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Folder of labelled pictures (COCO boxes, images/ with masks/, dye pairs), a training config, or the "
            "word simulated. Of a corrected record a config must say reviewed: true.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for sheet.json, sheet.html and the figures.")],
    split: Annotated[
        str,
        typer.Option(
            "--split",
            help="What is one independent group: group (the data's own), another key or regular expression of theirs, "
            "or none to score every field, also those of the training.",
        ),
    ] = "group",
    pixel_um: PixelUm = None,
) -> None:
    """Score a model on labelled pictures that it has never seen, and write its validation sheet."""
    from livescope.train.command import run_evaluate

    run_evaluate(model, data, out, split, pixel_um, Console())


@app.command(
    rich_help_panel=_PANEL,
    epilog="Example: livescope calibrate adherent controls/ --pixel-um 0.65 --out models/adherent-monday.onnx",
)
def calibrate(
    model: Model,
    fields: Annotated[
        Path,
        typer.Argument(
            metavar="FIELDS",
            help="Control fields: labelled pictures or a training config (as for evaluate), or plain pictures, from "
            "which only the shift watch learns. Of a corrected record a config must say reviewed: true.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="NAME.onnx of the new bundle; the model itself is not changed.")],
    risk: Annotated[
        float,
        typer.Option("--risk", min=0.0, max=0.5, help="Largest part of wrong calls; what is less sure is uncertain."),
    ] = 0.01,
    pixel_um: PixelUm = None,
) -> None:
    """Refit a model's chances and its uncertain band on control fields of the day, without any training."""
    from livescope.train.command import run_calibrate

    run_calibrate(model, fields, out, risk, pixel_um, Console())


@app.command(
    rich_help_panel=_PANEL,
    epilog="Example: livescope engine suspension --shape 2048x2048 --pixel-um 0.65 --out suspension.plan",
)
def engine(
    model: Model,
    shape: Annotated[str, typer.Option("--shape", help="Rows x columns of the frames, e.g. 2048x2048.")],
    out: Annotated[Path | None, typer.Option("--out", help="Plan to write.")] = None,
    triton: Annotated[
        Path | None, typer.Option("--triton", help="Model repository of a GPU server to write into.")
    ] = None,
    dtype: Annotated[PixelType, typer.Option("--dtype", help="Pixel type of the frames.")] = PixelType.UINT16,
    precision: Annotated[Precision, typer.Option("--precision", help="Arithmetic of the network.")] = Precision.FP16,
    backend: Annotated[
        TensorRt,
        typer.Option("--backend", help="tensorrt-rtx needs no GPU to build; tensorrt builds for the GPU that is here."),
    ] = TensorRt.TENSORRT_RTX,
    pixel_um: PixelUm = None,
    max_cells: Annotated[int, typer.Option("--max-cells", min=1, max=3840, help="Rows of the table.")] = 1024,
) -> None:
    """Build a TensorRT engine ahead of time, for frames of one shape; or hand the model to a GPU server.

    A session needs neither: with detector.backend tensorrt-rtx or tensorrt it builds its engine once and keeps it.
    """
    from livescope.engine import build_engine, export_triton, frame_spec

    if out is None and triton is None:
        raise SettingsError("engine has nothing to write: give --out PLAN, or --triton REPOSITORY.")
    spec = frame_spec(shape, dtype.value, pixel_um)
    if out is not None:
        build_engine(model, spec, precision.value, backend.value, max_cells, out, Console())
    if triton is not None:
        export_triton(model, spec, precision.value, max_cells, triton, Console())


@app.command(
    rich_help_panel=_PANEL, epilog="Example: livescope int8 suspension --frames images/ --out suspension8.onnx"
)
def int8(
    model: Model,
    frames: Annotated[
        Path, typer.Option("--frames", help="Image, folder of images or record: what the model will see.")
    ],
    out: Annotated[Path, typer.Option("--out", help="NAME.onnx of the new bundle.")],
    pixel_um: PixelUm = None,
) -> None:
    """Make an 8-bit version of a model, judged against the model itself on frames of yours."""
    from livescope.engine import make_int8

    make_int8(model, frames, pixel_um, out, Console())


@app.command(rich_help_panel=_PANEL, epilog="Example: livescope package adherent --out adherent.zip")
def package(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="Package to write, NAME.zip.")],
    author: Annotated[
        list[str] | None, typer.Option("--author", help="Name for the description; may be repeated.")
    ] = None,
) -> None:
    """Hand a model on as a bioimage.io package: ONNX weights, card, and test tensors that show it works."""
    from livescope.exchange.bioimage import pack

    pack(model, out, tuple(author or ()), Console())


@app.command(
    name="import",
    rich_help_panel=_PANEL,
    epilog="Examples: livescope import adherent.zip --out models/adherent.onnx; "
    "livescope import unet.onnx --card unet.card.yaml --out models/unet.onnx",
)
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="bioimage.io package (.zip or folder), or an .onnx network.")
    ],
    out: Annotated[Path, typer.Option("--out", help="NAME.onnx of the new bundle.")],
    card: Annotated[
        Path | None, typer.Option("--card", help="Its card, if it brings none: see docs/adapters.md.")
    ] = None,
) -> None:
    """Take in a model of somebody else: checked, nothing of it trusted, and made a bundle that every command takes."""
    from livescope.exchange.adopt import take_in

    take_in(source, out, card, Console())

"""`livescope analyze`: stored images through the same code path as live frames, one row a cell.

Owns the table that it writes. Reading the images is `acquire.files`, calling the cells `livescope.analysis`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet
from rich.console import Console
from rich.progress import Progress

from livescope.acquire.files import iter_frames, open_pages
from livescope.analysis import FrameAnalyser
from livescope.calls import CellCalls, State
from livescope.detect.bundle import load_bundle
from livescope.errors import ModelError, SettingsError
from livescope.frames import Frame
from livescope.outlines import StoredOutlines
from livescope.outputs import make_room
from livescope.settings import Settings

__all__ = ["SCHEMA", "Analysed", "analyze_input"]

SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("t", pa.int64()),
        ("y_px", pa.float32()),
        ("x_px", pa.float32()),
        ("p_cell", pa.float32()),
        ("p_dead", pa.float32()),
        ("state", pa.string()),
        ("area_px", pa.float32()),
        ("area_um2", pa.float32()),
        ("radii_px", pa.list_(pa.float32())),
    ]
)
"""Columns of the table: `image` is the file's name or the record's, `t` counts the frames in it from 0."""

_WRITERS = (".parquet", ".csv")


@dataclass(slots=True, frozen=True)
class Analysed:
    """What was read and found."""

    frames: int
    cells: int
    live: int
    dead: int
    uncertain: int
    warnings: tuple[str, ...]


def analyze_input(
    source: Path,
    model: str,
    pixel_um: float | None,
    out: Path,
    settings: Settings,
    console: Console,
    refined: bool = False,
    labels: Path | None = None,
) -> Analysed:
    """Call every cell of an image, a folder of images, or a record, and write one row a cell.

    Parameters
    ----------
    source
        Image file, folder of images, or OME-Zarr record.
    model
        Bundled model's name, or path of a bundle's ``.onnx`` file.
    pixel_um
        Micrometres a pixel; None takes what the files say, or the model's with a warning.
    out
        ``.parquet`` or ``.csv`` file to write; replaced if it exists.
    settings
        Detector settings.
    console
        For the progress bar.
    refined, labels
        Outlines and label images: see `livescope.outlines.StoredOutlines`.

    Raises
    ------
    SettingsError
        `out` is of another kind, or cannot be written; `labels` holds pictures.
    SourceError, ModelError
        Nothing to read, no such model, or pixels that do not fit it.
    """
    if out.suffix not in _WRITERS:
        raise SettingsError(f"--out {str(out)!r} ends in {out.suffix!r}; livescope writes {' or '.join(_WRITERS)}.")
    make_room("--out", out)
    bundle = load_bundle(model)
    analyser = FrameAnalyser(bundle, settings.detector)
    outlined = StoredOutlines(bundle, refined, labels, settings.detector.threads)
    camera = settings.camera.model_copy(update={"pixel_um": pixel_um or settings.camera.pixel_um})
    batches: list[pa.RecordBatch] = []
    told = {warning: warning for warning in analyser.warnings}  # of the model; the others name the image
    with Progress(console=console, transient=True) as progress:
        named_frames = iter_frames(source, camera)
        for name, frame in progress.track(named_frames, len(open_pages(source)), description="analysing"):
            assert frame.metadata is not None
            calls = outlined(frame, _called(analyser, frame, name), name)
            batches.append(_rows(name, frame.metadata["t"], calls))  # one a frame
            told |= {warning: f"{name}: {warning}" for warning in analyser.warnings if warning not in told}
    sha256, outlines = analyser.describe().model_sha256, "refined" if refined else "rays"
    made_with = {"model": model, "sha256": sha256, "frames": len(batches), "outlines": outlines}
    table = pa.Table.from_batches(batches, SCHEMA).replace_schema_metadata({"livescope": json.dumps(made_with)})
    _write(table, out)
    state = np.asarray(table["state"].combine_chunks(), dtype=object)
    live, dead, uncertain = (int((state == s.label).sum()) for s in State)
    analyser.close()
    return Analysed(len(batches), table.num_rows, live, dead, uncertain, tuple(told.values()))


def _rows(name: str, t: int, calls: CellCalls) -> pa.RecordBatch:
    n = len(calls)
    radii = pa.ListArray.from_arrays(
        np.arange(0, (n + 1) * calls.radii_px.shape[1], calls.radii_px.shape[1], dtype=np.int32)[: n + 1],
        np.ascontiguousarray(calls.radii_px, np.float32).ravel(),
    )
    columns = [
        pa.array([name] * n, pa.string()),
        pa.array(np.full(n, t, np.int64)),
        calls.y_px,
        calls.x_px,
        calls.p_cell,
        calls.p_dead,
        pa.array([State(s).label for s in calls.state], pa.string()),
        calls.area_px,
        pa.array(calls.area_um2, from_pandas=True),
        radii,
    ]
    return pa.RecordBatch.from_arrays(
        [c if isinstance(c, pa.Array) else pa.array(c, pa.float32()) for c in columns], schema=SCHEMA
    )


def _called(analyser: FrameAnalyser, frame: Frame, name: str) -> CellCalls:
    try:
        return analyser(frame).calls
    except ModelError as error:  # of the pixel size, which each file says for itself
        raise ModelError(f"{name}: {error}") from None


def _write(table: pa.Table, out: Path) -> None:
    try:
        if out.suffix == ".parquet":
            parquet.write_table(table, out)
        else:
            radii = pa.array(
                [json.dumps([round(r, 2) for r in row]) for row in table["radii_px"].to_pylist()], pa.string()
            )
            csv.write_csv(table.set_column(table.column_names.index("radii_px"), "radii_px", radii), out)
    except OSError as error:
        raise SettingsError(
            f"--out {str(out)!r} cannot be written: {error.strerror or error}. Choose another path."
        ) from None

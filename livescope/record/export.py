"""A record in the formats of other tools: tables as CSV and AnnData, images and labels as TIFF.

Owns the files it writes. Movies are drawn by `livescope.view.movie`. What is exported is what the record holds,
nothing is recomputed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from livescope.calls import N_RAYS
from livescope.errors import RecordError
from livescope.record.reader import Record
from livescope.record.table import radii_of, write_csv

__all__ = ["Progress", "export_anndata", "export_csv", "export_label_stack", "export_ome_tiff"]

Progress = Callable[[int, int], None]
"""Called with what is done and what there is in all."""

MOST_UINT16 = 65_535


def silent(done: int, total: int) -> None:
    """Tell nobody."""


def export_csv(record: Record, path: Path) -> list[Path]:
    """Write the calls as ``PATH`` (one row a cell) and the frames as ``PATH`` with ``.frames.csv`` (one row a frame).

    Returns
    -------
    list of Path
        The two files. The frames' `analysed` tells a frame without a cell from one that was not analysed.

    Raises
    ------
    RecordError
        A file cannot be written.
    """
    frames = path.with_suffix(".frames.csv")
    with _writing(path):
        calls = record.calls
        write_csv(path, calls.schema, iter(calls.to_batches()))
        pa_csv.write_csv(record.frame_table, frames)
    return [path, frames]


def export_anndata(record: Record, path: Path) -> list[Path]:
    """Write the calls as AnnData (``.h5ad``): an observation a cell, for scanpy and squidpy.

    `X` holds ``p_dead``, ``p_cell``, ``area_px`` and the 32 radii in pixels; `obs` the rest; `obsm["spatial"]` x and y
    in micrometres where the pixel size of all images is known, else in pixels; `uns` settings and manifest as JSON.

    Raises
    ------
    RecordError
        anndata is not installed, or the file cannot be written.
    """
    try:
        from anndata import AnnData
    except ImportError:
        raise RecordError("AnnData export needs anndata: pip install 'livescope[export]'.") from None
    import pandas as pd

    table = record.calls
    measures = ["p_dead", "p_cell", "area_px"]
    radii = radii_of(table)
    values = np.column_stack([*(table[name].to_numpy() for name in measures), radii]).astype(np.float32)
    names = [*measures, *(f"radius_{k:02}_px" for k in range(N_RAYS))]
    obs = table.drop_columns([*measures, "radii_px"]).to_pandas()
    obs.index = pd.Index([f"{frame}_{label}" for frame, label in zip(obs["frame"], obs["label"], strict=True)])
    obs["image"], obs["state"] = obs["image"].astype("category"), obs["state"].astype("category")
    obs["position"] = obs["position"].fillna("").astype("category")
    data = AnnData(X=values, obs=obs, var=pd.DataFrame(index=names))
    pixel_um = _pixel_um(record, table)
    known = not np.isnan(pixel_um).any()
    scale = pixel_um[:, None] if known else 1.0
    data.obsm["spatial"] = np.column_stack([table["x_px"].to_numpy(), table["y_px"].to_numpy()]) * scale
    data.uns["livescope"] = {
        "spatial_unit": "micrometre" if known else "pixel",
        "settings": record.settings.model_dump_json(),
        "manifest": json.dumps(record.manifest),
    }
    with _writing(path):
        data.write_h5ad(path)
    return [path]


def _pixel_um(record: Record, calls: pa.Table) -> NDArray[np.float64]:
    """Return (n,) micrometres a pixel of each call, NaN where unknown; another objective makes another image."""
    of_image = {image: record.image(image)["pixel_um"] for image in record.images}
    by_image = np.array([of_image.get(image) for image in calls["image"].to_pylist()], np.float64)
    with np.errstate(invalid="ignore"):  # an outline without an area
        by_area = np.sqrt(calls["area_um2"].to_numpy().astype(np.float64) / calls["area_px"].to_numpy())
    return np.where(calls["t"].is_null().to_numpy(), by_area, by_image)  # a frame that was refused has no image


def export_ome_tiff(record: Record, path: Path, image: str = "", progress: Progress = silent) -> list[Path]:
    """Write an image as one OME-TIFF (t, c, y, x) with physical sizes and the time of every plane, for QuPath and Fiji.

    Returns
    -------
    list of Path
        The file. Planes that were lost are black in it, with the time of the plane before; where there are such,
        ``PATH`` with ``.missing.csv`` lists their `t` and `c`.

    Raises
    ------
    RecordError
        No such image, or the file cannot be written.
    """
    import tifffile

    stack, about = record.stack(image), record.image(image)
    channels = about["channels"] or [about["channel"] or about["camera"]]
    rows = [row for row in record.frame_table.to_pylist() if row["image"] == image]
    length = 1 + max(row["t"] for row in rows)
    number = {(row["t"], row["c"]): k for k, row in enumerate(rows)}
    order = [(t, c) for t in range(length) for c in range(len(channels))]
    missing = [place for place in order if place not in number]
    times_s = [0.0]
    for place in order:
        times_s.append(rows[number[place]]["time_s"] - rows[0]["time_s"] if place in number else times_s[-1])

    def planes() -> Iterator[NDArray[Any]]:
        empty = np.zeros(stack.shape[1:], stack.dtype)
        for done, place in enumerate(order):
            progress(done + 1, len(order))  # before: nobody asks a generator for more than it needs
            yield stack[number[place]] if place in number else empty

    facts: dict[str, Any] = {
        "axes": "TCYX",
        "Name": record.path.name + (f" {image}" if image else ""),
        "Channel": {"Name": channels},
        "Plane": {
            "DeltaT": times_s[1:],
            "DeltaTUnit": ["s"] * len(order),
        },
        "SignificantBits": about["bit_depth"],
    }
    if about["pixel_um"] is not None:
        facts |= {"PhysicalSizeX": about["pixel_um"], "PhysicalSizeY": about["pixel_um"]}
        facts |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    shape = (length, len(channels), *stack.shape[1:])
    size = int(np.prod(shape)) * stack.dtype.itemsize
    with _writing(path), tifffile.TiffWriter(path, ome=True, bigtiff=size > 3e9) as tiff:
        tiff.write(
            planes(), shape=shape, dtype=stack.dtype, photometric="minisblack", compression="zlib", metadata=facts
        )
        if not missing:
            return [path]
        listed = path.with_suffix(".missing.csv")
        pa_csv.write_csv(pa.table({"t": [t for t, _ in missing], "c": [c for _, c in missing]}), listed)
    return [path, listed]


def export_label_stack(
    record: Record, path: Path, image: str = "", labels: str = "cells", progress: Progress = silent
) -> list[Path]:
    """Write labels as an ImageJ TIFF (t, y, x) uint16 that Fiji and TrackMate's label image detector read.

    ImageJ has no larger integers. Where an id is above 65535 all ids are numbered anew from 1, and ``PATH`` with
    ``.ids.csv`` says which is which.

    Raises
    ------
    RecordError
        No such labels, more than 65535 different cells, or the file cannot be written.
    """
    import tifffile

    stack = record.stack(image, labels=labels)
    pixel_um = record.image(image)["pixel_um"]
    written = [path]
    ids: NDArray[np.int64] | None = None
    if labels == "cells":
        used = np.unique(record.calls["label"].to_numpy())
        if len(used) > MOST_UINT16:
            raise RecordError(
                f"{len(used)} different cells do not fit into the {MOST_UINT16} labels of ImageJ's format."
            )
        if len(used) and used[-1] > MOST_UINT16:
            ids = used.astype(np.int64)
            written.append(path.with_suffix(".ids.csv"))
    units = {"spacing": 1.0, "unit": "pixel"} if pixel_um is None else {"unit": "um"}
    resolution = None if pixel_um is None else (1 / pixel_um, 1 / pixel_um)

    def planes() -> Iterator[NDArray[np.uint16]]:
        for k in range(len(stack)):
            plane = stack[k]
            numbered = plane if ids is None else np.where(plane > 0, np.searchsorted(ids, plane) + 1, 0)
            progress(k + 1, len(stack))
            yield numbered.astype(np.uint16)

    with _writing(path):
        if ids is not None:
            numbers = pa.table({"label": np.arange(1, len(ids) + 1), "cell": ids})
            pa_csv.write_csv(numbers, written[1])
        tifffile.imwrite(
            path, planes(), shape=stack.shape, dtype=np.uint16, imagej=True, resolution=resolution,
            metadata={"axes": "TYX", **units},
        )  # fmt: skip
    return written


class _writing:  # noqa: N801  reads as `with _writing(path):`
    """Turns a disk's refusal into an error that names the path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        if not self._path.parent.is_dir():
            raise RecordError(f"{str(self._path)!r} cannot be written: its folder does not exist. Make it first.")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise RecordError(f"{str(self._path)!r} cannot be written: {reason}. Choose another path.") from error

"""`livescope export`: from the name of a format to the function that writes it.

Owns the names, their suffixes and where a file goes by default. The writing lies in `livescope.record.export` and
`livescope.view.movie`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from livescope.errors import RecordError, one_of
from livescope.record.export import export_anndata, export_csv, export_label_stack, export_ome_tiff
from livescope.record.reader import open_record
from livescope.view.movie import save_movie

__all__ = ["SUFFIXES", "export_record"]

SUFFIXES = {
    "csv": ".calls.csv",
    "anndata": ".h5ad",
    "ome-tiff": ".ome.tif",
    "labels": ".labels.tif",
    "mp4": ".mp4",
    "gif": ".gif",
}
"""Format -> what ends the name of its file: all that ``livescope export --to`` takes."""
_TABLES = ("csv", "anndata")


def export_record(
    path: Path | str,
    to: str,
    out: Path | None = None,
    *,
    image: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Write a record in another format.

    Parameters
    ----------
    path
        The record, or its URL.
    to
        One of `SUFFIXES`.
    out
        File to write; None puts it beside the record, named like it, or for a record in an object store here.
    image
        Image group of the record, for pictures and labels; ``""`` is the first, whose name, if it has one, is then in
        the file's.
    progress
        Called with planes done and planes in all; tables are written at once.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    RecordError
        No such record, format or image; or the file cannot be written.
    """
    if to not in SUFFIXES:
        raise RecordError(f"a record cannot be exported to {to!r}; choose one of {one_of(SUFFIXES)}.")
    if image and to in _TABLES:
        raise RecordError(
            f"{to} holds the cells of all images; leave out --image {image}, or filter its column 'image'."
        )
    record = open_record(path)
    if not image and to not in _TABLES and record.images:
        image = record.images[0]  # of a plate all have a name
    if out is None:
        name = record.path.name.removesuffix(".zarr").removesuffix(".ome")
        name += f".{image.replace('/', '-')}" if image else ""
        out = (Path() if "://" in str(path) else record.path.parent) / (name + SUFFIXES[to])
    match to:
        case "csv":
            return export_csv(record, out)
        case "anndata":
            return export_anndata(record, out)
        case "ome-tiff":
            return export_ome_tiff(record, out, image, progress)
        case "labels":
            return export_label_stack(record, out, image, progress=progress)
        case _:
            movie = out if out.suffix == f".{to}" else out.with_suffix(f".{to}")
            return save_movie(record, movie, image=image, progress=progress)

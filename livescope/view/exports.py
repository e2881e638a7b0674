"""`livescope export`: from the name of a format to the function that writes it.

Owns the names, their suffixes and where a file goes by default. The writing lies in `livescope.record.export` and
`livescope.view.movie`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from livescope.errors import RecordError, one_of
from livescope.outputs import make_room
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
_ENDINGS = {"csv": (".csv",), "anndata": (".h5ad",), "mp4": (".mp4",), "gif": (".gif",)}
"""Format -> endings of a name that a user may give; those that are missing are TIFFs."""
_TIFF = (".tif", ".tiff")
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
        File to write, with the format's ending; None puts it beside the record, named like it, or for a record in an
        object store here. A table or movie that is there is replaced, a TIFF is not: it may be somebody's picture.
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
        No such record, format or image; or `out` has another ending, or is a picture that is there already.
    SettingsError
        `out` cannot be written, or lies in a record.
    """
    if to not in SUFFIXES:
        raise RecordError(f"a record cannot be exported to {to!r}; choose one of {one_of(SUFFIXES)}.")
    if image and to in _TABLES:
        raise RecordError(
            f"{to} holds the cells of all images; leave out --image {image}, or filter its column 'image'."
        )
    if out is not None:
        _refuse_unfit(out, to)
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
            return save_movie(record, out, image=image, progress=progress)


def _refuse_unfit(out: Path, to: str) -> None:
    """Refuse a name of another kind of file, a place that cannot be written, and that of a picture."""
    endings = _ENDINGS.get(to, _TIFF)
    if out.suffix.lower() not in endings:
        raise RecordError(
            f"--out {str(out)!r} ends in {out.suffix!r}; a file of --to {to} ends in {one_of(endings)}. Name it so, or "
            "leave --out away."
        )
    make_room("--out", out)
    if endings == _TIFF and out.exists():
        raise RecordError(f"--out {str(out)!r} exists, and no picture is ever replaced. Choose another path.")

"""Corrections made in the viewer as labelled pictures.

Owns what a correction is worth as a label. The corrections themselves lie in `livescope.record.corrections`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from livescope.calls import CellCalls, State
from livescope.errors import SettingsError, SourceError
from livescope.record.corrections import LOG, Correction, CorrectionLog, apply_corrections
from livescope.record.reader import Record, open_record
from livescope.train.data import UNKNOWN, Field

__all__ = ["corrected_records", "read_records"]

_AROUND = 1.5
"""So far out from a cell, parts of its radius, a label speaks: who corrects a cell has looked at it, not at all."""


def corrected_records(path: Path) -> list[Path]:
    """Return the records with corrections at a path: the record itself, or those in a folder."""
    found = [path] if (path / "zarr.json").is_file() else sorted(path.glob("*.ome.zarr"))
    return [record for record in found if (record / LOG).is_file()]


def read_records(
    path: Path, reviewed: bool = False, pixel_um: float | None = None
) -> tuple[list[Field], float | None, str]:
    """Read every frame in which somebody corrected a cell.

    Parameters
    ----------
    path
        A record, or a folder of records.
    reviewed
        True where whoever corrected a frame looked at all of it: calls left as they were then count as right, and
        places without one as empty. Else only the cells that somebody spoke of are marked; whether the other calls are
        cells, and what lies between them, is unknown. Dead holds for the track in later frames too; live in the frame
        of which it was said: later the state is unknown, as the cell may have died.
    pixel_um
        Micrometres a raw pixel; None takes the records' own.

    Returns
    -------
    fields, pixel_um, alike
        A group is a place of a record; where there are fewer than three in all, each frame is one, and as frames of one
        place are alike, the validation then flatters: `alike` says so, else it is empty. `pixel_um` is None where not
        every record states one.

    Raises
    ------
    SourceError
        Nobody has corrected anything.
    SettingsError
        Records state different pixel sizes.
    RecordError
        A record or its log cannot be read.
    """
    fields: list[Field] = []
    sizes: set[float | None] = set()
    for folder in corrected_records(path):
        record, standing = open_record(folder), CorrectionLog(folder).standing
        wanted = {line.frame_index for line in standing}
        for number in range(len(record)):
            place = record.place(number)
            calls = record.calls_of(place.index) if place.index in wanted else None
            if calls is not None:
                name = f"{folder.name} frame {place.index}"
                fields.append(_field(record, number, name, f"{folder.name}/{place.image}", calls, standing, reviewed))
                sizes.add(calls.pixel_um)
    if not fields:
        raise SourceError(
            f"{str(path)!r} holds no record with corrections; correct some cells first: livescope view RECORD."
        )
    stated = sorted(size for size in sizes if size is not None)
    if pixel_um is None and len(stated) > 1:
        raise SettingsError(
            f"records in {str(path)!r} state pixels of {', '.join(f'{size:g}' for size in stated)} um; data of one "
            "entry have one size. Give those of each size an entry of their own (data: [{kind: records, path: RECORD, "
            "pixel_um: SIZE}, ...]), or one pixel_um to all if what they state is wrong."
        )
    places, alike = len({field.group for field in fields}), ""
    if places < 3:
        fields = [replace(field, group=field.name) for field in fields]
        alike = (
            f"the frames of {path.name!r} are of {places} place{'s' * (places > 1)} and dealt by frame: the same cells "
            "may be in training and test, so that figures flatter and their intervals are too narrow"
        )
    return fields, pixel_um or (sizes.pop() if len(sizes) == 1 else None), alike


def _field(
    record: Record,
    number: int,
    name: str,
    group: str,
    calls: CellCalls,
    standing: Sequence[Correction],
    reviewed: bool,
) -> Field:
    said = [_at(line, calls.frame_index) for line in standing]
    # nothing was said yet: what has a state afterwards was spoken of
    silent = calls if reviewed else replace(calls, state=np.full(len(calls), UNKNOWN, np.uint8))
    cells = apply_corrections(silent, said)
    pixels = record.frame(number).pixels
    centres, contours = _outlines(cells)
    marked = cells.state != UNKNOWN
    state = np.where(cells.state == State.UNCERTAIN, UNKNOWN, cells.state).astype(np.uint8)[marked]
    known = None if reviewed else _known(pixels.shape, silent, said, contours[marked])
    return Field(name, group, pixels, centres[marked], contours[marked], state, known=known, picked=not reviewed)


def _at(line: Correction, frame_index: int) -> Correction:
    """What a correction is worth as a label of a frame: the dead stay dead, the living may have died since."""
    if line.state == State.LIVE and line.frame_index < frame_index:
        return replace(line, state=State.UNCERTAIN)
    return line


def _known(
    shape: tuple[int, ...], silent: CellCalls, said: Sequence[Correction], marked: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Where the labels speak: in and around what was spoken of, but not in a call that nobody spoke of."""
    # removed ones among them: there is nothing, and somebody said so
    kept = [replace(line, kind="state", state=State.UNCERTAIN) if line.kind == "remove" else line for line in said]
    everyone = apply_corrections(silent, kept)
    centres, contours = _outlines(everyone)
    spoken = everyone.state != UNKNOWN
    known = np.zeros(shape, bool)
    for centre, outline in zip(centres[spoken], contours[spoken], strict=True):
        _fill(known, centre + _AROUND * (outline - centre), True)
    for outline in contours[~spoken]:
        _fill(known, outline, False)
    for outline in marked:
        _fill(known, outline, True)
    return known


def _outlines(cells: CellCalls) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return centres (n, 2) and outlines (n, 32, 2) of cells."""
    return np.stack([cells.y_px, cells.x_px], axis=-1).astype(np.float32), cells.outlines_yx()


def _fill(mask: NDArray[np.bool_], outline: NDArray[np.floating], value: bool) -> None:
    mask[polygon(outline[:, 0], outline[:, 1], mask.shape)] = value

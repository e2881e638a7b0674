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

from livescope.calls import CellCalls, State, ray_angles
from livescope.errors import SourceError
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


def read_records(path: Path, reviewed: bool = False) -> tuple[list[Field], float | None]:
    """Read every frame in which somebody corrected a cell.

    Parameters
    ----------
    path
        A record, or a folder of records.
    reviewed
        True where whoever corrected a frame looked at all of it: calls left as they were then count as right, and
        places without one as empty. Else only what was said counts: the states of other calls are unknown, and so is
        what lies between the cells.

    Returns
    -------
    fields, pixel_um
        A group is a place of a record; where there are fewer than three in all, each frame is one, and as frames of one
        place are alike, the validation then flatters. `pixel_um` is None where records differ.

    Raises
    ------
    SourceError
        Nobody has corrected anything.
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
    if len({field.group for field in fields}) < 3:
        fields = [replace(field, group=field.name) for field in fields]
    return fields, sizes.pop() if len(sizes) == 1 else None


def _field(
    record: Record,
    number: int,
    name: str,
    group: str,
    calls: CellCalls,
    standing: Sequence[Correction],
    reviewed: bool,
) -> Field:
    # a state that comes through is one that somebody said
    silent = calls if reviewed else replace(calls, state=np.full(len(calls), State.UNCERTAIN, np.uint8))
    cells = apply_corrections(silent, standing)
    pixels = record.frame(number).pixels
    angles = ray_angles(cells.radii_px.shape[1])
    unit = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    centres = np.stack([cells.y_px, cells.x_px], axis=-1).astype(np.float32)
    rays = cells.radii_px[..., None] * unit
    known = None
    if not reviewed:
        known = np.zeros(pixels.shape, bool)
        everyone = np.concatenate([centres, np.stack([calls.y_px, calls.x_px], axis=-1)])  # removed ones among them
        reach = np.concatenate([rays, calls.radii_px[..., None] * unit]) * _AROUND
        for centre, ray in zip(everyone, reach, strict=True):
            _fill(known, centre + ray)
    state = np.where(cells.state == State.UNCERTAIN, UNKNOWN, cells.state).astype(np.uint8)
    return Field(name, group, pixels, centres, (centres[:, None] + rays).astype(np.float32), state, known=known)


def _fill(mask: NDArray[np.bool_], outline: NDArray[np.floating]) -> None:
    mask[polygon(outline[:, 0], outline[:, 1], mask.shape)] = True

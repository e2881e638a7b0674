"""The calls of a whole run that a person should look at first: those nearest to undecided, one a cell.

Owns that order. Going there is the window's business. Without Qt.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livescope.record.corrections import CorrectionLog
from livescope.record.reader import Record, open_record
from livescope.record.table import radii_of

__all__ = ["Doubt", "doubts_of"]

MOST = 500
"""Cells that are offered: after so many a network should be fine-tuned first."""


@dataclass(slots=True, frozen=True)
class Doubt:
    """A call that may be wrong: row of the record's frames, place in pixels, radius, and chance of being dead."""

    number: int
    y_px: float
    x_px: float
    radius_px: float
    p_dead: float


def doubts_of(path: Path, most: int = MOST) -> list[Doubt]:
    """Return the most uncertain cells of a record, the most uncertain first; reads the table of all calls.

    A tracked cell comes once, where it is least certain. What was corrected already is left out.

    Raises
    ------
    RecordError
        It is no record, or its log of corrections is damaged.
    """
    record = open_record(path)
    said = {line.track for line in CorrectionLog(path).standing if line.track >= 0}
    return _ranked(record, said, most)


def _ranked(record: Record, said: Collection[int], most: int) -> list[Doubt]:
    calls = record.calls
    number_of = {int(frame): number for number, frame in enumerate(record.frame_table["frame"].to_pylist())}
    frame, track = calls["frame"].to_numpy(), calls["track"].to_numpy()
    p_dead = calls["p_dead"].to_numpy()
    order = np.argsort(np.abs(p_dead - 0.5), kind="stable")
    order = order[~np.isin(track[order], list(said))]
    _, first = np.unique(track[order], return_index=True)
    chosen = np.zeros(len(order), bool)
    chosen[first] = True
    chosen |= track[order] < 0  # nobody knows which of these are the same cell
    rows = order[chosen][:most]
    radii = radii_of(calls.take(rows)) if len(rows) else np.empty((0, 1), np.float32)
    y, x = calls["y_px"].to_numpy(), calls["x_px"].to_numpy()
    return [
        Doubt(number_of[int(frame[row])], float(y[row]), float(x[row]), float(np.median(r)), float(p_dead[row]))
        for row, r in zip(rows.tolist(), radii, strict=True)
    ]

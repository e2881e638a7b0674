"""Where a run goes: stage positions and wells, each with the newest viability seen there.

Owns `Place` and reading places from a plan or a record's table. Where a place is drawn is `livescope.view.plate_map`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livescope.assay.plate import well_of_position
from livescope.assay.viability import viability_of_counts
from livescope.calls import Analysis, Viability

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Place", "PlaceTable", "place_of", "places_in_plan"]

_UNNAMED = re.compile(r"p\d+([_+].*)?")
"""What a planned run calls positions without a name, their tiles and places beside them: not row P of a plate."""


@dataclass(slots=True, frozen=True)
class Place:
    """One stage position.

    Attributes
    ----------
    name
        As the plan names it.
    x_um, y_um
        Of the stage, None where unknown.
    viability
        Newest one seen there, None before the first.
    frame_index
        `Frame.index` of that frame, None before the first.
    """

    name: str
    x_um: float | None = None
    y_um: float | None = None
    viability: Viability | None = None
    frame_index: int | None = None

    @property
    def well(self) -> tuple[int, int] | None:
        """Row and column of the well that the name speaks of, both from 0; None where it names none.

        >>> Place("B03_2").well, Place("beside the bubble").well
        ((1, 2), None)
        >>> Place("p0").well, Place("p1").well, Place("p1_0002").well, Place("A0").well
        (None, None, None, None)
        """
        well = None if _UNNAMED.fullmatch(self.name) else well_of_position(self.name)
        if well is None or not int(well.lstrip(string.ascii_letters)):
            return None
        letters = well.rstrip("0123456789")
        row = 0
        for letter in letters:
            row = row * 26 + ord(letter) - ord("A") + 1
        return row - 1, int(well[len(letters) :]) - 1


def place_of(analysis: Analysis) -> Place | None:
    """Return where an analysed frame was taken, with what was seen there; None where its place has no name."""
    frame = analysis.frame
    if frame.position is None:
        return None
    return Place(frame.position, frame.x_um, frame.y_um, analysis.viability, frame.index)


def places_in_plan(path: Path) -> dict[str, Place]:
    """Return the places that a plan visits, by name; each tile of a grid is one.

    Raises
    ------
    SettingsError
        The plan cannot be read.
    """
    from livescope.acquire.itinerary import position_of
    from livescope.acquire.planned import load_plan

    once = load_plan(path).replace(time_plan=None, channels=())
    fields = {position_of(event): event for event in once if event.pos_name}
    return {name: Place(name, event.x_pos, event.y_pos) for name, event in fields.items() if name}


class PlaceTable:
    """The places of a record.

    Parameters
    ----------
    table
        `Record.frame_table`.
    counts
        Cells live, dead and uncertain of each analysed frame, by `Frame.index`.
    """

    def __init__(self, table: pa.Table, counts: Mapping[int, tuple[int, int, int]]) -> None:
        names = np.array([name or "" for name in table["position"].to_pylist()], dtype=object)
        self._counts = counts
        self._frame = table["frame"].to_pylist()
        analysed = np.array([index in counts for index in self._frame], bool)
        self._rows = {str(name): np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist()) if name}
        self._analysed = {name: rows[analysed[rows]] for name, rows in self._rows.items()}
        x_um, y_um = table["x_um"].to_pylist(), table["y_um"].to_pylist()
        self._xy = {name: (x_um[rows[0]], y_um[rows[0]]) for name, rows in self._rows.items()}
        self._names = names

    def until(self, row: int) -> tuple[Place, ...]:
        """Return every place with what was seen there up to a row, it included."""
        places = []
        for name, rows in self._analysed.items():
            seen = rows[: int(np.searchsorted(rows, row, side="right"))]
            x_um, y_um = self._xy[name]
            if not len(seen):
                places.append(Place(name, x_um, y_um))
                continue
            newest = self._frame[int(seen[-1])]
            places.append(Place(name, x_um, y_um, viability_of_counts(*self._counts[newest]), newest))
        return tuple(places)

    def name_at(self, row: int) -> str | None:
        """Return the name of the place of a row, None if it has none."""
        return str(self._names[row]) or None

    def row_near(self, name: str, row: int) -> int:
        """Return the row of a place that is nearest to a row."""
        rows = self._rows[name]
        return int(rows[np.argmin(np.abs(rows - row))])

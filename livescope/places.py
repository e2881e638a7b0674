"""Where a run goes: stage positions and wells, each with the newest viability seen there.

Owns `Place` and reading places from a plan or a record's table. Where a place is drawn is `livescope.view.plate_map`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livescope.assay.plate import well_of_position
from livescope.assay.viability import viability_of_counts
from livescope.calls import Analysis, Viability

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Place", "place_of", "places_in_plan", "places_in_table"]


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
        """
        well = well_of_position(self.name)
        if well is None:
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
    """Return the places that a plan visits, by name.

    Raises
    ------
    SettingsError
        The plan cannot be read.
    """
    from livescope.acquire.planned import load_plan

    places = {}
    for position in load_plan(path).stage_positions:
        if position.name:
            places[position.name] = Place(position.name, position.x, position.y)
    return places


def places_in_table(table: pa.Table, until: int | None = None) -> dict[str, Place]:
    """Return the places of a record, by name, as they were seen last.

    Parameters
    ----------
    table
        `Record.frame_table`.
    until
        Row up to which frames count, it included; None is all. Places that come later have no viability yet.
    """
    names = ("position", "x_um", "y_um", "frame", "n_live", "n_dead", "n_uncertain")
    columns = {name: table[name].to_pylist() for name in names}
    places: dict[str, Place] = {}
    for row, name in enumerate(columns["position"]):
        if name is None:
            continue
        seen = columns["n_live"][row] is not None and (until is None or row <= until)
        if seen or name not in places:
            places[name] = _place(name, {key: values[row] for key, values in columns.items()}, seen)
    return places


def _place(name: str, row: Mapping[str, Any], seen: bool) -> Place:
    if not seen:
        return Place(name, row["x_um"], row["y_um"])
    viability = viability_of_counts(row["n_live"], row["n_dead"], row["n_uncertain"])
    return Place(name, row["x_um"], row["y_um"], viability, row["frame"])

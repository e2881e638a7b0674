"""A well plate as a record: where each position lies, and the NGFF metadata of plate and wells.

Owns `PlateLayout`, and what a plan says of plate and channels. A record without one needs none: its images lie as
`layout` says.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livescope.errors import RecordError
from livescope.frames import field_name
from livescope.record.layout import FORMAT, NGFF, write_group

if TYPE_CHECKING:
    import useq

__all__ = ["PlateLayout", "channels_of_plan", "plate_of_plan"]


@dataclass(slots=True, frozen=True)
class PlateLayout:
    """Which well and field each stage position is.

    Attributes
    ----------
    name
        Of the plate.
    wells
        `Frame.position` -> (row, column, field), e.g. ``{"B3_1": ("B", "3", 1)}``. Fields count from 0. The image of a
        position lies at ``ROW/COLUMN/FIELD``; a second one of it (another shape or channel) lies at ``images/N``.
    """

    name: str
    wells: Mapping[str, tuple[str, str, int]]

    def __post_init__(self) -> None:
        for position, (row, column, _field) in self.wells.items():
            if not (row.isalnum() and row.isascii() and column.isalnum() and column.isascii()):
                raise RecordError(
                    f"position {position!r} lies in row {row!r}, column {column!r}: use letters and digits only."
                )
        if len(set(self.wells.values())) < len(self.wells):
            raise RecordError(f"two positions of plate {self.name!r} are the same field of a well; number the fields.")

    def path_of(self, position: str | None) -> str | None:
        """Return the image group of a position, None if the plate does not know it."""
        if position is None or position not in self.wells:
            return None
        return "/".join(map(str, self.wells[position]))

    def write_groups(self, record: Path, images: Collection[str]) -> None:
        """Write the metadata of plate, rows and wells for the images that there are so far."""
        for group, attributes in self.groups(images).items():
            write_group(record / group, {**attributes, "livescope": {"format": FORMAT}})

    def groups(self, images: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return group -> attributes of plate, rows and wells, for the images that there are so far."""
        present = sorted(place for place in self.wells.values() if "/".join(map(str, place)) in images)
        if not present:
            return {}
        rows = sorted({row for row, _, _ in self.wells.values()}, key=_natural)
        columns = sorted({column for _, column, _ in self.wells.values()}, key=_natural)
        fields: dict[tuple[str, str], list[int]] = {}
        for row, column, field in present:
            fields.setdefault((row, column), []).append(field)
        wells = [
            {"path": f"{row}/{column}", "rowIndex": rows.index(row), "columnIndex": columns.index(column)}
            for row, column in fields
        ]
        plate = {
            "version": NGFF,
            "name": self.name,
            "rows": [{"name": row} for row in rows],
            "columns": [{"name": column} for column in columns],
            "wells": wells,
            "field_count": max(map(len, fields.values())),
        }
        groups: dict[str, dict[str, Any]] = {"": {"ome": {"version": NGFF, "plate": plate}}}
        for (row, column), numbers in fields.items():
            groups[row] = {}
            groups[f"{row}/{column}"] = {
                "ome": {"version": NGFF, "well": {"images": [{"path": str(number)} for number in sorted(numbers)]}}
            }
        return groups

    def as_dict(self) -> dict[str, Any]:
        """Return the layout as JSON-ready values, for the journal."""
        return {"name": self.name, "wells": {position: list(place) for position, place in self.wells.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PlateLayout:
        """Return the layout from what `as_dict` gave."""
        wells = {
            position: (str(row), str(column), int(field)) for position, (row, column, field) in values["wells"].items()
        }
        return cls(values["name"], wells)


def plate_of_plan(plan: useq.MDASequence) -> PlateLayout | None:
    """Return where the positions of a planned run lie, None if its positions are no well plate."""
    import useq

    positions = plan.stage_positions
    if not isinstance(positions, useq.WellPlatePlan):
        return None
    wells: dict[str, tuple[str, str, int]] = {}
    fields: dict[str, int] = {}
    tiles: Iterable[int | None] = (None,) if plan.grid_plan is None else range(len(list(plan.grid_plan)))
    for position, tile in itertools.product(positions, tiles):
        well = str(position.name).partition("_")[0]  # useq names the points of well B3 B3_0000, B3_0001, ...
        column = well.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        wells[str(field_name(position.name, tile))] = (well.removesuffix(column), column, fields.get(well, 0))
        fields[well] = fields.get(well, 0) + 1
    return PlateLayout(positions.plate.name, wells)


def channels_of_plan(plan: useq.MDASequence) -> tuple[str, ...]:
    """Return the channels that share an image: those taken at every time and focus, so that they have the same t."""
    every = [c for c in plan.channels if c.acquire_every == 1 and (c.do_stack or plan.z_plan is None)]
    return tuple(dict.fromkeys(str(channel.config) for channel in every))


def _natural(name: str) -> tuple[int, str]:
    """Sort 2 before 10, and B before AA."""
    return len(name), name

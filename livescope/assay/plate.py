"""Plate maps: which well got which compound at which dose, and which well a stage position lies in.

Owns reading and checking of a map. Figures of wells and conditions come from `pooled`, curves from `dose`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from livescope.errors import AssayError
from livescope.written import read_yaml, validate

__all__ = ["Plate", "Well", "load_plate", "well_of_position"]

_WELL = re.compile(r"(?<![A-Za-z0-9])([A-Za-z]{1,2})[-_ ]?(0?[1-9]|[1-9]\d)(?![0-9])")


class Well(BaseModel):
    """One well of a plate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    well: str
    """Name, e.g. ``A1``; read as row letters and column number, so that ``a01`` is the same."""
    compound: str = ""
    dose: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    unit: str = "uM"
    replicate: int = Field(default=1, ge=1)
    control: Literal["", "negative", "positive"] = ""
    """negative: untreated or vehicle, expected alive; positive: expected dead."""

    @field_validator("well")
    @classmethod
    def _named(cls, name: str) -> str:
        found = _WELL.fullmatch(name.strip())
        if found is None:
            raise ValueError(f"{name!r} is not a well; a well is named like A1, B12 or AF48")
        return f"{found[1].upper()}{int(found[2])}"

    @property
    def condition(self) -> str:
        """Compound with its dose, for a legend."""
        if self.control and not self.compound:
            return f"{self.control} control"
        return (
            f"{self.compound or 'untreated'} {self.dose:g} {self.unit}" if self.dose else self.compound or "untreated"
        )

    @property
    def row_column(self) -> tuple[int, int]:
        """Place on the plate, both from 0."""
        letters = self.well.rstrip("0123456789")
        row = 0
        for letter in letters:
            row = row * 26 + ord(letter) - ord("A") + 1
        return row - 1, int(self.well[len(letters) :]) - 1


class Plate:
    """Wells by name.

    Parameters
    ----------
    wells
        The wells, each once.

    Examples
    --------
    >>> plate = Plate([Well(well="a01", control="negative"), Well(well="B3", compound="staurosporine", dose=1)])
    >>> plate["B03"].condition
    'staurosporine 1 uM'
    >>> plate.at_position("Pos-A01-2").condition
    'negative control'
    """

    def __init__(self, wells: Iterable[Well]) -> None:
        self._wells: dict[str, Well] = {}
        for well in wells:
            if well.well in self._wells:
                raise AssayError(f"well {well.well} stands twice in the plate map; give each well one line.")
            self._wells[well.well] = well
        units: dict[str, str] = {}
        for well in self._wells.values():
            if well.dose and units.setdefault(well.compound, well.unit) != well.unit:
                raise AssayError(
                    f"compound {well.compound!r} has doses in {units[well.compound]!r} and in {well.unit!r} "
                    f"(well {well.well}); give all of its doses in one unit."
                )

    @property
    def wells(self) -> list[Well]:
        """All wells, by row and column."""
        return sorted(self._wells.values(), key=lambda well: well.row_column)

    def __getitem__(self, name: str) -> Well:
        wanted = well_of_position(name) or name
        try:
            return self._wells[wanted]
        except KeyError:
            raise AssayError(
                f"well {wanted!r} is not in the plate map; it has {', '.join(well.well for well in self.wells)}."
            ) from None

    def at_position(self, position: str | None) -> Well | None:
        """Return the well of the map that a stage position's name speaks of first, None where it names none.

        Other parts of a name may look like a well too, as of plate P1 in ``P1_B03``.
        """
        return next((self._wells[name] for name in _wells_in(position) if name in self._wells), None)

    def conditions(self) -> dict[str, list[Well]]:
        """Wells by condition, in the order of compound and dose; controls first."""
        order = sorted(self.wells, key=lambda w: (not w.control, w.control, w.compound, w.dose))
        groups: dict[str, list[Well]] = {}
        for well in order:
            groups.setdefault(well.condition, []).append(well)
        return groups

    def controls(self, kind: Literal["negative", "positive"]) -> list[Well]:
        """Return the wells of one kind of control."""
        return [well for well in self.wells if well.control == kind]


def well_of_position(position: str | None) -> str | None:
    """Return the well named in a stage position's label, None without one.

    >>> well_of_position("Plate1_C07_field3"), well_of_position("A1_0002+1"), well_of_position("somewhere")
    ('C7', 'A1', None)
    """
    return next(_wells_in(position), None)


def _wells_in(position: str | None) -> Iterator[str]:
    for part in re.split(r"[\s_\-+/:;,.]+", position or ""):
        found = _WELL.fullmatch(part)
        if found is not None:
            yield f"{found[1].upper()}{int(found[2])}"


def load_plate(path: Path) -> Plate:
    """Read a plate map.

    Parameters
    ----------
    path
        A ``.csv`` with the columns well, compound, dose, unit, replicate, control (well is enough), or a ``.yaml``
        with a list of such mappings, by itself or under ``wells``.

    Raises
    ------
    AssayError
        The file cannot be read, or a line is wrong; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AssayError(f"plate map {str(path)!r} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise AssayError(
            f"plate map {str(path)!r} is not UTF-8 text; save it as 'CSV UTF-8', or write uM for micromolar."
        ) from None
    rows = _csv_rows(text, path) if path.suffix.lower() == ".csv" else _yaml_rows(text, path)
    wells = []
    for number, row in enumerate(rows, start=1):
        try:
            wells.append(validate(Well.model_validate, row))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise AssayError(
                f"plate map {str(path)!r}, well {number} ({row.get('well', 'unnamed')!r}): {key}: {first['msg']}. "
                f"Known columns: {', '.join(Well.model_fields)}."
            ) from None
    if not wells:
        raise AssayError(f"plate map {str(path)!r} has no wells; give it at least the column 'well'.")
    return Plate(wells)


def _csv_rows(text: str, path: Path) -> list[dict[str, Any]]:
    head = text.partition("\n")[0]
    separator = ";" if head.count(";") > head.count(",") else ","
    reader = csv.DictReader(text.splitlines(), delimiter=separator, restkey="")
    names = [name.strip().lower() for name in reader.fieldnames or () if name.strip()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise AssayError(f"plate map {str(path)!r} has {twice[0]!r} more than once in its first line. Leave one.")
    rows = []
    for row in reader:
        if any(value.strip() for value in row.pop("", ()) or ()):
            raise AssayError(
                f"plate map {str(path)!r}, line {reader.line_num} has more values than there are columns in the first "
                "line. Where the comma is the decimal mark, separate with semicolons, or write the dose as 0.5."
            )
        rows.append({key.strip().lower(): value.strip() for key, value in row.items() if value and value.strip()})
    rows = [row for row in rows if row]  # spreadsheets end with lines of separators alone
    if separator == ";":  # as spreadsheets write where the comma is the decimal mark
        rows = [
            {key: value.replace(",", ".") if key == "dose" else value for key, value in row.items()} for row in rows
        ]
    return rows


def _yaml_rows(text: str, path: Path) -> list[Mapping[str, Any]]:
    try:
        tree = read_yaml(text)
    except yaml.YAMLError as error:
        raise AssayError(f"plate map {str(path)!r} is not YAML: {error}") from None
    rows = tree.get("wells") if isinstance(tree, dict) else tree
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise AssayError(
            f"plate map {str(path)!r} is not a list of wells, each like {{well: A1, compound: X, dose: 1}}."
        )
    return rows

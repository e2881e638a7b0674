"""The kinds of labelled data that training and evaluation take, in one config section.

Owns the settings of each kind and finding out which kind a path is. Reading the pictures lies in `data` and `dye`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from livescope.errors import SourceError
from livescope.train import data, dye
from livescope.train.masks import read_masks

__all__ = ["Coco", "DataSettings", "Dataset", "DyePairs", "Masks", "Simulated", "read", "settings_of"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    repeat: int = Field(default=1, ge=1)
    """Times that each field is shown for once of the others, where a small set stands beside a large one."""


class Simulated(_Frozen):
    """Fields of the simulated microscope, drawn when they are asked for."""

    kind: Literal["simulated"] = "simulated"
    fields: int = Field(default=200, ge=1)
    seed: int = Field(default=1, ge=0)
    side_px: int = Field(default=768, ge=128)
    pixel_um: float = Field(default=0.65, gt=0)


class Masks(_Frozen):
    """Pictures with instance masks of the same file stem (0 background, 1, 2 ... cells), without a state.

    `group` is a regular expression; what it matches in the file's stem names the group that must not be split.
    """

    kind: Literal["masks"] = "masks"
    path: Path
    images: str = "images"
    masks: str = "masks"
    group: str = ".*"
    pixel_um: float | None = Field(default=None, gt=0)


class Coco(_Frozen):
    """Boxes with the classes `live` and `dead`; `group` is a key of each image."""

    kind: Literal["coco"] = "coco"
    path: Path
    group: str = "dup_group"
    pixel_um: float | None = Field(default=None, gt=0)


class DyePairs(_Frozen):
    """Bright-field with a dead dye and a nuclear dye: NAME.brightfield.tif, NAME.dead_dye.tif, NAME.nuclear_dye.tif.

    NAME.nuclei.tif (instance masks) is used where it exists, else nuclei are found. `group` as in `Masks`.
    """

    kind: Literal["dye_pairs"] = "dye_pairs"
    path: Path
    group: str = "^[^_]+"
    pixel_um: float | None = Field(default=None, gt=0)
    thresholds: dye.Thresholds | None = None
    """None proposes them from the histogram of all fields."""


DataSettings = Annotated[Simulated | Masks | Coco | DyePairs, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Simulated | Masks | Coco | DyePairs] = TypeAdapter(DataSettings)


@dataclass(slots=True, frozen=True)
class Dataset:
    """Fields of one kind of data.

    Attributes
    ----------
    fields
        Labelled pictures.
    pixel_um
        Micrometres a raw pixel, None where unknown.
    reach
        A call is right within this part of a marked cell's median radius: 1 for boxes and nuclei, else 0.5.
    complete
        False where not every cell of a picture is marked: precision and viability of whole fields mean nothing.
    described
        What it is, for cards and sheets.
    repeat
        Times that each field is shown in training for once of the others.
    measured, thresholds
        Of dye pairs: the dead dye of each field's nuclei, and the lines that made states of it.
    """

    fields: list[data.Field]
    pixel_um: float | None
    reach: float
    complete: bool
    described: str
    repeat: int = 1
    measured: tuple[dye.Measured, ...] = ()
    thresholds: dye.Thresholds | None = None


def settings_of(path: Path, group: str | None = None) -> Simulated | Masks | Coco | DyePairs:
    """Find out what kind of data lies in a folder.

    Parameters
    ----------
    path
        A folder, or the word ``simulated``.
    group
        How pictures are grouped; None takes the kind's own way.

    Raises
    ------
    SourceError
        Nothing there is known.
    """
    known: dict[str, object] = {} if group is None else {"group": group}
    if str(path) == "simulated":
        return Simulated(fields=40, seed=9)
    if (path / "annotations.coco.json").is_file():
        return _ADAPTER.validate_python({"kind": "coco", "path": path, **known})
    if (path / "images").is_dir() and (path / "masks").is_dir():
        return _ADAPTER.validate_python({"kind": "masks", "path": path, **known})
    for folder in (path, path / "fields"):
        if any(folder.glob(f"*{dye.BRIGHTFIELD}")):
            return _ADAPTER.validate_python({"kind": "dye_pairs", "path": folder, **known})
    raise SourceError(
        f"{str(path)!r} holds no labelled data that livescope knows: annotations.coco.json with images/; images/ with "
        f"masks/; or NAME{dye.BRIGHTFIELD} with its dyes; or give the word 'simulated'."
    )


def read(settings: Simulated | Masks | Coco | DyePairs) -> Dataset:
    """Read the fields of one kind of data.

    Raises
    ------
    SourceError
        They are missing or not as the kind wants them.
    """
    reach, complete, grouped = 0.5, True, ""
    measured: tuple[dye.Measured, ...] = ()
    thresholds = None
    match settings:
        case Simulated():
            fields = data.simulated_fields(settings.fields, settings.seed, settings.side_px, settings.pixel_um)
            grouped = ", a group each"
        case Masks():
            images, masks = settings.path / settings.images, settings.path / settings.masks
            fields = read_masks(images, masks, settings.group)
        case Coco():
            fields, reach = data.read_coco(settings.path, settings.group), 1.0
        case DyePairs():
            pairs = dye.read_pairs(settings.path, settings.group)
            thresholds = settings.thresholds or dye.propose(pairs)
            measured = tuple(dye.measure(pair) for pair in pairs)
            fields, reach, complete = dye.label(pairs, thresholds), 1.0, False
    if not isinstance(settings, Simulated):
        grouped = f" in {settings.path.name!r}, grouped by {settings.group!r}"
    described = f"{len(fields)} fields of kind {settings.kind}{grouped}"
    return Dataset(fields, settings.pixel_um, reach, complete, described, settings.repeat, measured, thresholds)

"""The kinds of labelled data that training and evaluation take, in one config section.

Owns the settings of each kind and finding out which kind a path is. Reading the pictures lies in `data` and `dye`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from livescope.acquire.files import PNG, TIFF, tiff_pixel_um
from livescope.errors import SettingsError, SourceError
from livescope.settings import config_text
from livescope.train import data, dye
from livescope.train.masks import read_masks
from livescope.train.records import corrected_records, read_records
from livescope.written import read_yaml, validate

__all__ = [
    "Coco",
    "DataSettings",
    "Dataset",
    "DyePairs",
    "Masks",
    "OneOf",
    "Records",
    "Simulated",
    "UnlabelledError",
    "entries_of",
    "read",
    "settings_in",
    "settings_of",
    "with_group",
]


_Folder = Annotated[Path, AfterValidator(Path.expanduser)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    repeat: int = Field(default=1, ge=1)
    """Times that each field is shown for once of the others, where a small set stands beside a large one."""

    @property
    def place(self) -> str:
        """Where the data lie, for messages."""
        return str(getattr(self, "path", "simulated"))


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
    path: _Folder
    images: str = "images"
    masks: str = "masks"
    group: str = ".*"
    pixel_um: float | None = Field(default=None, gt=0)


class Coco(_Frozen):
    """Boxes with the classes `live` and `dead`; `group` is a key of each image."""

    kind: Literal["coco"] = "coco"
    path: _Folder
    group: str = "dup_group"
    pixel_um: float | None = Field(default=None, gt=0)


class DyePairs(_Frozen):
    """Bright-field with a dead dye and a nuclear dye: NAME.brightfield.tif, NAME.dead_dye.tif, NAME.nuclear_dye.tif.

    NAME.nuclei.tif (instance masks) is used where it exists, else nuclei are found. `group` as in `Masks`.
    """

    kind: Literal["dye_pairs"] = "dye_pairs"
    path: _Folder
    group: str = "^[^_]+"
    pixel_um: float | None = Field(default=None, gt=0)
    thresholds: dye.Thresholds | None = None
    """None proposes them from the histogram of all fields."""
    unmarked: Literal["unknown", "background"] = "unknown"
    """What the nuclear dye shows besides: unknown, and left out of the training; or background, where every cell of the
    kind to be called is drawn in NAME.nuclei.tif, so that the rest is others (of a co-culture, blood)."""


class Records(_Frozen):
    """Frames whose cells were corrected in the viewer: a record, or a folder of records.

    `reviewed` says that frames were looked at as a whole: what was left as it was then counts as right. Without it the
    marked cells are those that somebody had to correct, which train a network but measure none.
    """

    kind: Literal["records"] = "records"
    path: _Folder
    reviewed: bool = False
    pixel_um: float | None = Field(default=None, gt=0)
    """None takes the records' own."""


OneOf = Simulated | Masks | Coco | DyePairs | Records
DataSettings = Annotated[OneOf, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[OneOf] = TypeAdapter(DataSettings)
_PICKED = (
    "the marked cells of {path!r} are those that somebody corrected, mostly errors of the model that called them: they "
    "say nothing of how often a model is right. Look at every cell of the corrected frames, and say so in a config: "
    "data: [{{kind: records, path: {path}, reviewed: true}}]"
)
_GROUP_KEYS = ("dup_group", "series", "experiment", "day", "well")
"""Keys of a COCO image that are taken for its group where none is named, the first that all images have."""


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
    notes
        What whoever uses the labels must be told of them.
    """

    fields: list[data.Field]
    pixel_um: float | None
    reach: float
    complete: bool
    described: str
    repeat: int = 1
    measured: tuple[dye.Measured, ...] = ()
    thresholds: dye.Thresholds | None = None
    notes: tuple[str, ...] = ()


class UnlabelledError(SourceError):
    """Where labelled data are wanted nothing is known; there may be plain pictures."""


def settings_of(path: Path) -> OneOf:
    """Find out what kind of data lies in a folder.

    Parameters
    ----------
    path
        A folder, or the word ``simulated``.

    Raises
    ------
    UnlabelledError
        Nothing there is known.
    SourceError
        Labels that are there cannot be read.
    """
    if str(path) == "simulated":
        return Simulated(fields=40, seed=9)
    path = path.expanduser()
    if not path.is_dir():
        raise UnlabelledError(
            f"{str(path)!r} is no folder. Give one with labelled data, a training config, or 'simulated'."
        )
    if data.annotations_in(path) is not None:
        return Coco(path=path, group=next((key for key in _GROUP_KEYS if data.has_group(path, key)), "file_name"))
    if (path / "images").is_dir() and (path / "masks").is_dir():
        return Masks(path=path)
    if corrected_records(path):
        return Records(path=path)
    for folder in (path, path / "fields"):
        if any(folder.glob(f"*{dye.BRIGHTFIELD}")):
            return DyePairs(path=folder)
    raise UnlabelledError(
        f"{str(path)!r} holds no labelled data that livescope knows: annotations.coco.json with images/; images/ with "
        f"masks/; NAME{dye.BRIGHTFIELD} with its dyes; or a record corrected in the viewer. A training config will do "
        "as well, or the word 'simulated'."
    )


def entries_of(path: Path) -> tuple[OneOf, ...]:
    """Find out what data a path means: those of a training config (YAML), a folder, or the word ``simulated``.

    Raises
    ------
    UnlabelledError, SourceError
        As `settings_of`.
    SettingsError
        The config cannot be read, or names no data.
    """
    return settings_in(path) if path.suffix in (".yaml", ".yml") else (settings_of(path),)


def with_group(settings: OneOf, group: str) -> OneOf:
    """Return the settings with another grouping of their pictures.

    Raises
    ------
    SourceError
        The kind has only one.
    """
    if isinstance(settings, Simulated | Records):
        raise SourceError(f"data of kind {settings.kind} are grouped in one way only; leave out --split {group!r}.")
    return settings.model_copy(update={"group": group})


def settings_in(config: Path) -> tuple[OneOf, ...]:
    """Read the section `data` of a training config; nothing else of it is looked at.

    Raises
    ------
    SettingsError
        It is missing, or not as it must be.
    """
    try:
        tree = read_yaml(config_text(config.expanduser()))
        return tuple(validate(_ADAPTER.validate_python, one) for one in tree["data"])
    except (yaml.YAMLError, KeyError, TypeError, ValidationError) as error:
        raise SettingsError(
            f"{str(config)!r} names no labelled data (a list `data`, as in configs/train.yaml): {error}"
        ) from None


def read(settings: OneOf) -> Dataset:
    """Read the fields of one kind of data.

    Raises
    ------
    SourceError
        They are missing or not as the kind wants them, or their files say several pixel sizes.
    SettingsError
        Records state several.
    """
    reach, complete, grouped = 0.5, True, ""
    notes: list[str] = []
    pixel_um = settings.pixel_um or _said(settings)
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
            pairs = dye.read_pairs(settings.path, settings.group, pixel_um)
            thresholds = settings.thresholds or dye.propose(pairs)
            measured = tuple(dye.measure(pair) for pair in pairs)
            fields = dye.label(pairs, thresholds, others_are_background=settings.unmarked == "background")
            reach, complete = 1.0, False
            notes += filter(None, [dye.doubt(fields)] if settings.thresholds is None else [])
        case Records():
            fields, pixel_um, alike = read_records(settings.path, settings.reviewed, pixel_um)
            complete = settings.reviewed
            notes += filter(None, ["" if complete else _PICKED.format(path=str(settings.path)), alike])
            grouped = f" in {settings.path.name!r}, {'each frame a group' if alike else 'grouped by place'}"
    if isinstance(settings, Masks | Coco | DyePairs):
        grouped = f" in {settings.path.name!r}, grouped by {settings.group!r}"
    described = f"{len(fields)} fields of kind {settings.kind}{grouped}"
    return Dataset(fields, pixel_um, reach, complete, described, settings.repeat, measured, thresholds, tuple(notes))


def _said(settings: OneOf) -> float | None:
    """Micrometres a pixel as the pictures' own files say, None where none says it."""
    match settings:
        case Masks():
            pictures = (settings.path / settings.images).glob("*.*")
            files = sorted(file for file in pictures if file.suffix.lower() in TIFF + PNG)
        case Coco():
            files = data.coco_pictures(settings.path)
        case DyePairs():
            files = sorted(settings.path.glob(f"*{dye.BRIGHTFIELD}"))
        case _:
            return None
    said: dict[float | None, str] = {}
    for file in files:
        said.setdefault(tiff_pixel_um(file), file.name)
    if len(said) > 1:
        (one, first), (other, second) = [(f"{um:g} um" if um else "none", name) for um, name in said.items()][:2]
        raise SourceError(
            f"the pictures of {settings.place!r} are not of one pixel size: {first!r} says {one}, {second!r} {other}. "
            "Sort them into folders, each an entry of `data` in a config, or give pixel_um of the data (--pixel-um), "
            "which then holds for all of them."
        )
    return next(iter(said), None)

"""Labelled pictures for training and validation: reading them, and splitting them by group.

Owns `Field`, the readers of each kind of data, and the split. Augmentation and network targets lie elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from livescope.calls import State, ray_angles
from livescope.errors import SourceError
from livescope.frames import Pixels
from livescope.settings import SimulationSettings
from livescope.train.pictures import read_picture

__all__ = [
    "UNKNOWN",
    "Field",
    "annotations_in",
    "coco_pictures",
    "fingerprint",
    "has_group",
    "read_coco",
    "simulated_fields",
    "split_groups",
]

UNKNOWN = 0
"""State of a cell whose label says nothing of life and death: it trains detection and outlines, never the state."""


@dataclass(slots=True, frozen=True)
class Field:
    """One picture with its marked cells.

    Attributes
    ----------
    name, group
        Where it came from, and what must not be split between training and test (experiment, well, near-duplicates).
    pixels
        (H, W) uint8 or uint16, raw.
    centres_yx
        (n, 2) float32 pixels; (0, 0) is the centre of the top left pixel.
    contours_yx
        (n, v, 2) float32 pixels, closed outlines (the last vertex joins the first).
    state
        (n,) uint8: `State.LIVE`, `State.DEAD` or `UNKNOWN`.
    visible_only
        True where cells cut by the frame are marked by their visible part (boxes by hand), False where outlines run on.
    known
        (H, W) bool, True where the labels speak: every cell there is marked. None: everywhere. A missing label is
        missing, never a negative.
    dyes
        (3, H, W) float32 where dyes were pictured: dead dye, nuclear dye (about 0 to 1), and 1 where both are known. To
        predict them is a side task of the training.
    picked
        True where the marked cells were picked by what a model had called wrong: they train a network, but measure
        neither detection nor states, and set no chances.
    """

    name: str
    group: str
    pixels: Pixels
    centres_yx: NDArray[np.float32]
    contours_yx: NDArray[np.float32]
    state: NDArray[np.uint8]
    visible_only: bool = False
    known: NDArray[np.bool_] | None = None
    dyes: NDArray[np.float32] | None = None
    picked: bool = False


def simulated_fields(count: int, seed: int, side_px: int = 768, pixel_um: float = 0.65) -> list[Field]:
    """Draw fields of the simulated microscope over its whole range of cultures, exposures and focus.

    Parameters
    ----------
    count
        Number of fields, each of its own culture.
    seed
        Cultures are seeded ``seed * 1_000_000 + k``: calls with different seeds share none.
    side_px
        Rows and columns of a field.
    pixel_um
        Micrometres a pixel.
    """
    # only training needs the simulator; reading real data does not wait for it
    from livescope.simulate.optics import render_field

    fields = []
    for k in range(count):
        rng = np.random.default_rng([seed, k])
        number = seed * 1_000_000 + k
        simulation = SimulationSettings(
            seed=number,
            width=side_px,
            height=side_px,
            pixel_um=pixel_um,
            cells_per_mm2=float(rng.uniform(60, 900)),
            dead_fraction=float(rng.choice([0.05, 0.25, 0.5, 0.9])),
            bit_depth=12 if rng.random() < 0.5 else 16,
            defocus_um=float(rng.uniform(-4, 4)),
            minutes_per_frame=1.0,
        )
        minute = int(rng.integers(0, 240)) if rng.random() < 0.5 else 0
        pixels, truth = render_field(simulation, frame_number=minute, exposure_ms=float(rng.uniform(6, 40)))
        angles = ray_angles()
        centres = np.stack([truth.y_px, truth.x_px], axis=-1)
        unit = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
        contours = centres[:, None] + truth.radii_px[..., None] * unit
        fields.append(
            Field(f"simulated-{number}", str(number), pixels, centres, contours.astype(np.float32), truth.state)
        )
    return fields


def fingerprint(field: Field) -> str:
    """Name the pixels of a field: 12 hexadecimal digits of their SHA-256, the same under any file name."""
    return hashlib.sha256(field.pixels.tobytes()).hexdigest()[:12]


class _Image(BaseModel):
    model_config = ConfigDict(extra="allow")  # keys of groups

    id: int | str
    file_name: str


class _Mark(BaseModel):
    image_id: int | str
    category_id: int | str
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


class _Category(BaseModel):
    id: int | str
    name: str


class _Marks(BaseModel):
    images: list[_Image]
    annotations: list[_Mark]
    categories: list[_Category]


def annotations_in(folder: Path) -> Path | None:
    """Find the COCO json of a folder: annotations.coco.json, or the only file named like one; None without any."""
    named = folder / "annotations.coco.json"
    found = [named] if named.is_file() else [*folder.glob("*coco.json"), *folder.glob("annotations.json")]
    return found[0] if len(found) == 1 else None


def has_group(folder: Path, key: str) -> bool:
    """Return True if every image of a folder's COCO json has a key."""
    path = annotations_in(folder)
    return path is not None and all(key in image for image in _coco(path)["images"])


def _coco(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        parts = [tree[part] for part in ("images", "annotations", "categories")]
        if all(isinstance(part, list) and all(isinstance(entry, dict) for entry in part) for part in parts):
            return dict(tree)
        raise TypeError("lists of objects expected")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{str(path)!r} is no COCO json with images, annotations and categories: {error}") from None


def _marks(folder: Path) -> tuple[Path, _Marks]:
    path = annotations_in(folder)
    if path is None:
        raise SourceError(f"{str(folder)!r} holds no annotations.coco.json; a COCO folder needs it beside images/.")
    try:
        marks = _Marks.model_validate(_coco(path))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"][:3]))
        raise SourceError(
            f"{str(path)!r} cannot be used: {where} (counted from 0): {fault['msg']}, found "
            f"{shortened(fault['input'])}. An image needs id and file_name, an annotation image_id, category_id and "
            "bbox [x, y, width, height], a category id and name: mend the entry, or leave it out."
        ) from None
    known = {image.id for image in marks.images}
    for number, mark in enumerate(marks.annotations):
        if mark.image_id not in known:
            raise SourceError(
                f"{str(path)!r} cannot be used: annotations.{number} (counted from 0) has image_id {mark.image_id!r}, "
                f"the id of none of its images: {shortened([image.id for image in marks.images])}. Mend it (a number "
                "in quotes is another id than the number), or leave it out."
            )
    return path, marks


def coco_pictures(folder: Path) -> list[Path]:
    """Return the pictures that a folder's COCO json names.

    Raises
    ------
    SourceError
        The json or a picture is missing, or an entry lacks what `read_coco` needs.
    """
    return [_picture(folder, image.file_name) for image in _marks(folder)[1].images]


def read_coco(folder: Path, group: str = "dup_group") -> list[Field]:
    """Read boxes with classes `live` and `dead` (COCO json); an outline is the ellipse of its box.

    Parameters
    ----------
    folder
        Holds annotations.coco.json and the pictures, in `images/` or beside it.
    group
        Key of each image that must not be split, e.g. `dup_group` or `series`; `file_name` makes each a group.

    Raises
    ------
    SourceError
        The file is missing, lacks a key that is needed or has boxes of other categories or of no image; a picture is
        missing, or an image lacks the group key.
    """
    path, marks = _marks(folder)
    names = {category.id: category.name.lower() for category in marks.categories}
    boxes: dict[int | str, list[tuple[float, float, float, float]]] = {}
    states: dict[int | str, list[int]] = {}
    for mark in marks.annotations:
        if (name := names.get(mark.category_id, "none")) not in ("live", "dead"):
            raise SourceError(f"{str(path)!r} has boxes of category {name!r}; expected 'live' and 'dead' only.")
        boxes.setdefault(mark.image_id, []).append(mark.bbox)
        states.setdefault(mark.image_id, []).append(State[name.upper()])
    fields = []
    for image in marks.images:
        keys = image.model_dump()
        if group not in keys:
            raise SourceError(
                f"image {image.file_name!r} of {str(path)!r} has no group key {group!r}; it has {sorted(keys)}. "
                "Name the key of what must not be split (day, well, ...), or file_name if each picture stands alone: "
                "group of the data in a training config, --split of evaluate."
            )
        pixels = read_picture(_picture(folder, image.file_name))
        centres, contours = _ellipses(np.asarray(boxes.get(image.id, []), np.float32).reshape(-1, 4))
        state = np.asarray(states.get(image.id, []), np.uint8)
        fields.append(Field(image.file_name, str(keys[group]), pixels, centres, contours, state, visible_only=True))
    return fields


def _picture(folder: Path, name: str) -> Path:
    path = next((p for p in (folder / "images" / name, folder / name) if p.is_file()), None)
    if path is None:
        raise SourceError(f"picture {name!r} of the annotations is missing in {str(folder / 'images')!r}.")
    return path


def _ellipses(boxes: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Turn (n, 4) boxes x, y, width, height (COCO: edges of pixels) into centres (n, 2) and contours (n, 32, 2)."""
    half = boxes[:, [3, 2]] / 2
    centres = boxes[:, [1, 0]] + half - 0.5
    angles = ray_angles()
    unit = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    contours = centres[:, None] + half[:, None] * unit
    return centres.astype(np.float32), contours.astype(np.float32)


def split_groups(groups: Iterable[str], fractions: Sequence[float], seed: int) -> list[set[str]]:
    """Deal whole groups into parts, so that no group is in two of them.

    Parameters
    ----------
    groups
        One name a field; repeats weigh a group by its number of fields.
    fractions
        Share of the fields of each part but the last, which takes the rest. A part with a share gets a group at least.
    seed
        Deals the same groups the same way.

    Returns
    -------
    One set of group names a part, ``len(fractions) + 1`` in all.
    """
    names, counts = np.unique(np.asarray(list(groups), dtype=str), return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    share = (np.cumsum(counts[order]) - counts[order] / 2) / counts.sum()
    part = np.searchsorted(np.cumsum(fractions), share, side="right")
    wanted = [*fractions, 1 - sum(fractions)]
    parts = [k for k, fraction in enumerate(wanted) if fraction > 1e-6]
    for k in parts:  # few groups: the largest part gives one to each that went without
        if not (part == k).any() and len(names) >= len(parts):
            part[np.flatnonzero(part == np.bincount(part).argmax())[-1]] = k
    return [{str(name) for name in names[order[part == k]]} for k in range(len(fractions) + 1)]

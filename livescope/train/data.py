"""Labelled pictures for training and validation: reading them, and splitting them by group.

Owns `Field`, the readers of each kind of data, and the split. Augmentation and network targets lie elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.io import imread

from livescope.calls import State, ray_angles
from livescope.detect.normalise import Background, Spread, levels
from livescope.errors import SourceError
from livescope.frames import Pixels
from livescope.settings import SimulationSettings
from livescope.train.augment import Example
from livescope.train.targets import Cells

__all__ = ["UNKNOWN", "Field", "example_of", "normalised", "read_coco", "simulated_fields", "split_groups"]

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
    """

    name: str
    group: str
    pixels: Pixels
    centres_yx: NDArray[np.float32]
    contours_yx: NDArray[np.float32]
    state: NDArray[np.uint8]
    visible_only: bool = False
    known: NDArray[np.bool_] | None = None


def normalised(pixels: Pixels, normalisation: Background | Spread, bin_px: int = 1) -> NDArray[np.float32]:
    """Normalise a raw frame exactly as the frame graph does: levels of the whole frame, then the mean over bins.

    Parameters
    ----------
    pixels
        (H, W) uint8 or uint16.
    normalisation
        Of the model's card.
    bin_px
        Camera pixels a network pixel; the last bins are filled up with the frame's edge pixels.

    Returns
    -------
    (ceil(H / bin_px), ceil(W / bin_px)) float32.
    """
    black, inv_gain = levels(pixels, normalisation)
    image = (pixels.astype(np.float32) - np.float32(black)) * np.float32(inv_gain)
    return _binned(image, bin_px)


def _binned(image: NDArray[np.float32], bin_px: int) -> NDArray[np.float32]:
    if bin_px == 1:
        return image
    fill = [(0, -side % bin_px) for side in image.shape]
    image = np.pad(image, fill, mode="edge")
    height, width = (side // bin_px for side in image.shape)
    binned: NDArray[np.float32] = image.reshape(height, bin_px, width, bin_px).mean(axis=(1, 3), dtype=np.float32)
    return binned


def example_of(field: Field, normalisation: Background | Spread, bin_px: int = 1) -> Example:
    """Normalise and bin a field into a training example; cells are moved to the network's pixels."""
    # the centre of a bin of k pixels lies (k - 1) / 2 after its first pixel's
    shift = np.float32((bin_px - 1) / 2)
    cells = Cells(
        (field.centres_yx - shift) / np.float32(bin_px), (field.contours_yx - shift) / np.float32(bin_px), field.state
    )
    known = None if field.known is None else _binned(field.known.astype(np.float32), bin_px)
    return Example(normalised(field.pixels, normalisation, bin_px), cells, known, field.visible_only)


def simulated_fields(count: int, seed: int, side_px: int = 768) -> list[Field]:
    """Draw fields of the simulated microscope over its whole range of cultures, exposures and focus.

    Parameters
    ----------
    count
        Number of fields, each of its own culture.
    seed
        Cultures are seeded ``seed * 1_000_000 + k``: calls with different seeds share none.
    side_px
        Rows and columns of a field.
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


def read_coco(folder: Path, group: str = "dup_group", annotations: str = "annotations.coco.json") -> list[Field]:
    """Read boxes with classes `live` and `dead` (COCO json); an outline is the ellipse of its box.

    Parameters
    ----------
    folder
        Holds the annotations and `images/`.
    group
        Key of each image that must not be split, e.g. `dup_group` or `series`.

    Raises
    ------
    SourceError
        The file is missing, has other categories than live and dead, or an image lacks the group key.
    """
    path = folder / annotations
    if not path.is_file():
        raise SourceError(f"COCO annotations {str(path)!r} are missing; the folder needs them beside images/.")
    tree = json.loads(path.read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in tree["categories"]}
    if unknown := set(names.values()) - {"live", "dead"}:
        raise SourceError(f"{str(path)!r} has categories {sorted(unknown)}; expected 'live' and 'dead' only.")
    boxes: dict[int, list[tuple[float, float, float, float]]] = {}
    states: dict[int, list[int]] = {}
    for mark in tree["annotations"]:
        boxes.setdefault(mark["image_id"], []).append(mark["bbox"])
        states.setdefault(mark["image_id"], []).append(State[names[mark["category_id"]].upper()])
    fields = []
    for image in tree["images"]:
        if group not in image:
            raise SourceError(
                f"image {image['file_name']!r} of {str(path)!r} has no group key {group!r}; it has {sorted(image)}."
            )
        pixels = imread(folder / "images" / image["file_name"])
        if pixels.ndim == 3:
            pixels = pixels[..., 0]
        centres, contours = _ellipses(np.asarray(boxes.get(image["id"], []), np.float32).reshape(-1, 4))
        state = np.asarray(states.get(image["id"], []), np.uint8)
        fields.append(Field(image["file_name"], str(image[group]), pixels, centres, contours, state, visible_only=True))
    return fields


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
        Share of the fields of each part but the last, which takes the rest.
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
    return [{str(name) for name in names[order[part == k]]} for k in range(len(fractions) + 1)]

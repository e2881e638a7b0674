"""Instance masks to centres and contours.

Owns that conversion, for masks drawn by hand as well as nuclei found in a dye.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.measure import find_contours, regionprops

from livescope.errors import SourceError
from livescope.train.data import UNKNOWN, Field
from livescope.train.pictures import read_labels, read_picture

__all__ = ["contours_of", "group_of", "read_masks"]

VERTICES = 64
_LEAST_AREA_PX = 12
"""Smaller pieces are slips of the brush."""


def contours_of(
    labels: NDArray[np.integer],
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Outline every instance of a label image.

    Returns
    -------
    label
        (n,) values of the instances.
    centres_yx
        (n, 2) centroid, or for shapes that it lies outside of, the point deepest inside.
    contours_yx
        (n, 64, 2), evenly spaced along the longest outline.
    """
    names, centres, contours = [], [], []
    for region in regionprops(labels):
        if region.area < _LEAST_AREA_PX:
            continue
        mask = np.pad(region.image, 1)
        origin = np.array(region.bbox[:2]) - 1
        outline = max(find_contours(mask.astype(np.float32), 0.5), key=len)[:-1]
        centre = np.array(region.centroid) - origin
        if not mask[tuple(np.rint(centre).astype(int))]:
            centre = np.array(np.unravel_index(distance_transform_edt(mask).argmax(), mask.shape), float)
        names.append(region.label)
        centres.append(centre + origin)
        contours.append(_resampled(outline) + origin)
    n = len(names)
    return (
        np.asarray(names, np.intp),
        np.asarray(centres, np.float32).reshape(n, 2),
        np.asarray(contours, np.float32).reshape(n, VERTICES, 2),
    )


def _resampled(outline: NDArray[np.float64]) -> NDArray[np.float64]:
    closed = np.vstack([outline, outline[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    at = np.linspace(0, along[-1], VERTICES, endpoint=False)
    return np.stack([np.interp(at, along, closed[:, k]) for k in (0, 1)], axis=-1)


def group_of(name: str, pattern: str) -> str:
    """Name the group of a picture: what the regular expression matches in its name.

    Raises
    ------
    SourceError
        It matches nothing, or is no regular expression.
    """
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise SourceError(f"group {pattern!r} is no regular expression: {error}.") from None
    if found is None:
        raise SourceError(
            f"group {pattern!r} matches nothing in the name {name!r}; e.g. '^[^_]+' takes all up to a '_'."
        )
    return found.group(0)


def read_masks(images: Path, masks: Path, group: str = ".*") -> list[Field]:
    """Read pictures with instance masks of the same file stem; the states are unknown.

    Parameters
    ----------
    images, masks
        Folders of TIFF or PNG files.
    group
        Regular expression of `group_of`, on the file's stem.

    Raises
    ------
    SourceError
        A picture has no mask, a mask of another shape, or there is none at all.
    """
    drawn = {path.stem: path for path in masks.glob("*.*")}
    fields = []
    for path in sorted(p for p in images.glob("*.*") if p.suffix.lower() in (".tif", ".tiff", ".png")):
        if path.stem not in drawn:
            raise SourceError(f"picture {str(path)!r} has no mask of the same name in {str(masks)!r}.")
        pixels, labels = read_picture(path), read_labels(drawn[path.stem])
        if pixels.shape != labels.shape:
            raise SourceError(f"{str(path)!r} is {pixels.shape}, its mask {labels.shape}; they must agree.")
        _, centres, contours = contours_of(labels)
        states = np.full(len(centres), UNKNOWN, np.uint8)
        fields.append(Field(path.stem, group_of(path.stem, group), pixels, centres, contours, states))
    if not fields:
        raise SourceError(f"{str(images)!r} holds no TIFF or PNG picture.")
    return fields

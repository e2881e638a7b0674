"""Disturbances of a validation: the same fields as another focus, lamp, gain, camera or objective would give them.

Owns the disturbances; each takes a field and gives one, with its labels moved along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

from livescope.train.data import Field

__all__ = ["SHIFTS", "blurred", "lit", "scaled"]


def _pixels(field: Field, values: NDArray[np.floating]) -> Field:
    full = np.iinfo(field.pixels.dtype).max
    return replace(field, pixels=np.clip(np.rint(values), 0, full).astype(field.pixels.dtype))


def blurred(sigma_px: float) -> Callable[[Field], Field]:
    """Another focus: a Gaussian blur."""
    return lambda field: _pixels(field, gaussian_filter(field.pixels.astype(np.float32), sigma_px))


def lit(slope: float) -> Callable[[Field], Field]:
    """Another lamp: the light rises from 1 - slope to 1 + slope over the columns."""

    def disturb(field: Field) -> Field:
        lamp = 1 + slope * np.linspace(-1, 1, field.pixels.shape[1], dtype=np.float32)
        return _pixels(field, field.pixels * lamp)

    return disturb


def _gained(gain: float) -> Callable[[Field], Field]:
    return lambda field: _pixels(field, field.pixels.astype(np.float32) * np.float32(gain))


def _noisy(part: float) -> Callable[[Field], Field]:
    def disturb(field: Field) -> Field:
        noise = np.random.default_rng(0).standard_normal(field.pixels.shape, np.float32)
        return _pixels(field, field.pixels + part * float(np.median(field.pixels)) * noise)

    return disturb


def scaled(factor: float) -> Callable[[Field], Field]:
    """Another objective: so many times the pixels along each axis, of which the camera takes in no more than before."""

    def disturb(field: Field) -> Field:
        shape = tuple(max(round(side * factor), 1) for side in field.pixels.shape)
        scale: NDArray[np.float32] = np.divide(shape, field.pixels.shape, dtype=np.float32)
        values = resize(field.pixels.astype(np.float32), shape, order=1, anti_aliasing=factor < 1)
        known = None if field.known is None else resize(field.known, shape, order=0)
        # the middle of pixel 0 lies half a pixel from the edge that stays in place
        half = np.float32(0.5)
        centres, contours = (field.centres_yx + half) * scale - half, (field.contours_yx + half) * scale - half
        seen = tuple(slice(side) for side in field.pixels.shape)  # a network of one fixed size takes no larger field
        return replace(
            _pixels(field, values[seen]),
            centres_yx=centres,
            contours_yx=contours,
            known=None if known is None else known[seen],
        )

    return disturb


SHIFTS: dict[str, Callable[[Field], Field]] = {
    "as it is": lambda field: field,
    "defocus: blur of 1 px": blurred(1.0),
    "defocus: blur of 2 px": blurred(2.0),
    "illumination: slope of 20 %": lit(0.1),
    "illumination: slope of 60 %": lit(0.3),
    "gain x 0.5": _gained(0.5),
    "gain x 0.8": _gained(0.8),
    "noise of 3 %": _noisy(0.03),
    "pixel size + 10 %": scaled(1 / 1.1),
    "pixel size + 20 %": scaled(1 / 1.2),
    "pixel size + 30 %": scaled(1 / 1.3),
    "pixel size - 10 %": scaled(1 / 0.9),
    "pixel size - 20 %": scaled(1 / 0.8),
    "pixel size - 30 %": scaled(1 / 0.7),
}

"""Which cells a dead-cell dye stains, measured in a picture of the dye at the places of the called cells.

Owns the measure and its lines. Only cells that were called are looked at; finding nuclei in a dye for training is
`livescope.train.dye`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livescope.calls import CellCalls, State, ray_angles
from livescope.frames import Pixels

__all__ = ["DEAD_ABOVE", "LIVE_BELOW", "stained_states"]

DEAD_ABOVE = (2.0, 1.3)
"""A cell is dead above these multiples of the field's median and of the ring around it, both."""
LIVE_BELOW = (1.25, 1.15)
"""And live below one of these; between them the dye does not say."""
_THIRD = 1.09
"""Mean of the brightest third of normal noise, standard deviations. Not taken off, it made half of the unstained cells
on a background of 1 dead, and left 94 % of them undecided on one of 3."""
_RINGS = {"inside": (0.0, 0.2, 0.4, 0.6), "around": (1.2, 1.4)}
"""Distances from the centre at which a cell is sampled, parts of its radius along each ray."""


def stained_states(pixels: Pixels, calls: CellCalls) -> NDArray[np.uint8]:
    """Return what the dye says of each call, (n,) uint8 of `State`.

    A nucleus fills a part of its cell only, so that the inside is the mean of the brightest third of 128 places within
    0.6 radii, less what noise alone adds to it; around it is the median of 64 places at 1.2 and 1.4 radii. Both are
    compared with lines that hold for pairs of bright-field and dye in training too. A picture that is blank, or mostly
    saturated, says nothing of any cell.

    Parameters
    ----------
    pixels
        (H, W) picture of the dye, of the same field as the calls.
    calls
        The cells, n rows.
    """
    if not len(calls):
        return np.empty(0, np.uint8)
    if np.median(pixels) >= pixels.max():
        return np.full(len(calls), State.UNCERTAIN, np.uint8)
    inside, around = (_samples(pixels, calls, parts) for parts in _RINGS.values())
    brightest = np.sort(inside, axis=1)[:, -(inside.shape[1] // 3) :].mean(axis=1) - _THIRD * _noise(pixels)
    field = brightest / max(float(np.median(pixels)), 1.0)
    ring = brightest / np.maximum(np.median(around, axis=1), 1.0)
    dead = (field > DEAD_ABOVE[0]) & (ring > DEAD_ABOVE[1])
    live = (field < LIVE_BELOW[0]) | (ring < LIVE_BELOW[1])
    return np.where(dead, State.DEAD, np.where(live, State.LIVE, State.UNCERTAIN)).astype(np.uint8)


def _noise(pixels: Pixels) -> float:
    """Return the standard deviation of the noise, from neighbours in a row, which differ little but for it."""
    apart = np.abs(np.diff(pixels[:: max(1, pixels.shape[0] // 256)].astype(np.float32), axis=1))
    return 1.4826 * float(np.median(apart)) / 2**0.5 if apart.size else 0.0


def _samples(pixels: Pixels, calls: CellCalls, parts: tuple[float, ...]) -> NDArray[np.float32]:
    """Return the pixels at parts of the radius along each ray, (n, parts x rays); clipped to the picture."""
    angles = ray_angles(calls.radii_px.shape[1])
    reach = calls.radii_px[:, None, :] * np.array(parts)[None, :, None]
    y = np.rint(calls.y_px[:, None, None] + reach * np.sin(angles)).astype(np.intp)
    x = np.rint(calls.x_px[:, None, None] + reach * np.cos(angles)).astype(np.intp)
    np.clip(y, 0, pixels.shape[0] - 1, out=y)
    np.clip(x, 0, pixels.shape[1] - 1, out=x)
    found: NDArray[np.float32] = pixels[y, x].astype(np.float32).reshape(len(calls), -1)
    return found

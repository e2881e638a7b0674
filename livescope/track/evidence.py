"""What motion and texture say of life: living cells move and flicker, dead ones keep still.

Owns two features of a tracked cell (how far it is from where it used to be, how alike its texture is to the frame
before) and what they are worth. Nothing is assumed of the microscope: how still is still is learnt, at each position,
from the cells of whose state the network is sure; until there are enough of both kinds the features say nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livescope.frames import Pixels

__all__ = ["FEATURES", "Contrast", "correlate", "sample"]

Floats = NDArray[np.float64]

FEATURES = 2
"""Logarithm of the distance from the slow mean place; arctanh of the correlation of the texture with the frame
before."""

_GRID = np.linspace(-0.65, 0.65, 8)
_LEAST_CELLS = 20.0
_FORGET = 0.98
"""Weight of what was learnt before, a frame: the features follow a change of light or focus within 50 frames."""
_MOST = 1.0
"""Most evidence of one feature in one frame, nats: a bumped dish must not raise the dead."""


def sample(pixels: Pixels, yx_px: Floats, radius_px: Floats) -> NDArray[np.float32]:
    """Return the pixels on an 8 x 8 grid inside each cell, (n, 64), NaN-free; grids at the border are clipped to it.

    Parameters
    ----------
    pixels
        (H, W) frame.
    yx_px
        (n, 2) centres.
    radius_px
        (n,) radii; the grid reaches 0.65 of it.
    """
    rows, columns = (
        np.rint(yx_px[:, axis, None] + radius_px[:, None] * _GRID).astype(np.intp).clip(0, pixels.shape[axis] - 1)
        for axis in (0, 1)
    )
    patches: NDArray[np.float32] = pixels[rows[:, :, None], columns[:, None, :]].reshape(-1, 64).astype(np.float32)
    return patches


def correlate(a: NDArray[np.float32], b: NDArray[np.float32]) -> Floats:
    """Return arctanh of the correlation of each row of `a` with that of `b`, (n,); 0 for rows without texture."""
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    power = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    r = np.divide((a * b).sum(axis=1), power, out=np.zeros(len(a), np.float32), where=power > 0)
    likeness: Floats = np.arctanh(np.clip(r, -0.995, 0.995).astype(np.float64))
    return likeness


class Contrast:
    """How living and dead cells differ in each feature, as two normal distributions learnt on the way.

    The features of cells that the network is sure of teach; a cell's own verdict never does, so that errors do not
    feed themselves.
    """

    def __init__(self) -> None:
        self._weight = np.zeros((2, FEATURES))
        self._sum = np.zeros((2, FEATURES))
        self._squares = np.zeros((2, FEATURES))

    def learn(self, features: Floats, live: NDArray[np.bool_], dead: NDArray[np.bool_]) -> None:
        """Take in (n, 2) features, NaN where unknown, of surely living and surely dead cells."""
        for total in (self._weight, self._sum, self._squares):
            total *= _FORGET
        for state, rows in enumerate((live, dead)):
            known = np.isfinite(features[rows])
            values = np.where(known, features[rows], 0.0)
            self._weight[state] += known.sum(axis=0)
            self._sum[state] += values.sum(axis=0)
            self._squares[state] += (values**2).sum(axis=0)

    def evidence(self, features: Floats) -> Floats:
        """Return the log likelihood ratio of dead against living for each cell's features, (n,) nats."""
        ready = (self._weight > _LEAST_CELLS).all(axis=0)
        if not ready.any():
            return np.zeros(len(features))
        weight = np.maximum(self._weight, 1.0)
        mean = self._sum / weight
        spread = np.sqrt(np.maximum(self._squares / weight - mean**2, 0.0)) + 0.1
        with np.errstate(invalid="ignore"):
            live, dead = (-0.5 * ((features - mean[s]) / spread[s]) ** 2 - np.log(spread[s]) for s in (0, 1))
            ratio = np.clip(dead - live, -_MOST, _MOST)
        total: Floats = np.where(ready & np.isfinite(features), ratio, 0.0).sum(axis=1)
        return total

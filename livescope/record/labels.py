"""Cells as label images: outlines filled with ids and with states.

Owns the filling of polygons and the choice of ids. Does not write arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livescope.calls import CellCalls

__all__ = ["UNLINKED", "cell_ids", "label_planes"]

UNLINKED = 1_000_000_000
"""Cells without a track in a frame where others have one get ids above this, so that no track's id is taken."""


def cell_ids(calls: CellCalls) -> NDArray[np.int32]:
    """Return (n,) the pixel values of the cells in `labels/cells`: the track, or row + 1 where no cell was linked.

    Raises
    ------
    ValueError
        A track is 0, which is the background of a label image, or too large for one.
    """
    rows = np.arange(1, len(calls) + 1)
    linked = calls.track >= 0
    if not linked.any():
        return rows.astype(np.int32)
    tracks = calls.track[linked]
    if tracks.min() < 1 or tracks.max() > UNLINKED:
        raise ValueError(f"tracks {tracks.min()}..{tracks.max()} cannot be label values: they must be 1..{UNLINKED}.")
    return np.where(linked, calls.track, UNLINKED + rows).astype(np.int32)


def label_planes(calls: CellCalls, shape: tuple[int, int]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Fill the outlines of a frame's cells.

    Parameters
    ----------
    calls
        The cells, n rows.
    shape
        (H, W) of the frame.

    Returns
    -------
    cells
        (H, W) int32, `cell_ids`, 0 = background.
    viability
        (H, W) uint8 of `livescope.calls.State`, 0 = background.

    Notes
    -----
    A pixel belongs to a cell if its centre lies inside the outline (even-odd rule). Of cells that overlap the surer
    one is on top.
    """
    order = np.argsort(calls.p_cell, kind="stable")
    flat, row = _fill(calls.outlines_yx()[order].astype(np.float64), shape)
    cells, viability = np.zeros(shape, np.int32), np.zeros(shape, np.uint8)
    cells.ravel()[flat] = cell_ids(calls)[order][row]
    viability.ravel()[flat] = calls.state[order][row]
    return cells, viability


def _fill(outlines_yx: NDArray[np.float64], shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return flat pixel indices inside the (n, k, 2) polygons, and the polygon of each; later polygons come later.

    All polygons at once, by scan lines: 400 cells in 10 ms, a polygon at a time (skimage.draw.polygon) in 290.
    """
    height, width = shape
    here, there = outlines_yx.reshape(-1, 2), np.roll(outlines_yx, -1, axis=1).reshape(-1, 2)
    top, bottom = np.minimum(here[:, 0], there[:, 0]), np.maximum(here[:, 0], there[:, 0])
    first = np.clip(np.ceil(top), 0, height).astype(np.int64)  # an edge crosses the scan lines top <= y < bottom
    count = np.clip(np.ceil(bottom), 0, height).astype(np.int64) - first
    edge = np.repeat(np.arange(len(here)), count)
    y = _ramps(first, count)
    slope = (there[edge, 1] - here[edge, 1]) / (there[edge, 0] - here[edge, 0])
    x = here[edge, 1] + (y - here[edge, 0]) * slope
    polygon = edge // outlines_yx.shape[1]
    order = np.lexsort((x, polygon * height + y))
    x, y, polygon = x[order], y[order], polygon[order]
    # crossings of a closed line come in pairs: a span begins at every even one and ends at the next
    start = np.clip(np.ceil(x[0::2]), 0, width).astype(np.int64)
    length = np.maximum(np.clip(np.ceil(x[1::2]), 0, width).astype(np.int64) - start, 0)
    return _ramps(y[0::2] * width + start, length), np.repeat(polygon[0::2], length)


def _ramps(first: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return first[0], first[0] + 1, ... (count[0] values), then first[1], ..."""
    total = np.arange(int(count.sum()))
    return total - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)

"""How far the picture moved between two frames, from the constellation of cells alone.

Owns the estimate of one shift (y, x) for a whole field: drift, a stage move, a stage whose axes nobody has measured.
Does not decide which cell is which (`link`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial import KDTree

__all__ = ["hits", "nearest", "refine", "search"]

Points = NDArray[np.float64]

Rows = NDArray[np.int64]

_LEAST_PAIRS = 6
"""Fewer pairs than this say nothing of a shift."""


def nearest(tree: KDTree, points: Points, reach_px: float, k: int = 1) -> tuple[Points, Rows]:
    """Return distances and rows of each point's k nearest in the tree, (n, k); infinite distance beyond the reach."""
    distance, row = tree.query(points, k=[*range(1, k + 1)], distance_upper_bound=reach_px)
    return np.asarray(distance, np.float64), np.asarray(row, np.int64)


def hits(before: Points, after: KDTree, shape: tuple[int, int], shift: Points, reach_px: float) -> float:
    """Return the part of the cells expected in the frame that are found within `reach_px`; 0 where none is expected.

    Parameters
    ----------
    before
        (n, 2) y and x of the cells in the earlier frame, pixels.
    after
        Cells of the later frame.
    shape
        (height, width) of the frame.
    shift
        (2,) hypothesis: a cell at p is now at p + shift.
    """
    expected = before + shift
    inside = ((expected >= 0) & (expected < np.array(shape))).all(axis=1)
    if not inside.any():
        return 0.0
    distance, _ = nearest(after, expected[inside], reach_px)
    return float(np.isfinite(distance).mean())


def refine(before: Points, after: KDTree, shift: Points, reach_px: float) -> Points:
    """Return the shift corrected by the median of what is left over; unchanged with fewer than six pairs."""
    expected = before + shift
    distance, row = nearest(after, expected, reach_px)
    found = np.isfinite(distance[:, 0])
    if np.count_nonzero(found) < _LEAST_PAIRS:
        return shift
    rest = after.data[row[found, 0]] - expected[found]
    refined: Points = shift + np.median(rest, axis=0)
    return refined


def search(before: Points, after: Points, shape: tuple[int, int], cell_radius_px: float) -> Points | None:
    """Find a shift of up to the whole frame by correlating the two constellations; None where none stands out.

    Parameters
    ----------
    before, after
        (n, 2) and (m, 2) y and x of cells in pixels; `before` may reach beyond the frame.
    shape
        (height, width) of the frame.
    cell_radius_px
        Typical radius; half of it is the resolution.

    Notes
    -----
    Of m cells placed at random a share of pi r^2 density / 4 falls within half a radius r by chance, below a tenth
    even in a confluent layer; a peak must hold six pairs and three in ten of the cells that it puts into the frame.
    """
    if len(before) < _LEAST_PAIRS or len(after) < _LEAST_PAIRS:
        return None
    bin_px = max(cell_radius_px / 2, 1.0)
    size = [fft.next_fast_len(2 * int(np.ceil(side / bin_px)) + 1, real=True) for side in shape]
    images = []
    for points in (before, after):
        near = ((points > -np.array(shape)) & (points < 2 * np.array(shape))).all(axis=1)
        index = np.floor(points[near] / bin_px).astype(int) % size
        flat = np.bincount(index[:, 0] * size[1] + index[:, 1], minlength=size[0] * size[1]).astype(np.float32)
        images.append(fft.rfft2(flat.reshape(size)))
    correlation = fft.irfft2(images[1] * np.conj(images[0]), s=size)
    # a shift between bins spreads its pairs over four of them
    correlation = correlation + np.roll(correlation, 1, 0)
    correlation = correlation + np.roll(correlation, 1, 1)
    tree = KDTree(after)
    for peak in np.argsort(correlation, axis=None)[::-1][:8]:
        cell = np.array(np.unravel_index(peak, size))
        cell = np.where(cell > np.array(size) / 2, cell - size, cell)
        shift = refine(before, tree, (cell - 0.5) * bin_px, 2 * bin_px)
        expected = before + shift
        inside = ((expected >= 0) & (expected < np.array(shape))).all(axis=1)
        share = hits(before, tree, shape, shift, bin_px)
        if share > 0.3 and share * np.count_nonzero(inside) >= _LEAST_PAIRS:
            return shift
    return None

"""Nuclei found in their dye, where nobody has drawn them.

Owns that segmentation. What the dead dye says of a nucleus is measured in `dye`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, gaussian_filter
from scipy.ndimage import label as pieces
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.measure import label as connected
from skimage.measure import regionprops
from skimage.segmentation import watershed

from livescope.frames import Pixels

__all__ = ["above_surroundings", "find_nuclei"]

_EDGE = 0.35
"""A nucleus ends where its dye has fallen to this part of its own height above what lies around it: dim nuclei beside
bright ones keep their size, which one line for the whole field cannot do."""
_LEAST = 0.08
"""Smaller than this part of a typical nucleus' area is debris."""


def find_nuclei(nuclear: Pixels, diameter_px: float = 40.0) -> NDArray[np.intp]:
    """Find nuclei: Otsu on the logarithm above the local background, a watershed, then each to its own edge.

    Parameters
    ----------
    nuclear
        (H, W) nuclear dye.
    diameter_px
        Typical nucleus; peaks closer than a third of it are one.

    Returns
    -------
    (H, W) instances, 0 where there is none.
    """
    lit = nuclear > 0  # registration leaves black borders
    if not lit.any() or np.ptp(nuclear[lit]) == 0:
        return np.zeros(nuclear.shape, np.intp)
    signal = above_surroundings(nuclear, lit, diameter_px)
    mask = lit & (signal > threshold_otsu(signal[lit]))
    depth = gaussian_filter(signal, diameter_px / 10)
    apart = max(int(0.3 * diameter_px), 1)
    peaks = peak_local_max(depth, min_distance=apart, labels=connected(mask), exclude_border=False)
    seeds = np.zeros(nuclear.shape, np.intp)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    basins: NDArray[np.intp] = watershed(-depth, seeds, mask=mask).astype(np.intp)
    return _to_their_edges(basins, gaussian_filter(nuclear.astype(np.float32), 1.0), diameter_px)


def above_surroundings(nuclear: Pixels, lit: NDArray[np.bool_], diameter_px: float = 40.0) -> NDArray[np.float32]:
    """Compute the logarithm of a dye above that around it, (H, W) nats.

    Places that are not `lit` (black borders) are taken for the typical light: their dark must not draw the surroundings
    of what lies beside them down, nor any line between dark and bright.
    """
    signal = np.log1p(nuclear.astype(np.float32))
    signal = np.where(lit, signal, np.median(signal[lit]))
    raised: NDArray[np.float32] = gaussian_filter(signal, diameter_px / 26) - gaussian_filter(signal, 2 * diameter_px)
    return raised


def _to_their_edges(basins: NDArray[np.intp], dye: NDArray[np.float32], diameter_px: float) -> NDArray[np.intp]:
    found = np.zeros_like(basins)
    margin = int(diameter_px / 2)
    for region in regionprops(basins):
        top, left, bottom, right = region.bbox
        box = np.s_[max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin]
        own, light = basins[box] == region.label, dye[box]
        outside = basins[box] == 0
        around = float(np.percentile(light[outside], 30)) if outside.any() else float(light.min())
        height = float(np.percentile(light[own], 90)) - around
        part, count = pieces(own & (light > around + _EDGE * height))
        if not count:
            continue
        nucleus = binary_fill_holes(part == np.bincount(part.ravel())[1:].argmax() + 1)
        if nucleus.sum() >= _LEAST * np.pi * (diameter_px / 2) ** 2:
            found[box][nucleus] = region.label
    return found

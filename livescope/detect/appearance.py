"""How a frame and its cells look, as a few numbers: what the shift watch compares with the training's.

Owns those numbers, which need no more than the frame and the calls. What is unusual in them is decided in `shift`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livescope.calls import CellCalls, ray_angles
from livescope.detect.normalise import Normalisation, levels
from livescope.frames import Pixels

__all__ = ["CELL_FEATURES", "FEATURES", "IMAGE_FEATURES", "appearance", "clipped", "counts", "unevenness"]

IMAGE_FEATURES = ("darkest", "dark", "bright", "brightest", "grain", "fine", "middle", "coarse")
"""Of the normalised picture, at the network's pixels: asinh of the percentiles 0.5, 5, 95 and 99.5; log of the mean
squared difference of neighbours; log of the ratios of those differences between 1, 2, 4 and 8 pixels."""
CELL_FEATURES = ("diameter", "outline", "score", "sureness", "sharpness", "centre", "rim", "around")
"""Medians over the cells: log of the diameter in network pixels, unevenness of the rays, logit of the score, logit of
the surer state; steepest step along a ray as a part of its range; normalised light at the centre, rim and around."""
FEATURES = IMAGE_FEATURES + CELL_FEATURES

_LEAST_CELLS = 3
_MOST_CELLS = 128
_PATCHES, _PATCH = 4, 64
"""Up to 4 x 4 patches of 64 network pixels a side are looked at, spread evenly: 4 ms at any frame size."""
_ALONG = np.linspace(0.0, 1.5, 16, dtype=np.float32)
"""Where the light is read along a ray, parts of its length."""


def appearance(pixels: Pixels, calls: CellCalls, normalisation: Normalisation, bin_px: int) -> NDArray[np.float64]:
    """Measure `FEATURES` of one frame.

    Parameters
    ----------
    pixels
        (H, W) uint8 or uint16, raw.
    calls
        Cells of the frame.
    normalisation
        Of the model's card.
    bin_px
        Raw pixels along each axis for one pixel of the network's input.

    Returns
    -------
    (16,) float64; those of the cells are NaN where fewer than 3 were called, all are where the frame is less than two
    network pixels high or wide.
    """
    black, inv_gain = levels(pixels, normalisation)
    features = np.full(len(FEATURES), np.nan)
    if min(pixels.shape) < 2 * bin_px:
        return features
    features[: len(IMAGE_FEATURES)] = _of_image(_patches(pixels, bin_px), black, inv_gain)
    if len(calls) >= _LEAST_CELLS:
        features[len(IMAGE_FEATURES) :] = _of_cells(pixels, calls, black, inv_gain, bin_px)
    return features


def clipped(pixels: Pixels) -> float:
    """Part of the pixels that stand at the frame's greatest value: a camera at its end piles them up there."""
    sample = pixels[:: _step(pixels), :: _step(pixels)]
    top = sample.max()
    return float(np.mean(sample == top)) if top > np.median(sample) or _is_an_end(int(top)) else 0.0


def _is_an_end(value: int) -> bool:
    """Whether a camera of 8 to 16 bits ends there, also where the lowest bits of its pixels stay 0.

    Where most of a field is burnt its median is the greatest value too, as in a picture of nothing.
    """
    ones = value // (value & -value) if value else 0
    return ones >= 2**8 - 1 and ones & (ones + 1) == 0


def counts(pixels: Pixels) -> tuple[float, float]:
    """Median and 99th percentile of a frame."""
    middle, top = np.percentile(pixels[:: _step(pixels), :: _step(pixels)], (50, 99))
    return float(middle), float(top)


def unevenness(pixels: Pixels) -> float:
    """Range of the light over the frame, as a part of its level: of a smooth surface through the medians of tiles."""
    if min(pixels.shape) < 6:
        return 0.0
    rows, columns = (np.array_split(np.arange(side), 6) for side in pixels.shape)
    step = _step(pixels)
    medians = np.array(
        [[np.median(pixels[r[0] : r[-1] + 1 : step, c[0] : c[-1] + 1 : step]) for c in columns] for r in rows]
    )
    y, x = (k.ravel() for k in np.mgrid[-1:1:6j, -1:1:6j])
    light = medians.ravel()
    lit = light > 0  # black borders of a registration are no light
    if lit.sum() < 12:
        return 0.0
    terms = np.stack([np.ones_like(y), y, x, y * x, y**2, x**2], axis=-1)[lit]
    light = light[lit] / np.median(light[lit])
    weight = np.ones_like(light)
    for _ in range(4):  # tiles that cells fill stand off the surface and count less with each round
        fitted = terms @ np.linalg.lstsq(terms * weight[:, None], light * weight, rcond=None)[0]
        off = np.abs(light - fitted)
        weight = np.sqrt(1 / (1 + (off / (1.5 * np.median(off) + 1e-3)) ** 2))
    return float(np.ptp(fitted))


def _step(pixels: Pixels) -> int:
    return max(int(np.sqrt(pixels.size / 60_000)), 1) | 1


def _patches(pixels: Pixels, bin_px: int) -> NDArray[np.float32]:
    """Cut out evenly spread patches and bin them, (n, h, w); black borders are left out if there is anything else."""
    tall, wide = (min(_PATCH, side // bin_px) for side in pixels.shape)
    starts = [
        np.unique(np.linspace(0, side - size * bin_px, min(_PATCHES, max(side // (size * bin_px), 1))).astype(int))
        for side, size in zip(pixels.shape, (tall, wide), strict=True)
    ]
    cut = np.stack([pixels[y : y + tall * bin_px, x : x + wide * bin_px] for y in starts[0] for x in starts[1]])
    binned: NDArray[np.float32] = cut.reshape(len(cut), tall, bin_px, wide, bin_px).mean(axis=(2, 4), dtype=np.float32)
    lit = (binned == 0).mean(axis=(1, 2)) < 0.1
    return binned[lit] if lit.any() else binned


def _of_image(patches: NDArray[np.float32], black: float, inv_gain: float) -> list[float]:
    image = (patches - np.float32(black)) * np.float32(inv_gain)
    spread = np.arcsinh(4 * np.percentile(image, (0.5, 5, 95, 99.5)))
    energy = []
    for lag in (1, 2, 4, 8):
        reach = min(lag, *(side - 1 for side in image.shape[1:]))
        down, right = image[:, reach:] - image[:, :-reach], image[:, :, reach:] - image[:, :, :-reach]
        energy.append(np.log(np.mean(down**2) + np.mean(right**2) + 1e-6))
    return [*spread.tolist(), float(energy[0]), *np.diff(energy).tolist()]


def _of_cells(pixels: Pixels, calls: CellCalls, black: float, inv_gain: float, bin_px: int) -> list[float]:
    chosen = np.unique(np.linspace(0, len(calls) - 1, _MOST_CELLS).astype(int))
    radii = calls.radii_px[chosen]
    mean_radius = radii.mean(axis=1)
    light = (_along_rays(pixels, calls, chosen, bin_px) - np.float32(black)) * np.float32(inv_gain)
    steps, ranges = np.abs(np.diff(light, axis=2)).max(axis=2), np.ptp(light, axis=2)
    p_cell, p_dead = (p[chosen].astype(np.float64).clip(1e-4, 1 - 1e-4) for p in (calls.p_cell, calls.p_dead))
    each = [
        np.log(2 * mean_radius / bin_px),
        radii.std(axis=1) / mean_radius,
        np.log(p_cell / (1 - p_cell)),
        np.abs(np.log(p_dead / (1 - p_dead))),
        steps.mean(axis=1) / (ranges.mean(axis=1) + 1e-3),
        np.arcsinh(4 * light[:, :, :5].mean(axis=(1, 2))),
        np.arcsinh(4 * light[:, :, 8:12].mean(axis=(1, 2))),
        np.arcsinh(4 * light[:, :, 13:].mean(axis=(1, 2))),
    ]
    return [float(np.median(values)) for values in each]


def _along_rays(pixels: Pixels, calls: CellCalls, chosen: NDArray[np.intp], bin_px: int) -> NDArray[np.float32]:
    """Read the light of cells along every second ray, (n, 16, 16); each value is the mean over a bin."""
    angles = ray_angles()[::2]
    reach = calls.radii_px[chosen][:, ::2, None] * _ALONG
    y = calls.y_px[chosen][:, None, None] + reach * np.sin(angles).astype(np.float32)[:, None]
    x = calls.x_px[chosen][:, None, None] + reach * np.cos(angles).astype(np.float32)[:, None]
    offsets = np.arange(bin_px) - (bin_px - 1) / 2
    light = np.zeros(y.shape, np.float32)
    for down in offsets:
        row = np.rint(y + down).astype(np.intp).clip(0, pixels.shape[0] - 1)
        for right in offsets:
            light += pixels[row, np.rint(x + right).astype(np.intp).clip(0, pixels.shape[1] - 1)]
    return light / np.float32(bin_px**2)

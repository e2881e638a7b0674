"""What may change the look of a picture beyond geometry and light: other optics, a shade, round things above the cells.

Owns these disturbances of training pictures; labels stay as they are. Strengths are in standard deviations of the
picture, so that they suit any normalisation. Every draw comes from the generator that is handed in.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch.nn import functional

__all__ = ["discs", "shade", "texture"]

Picture = NDArray[np.float32]


def texture(image: Picture, rng: np.random.Generator) -> Picture:
    """Lay a randomly filtered version over a picture, as another focus or contrast might draw the same cells.

    Four random convolutions (1 or 3 pixels, two channels) with leaky ReLU, mixed in by a random part, the picture's
    deviation kept. After GIN (Ouyang et al. 2022, IEEE TMI 42:1095).

    Parameters
    ----------
    image
        (H, W) float32, the background near 0.
    rng
        The source of chance.
    """
    plain = torch.from_numpy(image)[None, None]
    deviation = _deviation(image)
    filtered = plain
    for channels in (2, 2, 2, 1):
        side = int(rng.choice([1, 3]))
        weight = torch.from_numpy(rng.standard_normal((channels, filtered.shape[1], side, side), np.float32))
        bias = torch.from_numpy(rng.standard_normal(channels, np.float32)) * deviation
        padded = functional.pad(filtered, [side // 2] * 4, mode="replicate")
        filtered = functional.conv2d(padded, weight, bias)
        if channels > 1:
            filtered = functional.leaky_relu(filtered, 0.2)
    other = (filtered - filtered.median())[0, 0].numpy()
    part = np.float32(rng.random())
    mixed = part * other * (deviation / _deviation(other)) + (1 - part) * image
    return np.asarray(mixed * (deviation / _deviation(mixed)), np.float32)


def shade(image: Picture, rng: np.random.Generator) -> Picture:
    """Darken or lighten a part of a picture smoothly and take contrast from it: a meniscus, something out of focus."""
    coarse = int(rng.integers(2, 5))
    factors = np.array(image.shape) / coarse
    depth = zoom(rng.standard_normal((coarse, coarse)), factors, order=3)[: image.shape[0], : image.shape[1]]
    depth = (depth - depth.min()) / (np.ptp(depth) + 1e-6)
    depth = np.clip((depth - rng.uniform(0, 0.5)) * 2, 0, 1)
    veil, level = rng.uniform(0, 0.5), rng.uniform(-1.2, 2.5) * _deviation(image)
    return np.asarray(image * (1 - veil * depth) - level * depth, np.float32)


def discs(image: Picture, rng: np.random.Generator) -> Picture:
    """Lay 3 to 40 alike discs over a picture, in heaps: blood cells, bubbles, debris, 12 to 38 pixels across."""
    image = image.copy()
    deviation = _deviation(image)
    heaps = rng.uniform(0, 1, (int(rng.integers(1, 4)), 2)) * image.shape
    wide = rng.uniform(20, 90)
    radius = rng.uniform(8, 15)
    # a dark rim on a brighter ring, or, in a quarter of the pictures, the other way round
    rim = deviation * rng.uniform(1.0, 4.5) * rng.choice([1.0, 1.0, 1.0, -1.0])
    core, ring = deviation * rng.normal(0, 1.2), rng.uniform(0, 0.4)
    for _ in range(int(rng.integers(3, 41))):
        centre = heaps[rng.integers(len(heaps))] + rng.standard_normal(2) * wide
        _disc(image, centre, radius * rng.uniform(0.75, 1.25), (rim, core + 0.5 * deviation * rng.normal(), ring), rng)
    return image


def _disc(
    image: Picture,
    centre: NDArray[np.float64],
    radius: float,
    look: tuple[float, float, float],
    rng: np.random.Generator,
) -> None:
    """Draw one disc in place: its rim, core and bright ring are added, and what lies below shows through in part."""
    reach = 2 * radius
    low = np.floor(np.maximum(centre - reach, 0)).astype(int)
    high = np.ceil(np.minimum(centre + reach, image.shape)).astype(int)
    if (low >= high).any():
        return
    y, x = np.mgrid[low[0] : high[0], low[1] : high[1]]
    dy, dx = y - centre[0], x - centre[1]
    angle, flat = rng.uniform(0, np.pi), rng.uniform(0.7, 1.0)
    along, across = np.cos(angle) * dx + np.sin(angle) * dy, (np.cos(angle) * dy - np.sin(angle) * dx) / flat
    distance = np.hypot(along, across) / radius
    rim, core, ring = look
    rim *= rng.uniform(0.6, 1.4)
    drawn = -rim * np.exp(-(((distance - 0.9) / rng.uniform(0.12, 0.25)) ** 2))
    drawn += core * np.clip(1 - (distance / 0.8) ** 2, 0, None)
    drawn += ring * rim * np.exp(-(((distance - 1.25) / 0.15) ** 2))
    hidden = rng.uniform(0, 0.6) / (1 + np.exp((distance - 1) * 12))
    part = image[low[0] : high[0], low[1] : high[1]]
    part[:] = part * (1 - hidden) + drawn


def _deviation(image: Picture) -> float:
    """Standard deviation, and something above 0 for an empty picture."""
    return max(float(image.std()), 1e-4)

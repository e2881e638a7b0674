"""Round things above the cells, blood cells, bubbles or debris, drawn over training pictures.

Owns their look. What lies over a cell does not change whether it is one, nor whether it is dead: labels stay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["with_discs"]

Picture = NDArray[np.float32]


def with_discs(image: Picture, rng: np.random.Generator) -> Picture:
    """Lay 3 to 40 discs that look alike over a picture, in heaps, each 12 to 38 pixels across.

    Parameters
    ----------
    image
        (H, W) float32, the background near 0. Contrast is drawn in its standard deviations, whatever the normalisation.
    rng
        The source of chance.
    """
    image = image.copy()
    deviation = max(float(image.std()), 1e-4)  # an empty picture has none
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

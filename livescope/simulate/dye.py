"""The simulated dead-cell dye: a far-red nuclear stain that enters once the membrane leaks.

Owns the fluorescence picture of a culture. It shows what the truth says, with a dye's own faults: brightness differs
from cell to cell, the dye enters over minutes, and focus blurs. Bright-field lies in `optics`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from livescope.simulate.culture import DEATH_PROGRESS, Appearance

__all__ = ["draw_dye"]

PEAK_E_PER_MS = 60.0
"""Electrons a millisecond in the middle of a typical stained nucleus in focus."""
BACKGROUND_E_PER_MS = 3.0
READ_NOISE_E = 6.0


def draw_dye(
    shape: tuple[int, int],
    shown: Appearance,
    y_px: NDArray[np.float64],
    x_px: NDArray[np.float64],
    *,
    pixel_um: float,
    z_um: float,
    exposure_ms: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return electrons, (H, W), with shot and read noise.

    Parameters
    ----------
    shape
        (height, width) of the frame.
    shown, y_px, x_px
        Cells near the frame and their centres.
    pixel_um, z_um
        Pixel size, and distance from best focus.
    exposure_ms
        Exposure.
    rng
        Of the frame: the same one gives the same noise.
    """
    rate = np.full(shape, BACKGROUND_E_PER_MS)
    # the membrane leaks at death; nothing is stained half-way to it
    leak = np.clip((shown.dying - DEATH_PROGRESS + 0.05) / 0.15, 0.0, 1.0)
    for row in np.flatnonzero(leak > 0):
        own = np.random.default_rng([97, int(shown.cell[row])])  # a cell's brightness is its own, in every frame
        peak = PEAK_E_PER_MS * leak[row] * np.exp(own.normal(0, 0.4))
        sharp_um = 0.42 * shown.radius_um[row]
        blur_um = np.hypot(sharp_um, 0.25 * abs(z_um))
        _add_spot(rate, y_px[row], x_px[row], blur_um / pixel_um, peak * (sharp_um / blur_um) ** 2)
    electrons = rng.poisson(rate * exposure_ms).astype(np.float64)
    return electrons + rng.normal(0, READ_NOISE_E, shape)


def _add_spot(rate: NDArray[np.float64], y: float, x: float, sigma: float, peak: float) -> None:
    reach = int(np.ceil(3.5 * sigma))
    top, bottom = max(int(y) - reach, 0), min(int(y) + reach + 1, rate.shape[0])
    left, right = max(int(x) - reach, 0), min(int(x) + reach + 1, rate.shape[1])
    if top >= bottom or left >= right:
        return
    rows = np.exp(-((np.arange(top, bottom) - y) ** 2) / (2 * sigma**2))
    columns = np.exp(-((np.arange(left, right) - x) ** 2) / (2 * sigma**2))
    rate[top:bottom, left:right] += peak * rows[:, None] * columns[None, :]

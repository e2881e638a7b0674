"""Black level and gain of a raw frame, robust to cells, borders and empty frames: ``x = (raw - black) * inv_gain``.

Owns the statistics that a model card can name. Training and live analysis call the same `levels`, on the whole raw
frame before any binning or cropping; the arithmetic itself runs in the frame graph.

What is invariant: multiplying all pixels by a gain (lamp, exposure, camera gain) changes neither kind; adding a camera
offset changes `Background` (relative contrast needs a true zero) but not `Spread` above its floor; the number of cells
hardly changes `Background`, but does change `Spread`.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from livescope.frames import Pixels

__all__ = ["Background", "Fixed", "Normalisation", "Spread", "levels"]

_SAMPLES = 16_384
"""Pixels looked at in a frame: the level is good to 1 % of the noise's sigma, in under 1 ms at any frame size."""
_QUANTUM = 1.0
"""Least divisor in counts: the camera resolves no less, and a flat or empty frame must not divide by zero."""


class Background(BaseModel):
    """Bright-field: the background's level is black, and `contrast` times that level becomes 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["background"] = "background"
    contrast: float = Field(default=0.1, gt=0, le=1)
    """Contrast relative to the background that becomes 1; 0.1 suits cells that lens the light by some 10 %."""


class Spread(BaseModel):
    """Any modality, unknown camera offset: the median is black, and the distance between two percentiles becomes 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["spread"] = "spread"
    low: float = Field(default=1.0, ge=0, lt=50)
    high: float = Field(default=99.0, gt=50, le=100)
    """Percentiles whose distance becomes 1."""
    floor: float = Field(default=0.05, ge=0, le=1)
    """Least spread as a fraction of the median: bare noise of a frame without cells is not blown up."""


class Fixed(BaseModel):
    """Networks made elsewhere that expect e.g. 8 bit pixels divided by 255: `black` becomes 0 and `white` 1, always."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["fixed"] = "fixed"
    black: float = 0.0
    white: float = 255.0
    """Counts of the raw frame."""

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        if self.white <= self.black:
            raise ValueError(f"white {self.white:g} must be above black {self.black:g}")
        return self


Normalisation = Annotated[Background | Spread | Fixed, Field(discriminator="kind")]
"""The statistic named in a model's card."""


def levels(pixels: Pixels, normalisation: Normalisation) -> tuple[float, float]:
    """Measure black level and inverse gain of a whole raw frame.

    Parameters
    ----------
    pixels
        (H, W) uint8 or uint16, the raw frame before binning.
    normalisation
        The statistic that the model was trained with, from its card.

    Returns
    -------
    black, inv_gain
        Counts, and 1 / counts; always finite, `inv_gain` positive. The network's input is ``(raw - black) * inv_gain``.
    """
    if isinstance(normalisation, Fixed):
        return normalisation.black, 1.0 / (normalisation.white - normalisation.black)
    ordered = _ordered_sample(pixels)
    match normalisation:
        case Background():
            black = _background(ordered)
            gain = normalisation.contrast * black
        case Spread():
            low, black, high = (float(q) for q in np.percentile(ordered, (normalisation.low, 50.0, normalisation.high)))
            gain = max(high - low, normalisation.floor * black)
    return black, 1.0 / max(gain, _QUANTUM)


def _ordered_sample(pixels: Pixels) -> NDArray[np.unsignedinteger]:
    """Sort about `_SAMPLES` pixels on a grid; zeros are left out while they are the minority.

    Registration and rotation fill borders with exact zeros, which tell nothing of the light. The step is odd, since
    cameras read even and odd columns through different amplifiers.
    """
    step = math.isqrt(pixels.size // _SAMPLES) | 1
    step = min(step, *pixels.shape)
    ordered: NDArray[np.unsignedinteger] = np.sort(pixels[step // 2 :: step, step // 2 :: step], axis=None)
    zeros = int(np.searchsorted(ordered, 0, side="right"))
    return ordered[zeros:] if 2 * zeros < ordered.size else ordered


def _background(ordered: NDArray[np.unsignedinteger]) -> float:
    """Find the level where pixels crowd most: the half-sample mode (Robertson and Cryer 1974), to a tenth of it.

    Cells cover part of the frame in brighter and darker counts, background crowds at one level: the shortest interval
    that holds half of the pixels lies there even when cells fill most of a frame, where mean and median are drawn off.
    """
    least = max(ordered.size // 10, 2)
    counts = ordered.astype(np.int64)
    while counts.size > least:
        half = (counts.size + 1) // 2
        widths = counts[half - 1 :] - counts[: counts.size - half + 1]
        shortest = np.flatnonzero(widths == widths.min())
        first = int(shortest[shortest.size // 2])  # coarse counts tie often: the middle one is unbiased
        counts = counts[first : first + half]
        if counts.size <= 2:
            break
    return float(counts.mean())

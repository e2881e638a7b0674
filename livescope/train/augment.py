"""Pictures as another day, stage, lamp or focus would give them: geometry and light, labels moved along.

Owns the random transforms. Every draw comes from the generator that is handed in.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from livescope.train.discs import with_discs
from livescope.train.examples import Cells, Example

__all__ = ["AugmentSettings", "augment", "place"]


class AugmentSettings(BaseModel):
    """How far augmentation goes: the largest of each, drawn uniformly up to it, or the part of pictures that get it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: float = Field(default=1.25, ge=1, le=2)
    """Cells become up to this factor larger or smaller."""
    rotation_deg: float = Field(default=180.0, ge=0, le=180)
    """Besides quarter turns and mirrors, in half of the pictures."""
    gain: float = Field(default=1.35, ge=1, le=3)
    """Contrast, up to this factor more or less."""
    level: float = Field(default=0.15, ge=0)
    """Shift of the background, units of the normalised image."""
    gradient: float = Field(default=0.5, ge=0)
    """Slope of the illumination over the picture, units of the normalised image."""
    blur_px: float = Field(default=1.3, ge=0)
    """Sigma of a blur, in a third of the pictures."""
    noise: float = Field(default=0.2, ge=0)
    """Sigma of added noise, units of the normalised image."""
    discs: float = Field(default=0.0, ge=0, le=1)
    """Part of the pictures over which round things are laid, as blood cells, bubbles or debris lie over cells."""


def augment(example: Example, canvas_px: int, settings: AugmentSettings, rng: np.random.Generator) -> Example:
    """Draw a random view of an example on a square canvas.

    Parameters
    ----------
    example
        Picture of any size; one larger than the canvas is cropped at a random place.
    canvas_px
        Side of the result.
    settings, rng
        How far, and the source of chance.
    """
    image, matrix = example.image, _matrix(settings, rng)
    height, width = image.shape
    corners = np.array([[0, 0], [0, width - 1], [height - 1, 0], [height - 1, width - 1]]) @ matrix.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    # a picture that fits keeps its upper left edge at the canvas's, where frames have theirs; a larger one slides
    slack = np.maximum(high - low + 1 - canvas_px, 0.0)
    shift = -low - np.where(rng.random(2) < 0.25, rng.integers(0, 2, 2), rng.random(2)) * slack
    fill = "border" if rng.random() < 0.5 else "zeros"
    moved = place(example, matrix, shift, canvas_px, fill)
    seen = _light(moved.image, settings, rng)
    if settings.discs and rng.random() < settings.discs:
        seen = with_discs(seen, rng)
    return replace(moved, image=seen)


def _matrix(settings: AugmentSettings, rng: np.random.Generator) -> NDArray[np.float64]:
    quarter = np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), int(rng.integers(4)))
    mirror = np.diag([1.0, rng.choice([-1.0, 1.0])])
    angle = np.deg2rad(rng.uniform(-1, 1) * settings.rotation_deg) if rng.random() < 0.5 else 0.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = settings.scale ** rng.uniform(-1, 1) if rng.random() < 0.75 else 1.0
    return scale * turn @ quarter @ mirror  # type: ignore[no-any-return]


def place(
    example: Example, matrix: NDArray[np.float64], shift: NDArray[np.float64], canvas_px: int, fill: str = "border"
) -> Example:
    """Move a picture and its cells onto a canvas: a point p of the picture comes to ``matrix @ p + shift`` (y, x).

    `fill` is what lies outside the picture: ``"zeros"`` (the background's level) or ``"border"`` (edges repeated).
    """
    height, width = example.image.shape
    inverse = np.linalg.inv(matrix)
    y, x = np.mgrid[:canvas_px, :canvas_px]
    source = (np.stack([y, x], axis=-1) - shift) @ inverse.T
    grid = np.stack([(2 * source[..., 1] + 1) / width - 1, (2 * source[..., 0] + 1) / height - 1], axis=-1)
    at = torch.from_numpy(grid.astype(np.float32))[None]

    def move(picture: NDArray[np.float32], outside: str) -> NDArray[np.float32]:
        source = torch.from_numpy(picture)[None, None]
        moved = functional.grid_sample(source, at, padding_mode=outside, align_corners=False)
        return moved[0, 0].numpy()

    centres = example.cells.centres_yx @ matrix.T + shift
    contours = example.cells.contours_yx @ matrix.T + shift
    keep = np.ones(len(centres), bool)
    if example.visible_only and len(centres):
        whole = np.ptp(contours, axis=1).prod(axis=1)
        contours = contours.clip(-0.5, canvas_px - 0.5)
        low, high = contours.min(axis=1), contours.max(axis=1)
        centres = np.where(whole[:, None] > (high - low).prod(axis=1)[:, None] + 1e-3, (low + high) / 2, centres)
        keep = (high - low).prod(axis=1) > 0.3 * whole
    weight = example.cells.state_weight
    cells = Cells(
        centres[keep].astype(np.float32),
        contours[keep].astype(np.float32),
        example.cells.state[keep],
        None if weight is None else weight[keep],
    )
    known = None if example.known is None else move(example.known, "border")
    dyes = None if example.dyes is None else np.stack([move(one, "zeros") for one in example.dyes])
    return Example(move(example.image, fill), cells, known, example.visible_only, dyes)


def _light(image: NDArray[np.float32], settings: AugmentSettings, rng: np.random.Generator) -> NDArray[np.float32]:
    if settings.blur_px and rng.random() < 1 / 3:
        image = gaussian_filter(image, rng.uniform(0.3, max(settings.blur_px, 0.3)))
    image = image * np.float32(settings.gain ** rng.uniform(-1, 1)) + np.float32(rng.uniform(-1, 1) * settings.level)
    if settings.gradient and rng.random() < 0.5:
        y, x = np.mgrid[-0.5 : 0.5 : image.shape[0] * 1j, -0.5 : 0.5 : image.shape[1] * 1j]
        angle = rng.uniform(0, 2 * np.pi)
        image = image + settings.gradient * rng.uniform(0, 1) * (np.sin(angle) * y + np.cos(angle) * x)
    if settings.noise and rng.random() < 0.5:
        image = image + rng.standard_normal(image.shape, np.float32) * rng.uniform(0, settings.noise)
    return image.astype(np.float32)

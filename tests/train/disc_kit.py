"""Discs, bright ones live and dark ones dead: what any network must learn in seconds, and one small enough for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from livescope.calls import State, ray_angles
from livescope.train.augment import AugmentSettings
from livescope.train.data import Field
from livescope.train.fit import FitSettings
from livescope.train.settings import TrainSettings
from livescope.train.sources import Dataset, Simulated

SMALL = (8, 12, 16, 16)
QUICK = FitSettings(
    steps=80, batch=4, canvas_px=96, learning_rate=6e-3, average_steps=10, augment=AugmentSettings(scale=1.1)
)


def discs(seed: int) -> Field:
    """A picture of four of them."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(120, 2, (96, 96))
    y, x = np.mgrid[:96, :96]
    centres = np.array([(24, 24), (24, 70), (70, 24), (70, 70)]) + rng.uniform(-8, 8, (4, 2))
    state = rng.choice([State.LIVE, State.DEAD], 4)
    for (cy, cx), one in zip(centres, state, strict=True):
        pixels[np.hypot(y - cy, x - cx) < 9] += 60 if one == State.LIVE else -60
    angles = ray_angles()
    contours = centres[:, None] + 9 * np.stack([np.sin(angles), np.cos(angles)], -1)
    return Field(
        f"discs-{seed}", str(seed), pixels.clip(0, 255).astype(np.uint8), centres.astype(np.float32),
        contours.astype(np.float32), state.astype(np.uint8),
    )  # fmt: skip


def settings(folder: Path, **changed: object) -> TrainSettings:
    return TrainSettings(name="discs", out=folder, data=(Simulated(),), fractions=(0.6, 0.2), fit=QUICK, **changed)


def dataset(count: int) -> Dataset:
    return Dataset([discs(k) for k in range(count)], None, 0.5, True, f"{count} fields of discs")

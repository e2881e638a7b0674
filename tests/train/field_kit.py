"""Fields of a few round cells, and calls on them, by their centres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from livescope.calls import CellCalls, State, ray_angles
from livescope.train.data import Field


def field(centres: Sequence[tuple[float, float]], states: Sequence[State]) -> Field:
    middle = np.asarray(centres, np.float32)
    angles = ray_angles()
    unit = np.stack([np.sin(angles), np.cos(angles)], -1)
    contours = (middle[:, None] + 10.0 * unit).astype(np.float32)
    return Field("f", "g", np.zeros((100, 100), np.uint8), middle, contours, np.asarray(states, np.uint8))


def calls(
    centres: Sequence[tuple[float, float]], chances: Sequence[float], scores: Sequence[float] | None = None
) -> CellCalls:
    middle = np.asarray(centres, np.float32)
    n = len(centres)
    p_dead = np.asarray(chances, np.float32)
    return CellCalls(
        frame_index=0,
        y_px=middle[:, 0],
        x_px=middle[:, 1],
        radii_px=np.full((n, 32), 10, np.float32),
        p_cell=np.asarray([0.9] * n if scores is None else scores, np.float32),
        p_dead=p_dead,
        state=np.where(p_dead > 0.6, State.DEAD, np.where(p_dead < 0.4, State.LIVE, State.UNCERTAIN)).astype(np.uint8),
        area_px=np.full(n, 314, np.float32),
        edge=np.zeros(n, bool),
        track=np.full(n, -1, np.int64),
    )

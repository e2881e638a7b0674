"""Calls and frames made by hand, for examples, tests and benchmarks of the rooms that take calls.

Owns no logic of tracking; nothing that runs at the microscope imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from livescope.calls import N_RAYS, CellCalls, State
from livescope.frames import Frame

__all__ = ["calls_at", "frame_of"]

_NO_PIXELS = np.zeros((1024, 1024), np.uint8)
_NO_PIXELS.flags.writeable = False


def calls_at(
    places_yx: ArrayLike,
    *,
    p_dead: ArrayLike | None = None,
    radius_px: ArrayLike = 10.0,
    frame_index: int = 0,
    pixel_um: float | None = None,
    uncertain: Sequence[float] = (0.5, 0.5),
) -> CellCalls:
    """Return round calls at (n, 2) places in pixels; `p_dead` (n,) defaults to 0.1, `radius_px` may differ by cell."""
    yx = np.asarray(places_yx, np.float32).reshape(-1, 2)
    n = len(yx)
    dead = np.full(n, 0.1, np.float32) if p_dead is None else np.asarray(p_dead, np.float32)
    radius = np.broadcast_to(np.asarray(radius_px, np.float32), (n,))
    state = np.where(dead < uncertain[0], State.LIVE, np.where(dead >= uncertain[1], State.DEAD, State.UNCERTAIN))
    return CellCalls(
        frame_index=frame_index,
        y_px=yx[:, 0],
        x_px=yx[:, 1],
        radii_px=np.repeat(radius[:, None], N_RAYS, axis=1),
        p_cell=np.ones(n, np.float32),
        p_dead=dead,
        state=state.astype(np.uint8),
        area_px=(np.pi * radius**2).astype(np.float32),
        edge=np.zeros(n, bool),
        track=np.full(n, -1, np.int64),
        pixel_um=pixel_um,
    )


def frame_of(index: int, *, time_s: float | None = None, **known: Any) -> Frame:
    """Return an empty 1024 x 1024 frame, or one with what `known` gives of `Frame`'s fields."""
    values: dict[str, Any] = {"pixels": _NO_PIXELS, "bit_depth": 8, "segment": 0, "camera": "Camera", "wall_time": 0.0}
    return Frame(index=index, time_s=float(index) if time_s is None else time_s, **{**values, **known})

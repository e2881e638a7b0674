"""What the journal says of a frame that is on the disk.

Owns the line of a frame: where it lies, its sum, and all that was known of it.
"""

from __future__ import annotations

import math
from typing import Any

from livescope.frames import Frame
from livescope.record.images import Place

__all__ = ["frame_line"]

_FACTS = ("camera", "position", "channel", "elapsed_ms", "exposure_ms", "x_um", "y_um", "z_um", "pixel_um")


def frame_line(frame: Frame, place: Place, rows_crc32c: int) -> dict[str, Any]:
    """Return the line of a frame, JSON-ready: what JSON cannot hold is left out."""
    facts = {name: value for name in _FACTS if (value := getattr(frame, name)) is not None and _storable(value)}
    return {
        "kind": "frame",
        "image": place.image.path,
        "t": place.t,
        "c": place.c,
        "frame": frame.index,
        "segment": frame.segment,
        "time_s": frame.time_s,
        "wall_time": frame.wall_time,
        "bit_depth": frame.bit_depth,
        "lost_before": frame.lost_before,
        "rows_crc32c": rows_crc32c,
        **facts,
        "metadata": {name: value for name, value in (frame.metadata or {}).items() if _storable(value)},
    }


def _storable(value: object) -> bool:
    """Return True for what JSON can hold."""
    return math.isfinite(value) if isinstance(value, int | float) else isinstance(value, str)

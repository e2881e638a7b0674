"""How large Micro-Manager's frame ring should be.

Owns the arithmetic. `stream.py` applies it once, before the first start.
"""

from __future__ import annotations

from livescope.errors import CoreError

__all__ = ["ring_megabytes"]

RING_SECONDS = 2.0
MAX_ASSUMED_FPS = 200.0
"""An exposure under 5 ms says nothing of the rate; 2 s at this rate are 400 frames."""


def ring_megabytes(frame_bytes: int, exposure_ms: float, asked_mb: int | None, available_bytes: int) -> int:
    """Megabytes for Micro-Manager's ring: two seconds of frames, at most a quarter of the free memory.

    Parameters
    ----------
    frame_bytes
        Bytes of one frame.
    exposure_ms
        Exposure; the camera is assumed to make at most one frame an exposure, and at most 200 a second.
    asked_mb
        The user's own size, or None.
    available_bytes
        Free memory of the machine.

    Raises
    ------
    CoreError
        `asked_mb` is more than half of the free memory, or less than four frames.
    """
    free_mb = available_bytes // 2**20
    if asked_mb is not None:
        least_mb = -(-4 * frame_bytes // 2**20)
        if asked_mb > free_mb // 2:
            raise CoreError(
                f"camera.ring_mb = {asked_mb} is more than half of the free memory ({free_mb} MB); set it lower."
            )
        if asked_mb < least_mb:
            raise CoreError(f"camera.ring_mb = {asked_mb} holds less than four frames; set it to {least_mb} or more.")
        return asked_mb
    fps = min(MAX_ASSUMED_FPS, 1000.0 / max(exposure_ms, 1e-3))
    frames = max(16, int(RING_SECONDS * fps))
    return int(max(16, min(-(-frames * frame_bytes // 2**20), free_mb // 4)))

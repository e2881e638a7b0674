"""How large Micro-Manager's frame ring should be.

Owns the arithmetic and the resize. Only while idle: a resize while streaming crashed the process in 1 of 4 runs.
"""

from __future__ import annotations

import psutil

from livescope.acquire.stream_core import StreamCore
from livescope.errors import CoreError
from livescope.settings import CameraSettings

__all__ = ["ring_megabytes", "size_ring"]

RING_SECONDS = 2.0
MAX_ASSUMED_FPS = 200.0
"""An exposure under 5 ms says nothing of the rate; 2 s at this rate are 400 frames."""


def ring_megabytes(
    frame_bytes: int, exposure_ms: float, asked_mb: int | None, available_bytes: int, burst: int = 0
) -> int:
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
    burst
        Frames of a burst that should fit in whole, if a quarter of the memory holds them.

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
    frames = max(16, burst, int(RING_SECONDS * fps))
    return int(max(16, min(-(-frames * frame_bytes // 2**20), free_mb // 4)))


def size_ring(core: StreamCore, settings: CameraSettings, exposure_ms: float, burst: int = 0) -> None:
    """Give an idle core's ring its size; never make it smaller unasked.

    Raises
    ------
    CoreError
        The size that the user asked for is larger than the memory, or the core refuses it.
    """
    frame_bytes = core.getImageWidth() * core.getImageHeight() * core.getBytesPerPixel()
    available_bytes = psutil.virtual_memory().available
    megabytes = ring_megabytes(frame_bytes, exposure_ms, settings.ring_mb, available_bytes, burst)
    if megabytes > core.getCircularBufferMemoryFootprint() or settings.ring_mb is not None:
        try:
            core.setCircularBufferMemoryFootprint(megabytes)
        except Exception as error:
            raise CoreError(f"the core refused a ring of {megabytes} MB: {error}. Set camera.ring_mb lower.") from error

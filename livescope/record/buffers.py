"""A bounded pool of frame buffers: the recorder's queue can never grow past it.

Owns the buffers, and when pixels must be copied into one. Knows nothing of frames or files.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buffers"]


class Buffers:
    """Holds the pixels of at most `limit` frames and `limit_bytes` bytes, always of one frame. Thread safe.

    Pixels that nobody may change are held as they are: a copy of 2048 x 2048 costs 0.5 to 1.5 ms, a tenth of all that
    it takes to store them. Others are copied into buffers that are used again and again.
    """

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit, self._limit_bytes = limit, limit_bytes
        self._used = self._used_bytes = 0
        self._free: list[NDArray[Any]] = []
        self._lock = threading.Lock()

    @property
    def fill(self) -> float:
        """Part of the room in use, 0..1."""
        with self._lock:
            return min(1.0, max(self._used / self._limit, self._used_bytes / self._limit_bytes))

    def hold(self, pixels: NDArray[Any]) -> NDArray[Any] | None:
        """Return the pixels, or a copy where they may still change; None if there is no room."""
        with self._lock:
            full = self._used >= self._limit or self._used_bytes + pixels.nbytes > self._limit_bytes
            if full and self._used:
                return None
            self._used += 1
            self._used_bytes += pixels.nbytes
        if pixels.flags.c_contiguous and not pixels.flags.writeable:
            return pixels
        buffer = self._pooled(pixels.shape, pixels.dtype)
        # not np.copyto: that hands over the GIL, and a busy Python thread would give it back only after 5 ms
        buffer.data.cast("B")[:] = np.ascontiguousarray(pixels).data.cast("B")
        return buffer

    def give(self, held: NDArray[Any]) -> None:
        """Let go of what `hold` returned; nobody may use it any more."""
        with self._lock:
            self._used -= 1
            self._used_bytes -= held.nbytes
            if held.flags.writeable:  # a buffer of the pool
                self._free.append(held)

    def _pooled(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        with self._lock:
            while self._free:
                buffer = self._free.pop()
                if buffer.shape == shape and buffer.dtype == dtype:
                    return buffer  # those of an earlier shape are dropped on the way
        return np.empty(shape, dtype)

"""A bounded pool of frame buffers: the recorder's queue can never grow past it.

Owns the buffers. Knows nothing of frames or files.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buffers"]


class Buffers:
    """At most `limit` buffers, used again and again: no page faults, no growth while frames come. Thread safe."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._free: list[NDArray[Any]] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
        """Return a buffer of this shape, its contents undefined, or None if all are in use."""
        with self._lock:
            if self.used >= self.limit:
                return None
            self.used += 1
            while self._free:
                buffer = self._free.pop()
                if buffer.shape == shape and buffer.dtype == dtype:
                    return buffer  # those of an earlier shape are dropped on the way
        return np.empty(shape, dtype)

    def give(self, buffer: NDArray[Any]) -> None:
        """Take a buffer back; nobody may use it any more."""
        with self._lock:
            self.used -= 1
            self._free.append(buffer)

    def touch(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Make all buffers for this shape now, and write to each so that its memory is really there."""
        taken = [self.take(shape, dtype) for _ in range(self.limit)]
        for buffer in taken:
            if buffer is not None:
                buffer.fill(0)
                self.give(buffer)

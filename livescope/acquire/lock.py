"""The one lock for everything that talks to the core.

Owns the order between the acquisition thread's pops and everybody else's commands. Why one lock: pymmcore's pop takes
the camera adapter's module lock while it holds the GIL, so a pop during a 1.5 s snap froze the whole process for 1.2
s; with this lock, 6 ms.
"""

from __future__ import annotations

import threading
from types import TracebackType

__all__ = ["CameraLock"]


class CameraLock:
    """Re-entrant lock; ``with lock:``. The acquisition thread gives way to commands by looking at `contended`.

    A plain lock is not fair: a loop that pops at 800 fps takes it again before a waiting command wakes up.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._count = threading.Lock()
        self._waiting = 0

    def __enter__(self) -> None:
        with self._count:
            self._waiting += 1
        self._lock.acquire()
        with self._count:
            self._waiting -= 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def contended(self) -> bool:
        """True while a command waits: the acquisition thread then sleeps a moment before its next pop."""
        return self._waiting > 0

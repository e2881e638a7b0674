"""Small instruments between threads: a bounded mailbox, a rate meter, a latency meter.

Owns no thread and no policy: what a full mailbox evicts is handed back to the caller, who counts it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

import numpy as np

__all__ = ["LatencyMeter", "Mailbox", "RateMeter", "ThinningSeries"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A queue that never blocks its writer: at `capacity` it evicts the oldest item. Capacity 1 is "newest only".

    >>> box = Mailbox[int](1)
    >>> box.put(1), box.put(2), box.get(0.0)
    ([], [1], 2)
    """

    def __init__(self, capacity: int = 1) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._ready = threading.Condition()
        self._closed = False

    def put(self, item: T) -> list[T]:
        """Leave an item; return those that had to make room for it."""
        with self._ready:
            evicted = self._make_room(item)
            self._items.append(item)
            self._ready.notify()
            return evicted

    def get(self, timeout_s: float) -> T | None:
        """Take the oldest item; None after `timeout_s` without one, or at once when closed and empty."""
        with self._ready:
            self._ready.wait_for(lambda: self._items or self._closed, timeout_s)
            return self._items.popleft() if self._items else None

    def close(self) -> None:
        """Wake every waiting reader; what lies in the box can still be taken."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    @property
    def exhausted(self) -> bool:
        """True when closed and empty: nothing more will come."""
        with self._ready:
            return self._closed and not self._items

    def __len__(self) -> int:
        with self._ready:
            return len(self._items)

    def _make_room(self, item: T) -> list[T]:
        """Evict what has to go before `item` comes in; called with the lock held."""
        return [self._items.popleft()] if len(self._items) >= self._capacity else []


class RateMeter:
    """Events a second over the last `window_s` seconds."""

    def __init__(self, window_s: float = 2.0) -> None:
        self._window_s = window_s
        self._times_s: deque[float] = deque()
        self._lock = threading.Lock()

    def tick(self) -> None:
        """Count one event now."""
        now_s = time.perf_counter()
        with self._lock:
            self._times_s.append(now_s)
            self._forget(now_s)

    def rate_hz(self) -> float:
        """Events a second; 0.0 when there were fewer than two in the window."""
        now_s = time.perf_counter()
        with self._lock:
            self._forget(now_s)
            if len(self._times_s) < 2:
                return 0.0
            # divided by the time since the first event, so that a stall shows at once and a young run is not underrated
            return (len(self._times_s) - 1) / max(now_s - self._times_s[0], 1e-9)

    def _forget(self, now_s: float) -> None:
        while self._times_s and now_s - self._times_s[0] > self._window_s:
            self._times_s.popleft()


class LatencyMeter:
    """Percentiles of the newest `keep` latencies, in milliseconds."""

    def __init__(self, keep: int = 4096) -> None:
        self._latencies_ms: deque[float] = deque(maxlen=keep)
        self._lock = threading.Lock()

    def add(self, latency_ms: float) -> None:
        """Count one latency in milliseconds."""
        with self._lock:
            self._latencies_ms.append(latency_ms)

    def percentiles_ms(self) -> tuple[float, float, float] | None:
        """(p50, p95, p99) in milliseconds, None before the first."""
        with self._lock:
            if not self._latencies_ms:
                return None
            p50, p95, p99 = np.percentile(np.array(self._latencies_ms), [50, 95, 99])
        return float(p50), float(p95), float(p99)


class ThinningSeries(Generic[T]):
    """A series of any length in bounded memory.

    When it is full every second item goes, and the step between kept items doubles.
    """

    def __init__(self, keep: int = 8192) -> None:
        self._keep = keep
        self._step = 1
        self._seen = 0
        self._items: list[T] = []
        self._lock = threading.Lock()

    def append(self, item: T) -> None:
        """Add the newest item."""
        with self._lock:
            if self._seen % self._step == 0:
                self._items.append(item)
            self._seen += 1
            if len(self._items) > self._keep:
                self._items = self._items[::2]
                self._step *= 2

    def items(self) -> list[T]:
        """Return the kept items, oldest first."""
        with self._lock:
            return list(self._items)

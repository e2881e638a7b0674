"""LOST and STALLED: whether a running stream still lives.

Owns the judgement (a pure function) and the watchdog thread that makes it. What to do about it is the session's
decision.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Health", "HealthEvent", "Pulse", "Watchdog", "judge", "stall_limit_s"]

POLL_S = 0.25


class Health(StrEnum):
    """How a stream is."""

    OK = "ok"
    STALLED = "stalled"
    """The camera says that it runs, but no frame came for max(2 s, 5 exposures)."""
    LOST = "lost"
    """The camera has stopped by itself before its end, or a call to it failed."""


@dataclass(slots=True, frozen=True)
class Pulse:
    """What the watchdog looks at.

    Attributes
    ----------
    running
        The acquisition thread is at work.
    lost
        It ended without having been told to and before the end of its source.
    last_sign_s
        `time.perf_counter` of the newest frame, or of the start.
    exposure_ms
        Exposure in force.
    why
        What went wrong, in words, if anything.
    """

    running: bool
    lost: bool
    last_sign_s: float
    exposure_ms: float
    why: str = ""


@dataclass(slots=True, frozen=True)
class HealthEvent:
    """A change of health. `time_s` is `time.perf_counter`, `wall_time` seconds since the epoch."""

    health: Health
    message: str
    time_s: float
    wall_time: float


def stall_limit_s(exposure_ms: float) -> float:
    """Seconds without a frame after which a running camera counts as stalled: max(2 s, 5 exposures).

    >>> stall_limit_s(10.0), stall_limit_s(1000.0)
    (2.0, 5.0)
    """
    return max(2.0, 5e-3 * exposure_ms)


def judge(pulse: Pulse, now_s: float) -> tuple[Health, str]:
    """The health that a pulse shows, and its reason in words, to be told if the health has changed."""
    if pulse.lost:
        return Health.LOST, pulse.why
    silent_s = now_s - pulse.last_sign_s
    limit_s = stall_limit_s(pulse.exposure_ms)
    if pulse.running and silent_s > limit_s:
        return (
            Health.STALLED,
            # the limit, not the time: a camera that stalls again says the same again, and is one message to the user
            f"no frame for more than {limit_s:.1f} s; check the camera's cable, trigger and power.",
        )
    return Health.OK, "frames come again."


class Watchdog:
    """Looks at a pulse four times a second and reports every change of health.

    Parameters
    ----------
    pulse
        Gives the present pulse; must not block (it is read without the camera lock, which a hung command may hold).
    on_change
        Told of every change, on the watchdog's thread, or on the one that calls `look`. What it raises ends up in
        `error`.
    """

    def __init__(self, pulse: Callable[[], Pulse], on_change: Callable[[HealthEvent], None]) -> None:
        self._pulse = pulse
        self._on_change = on_change
        self._end = threading.Event()
        self._looking = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="livescope-watchdog", daemon=True)
        self.health = Health.OK
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def look(self) -> None:
        """Judge now, on the caller's thread: for what is over before the next look of its own."""
        try:
            self._look()
        except Exception as error:  # noqa: BLE001 - as on its own thread: kept for whoever asks
            self.error = error

    def finish(self) -> None:
        """Tell it to make one last judgement and end, without waiting for it."""
        self._end.set()

    def join(self) -> None:
        """Wait for its end, after `finish`; on its own thread, do nothing."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _watch(self) -> None:
        try:
            while not self._end.wait(POLL_S):
                self._look()
            self._look()
        except Exception as error:  # noqa: BLE001 - a thread's border: kept for whoever asks
            self.error = error

    def _look(self) -> None:
        with self._looking:
            now_s = time.perf_counter()
            health, why = judge(self._pulse(), now_s)
            if health is not self.health:
                self.health = health
                self._on_change(HealthEvent(health, why, now_s, time.time()))

"""Frames that never arrived: found from a camera's frame numbers and from its clock.

Owns the arithmetic for one camera in one segment, without threads or cores, so that it can be tested by properties.
Who was told of a loss and how it is stored lies with `livescope.frames.LossLedger`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["CameraAccount", "Gap"]

HISTORY_STEPS = 32
"""Steps of the camera's clock from which its period is taken."""
SPREAD = 0.1
"""A clock whose middle 80 % of steps spread wider than this fraction of the period is no witness (e.g. a trigger)."""
PATIENCE_FRAMES = 4
"""A late stamp is no loss if the next frames catch up: delivery jitters, a sensor's frame period does not."""


@dataclass(slots=True, frozen=True)
class Gap:
    """What one more frame says of the frames before it.

    Attributes
    ----------
    core
        Frames lost in Micro-Manager's ring just before this frame: certain.
    camera
        Frames probably lost in the camera or its driver up to now: suspected, counted some frames late.
    restarted
        True if the camera's numbering began again without our asking.
    """

    core: int = 0
    camera: int = 0
    restarted: bool = False


class CameraAccount:
    """The account of one camera in one segment.

    Parameters
    ----------
    first
        Number that the first frame should have: 0 after a start of our own, None to take the first frame's own (a
        stream that another program began).

    >>> account = CameraAccount()
    >>> [account.see(n, None).core for n in (0, 1, 5)]
    [0, 0, 3]
    >>> account.produced
    6
    """

    def __init__(self, first: int | None = 0) -> None:
        self._first = first
        self._next = first
        self._elapsed_ms: float | None = None
        self._steps: deque[float] = deque(maxlen=HISTORY_STEPS)
        self._late_ms = 0.0
        self._watched = 0

    @property
    def produced(self) -> int:
        """Frames that the camera is known to have made since its account began."""
        return 0 if self._next is None else self._next - (self._first or 0)

    def see(self, number: int | None, elapsed_ms: float | None) -> Gap:
        """Enter one frame.

        Parameters
        ----------
        number
            The camera's `ImageNumber`; None where the adapter gives none: then only the clock can witness.
        elapsed_ms
            The camera's `ElapsedTime-ms`, None where there is none.
        """
        expected = self._next
        if number is None:
            self._next = (expected or 0) + 1
            return Gap(camera=self._see_clock(1, elapsed_ms))
        if expected is None:
            self._first = expected = number
        self._next = number + 1
        if number < expected:
            self._first = 0
            self.forget_clock()
            self._elapsed_ms = elapsed_ms
            return Gap(core=number, restarted=True)
        core = number - expected
        return Gap(core=core, camera=self._see_clock(core + 1, elapsed_ms))

    def forget_clock(self) -> None:
        """Begin to learn the period anew, e.g. after a change of exposure."""
        self._steps.clear()
        self._watched = 0
        self._elapsed_ms = None

    def _see_clock(self, frames: int, elapsed_ms: float | None) -> int:
        """Frames suspected lost in the camera, decided `PATIENCE_FRAMES` after a late stamp."""
        before, self._elapsed_ms = self._elapsed_ms, elapsed_ms
        if elapsed_ms is None or before is None:
            return 0
        step = elapsed_ms - before
        period = self._period_ms()
        if period is None:
            if frames == 1:
                self._steps.append(step)
            return 0
        late = step - frames * period
        if self._watched:
            self._late_ms += late
            self._watched -= 1
            if self._late_ms < 0.5 * period:
                self._watched = 0
            elif not self._watched:
                return max(0, round(self._late_ms / period))
        elif late > 0.6 * period:
            self._late_ms = late
            self._watched = PATIENCE_FRAMES
        elif frames == 1:
            self._steps.append(step)
        return 0

    def _period_ms(self) -> float | None:
        """The camera's frame period, None while unknown or too unsteady to bear witness."""
        if len(self._steps) < HISTORY_STEPS:
            return None
        ordered = sorted(self._steps)
        period = ordered[HISTORY_STEPS // 2]
        spread = ordered[-1 - HISTORY_STEPS // 10] - ordered[HISTORY_STEPS // 10]
        return period if period > 0 and spread <= SPREAD * period else None

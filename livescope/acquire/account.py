"""Frames that never arrived: found from a camera's frame numbers and from its clock.

Owns the arithmetic for the cameras of one segment, without threads or cores, so that it can be tested by properties.
Who was told of a loss and how it is stored lies with `livescope.frames.LossLedger`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Accounts", "CameraAccount", "Gap"]

HISTORY_STEPS = 32
"""Steps of the camera's clock from which its period is taken."""
STEADY = 0.2
"""A step further than this fraction of the period from a whole number of periods makes the clock no witness: it is
triggered, or paced by software on a busy machine."""
LEAST_PERIOD_MS = 5.0
"""Adapters stamp whole milliseconds (the demo camera does): below this period a step of one stamp is no evidence."""
PATIENCE_FRAMES = 8
"""Steady frames that must follow a gap: a late stamp that the next frames catch up with is no loss."""


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
        self._numbered = False
        self._elapsed_ms: float | None = None
        self._steps: deque[float] = deque(maxlen=HISTORY_STEPS)
        self._missing = 0
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
            The camera's `ImageNumber`; None where the adapter gives none: then only the clock can witness. Between
            numbered frames it is a picture taken apart, which says nothing of them.
        elapsed_ms
            The camera's `ElapsedTime-ms`, None where there is none.
        """
        expected = self._next
        if number is None and self._numbered:
            return Gap()
        if number is None:
            self._next = (expected or 0) + 1
            return Gap(camera=self._see_clock(1, elapsed_ms))
        self._numbered = True
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

    def made(self, frames: int) -> int:
        """Learn from elsewhere that the camera has made so many frames; return those of which nobody knew."""
        missing = max(0, frames - (self._next or 0))
        self._next = max(frames, self._next or 0)
        return missing

    def forget_clock(self) -> None:
        """Begin to learn the period anew, e.g. after a change of exposure."""
        self._steps.clear()
        self._watched = 0
        self._elapsed_ms = None

    def _see_clock(self, frames: int, elapsed_ms: float | None) -> int:
        """Frames suspected lost in the camera, told some frames later if its clock was steady around the gap."""
        before, self._elapsed_ms = self._elapsed_ms, elapsed_ms
        if elapsed_ms is None or before is None:
            return 0
        step = elapsed_ms - before
        if len(self._steps) < HISTORY_STEPS:
            self._learn(step / frames)
            return 0
        period = sorted(self._steps)[HISTORY_STEPS // 2]
        if period < LEAST_PERIOD_MS:
            self.forget_clock()
            self._elapsed_ms = elapsed_ms
            return 0
        late = step / period - frames
        missing = round(late)
        steady = abs(late - missing) <= STEADY
        if steady and not missing:
            self._steps.append(step / frames)
            if self._watched:
                self._watched -= 1
                return 0 if self._watched else self._missing
        elif steady and missing > 0 and not self._watched:
            self._missing, self._watched = missing, PATIENCE_FRAMES
        else:
            self.forget_clock()
            self._elapsed_ms = elapsed_ms
        return 0

    def _learn(self, step: float) -> None:
        """Add a step; begin anew where it does not fit those before."""
        low, high = min(self._steps, default=step), max(self._steps, default=step)
        if step <= 0 or max(high, step) - min(low, step) > STEADY * high:
            self._steps.clear()
        if step > 0:
            self._steps.append(step)


class Accounts:
    """The accounts of all cameras of one segment, which share one ring.

    What one camera lost at the very end, no later frame of its own can tell. But the ring is emptied for all at once:
    a jump of another camera's numbers tells how many frames this one had made by then, since they run in step.

    Parameters
    ----------
    cameras
        Labels in the order in which they deliver; one, or those of a Multi Camera.
    first
        See `CameraAccount`.

    >>> accounts = Accounts(["Left", "Right"])
    >>> [accounts.see(*frame, None).core for frame in (("Left", 0), ("Right", 0), ("Right", 4))]
    [0, 0, 3]
    >>> accounts.tails(), accounts.produced
    ({'Left': 4}, 5)
    """

    def __init__(self, cameras: Sequence[str], first: int | None = 0) -> None:
        self._cameras = tuple(cameras)
        self._first = first
        self._accounts: dict[str, CameraAccount] = {}
        self._known: dict[str, int] = {}
        """Frames that a camera has made by the newest jump of another, until it tells itself."""

    @property
    def produced(self) -> int:
        """Frames that the cameras are known to have made; of several the least."""
        return min((account.produced for account in self._accounts.values()), default=0)

    def see(self, camera: str, number: int | None, elapsed_ms: float | None) -> Gap:
        """Enter one frame; see `CameraAccount.see`."""
        gap = self._account(camera).see(number, elapsed_ms)
        self._known.pop(camera, None)
        if gap.core and number is not None and not gap.restarted and camera in self._cameras:
            place = self._cameras.index(camera)
            for k, other in enumerate(self._cameras):
                if other != camera:
                    self._known[other] = number + (k < place)
        return gap

    def tails(self) -> dict[str, int]:
        """Frames lost after the last one of a camera, by camera, each told once; ask when no frame comes any more."""
        known, self._known = self._known, {}
        missing = {camera: self._account(camera).made(frames) for camera, frames in known.items()}
        return {camera: frames for camera, frames in missing.items() if frames}

    def forget_clock(self) -> None:
        """See `CameraAccount.forget_clock`."""
        for account in self._accounts.values():
            account.forget_clock()

    def _account(self, camera: str) -> CameraAccount:
        return self._accounts.setdefault(camera, CameraAccount(self._first))

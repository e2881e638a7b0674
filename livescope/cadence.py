"""Which frames wait for the detector: every one, or the newest of each camera; by itself it takes what can be done.

Owns the queue between the acquisition and the detector thread, and the judgement whether the detector keeps up. Frames
that nobody will call are handed back to whoever put the next one, to be counted.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from livescope.frames import Frame
from livescope.meters import Mailbox

__all__ = ["AnalysisQueue", "Cadence"]

CAPACITY = 256
"""Frames that may wait where every one is wanted; above it the oldest is skipped and counted."""
BACKLOG = 8
"""So many waiting frames say that the detector does not keep up."""
CALM = 64
"""So many frames in a row that found no other waiting say that it does again."""
LONGEST_CALM = 4096
"""Each relapse doubles the proof that is asked for, up to this: the cadence must not swing to and fro."""


class Cadence(StrEnum):
    """How frames are chosen for analysis."""

    EVERY = "every frame"
    NEWEST = "newest only"


class AnalysisQueue(Mailbox[Frame]):
    """Frames that wait for the detector; `put` returns those that will not be called because of the new one.

    Parameters
    ----------
    every
        True: every frame in order. False: the newest of each camera. None: every frame as long as the reader keeps
        up, the newest while it does not.

    Attributes
    ----------
    cadence
        The one in force.
    """

    def __init__(self, every: bool | None) -> None:
        self.cadence = Cadence.NEWEST if every is False else Cadence.EVERY
        self._adapts = every is None
        super().__init__(BACKLOG if self._adapts else CAPACITY)
        self._calm = 0
        self._calm_wanted = CALM

    def _make_room(self, item: Frame) -> list[Frame]:
        skipped = self._skipped_for(item)
        self._calm = 0 if skipped else self._calm + 1
        if self._adapts and self.cadence is Cadence.NEWEST and self._calm >= self._calm_wanted:
            self.cadence = Cadence.EVERY
            self._calm_wanted = min(2 * self._calm_wanted, LONGEST_CALM)
        return skipped

    def _skipped_for(self, frame: Frame) -> list[Frame]:
        if self.cadence is Cadence.EVERY:
            if len(self._items) < self._capacity:
                return []
            if not self._adapts:
                return [self._items.popleft()]
            self.cadence = Cadence.NEWEST
        newest = {waiting.camera: waiting for waiting in self._items}
        newest.pop(frame.camera, None)
        skipped = [waiting for waiting in self._items if newest.get(waiting.camera) is not waiting]
        self._items = deque(waiting for waiting in self._items if newest.get(waiting.camera) is waiting)
        return skipped

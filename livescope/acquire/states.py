"""The words of a stream's life: its states, and why each segment began.

Owns the enum and the note, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["ALIVE", "SegmentNote", "StreamState"]


class StreamState(StrEnum):
    """Where a stream is in its life: idle -> running <-> changing or restarting -> ended, stopped, lost or failed."""

    IDLE = "idle"
    RUNNING = "running"
    CHANGING = "changing"
    """Stopped for a change that the camera does not take while it streams."""
    RESTARTING = "restarting"
    """The camera was lost; it is being started again."""
    ENDED = "ended"
    """All frames that were asked for, or that the source has, were made."""
    STOPPED = "stopped"
    """`LiveStream.stop` was called."""
    LOST = "lost"
    """The camera stopped by itself, or a call to it failed."""
    FAILED = "failed"
    """A frame could not be used, or the receiver of frames raised; see `LiveStream.error`."""


ALIVE = (StreamState.RUNNING, StreamState.CHANGING, StreamState.RESTARTING)


@dataclass(slots=True, frozen=True)
class SegmentNote:
    """Why a segment began. `wall_time` is seconds since the epoch."""

    segment: int
    reason: str
    wall_time: float

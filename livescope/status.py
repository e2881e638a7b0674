"""The state of a session, as frozen snapshots that any thread may read.

Owns `SessionState` and `Status`. Who fills them is `livescope.session`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from livescope.detect.detector import BackendInfo

__all__ = ["SessionState", "Status"]


class SessionState(StrEnum):
    """idle -> starting -> running <-> changing -> stopping -> idle, or failed (with the reason) from any of them."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    CHANGING = "changing"
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(slots=True, frozen=True)
class Status:
    """All a window, a summary or a monitor may want to know, at one instant.

    Attributes
    ----------
    state, reason
        State of the session, and why it failed or ended.
    delivered, recorded, analysed, shown
        Frames handed on by the loop, truly on disk, called, painted.
    deaths
        Cells seen alive in this run and declared dead since; None where nobody knows.
    lost
        Frames lost or skipped by cause (`livescope.frames.LossCause`); a played record may not know all of them.
    fps_acquired, fps_analysed, fps_shown
        Frames a second over the last two seconds.
    latency_ms
        (p50, p95, p99) from arrival to painted, or to called where there is no window; None before the first.
    recording, record, queue_fill, disk_free_bytes
        Whether frames are stored, where, how full the queue to the disk is (0..1), and the space left there.
    cadence
        Which frames are called at present: ``"every frame"`` or ``"newest only"``.
    backend, model
        What really runs the network, None before it is loaded; and the model's name.
    exposure_ms
        Exposure of the camera, None where unknown.
    busy
        What the control thread is doing, None when it waits.
    actions
        What the newest actions of rules were, why, and what became of them: dicts with frame, position, rule, reason,
        action, ok and message.
    warnings, errors
        Messages, each once, in the order in which they first came.
    """

    state: SessionState
    reason: str | None
    delivered: int
    recorded: int
    analysed: int
    shown: int
    lost: dict[str, int]
    fps_acquired: float
    fps_analysed: float
    fps_shown: float
    latency_ms: tuple[float, float, float] | None
    recording: bool
    record: Path | None
    queue_fill: float
    disk_free_bytes: int | None
    backend: BackendInfo | None
    model: str
    exposure_ms: float | None
    busy: str | None
    warnings: tuple[str, ...]
    errors: tuple[str, ...]
    deaths: int | None = 0
    cadence: str = ""
    actions: tuple[dict[str, Any], ...] = ()

"""The book of one run, from start to stop: frames by fate, rates, latencies, the newest results.

Owns the bookkeeping; who acquires, calls and paints is the business of `livescope.session` and the window.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from livescope.assay.agreement import Tally
from livescope.cadence import AnalysisQueue
from livescope.calls import Analysis, Viability
from livescope.frames import Frame, LossCause, LossLedger
from livescope.meters import LatencyMeter, RateMeter, ThinningSeries
from livescope.places import Place, place_of

if TYPE_CHECKING:
    from livescope.acquire.health import HealthEvent
    from livescope.assay.agreement import TrueCells

__all__ = ["RunBook"]

_EVENTS_KEPT = 1000
"""Changes of health that are kept, the newest."""


class RunBook:
    """One run's book. Each method says on which thread it is called.

    Parameters
    ----------
    every
        Which frames are to be called; see `livescope.cadence.AnalysisQueue`.
    camera
        Of several cameras, the one that is called and shown; None calls all, and shows the first of each segment.
    """

    def __init__(self, every: bool | None = None, camera: str | None = None) -> None:
        self.started_s = time.perf_counter()
        self.ledger = LossLedger()
        self.to_analyse = AnalysisQueue(every)
        self.acquired = RateMeter()
        self.called = RateMeter()
        self.painted = RateMeter()
        self.curve = ThinningSeries[tuple[float, Viability]]()
        self.channel: str | None = None
        """The channel whose frames are called, None where all are."""
        self.analysed = 0
        self.shown = 0
        self.deaths = 0
        self.newest_frame: Frame | None = None
        self.newest_analysis: Analysis | None = None
        self.newest_by_camera: dict[str, Analysis] = {}
        self.places: dict[str, Place] = {}
        """Named stage positions that were seen, with the newest viability there."""
        self.tally: Tally | None = None
        self.health: deque[dict[str, Any]] = deque(maxlen=_EVENTS_KEPT)
        """When the camera stalled, was lost, or came back, ready for JSON."""
        self._curves: dict[str, ThinningSeries[tuple[float, Viability]]] = {}
        self._latency_called = LatencyMeter()
        self._latency_painted = LatencyMeter()
        self._first_time_s: float | None = None
        self._last_shown_index = -1
        self._camera = camera
        self._shown = (-1, camera)
        """Segment and camera of the frames that are shown."""

    def note_health(self, event: HealthEvent) -> None:
        """Keep a change of the camera's health (watchdog thread)."""
        self.health.append(asdict(event) | {"health": event.health.value})

    def note_received(self, frame: Frame) -> None:
        """Take a frame in and queue it for analysis; what it pushes out is counted (acquisition thread)."""
        self.acquired.tick()
        if self._first_time_s is None:
            self._first_time_s = frame.time_s
        if self._camera is None and frame.segment != self._shown[0]:
            self._shown = frame.segment, frame.camera
        if frame.camera == self._shown[1]:
            self.newest_frame = frame
        if self._camera not in (None, frame.camera):
            return
        if frame.aside or self.channel not in (None, frame.channel):
            return  # e.g. a dye: stored and shown
        for skipped in self.to_analyse.put(frame):
            self.note_not_analysed(skipped)

    def note_not_analysed(self, frame: Frame) -> None:
        """Count a frame that nobody will call (acquisition or detector thread)."""
        self.ledger.lose(LossCause.ANALYSIS, frame.segment, frame.camera)

    def note_called(self, analysis: Analysis, truth: TrueCells | None) -> None:
        """Take in the calls of a frame, and the truth where there is one (detector thread)."""
        self.analysed += 1
        self.called.tick()
        self._latency_called.add((time.perf_counter() - analysis.frame.time_s) * 1e3)
        self.newest_by_camera[analysis.frame.camera] = analysis
        if analysis.frame.camera == self._shown[1] or analysis.frame.index < 0:  # a snap belongs to no run
            self.curve.append((analysis.frame.time_s - self.started_s, analysis.viability))
            self.newest_analysis = analysis
        place = place_of(analysis)
        if place is not None:
            self.places[place.name] = place
            curve = self._curves.setdefault(place.name, ThinningSeries(keep=1024))
            curve.append((analysis.frame.time_s - self.started_s, analysis.viability))
        if analysis.fates is not None:
            self.deaths += len(analysis.fates.died)
        if truth is not None:
            self.tally = self.tally or Tally()
            self.tally.add(analysis.calls, truth)

    def note_painted(self, frame: Frame) -> None:
        """Count a painted frame and those passed over since the last one (GUI thread)."""
        skipped = frame.index - self._last_shown_index - 1
        if skipped < 0:  # the same frame painted anew, after a resize
            return
        if skipped:
            self.ledger.lose(LossCause.DISPLAY, frame.segment, frame.camera, skipped)
        self._last_shown_index = frame.index
        self.shown += 1
        self.painted.tick()
        self._latency_painted.add((time.perf_counter() - frame.time_s) * 1e3)

    def curves_by_place(self) -> dict[str, list[tuple[float, Viability]]]:
        """Viability against seconds since the start for each named stage position, in the order of the first visit."""
        return {name: curve.items() for name, curve in self._curves.copy().items()}

    def latency_ms(self) -> tuple[float, float, float] | None:
        """(p50, p95, p99) from arrival to painted, or to called where nothing was painted; None before the first."""
        return self._latency_painted.percentiles_ms() or self._latency_called.percentiles_ms()

    def mean_fps(self) -> float:
        """Frames a second from the first frame to the newest; 0.0 before there are two."""
        if self._first_time_s is None or self.newest_frame is None or self.ledger.delivered < 2:
            return 0.0
        return (self.ledger.delivered - 1) / max(self.newest_frame.time_s - self._first_time_s, 1e-9)

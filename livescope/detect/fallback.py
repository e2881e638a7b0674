"""A detector that may fail during a run, with another one that takes over: the run goes on, and says so.

Owns the change from one to the other. Knows neither GPUs nor networks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from livescope.detect.detector import BackendInfo, Detector, Table
from livescope.errors import BackendError
from livescope.frames import Frame, FrameSpec

__all__ = ["FallbackDetector"]

_LONGEST_WAIT_S = 60.0


class FallbackDetector:
    """Implements `livescope.detect.detector.Detector` by a first choice and a stand-in. One thread uses it.

    Parameters
    ----------
    first, stand_in
        Make the two detectors; the stand-in is made when it is first needed.
    retry_s
        Seconds until the first choice is tried again, doubled after each failure up to a minute (a server over the
        network); None never tries again (a lost GPU does not come back into a process).
    clock
        Monotonic seconds.

    Attributes
    ----------
    failures
        How often the first choice failed.
    """

    def __init__(
        self,
        first: Callable[[], Detector],
        stand_in: Callable[[], Detector],
        retry_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_first, self._make_stand_in = first, stand_in
        self._first: Detector | None = None
        self._stand_in: Detector | None = None
        self._shortest_wait_s = self._wait_s = retry_s
        self._clock = clock
        self._try_at: float | None = clock()
        self._spec: FrameSpec | None = None
        self._flying: dict[int, tuple[Frame, Detector, int]] = {}
        self._next_ticket = 0
        self._reasons: dict[str, None] = {}
        self.failures = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the first choice is not, or was not, in use, and what either detector says."""
        inner = (line for detector in (self._first, self._stand_in) if detector for line in detector.warnings)
        return (*self._reasons, *inner)

    def prepare(self, spec: FrameSpec) -> None:
        """Prepare the one in use; where the first choice fails, the stand-in."""
        self._spec = spec
        if self._stand_in is not None:
            self._stand_in.prepare(spec)
        if self._first is not None:
            try:
                self._first.prepare(spec)
            except BackendError as error:
                self._drop_first(error)
        self._in_use()

    def submit(self, frame: Frame) -> int:
        """Begin the analysis of a frame with the one in use."""
        detector = self._in_use()
        try:
            inner = detector.submit(frame)
        except BackendError as error:
            if detector is not self._first:
                raise
            self._drop_first(error)
            detector = self._in_use()
            inner = detector.submit(frame)
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        self._flying[ticket] = frame, detector, inner
        return ticket

    def poll(self, ticket: int) -> Table:
        """Return the result of a ticket; a frame that was lost with the first choice is analysed by the stand-in."""
        frame, detector, inner = self._flying.pop(ticket)
        if detector is self._first or detector is self._stand_in:
            try:
                table = detector.poll(inner)
            except BackendError as error:
                if detector is not self._first:
                    raise
                self._drop_first(error)
            else:
                if detector is self._first:
                    self._wait_s = self._shortest_wait_s
                return table
        stand_in = self._in_use()
        return stand_in.poll(stand_in.submit(frame))

    def close(self) -> None:
        """Close both. May be called twice."""
        for detector in (self._first, self._stand_in):
            if detector is not None:
                detector.close()
        self._first = self._stand_in = None

    def describe(self) -> BackendInfo:
        """Say what is used now, and how often the first choice failed."""
        info = self._in_use().describe()
        if not self.failures:
            return info
        counted = f"{self.failures} failure{'s' if self.failures > 1 else ''} of the first choice"
        return replace(info, backend=f"{info.backend} ({'standing in, ' if self._first is None else ''}{counted})")

    def _in_use(self) -> Detector:
        """Return the first choice where it works or may be tried again, else the stand-in."""
        if self._first is None and self._try_at is not None and self._clock() >= self._try_at:
            try:
                self._first = self._prepared(self._make_first())
            except BackendError as error:
                self._drop_first(error)
        if self._first is not None:
            return self._first
        if self._stand_in is None:
            self._stand_in = self._prepared(self._make_stand_in())
        return self._stand_in

    def _prepared(self, detector: Detector) -> Detector:
        if self._spec is not None:
            detector.prepare(self._spec)
        return detector

    def _drop_first(self, error: BackendError) -> None:
        if self._first is not None:
            self._first.close()
            self._first = None
        self.failures += 1
        self._reasons.setdefault(f"another backend stands in: {error}")
        self._try_at = None
        if self._wait_s is not None:
            self._try_at = self._clock() + self._wait_s
            self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)

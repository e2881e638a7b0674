"""A session: one source, one detector, one recorder, wired together.

Owns what a user can ask for and read; the threads and the state machine behind it (see `SessionState`) are
`livescope.running`, and the rooms own the logic. Everything that is asked for is done one after the other on the
control thread, so that no window and no caller ever waits for a device.

    acquisition thread -> recorder's queue (never blocks)
                       -> analysis queue (every frame, or the newest only) -> detector thread -> calls -> recorder,
                                                                                                          window
                       -> display mailbox (newest only)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from livescope.calls import Analysis, Viability
from livescope.frames import Frame
from livescope.meters import Mailbox
from livescope.run_book import RunBook
from livescope.running import Running
from livescope.status import SessionState, Status

if TYPE_CHECKING:
    import useq

    from livescope.acquire.changes import Change

__all__ = ["Analysis", "Session", "SessionState", "Status"]

_RESULTS_KEPT = 256
"""Results that may wait for a reader of `Session.results`; above it the oldest is skipped."""


class Session(Running):
    """Run a microscope: acquire, call, record. Methods return at once unless their docstring says otherwise.

    Parameters
    ----------
    settings
        What to open and what to do. Nothing is opened before `start`.
    allow_actions
        Leave for the run's rules (`run.rules`) to run commands and call URLs.
    core
        A `CMMCorePlus` of another program, to be watched instead of opening a source; see `livescope.attach`.

    Examples
    --------
    >>> from livescope.settings import Settings
    >>> Session(Settings()).status().state
    <SessionState.IDLE: 'idle'>
    """

    # ---- asked for by the user -------------------------------------------------------------------------------------

    def set_plan(self, plan: Path | None) -> None:
        """Let the runs started from now on follow a plan (a useq-schema file); None lets them stream."""
        run = self.settings.run.model_copy(update={"plan": plan})
        self.settings = self.settings.model_copy(update={"run": run})

    def start(self) -> Future[None]:
        """Open what is not open yet and begin a run. The future raises what made the start fail."""
        self._ended.clear()
        return self._ask("starting", self._start)

    def stop(self) -> Future[None]:
        """End the run: stop the camera, hand on what it made, flush the record."""
        return self._ask("stopping", self._stop)

    def snap(self) -> Future[None]:
        """Take one frame and call its cells. During a run the newest frame is the snap."""
        return self._ask("snapping", self._snap)

    def set_exposure(self, exposure_ms: float) -> Future[None]:
        """Change the exposure, in milliseconds; see `change`."""
        from livescope.acquire.changes import Exposure

        return self.change(Exposure(exposure_ms))

    def change(self, change: Change) -> Future[None]:
        """Change exposure, property, preset, ROI, camera or place (`livescope.acquire.changes`), also during a run.

        It is done live if the device allows it; else the camera stops, changes, and a new segment begins, whose reason
        is shown and recorded. The future raises if the device refused; the run goes on as before.
        """
        return self._ask(change.reason, lambda: self._change(change))

    def burst(self, frames: int) -> Future[None]:
        """Take exactly so many frames without a gap, as a segment of their own; a live run pauses for them."""
        return self._ask(f"burst of {frames} frames", lambda: self._burst(frames))

    def pause(self) -> Future[None]:
        """Let a planned run begin no other event until `resume`."""
        return self._ask("pausing", lambda: self._plan().pause())

    def resume(self) -> Future[None]:
        """Go on after a `pause`."""
        return self._ask("going on", lambda: self._plan().resume())

    def add_events(self, *events: useq.MDAEvent) -> Future[None]:
        """Execute events before the next one of a planned run."""
        return self._ask("adding events", lambda: self._plan().add(*events))

    def use_model(self, model: str) -> Future[None]:
        """Call the cells of later runs with another model; a run has one, which its record names.

        Parameters
        ----------
        model
            Name of a bundled model, or the path of a bundle's .onnx file. The future raises if there is none.
        """
        return self._ask(f"loading the model {Path(model).stem}", lambda: self._use_model(model))

    def start_recording(self) -> Future[None]:
        """Store frames and calls from now on, in a new record."""
        return self._ask("opening the record", self._open_record)

    def stop_recording(self) -> Future[None]:
        """Flush and close the record; the run goes on."""
        return self._ask("closing the record", self._close_record)

    @property
    def core(self) -> object | None:
        """The open core, for device widgets; None while no source is open. What it is depends on the source."""
        return None if self._source is None else self._source.core

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Hold what everybody holds who talks to `core` directly: the camera's pops and all changes wait meanwhile."""
        return self._stream.lock if self._stream is not None else contextlib.nullcontext()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until the run has ended and its record is closed; False after `timeout_s` seconds."""
        return self._ended.wait(timeout_s)

    def close(self) -> None:
        """End the run and free camera, model and threads. Blocks; may be called twice."""
        try:
            self._ask("closing", self._close).result()
        except RuntimeError:  # the control thread is gone: closed before
            return
        self._control.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- read from any thread --------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Everything about this instant, cheaply."""
        self._hear_stream()
        run, recording, detecting = self._run, self._recording, self._detecting
        return Status(
            state=self._state,
            reason=self._reason,
            delivered=run.ledger.delivered,
            recorded=recording.recorded,
            analysed=run.analysed,
            shown=run.shown,
            deaths=run.deaths,
            actions=self._responding.outcomes,
            lost=run.ledger.by_cause(),
            fps_acquired=run.acquired.rate_hz(),
            fps_analysed=run.called.rate_hz(),
            fps_shown=run.painted.rate_hz(),
            latency_ms=run.latency_ms(),
            recording=recording.active,
            record=recording.path,
            queue_fill=recording.queue_fill,
            cadence=run.to_analyse.cadence.value,
            disk_free_bytes=recording.disk_free_lately(),
            backend=detecting.backend if detecting else None,
            model=self.settings.detector.model,
            exposure_ms=self._stream.exposure_ms if self._stream else self.settings.camera.exposure_ms,
            busy=(detecting.busy if detecting else None) or self._busy,
            warnings=self._messages.warnings,
            errors=self._messages.errors,
        )

    def latest_frame(self) -> Frame | None:
        """Return the newest frame, None before the first."""
        return self._run.newest_frame

    def latest_analysis(self) -> Analysis | None:
        """Return the newest analysed frame with its calls, None before the first."""
        return self._run.newest_analysis

    def record_of(self, frame: Frame) -> Path | None:
        """Return the record that a frame went into, None if it was not recorded."""
        return self._recording.record_of(frame)

    def viability_curve(self) -> list[tuple[float, Viability]]:
        """Viability against seconds since the start of the run, thinned to a bounded number of points."""
        return self._run.curve.items()

    @property
    def book(self) -> RunBook:
        """The book of the newest run: losses by segment and camera, rates, agreement with a truth."""
        return self._run

    def mark_shown(self, frame: Frame) -> None:
        """Count a painted frame; the window calls this at the end of its paint event."""
        self._run.note_painted(frame)

    def results(self) -> Iterator[Analysis]:
        """Iterate over every analysed frame from now to the end of the run; starts the run if nobody else has.

        A reader who falls behind by more than 256 results misses the oldest.

        Raises
        ------
        LivescopeError
            The run could not start, or failed; what was recorded is kept.
        """
        box = Mailbox[Analysis](_RESULTS_KEPT)
        self._subscribers.append(box)
        return self._drain(box, self._run)

    def _drain(self, box: Mailbox[Analysis], before: RunBook) -> Iterator[Analysis]:
        try:
            if self._ended.is_set() and self._run is before:
                self.start().result()
            while not (self._ended.is_set() and not len(box)):
                analysis = box.get(0.1)
                if analysis is not None:
                    yield analysis
            if self._failure is not None:
                raise self._failure
        finally:
            self._subscribers.remove(box)

"""A session: one source, one detector, one recorder, wired together.

Owns the threads and the state machine (see `SessionState`); the rooms own the logic. Everything a user asks for is
done one after the other on the control thread, so that no window and no caller ever waits for a device.

    acquisition thread -> recorder's queue (never blocks)
                       -> analysis queue (every frame, or the newest only) -> detector thread -> calls -> recorder,
                                                                                                          window
                       -> display mailbox (newest only)
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from livescope.calls import Analysis, Viability
from livescope.detect.bundle import load_bundle
from livescope.detecting import Detecting
from livescope.errors import AcquisitionError, LivescopeError
from livescope.frames import Frame
from livescope.messages import Messages
from livescope.meters import Mailbox
from livescope.recording import Recording
from livescope.responding import Responding
from livescope.run_book import RunBook
from livescope.settings import Settings
from livescope.source import OpenSource, check_camera, expected_spec, open_source, open_stream
from livescope.status import SessionState, Status

if TYPE_CHECKING:
    import useq

    from livescope.acquire.changes import Change
    from livescope.acquire.health import HealthEvent
    from livescope.acquire.planned import PlannedRun
    from livescope.acquire.stream import LiveStream
    from livescope.simulate.truth import Truth

__all__ = ["Analysis", "Session", "SessionState", "Status"]

_RESULTS_KEPT = 256
"""Results that may wait for a reader of `Session.results`; above it the oldest is skipped."""


class Session:
    """Run a microscope: acquire, call, record. Methods return at once unless their docstring says otherwise.

    Parameters
    ----------
    settings
        What to open and what to do. Nothing is opened before `start`.
    allow_actions
        Leave for the run's rules (`run.rules`) to run commands and call URLs.

    Examples
    --------
    >>> from livescope.settings import Settings
    >>> Session(Settings()).status().state
    <SessionState.IDLE: 'idle'>
    """

    def __init__(self, settings: Settings, *, allow_actions: bool = False) -> None:
        self.settings = settings
        self._state = SessionState.IDLE
        self._reason: str | None = None
        self._failure: LivescopeError | None = None
        self._busy: str | None = None
        self._messages = Messages()
        self._control = ThreadPoolExecutor(1, thread_name_prefix="livescope-control")
        self._ended = threading.Event()
        self._ended.set()
        self._source: OpenSource | None = None
        self._detecting: Detecting | None = None
        self._stream: LiveStream | None = None
        self._recording = Recording(self._recorder_failed)
        self._run = self._new_book()
        self._responding = Responding(
            self._recording, self._messages, self._ask_stream, self._end, allow_actions=allow_actions
        )
        self._subscribers: list[Mailbox[Analysis]] = []

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
            disk_free_bytes=recording.disk_free_bytes(),
            backend=detecting.describe() if detecting else None,
            model=self.settings.detector.model,
            exposure_ms=self._stream.exposure_ms if self._stream else self.settings.camera.exposure_ms,
            busy=self._busy,
            warnings=self._messages.warnings,
            errors=self._messages.errors,
        )

    def _hear_stream(self) -> None:
        for warning in self._stream.warnings if self._stream is not None else ():
            self._messages.warn(warning)

    def latest_frame(self) -> Frame | None:
        """Return the newest frame, None before the first."""
        return self._run.newest_frame

    def latest_analysis(self) -> Analysis | None:
        """Return the newest analysed frame with its calls, None before the first."""
        return self._run.newest_analysis

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

    # ---- control thread --------------------------------------------------------------------------------------------

    def _ask(self, what: str, do: Callable[[], None]) -> Future[None]:
        return self._control.submit(self._carry_out, what, do)

    def _carry_out(self, what: str, do: Callable[[], None]) -> None:
        """Note what fails, and serve the next request all the same: the boundary of the control thread."""
        self._busy = what
        try:
            do()
        except Exception as error:
            self._messages.fail(what, error)
            raise
        finally:
            self._busy = None

    def _say_busy(self, what: str) -> None:
        if self._busy is not None:  # a shape that changes during a run is prepared on another thread
            self._busy = what

    def _start(self) -> None:
        if self._state in (SessionState.RUNNING, SessionState.CHANGING):
            return
        self._state, self._reason, self._failure = SessionState.STARTING, None, None
        try:
            self._run = self._new_book()
            self._recording.reset()
            self._stream = None
            self._responding.load(self.settings.run.rules)
            self._open_stream()
            if self.settings.record.path is not None:
                self._open_record()
            self._begin()
        except BaseException as error:
            self._end_run(SessionState.FAILED, str(error))
            raise

    def _begin(self) -> None:
        stream, run = self._open_stream(), self._run
        detecting = self._open_model()
        check_camera(stream, self.settings.detector.camera)
        detecting.prepare(expected_spec(stream))  # a model that does not fit is refused before the first frame
        run.channel = self.settings.detector.channel or stream.first_channel
        detecting.respond = self._responding.begin(stream)
        detecting.begin(run, self.settings.track)
        stream.start(self.settings.run.frames)
        self._state = SessionState.RUNNING
        threading.Thread(target=self._await_end, args=(stream,), name="livescope-waiter", daemon=True).start()

    def _open_stream(self) -> LiveStream:
        """Open model and source if they are not; the model first, since its errors come at once."""
        self._open_model()
        if self._source is None:
            self._source = open_source(self.settings)
        if self._stream is None:
            run = self._run
            self._stream = open_stream(self._source, self.settings, self._receive, run.ledger, self._health_changed)
        return self._stream

    def _open_model(self) -> Detecting:
        if self._detecting is None:
            self._detecting = Detecting(
                self.settings.detector, self._recording, self._truth_of, self._publish, self._messages, self._say_busy
            )
        return self._detecting

    def _use_model(self, model: str) -> None:
        if self._state in (SessionState.RUNNING, SessionState.CHANGING):
            raise AcquisitionError("a run has one model, which its record names; stop the run, then change the model.")
        load_bundle(model)  # refused before the present one is given up
        chosen = self.settings.detector.model_copy(update={"model": model})
        self.settings = self.settings.model_copy(update={"detector": chosen})
        if self._detecting is not None:
            detecting, self._detecting = self._detecting, None
            detecting.close()

    def _plan(self) -> PlannedRun:
        from livescope.acquire.planned import PlannedRun

        if not isinstance(self._stream, PlannedRun) or not self._stream.running:
            raise AcquisitionError("no planned run is going on; set run.plan and start the run.")
        return self._stream

    def _change(self, change: Change) -> None:
        with self._changing() as stream:
            note = stream.change(change)
        if note is not None:
            self._prepare_anew(note.reason)

    def _ask_stream(self, what: str, do: Callable[[LiveStream], None]) -> Future[None]:
        def with_stream() -> None:
            with self._changing() as stream:
                do(stream)

        return self._ask(what, with_stream)

    def _burst(self, frames: int) -> None:
        if self._state is not SessionState.RUNNING:
            raise AcquisitionError("a burst is part of a run; start the run first.")
        with self._changing() as stream:
            stream.burst(frames)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[LiveStream]:
        """Show that the stream is being changed, and note the segments that come of it."""
        before, stream = self._state, self._open_stream()
        if before is SessionState.RUNNING:
            self._state = SessionState.CHANGING
        try:
            yield stream
        finally:
            if self._state is SessionState.CHANGING:
                self._state = before
            self._recording.note(**self._events())

    def _prepare_anew(self, why: str) -> None:
        """Make the model ready for the frames of a new segment; the camera goes on meanwhile."""
        if self._stream is None or self._detecting is None or not self._stream.running:
            return
        try:
            spec = expected_spec(self._stream)
            self._busy = f"preparing the model for {spec.width} x {spec.height} pixels, {spec.dtype} ({why})"
            self._detecting.prepare(spec)
        except LivescopeError as error:  # the change stands; frames are stored, and not called
            self._messages.fail("analysis", error)

    def _events(self) -> dict[str, Any]:
        """Why each segment of the run began, and how the camera fared, for the record."""
        segments = [asdict(note) for note in self._stream.notes] if self._stream else []
        return {"segments": segments, "health": list(self._run.health)}

    def _snap(self) -> None:
        if self._state is SessionState.RUNNING:
            return
        frame = self._open_stream().snap()
        self._run.newest_frame = frame
        self._open_model().analyse(self._run, frame)

    def _open_record(self) -> None:
        facts = {"backend": asdict(self._detecting.describe())} if self._detecting else {}
        self._recording.open(self.settings, self._run.ledger, facts | self._responding.facts)

    def _close_record(self) -> None:
        self._hear_stream()
        warnings, errors = list(self._messages.warnings), list(self._messages.errors)
        self._recording.close({**self._events(), "warnings": warnings, "errors": errors})

    def _stop(self) -> None:
        if self._state in (SessionState.RUNNING, SessionState.CHANGING):
            self._state = SessionState.STOPPING
            self._end_run(SessionState.IDLE, self._reason)

    def _finish(self, stream: LiveStream) -> None:
        """End the run of a stream that ended by itself, unless a stop came first or another run has begun."""
        if stream is not self._stream or self._state is not SessionState.RUNNING:
            return
        if stream.error is None:
            self._stop()
        else:
            self._failure = stream.error
            self._end_run(SessionState.FAILED, str(stream.error))

    def _end_run(self, state: SessionState, reason: str | None) -> None:
        """Stop the camera, let the detector finish, close the record; each step whatever became of the one before."""
        run = self._run
        try:
            if self._stream is not None:
                self._stream.stop()
        finally:
            run.to_analyse.close()
            if self._detecting is not None:
                self._detecting.finish()
            try:
                self._responding.finish()
                self._close_record()
            finally:
                self._state, self._reason = state, reason
                self._ended.set()

    def _close(self) -> None:
        try:
            self._stop()
            self._close_record()  # one that was begun while nothing ran
        finally:
            if self._detecting is not None:
                self._detecting.close()
                self._detecting = None
            if self._source is not None:
                source, self._source, self._stream = self._source, None, None
                source.close()

    # ---- other threads ---------------------------------------------------------------------------------------------

    def _receive(self, frame: Frame) -> None:
        """Acquisition thread: hand the frame to the recorder, the detector and the window; never wait."""
        stored = self._recording.put(frame)
        if not stored and self.settings.record.when_full == "stop":
            self._end("the disk cannot keep up and record.when_full is 'stop'")
        self._run.note_received(frame)

    def _end(self, reason: str) -> None:
        """End the run for a reason, the first that is given."""
        if self._reason is None:
            self._reason = reason
            self.stop()

    def _await_end(self, stream: LiveStream) -> None:
        """Waiter thread: a stream that ends by itself ends the run; nothing that was delivered is dropped."""
        stream.wait()
        if stream.error is not None:
            self._messages.fail("acquisition", stream.error)
        with contextlib.suppress(RuntimeError):  # closed in the meantime: there is no control thread any more
            self._ask("ending the run", lambda: self._finish(stream))

    def _health_changed(self, event: HealthEvent) -> None:
        """Watchdog thread: the camera stalled, was lost, or came back."""
        self._messages.warn(f"camera {event.health.value}: {event.message}")
        self._run.note_health(event)
        self._recording.note(**self._events())
        if event.health.value == "ok":
            with contextlib.suppress(RuntimeError):  # closed in the meantime: there is no control thread any more
                self._ask("the camera is back", lambda: self._prepare_anew("the camera is back"))

    def _recorder_failed(self, error: Exception) -> None:
        """Recorder thread: frames are being lost on the way to the disk."""
        self._messages.fail("recording", error)

    def _publish(self, analysis: Analysis) -> None:
        """Detector thread: hand an analysis to everyone who iterates over the results."""
        for box in list(self._subscribers):
            box.put(analysis)

    def _truth_of(self, frame: Frame) -> Truth | None:
        """Cells that are really there, where the source is simulated and knows."""
        truth = self._source.truth(frame) if self._source else None
        return None if truth is None else truth.in_frame()  # a truth of no cells counts: calls in it are false

    def _new_book(self) -> RunBook:
        detector = self.settings.detector
        every = True if self.settings.run.plan is not None else detector.every_frame
        return RunBook(every, detector.camera)

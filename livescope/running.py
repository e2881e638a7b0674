"""The moving parts of a session: the control thread, the state machine, and what the other threads hand on.

Owns which source, model and record are open, and the steps of a start, a change and an end. What a user asks for, and
what anyone may read, is `livescope.session`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from livescope.acquire.inventory import device_inventory
from livescope.calls import Analysis
from livescope.detect.bundle import load_bundle
from livescope.detecting import Detecting
from livescope.errors import AcquisitionError, LivescopeError
from livescope.frames import Frame, LossCause
from livescope.messages import Messages
from livescope.meters import Mailbox
from livescope.recording import Recording
from livescope.responding import Responding
from livescope.run_book import RunBook
from livescope.settings import Settings
from livescope.source import (
    OpenSource,
    attach_source,
    called_channel,
    check_camera,
    check_channel,
    check_watched,
    expected_spec,
    open_source,
    open_stream,
)
from livescope.status import SessionState

if TYPE_CHECKING:
    from livescope.acquire.changes import Change
    from livescope.acquire.health import HealthEvent
    from livescope.acquire.planned import PlannedRun
    from livescope.acquire.stream import LiveStream
    from livescope.simulate.truth import Truth

__all__ = ["Running"]


class Running:
    """Base of `livescope.session.Session`, which documents the parameters."""

    def __init__(self, settings: Settings, *, allow_actions: bool = False, core: object | None = None) -> None:
        if core is not None:
            check_watched(settings)
        self.settings = settings
        self._owned_elsewhere = core
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

    def _start(self) -> None:
        if self._state in (SessionState.RUNNING, SessionState.CHANGING):
            return
        self._state, self._reason, self._failure = SessionState.STARTING, None, None
        try:
            self._run = self._new_book()
            self._recording.reset()
            self._stream = None
            if self._owned_elsewhere is not None:
                check_watched(self.settings)  # a plan may have been chosen since
            self._responding.load(self.settings.run.rules)
            stream = self._open_stream()
            self._make_ready(stream)
            if self.settings.record.path is not None or self._recording.active:
                self._open_record()  # after the model is ready: only now is it known what runs it
            self._begin(stream)
        except BaseException as error:
            self._end_run(SessionState.FAILED, str(error))
            raise

    def _make_ready(self, stream: LiveStream) -> None:
        """Refuse a model or a choice that does not fit before the first frame."""
        check_camera(stream, self.settings.detector.camera)
        if self._owned_elsewhere is None:  # what channels its owner takes is not known beforehand
            check_channel(stream, self.settings.detector.channel, self._messages.warn)
        self._open_model().prepare(expected_spec(stream))

    def _begin(self, stream: LiveStream) -> None:
        detecting, run = self._open_model(), self._run
        run.channel = self.settings.detector.channel or next(iter(stream.channels), None)
        detecting.respond = self._responding.begin(stream)
        detecting.begin(run, self.settings.track)
        stream.start(self.settings.run.frames)
        self._state = SessionState.RUNNING
        threading.Thread(target=self._await_end, args=(stream,), name="livescope-waiter", daemon=True).start()

    def _open_stream(self) -> LiveStream:
        """Open model and source if they are not; the model first, since its errors come at once."""
        self._open_model()
        if self._source is None:
            core = self._owned_elsewhere
            self._source = open_source(self.settings) if core is None else attach_source(core)
        if self._stream is None:
            run = self._run
            self._stream = open_stream(self._source, self.settings, self._receive, run.ledger, self._health_changed)
        return self._stream

    def _open_model(self) -> Detecting:
        if self._detecting is None:
            self._detecting = Detecting(
                self.settings.detector, self._recording, self._truth_of, self._publish, self._messages
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
            self._detecting.prepare_aside(expected_spec(self._stream), why)
        except LivescopeError as error:  # the change stands; frames are stored, and not called
            self._messages.fail("analysis", error)

    def _hear_stream(self) -> None:
        for warning in self._stream.warnings if self._stream is not None else ():
            self._messages.warn(warning)

    def _events(self) -> dict[str, Any]:
        """Why each segment of the run began, how camera and devices are, and what runs the model, for the record."""
        segments = [asdict(note) for note in self._stream.notes] if self._stream else []
        backend = self._detecting.backend if self._detecting else None
        known: dict[str, Any] = {} if backend is None else {"backend": asdict(backend)}
        if self._stream is not None:
            known["devices"] = device_inventory(self._stream.core)
        return {"segments": segments, "health": list(self._run.health), **known}

    def _snap(self) -> None:
        if self._state is SessionState.RUNNING:
            return
        frame = self._open_stream().snap()
        self._run.newest_frame = frame
        self._open_model().analyse(self._run, frame)

    def _open_record(self) -> None:
        self._recording.open(self.settings, self._run.ledger, self._events() | self._responding.facts)

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
        if self._owned_elsewhere is not None:  # what is called is known only now
            self._run.channel = called_channel(frame, self.settings.detector.channel, self._messages.warn)
        self._run.note_received(frame)

    def _end(self, reason: str) -> None:
        """End the run for a reason, the first that is given."""
        if self._reason is None:
            self._reason = reason
            self._ask("stopping", self._stop)

    def _await_end(self, stream: LiveStream) -> None:
        """Waiter thread: a stream that ends by itself ends the run; nothing that was delivered is dropped."""
        stream.wait()
        if stream.error is not None:
            self._messages.fail("acquisition", stream.error)
        with contextlib.suppress(RuntimeError):  # closed in the meantime: there is no control thread any more
            self._ask("ending the run", lambda: self._finish(stream))

    def _health_changed(self, event: HealthEvent) -> None:
        """Watchdog thread: the camera stalled, was lost, or came back."""
        if event.health.value != "ok":
            self._messages.warn(f"camera {event.health.value}: {event.message}")
        self._run.note_health(event)
        self._recording.note(**self._events())
        if event.health.value == "ok":
            with contextlib.suppress(RuntimeError):  # closed in the meantime: there is no control thread any more
                self._ask("the camera is back", lambda: self._prepare_anew("the camera is back"))

    def _recorder_failed(self, error: Exception) -> None:
        """Recorder thread: frames or calls are being lost on the way to the disk."""
        self._messages.fail("recording", error)
        running = self._state in (SessionState.RUNNING, SessionState.CHANGING)
        stops = running and self.settings.record.when_full == "stop"
        if stops and self._run.ledger.total(LossCause.RECORDER):
            self._end("frames are lost on the way to the disk and record.when_full is 'stop'")

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

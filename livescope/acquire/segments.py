"""One segment after the other: the acquisition thread of a stream, and what it does when the camera stops by itself.

Owns the thread, the watchdog and the end of a run. What users and other threads ask for is `stream.py`; the loop is
`pump.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from livescope.acquire.camera_state import CameraState, Light
from livescope.acquire.health import Health, HealthEvent, Pulse, Watchdog, judge
from livescope.acquire.lock import CameraLock
from livescope.acquire.pump import Counters, Ending, Pump
from livescope.acquire.recovery import abandon, attempts_until_back, darken, explained, lost
from livescope.acquire.ring import size_ring
from livescope.acquire.states import ALIVE, SegmentNote, StreamState
from livescope.acquire.stream_core import StreamCore
from livescope.errors import AcquisitionError, LivescopeError
from livescope.frames import Frame, LossLedger
from livescope.settings import CameraSettings

__all__ = ["Segments"]


class Segments:
    """The moving parts of `LiveStream`, which documents the parameters and the public attributes."""

    def __init__(
        self,
        core: StreamCore,
        on_frame: Callable[[Frame], None],
        ledger: LossLedger,
        camera: CameraSettings | None = None,
        *,
        on_health: Callable[[HealthEvent], None] | None = None,
        reopen: Callable[[], None] | None = None,
    ) -> None:
        self.core = core
        self.ledger = ledger
        self.lock = CameraLock()
        self.state = StreamState.IDLE
        self.error: LivescopeError | None = None
        self.notes: list[SegmentNote] = []
        self._settings = camera or CameraSettings()
        self._on_frame = on_frame
        self._on_health = on_health or (lambda event: None)
        self._reopen = reopen or (lambda: None)
        self._control = threading.RLock()
        self._counters = Counters()
        self._pump: Pump | None = None
        self._asked: int | None = None
        self._made_before = 0
        self._interlude = False
        self._stall_why = ""
        self._awaiting: list[Future[Frame]] = []
        self._ended = threading.Event()
        self._ended.set()
        self._thread: threading.Thread | None = None
        self._watchdog: Watchdog | None = None
        self._light: Light | None = None
        self._ring_set = False
        with explained("asking the camera what it is"):
            self.camera = CameraState(core, self.lock, self._settings)

    # ------------------------------------------------------------------ what it is

    @property
    def running(self) -> bool:
        """True from `start` to the end of the run, changes and restarts included."""
        return self.state in ALIVE

    @property
    def segment(self) -> int:
        """Number of the present or last segment, -1 before the first."""
        return self._counters.segment

    @property
    def exposure_ms(self) -> float:
        """Exposure in force, milliseconds."""
        return self.camera.exposure_ms

    @property
    def bit_depth(self) -> int:
        """Bits in use."""
        return self.camera.bit_depth

    @property
    def pixel_um(self) -> float | None:
        """Micrometres a pixel, None where nobody knows."""
        return self.camera.pixel_um

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not as it should be although frames come."""
        watch = self._watchdog.error if self._watchdog is not None else None
        unwatched = f"nobody watches the camera's health any more: {type(watch).__name__}: {watch}" if watch else ""
        return tuple(warning for warning in (self.camera.position_error, unwatched) if warning)

    # ------------------------------------------------------------------ begin and end

    def _begin(self, reason: str, *, burst: bool = False) -> None:
        """Read the camera, size the ring and start the camera on a new segment. Holds the lock."""
        left = None if self._asked is None else self._asked - self._made_before
        self.camera.read()
        if not self._ring_set or burst:
            size_ring(self.core, self._settings, self.exposure_ms, self._asked if burst and self._asked else 0)
            self._ring_set = True
        self.camera.refresh_position()
        self._counters.segment += 1
        self._counters.last_sign_s = time.perf_counter()
        self.notes.append(SegmentNote(self.segment, reason, time.time()))
        self._pump = Pump(self.core, self.lock, self.camera, self._counters, self.ledger, self._receive, asked=left)
        try:
            if left is None:
                self.core.startContinuousSequenceAcquisition(0)
            else:
                self.core.startSequenceAcquisition(left, 0, burst)
        except Exception as error:
            # a listener that raises makes start raise while the camera is already running
            failure = AcquisitionError(f"camera {self.camera.label!r} refused to start: {error}")
            abandon(self.core, self.lock, self._pump, self._light, failure)
            self.state = StreamState.LOST
            self.error = failure
            raise failure from error
        self.state = StreamState.RUNNING

    def _run_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name="livescope-acquisition", daemon=True)
        self._thread.start()

    def _halt_pump(self) -> Exception | None:
        """Stop the camera and tell the loop; return what a camera that refuses to stop raised."""
        with self.lock:  # one turn, so that the loop cannot take the stopped camera for a lost one
            pump = self._pump
            if pump is None:
                return None
            try:
                self.core.stopSequenceAcquisition()
                pump.halt.set()
            except Exception as error:  # noqa: BLE001 - any adapter's failure; returned
                pump.halt_undrained()
                return error
        return None

    def _give_up(self, error: LivescopeError) -> None:
        """End a run that stands still for a change that went wrong: it has no thread that could."""
        assert self._pump is not None
        abandon(self.core, self.lock, self._pump, self._light, error)
        self.state, self.error = StreamState.LOST, error
        self._finish_run()

    def _join(self) -> None:
        for thread in (self._thread, self._watchdog):
            if thread is not None and thread is not threading.current_thread():
                thread.join()

    def _pulse(self) -> Pulse:
        lost = self.state in (StreamState.LOST, StreamState.FAILED, StreamState.RESTARTING)
        streaming = self.state is StreamState.RUNNING
        return Pulse(streaming, lost, self._counters.last_sign_s, self.exposure_ms, str(self.error or ""))

    def _health_changed(self, event: HealthEvent) -> None:
        """Watchdog thread: tell it, and end a stalled segment where the settings say so."""
        self._on_health(event)
        if event.health is Health.STALLED and self._settings.when_stalled != "wait":
            with self.lock:
                if self._pump is None or judge(self._pulse(), time.perf_counter())[0] is not Health.STALLED:
                    return  # a change or a stop came first, or a frame
                self._stall_why = f"it stalled: {event.message}"
                try:
                    self.core.stopSequenceAcquisition()
                except Exception as error:  # noqa: BLE001 - any adapter's failure; the loop ends by it
                    self._pump.error = error

    # ------------------------------------------------------------------ the acquisition thread

    def _run(self) -> None:
        while True:
            pump = self._pump
            assert pump is not None
            try:
                ending = pump.run()
            except Exception as error:  # noqa: BLE001 - the thread's border: kept in `error`, told by the watchdog
                self._fail(pump, error)
                break
            self._made_before += pump.produced
            if ending is not Ending.GONE:
                self._settle(ending, pump)
                break
            self._lost(pump)
            if not self._bring_back(pump):
                break
        if self.state is not StreamState.CHANGING and not self._interlude:
            self._finish_run()

    def _settle(self, ending: Ending, pump: Pump) -> None:
        if ending is Ending.COMPLETE:
            self.state = StreamState.ENDED
        elif ending is Ending.OVERFLOWED:
            self.error = AcquisitionError(
                f"the burst outran the ring after {pump.produced} frames; those have no gap. Set camera.ring_mb "
                "higher, "
                "or take fewer frames."
            )
            self.state = StreamState.LOST
        elif self.state is not StreamState.CHANGING:
            self.state = StreamState.STOPPED

    def _lost(self, pump: Pump) -> None:
        """Name what happened, stop what may still run, and put out the light."""
        self.error = lost(self.camera.label, self._made_before, self._asked, self._stall_why, pump.error)
        abandon(self.core, self.lock, pump, self._light, self.error)

    def _fail(self, pump: Pump, error: Exception) -> None:
        if not isinstance(error, LivescopeError):
            cause = error
            error = AcquisitionError(f"the receiver of frames failed: {type(cause).__name__}: {cause}")
            error.__cause__ = cause
        self.error = error
        abandon(self.core, self.lock, pump, self._light, error)
        self.state = StreamState.FAILED

    def _bring_back(self, pump: Pump) -> bool:
        """Start a lost camera again with growing pauses, if the settings say so; True once it runs."""
        policy = self._settings.when_stalled if self._stall_why else self._settings.when_lost
        attempts = 0
        if policy == "restart" and not self._interlude:
            self.state = StreamState.RESTARTING
            if self._watchdog is not None:
                self._watchdog.look()  # it may be back before the watchdog wakes
            back, attempts = attempts_until_back(
                pump.halt, self._settings.restart_limit_s, lambda attempt: self._try_again(pump, attempt)
            )
            if back:
                return True
        if pump.halt.is_set():
            self.state = StreamState.STOPPED
            return False
        if attempts:
            self.error = AcquisitionError(f"{self.error} It did not come back in {attempts} attempts.")
        self.state = StreamState.LOST
        return False

    def _try_again(self, pump: Pump, attempt: int) -> bool:
        with self.lock:
            if pump.halt.is_set():
                return False
            before = self.error
            assert before is not None
            try:
                self._reopen()
                if self._light is not None:
                    self._light.restore()  # a lamp that was found on has been off since the loss
                self._begin(f"attempt {attempt} to start again; {before}")
            except Exception as error:  # noqa: BLE001 - whatever an unplugged camera raises; tried again
                self.state, self.error, self._pump = StreamState.RESTARTING, before, pump
                before.add_note(f"attempt {attempt}: {error}")
                darken(self._light, before)
                return False
            self.error, self._stall_why = None, ""
        return True

    def _finish_run(self) -> None:
        """The run is over: leave the light as it was found after a good end (it is off after a bad one)."""
        if self._light is not None and self.state in (StreamState.ENDED, StreamState.STOPPED):
            try:
                with self.lock:
                    self._light.restore()
            except Exception as error:  # noqa: BLE001 - whatever a shutter raises: `wait` must not wait for ever
                self.error = AcquisitionError(f"the shutter could not be left as found: {error}. Check the light.")
        self._ended.set()
        if self._watchdog is not None:
            self._watchdog.finish()
        while self._awaiting:
            self._awaiting.pop().set_exception(AcquisitionError("the run ended before the next frame; snap again."))

    def _receive(self, frame: Frame) -> None:
        if self.notes and frame.segment > self.notes[-1].segment:
            reason = "not by livescope: somebody else started the camera again, or set it or the objective otherwise"
            self.notes.append(SegmentNote(frame.segment, reason, frame.wall_time))
        self._on_frame(frame)
        while self._awaiting:  # whoever wants the next one; a frame kept for them here would be memory not used again
            self._awaiting.pop().set_result(frame)

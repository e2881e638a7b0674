"""The live stream: starts, stops and changes a camera while one thread hands on every frame that it makes.

Owns the life of a run: its segments, its end, and what is done when the camera stops by itself. The loop is `pump.py`;
cores are opened in `core.py`. `CMMCorePlus`, `UniMMCore`, `FakeCore` and `ReplayCore` all run here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from livescope.acquire.camera_state import CameraState, Light
from livescope.acquire.changes import Change, Exposure, wait_ready
from livescope.acquire.health import Health, HealthEvent, Pulse, Watchdog
from livescope.acquire.lock import CameraLock
from livescope.acquire.pump import Counters, Ending, Pump
from livescope.acquire.recovery import abandon, attempts_until_back, lost
from livescope.acquire.ring import size_ring
from livescope.acquire.states import ALIVE, SegmentNote, StreamState
from livescope.acquire.stream_core import FiniteSource, StreamCore
from livescope.errors import AcquisitionError, LivescopeError, SettingsError
from livescope.frames import Frame, LossLedger
from livescope.settings import CameraSettings

__all__ = ["FiniteSource", "LiveStream", "SegmentNote", "StreamCore", "StreamState"]


class LiveStream:
    """Streams frames from a core to one receiver; every frame is delivered or counted lost with its cause.

    Parameters
    ----------
    core
        An opened core with its camera chosen. From now on nobody else may pop its frames.
    on_frame
        Called on the acquisition thread with every frame, in order. Must return at once: store, analyse and draw
        elsewhere. If it raises, the stream ends as FAILED.
    ledger
        Counts delivered and lost frames by (segment, camera).
    camera
        Exposure and pixel size that overrule the core's, size of the ring, what to do with a lost camera.
    on_health
        Called on the watchdog's thread when the stream becomes LOST or STALLED, or recovers.
    reopen
        Called before each attempt to start a lost camera again, e.g. to load its configuration anew.

    Notes
    -----
    All calls to the core go through `lock`; anyone else who talks to the core while the stream runs must hold it.
    `start`, `stop`, `snap`, `change`, `burst` and `set_exposure` may block for an exposure and more: call them from a
    control thread, never from a window's, and never from `on_frame`.
    """

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
        self.newest: Frame | None = None
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
        self._arrived = threading.Condition()
        self._ended = threading.Event()
        self._ended.set()
        self._thread: threading.Thread | None = None
        self._watchdog: Watchdog | None = None
        self._light: Light | None = None
        self._ring_set = False
        self.camera = CameraState(core, self.lock, self._settings)
        if self._settings.exposure_ms is not None:
            self.set_exposure(self._settings.exposure_ms)

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

    # ------------------------------------------------------------------ commands

    def start(self, frames: int | None = None) -> None:
        """Begin a run.

        Parameters
        ----------
        frames
            Ask the camera for exactly so many frames; None streams until `stop`, or to the end of a finite source.

        Raises
        ------
        AcquisitionError
            Already running, or the camera refused to start.
        CoreError
            No camera, or a ring larger than the memory.
        """
        with self._control:
            if self.running:
                raise AcquisitionError("the stream is already running; stop it before starting it again.")
            if frames is not None and frames < 1:
                raise SettingsError(f"frames = {frames} is not a number of frames; give 1 or more, or None for no end.")
            self._join()
            self._asked = _frames_to_ask(self.core, frames)
            self._made_before = 0
            self.error = None
            self._stall_why = ""
            with self.lock:
                self._light = Light(self.core)
                self._begin("start")
            self._ended.clear()
            self._watchdog = Watchdog(self._pulse, self._health_changed)
            self._run_thread()
            self._watchdog.start()

    def stop(self) -> None:
        """Stop the camera, deliver what its ring still holds, and wait for the thread. Does nothing if not running.

        Raises
        ------
        AcquisitionError
            The camera refused to stop; the thread has ended all the same.
        """
        with self._control:
            refused = self._halt_pump() if self.running else None
            self._join()
            if refused is not None:
                self.state = StreamState.LOST
                self.error = AcquisitionError(f"the camera refused to stop: {refused}. Close the core.")
                raise self.error from refused

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the run to end by itself; True if it has ended and its health was told."""
        if not self._ended.wait(timeout_s):
            return False
        self._join()
        return True

    def snap(self, timeout_s: float | None = None) -> Frame:
        """Take one picture. While streaming it is the next frame of the stream, otherwise the camera is asked for one.

        A picture taken while idle belongs to no run: its `index` and `segment` are -1 and it is in no account.

        Raises
        ------
        AcquisitionError
            The camera failed, or no frame came within `timeout_s` (default: 2 s and 5 exposures).
        """
        if self.running:
            return self._next_frame(timeout_s if timeout_s is not None else 2.0 + 5e-3 * self.exposure_ms)
        with self._control, self.lock:
            self.camera.read()
            self.camera.refresh_position()
            try:
                self.core.snapImage()
                pixels = self.core.getImage()
            except LivescopeError:
                raise
            except Exception as error:
                raise AcquisitionError(f"camera {self.camera.label!r} could not snap: {error}") from error
        return self.camera.frame(pixels, {}, self.camera.label, index=-1, segment=-1)

    def set_exposure(self, exposure_ms: float) -> None:
        """Set the exposure in milliseconds, also while streaming; see `change`."""
        self.change(Exposure(exposure_ms))

    def change(self, change: Change) -> SegmentNote | None:
        """Change something, live if the device allows it, else by stop, change, restart.

        Returns
        -------
        SegmentNote or None
            The new segment and its reason, None if the stream went on (or was idle).

        Raises
        ------
        SettingsError
            A value out of range; the stream goes on as before.
        AcquisitionError
            The device refused it; the stream goes on as before.
        """
        with self._control:
            if not self.running:
                self._apply(change)
                return None
            if self.state is StreamState.RESTARTING:
                raise AcquisitionError(f"{change.reason}: the camera was lost and is being started again; try later.")
            if not change.needs_restart(self.core):
                try:
                    shape = self._shape()
                    self._apply(change)
                    if self._shape() == shape:
                        return None
                except AcquisitionError:  # many a camera takes while idle what it refuses while streaming
                    pass
            return self._apply_stopped(change)

    def burst(self, frames: int) -> int:
        """Take exactly `frames` frames without a gap, as a segment of their own; a live stream pauses for them.

        Returns
        -------
        int
            Frames delivered: always `frames`.

        Raises
        ------
        AcquisitionError
            The camera was lost, or the ring overflowed: the camera was then stopped, and what was delivered has no gap.
        """
        if frames < 1:
            raise SettingsError(f"burst of {frames} frames: give 1 or more.")
        with self._control:
            live = self.running
            if live and not self._pause():
                return self.burst(frames)  # the run has just ended by itself
            asked, made, self._interlude = self._asked, self._made_before, True
            try:
                ended, delivered = self._run_burst(frames)
            finally:
                self._interlude, self._asked, self._made_before = False, asked, made
                if live:
                    self._resume(f"after a burst of {frames} frames")
            if ended is not StreamState.ENDED:
                error, self.error = self.error, None
                raise error or AcquisitionError(f"the burst {ended.value} after {delivered} of {frames} frames.")
            return delivered

    # ------------------------------------------------------------------ segments

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

    def _pause(self) -> bool:
        """Stop the camera and drain it, for a change; False if the run ended by itself meanwhile."""
        self.state = StreamState.CHANGING
        refused = self._halt_pump()
        if self._thread is not None:
            self._thread.join()
        if refused is not None:
            raise AcquisitionError(f"the camera refused to stop: {refused}. Stop the run, close the core.") from refused
        return self.running

    def _resume(self, reason: str) -> SegmentNote:
        try:
            with self.lock:
                self._begin(reason)
        except BaseException as error:
            if isinstance(error, LivescopeError):
                self.state, self.error = StreamState.LOST, error
            self._finish_run()
            raise
        self._run_thread()
        return self.notes[-1]

    def _apply_stopped(self, change: Change) -> SegmentNote | None:
        if not self._pause():
            self._apply(change)
            return None
        try:
            self._apply(change)
        except LivescopeError as error:
            self._resume(f"{change.reason} was refused: {error}")
            raise
        return self._resume(change.reason)

    def _apply(self, change: Change) -> None:
        """Apply a change and read back what it did."""
        with self.lock:
            try:
                change.apply(self.core)
            except LivescopeError:
                raise
            except Exception as error:
                raise AcquisitionError(f"{change.reason} was refused by the device: {error}") from error
            if self._pump is not None:
                self._pump.forget_clock()
        wait_ready(self.core, self.lock, change.devices(self.core))
        if change.alters_optics(self.core):
            self.camera.objective_changed()
        change.note(self.camera)
        self.camera.read()
        self.camera.refresh_position()

    def _shape(self) -> tuple[int, int, int, int]:
        with self.lock:
            core = self.core
            return core.getImageHeight(), core.getImageWidth(), core.getBytesPerPixel(), core.getImageBitDepth()

    def _run_burst(self, frames: int) -> tuple[StreamState, int]:
        self._asked, self._made_before = frames, 0
        before = self._counters.index
        with self.lock:
            self._begin(f"burst of {frames} frames", burst=True)
        self._run_thread()
        if self._thread is not None:
            self._thread.join()
        return self.state, self._counters.index - before

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
            try:
                self._reopen()
                self._begin(f"attempt {attempt} to start again; {before}")
            except Exception as error:  # noqa: BLE001 - whatever an unplugged camera raises; tried again
                self.state, self.error, self._pump = StreamState.RESTARTING, before, pump
                if before is not None:
                    before.add_note(f"attempt {attempt}: {error}")
                return False
            self.error, self._stall_why = None, ""
        return True

    def _finish_run(self) -> None:
        """The run is over: leave the light as it was found after a good end (it is off after a bad one)."""
        if self._light is not None and self.state in (StreamState.ENDED, StreamState.STOPPED):
            try:
                with self.lock:
                    self._light.restore()
            except RuntimeError as error:
                self.error = AcquisitionError(f"the shutter could not be left as found: {error}. Check the light.")
        self._ended.set()
        if self._watchdog is not None:
            self._watchdog.finish()
        with self._arrived:
            self._arrived.notify_all()

    def _receive(self, frame: Frame) -> None:
        self._on_frame(frame)
        with self._arrived:
            self.newest = frame
            self._arrived.notify_all()

    # ------------------------------------------------------------------ helpers

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
                self._stall_why = f"it stalled: {event.message}"
                self.core.stopSequenceAcquisition()

    def _next_frame(self, timeout_s: float) -> Frame:
        with self._arrived:
            before = self.newest
            self._arrived.wait_for(lambda: self.newest is not before or not self.running, timeout_s)
            if self.newest is None or self.newest is before:
                raise AcquisitionError(f"no frame came from camera {self.camera.label!r} within {timeout_s:.1f} s.")
            return self.newest


def _frames_to_ask(core: object, frames: int | None) -> int | None:
    """The number of frames to ask for: what the user wants, or what a finite source still has."""
    left = core.remaining_frames() if isinstance(core, FiniteSource) else None
    if left == 0:
        raise AcquisitionError("the source is at its end; nothing is left to play.")
    return min((n for n in (frames, left) if n is not None), default=None)

"""The live stream: starts, stops and changes a camera while one thread hands on every frame that it makes.

Owns the commands: start, stop, snap, change, burst. The thread behind them is `segments.py`; cores are opened in
`core.py`. `CMMCorePlus`, `UniMMCore`, `FakeCore` and `ReplayCore` all run here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager

from livescope.acquire.aside import Aside
from livescope.acquire.camera_state import Light
from livescope.acquire.changes import Change, Exposure, wait_ready
from livescope.acquire.health import HealthEvent, Watchdog
from livescope.acquire.recovery import explained
from livescope.acquire.segments import Segments
from livescope.acquire.states import SegmentNote, StreamState
from livescope.acquire.stream_core import FiniteSource, StreamCore
from livescope.errors import AcquisitionError, LivescopeError, SettingsError
from livescope.frames import Frame, LossLedger
from livescope.settings import CameraSettings

SNAP_PATIENCE_S = 2.0
"""A snap waits so long for the next frame of a running stream, and five exposures."""

__all__ = ["FiniteSource", "LiveStream", "SegmentNote", "StreamCore", "StreamState"]


class LiveStream(Segments):
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
        super().__init__(core, on_frame, ledger, camera, on_health=on_health, reopen=reopen)
        if self._settings.exposure_ms is not None:
            self.set_exposure(self._settings.exposure_ms)

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
        with self._control, explained("start"):
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
                error = AcquisitionError(f"the camera refused to stop: {refused}. Close the core.")
                self._give_up(error)
                raise error from refused

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
            patience_s = SNAP_PATIENCE_S + 5e-3 * self.exposure_ms
            return self._next_frame(patience_s if timeout_s is None else timeout_s)
        with self._control, self.lock, explained(f"snap of camera {self.camera.label!r}"):
            self.camera.read()
            self.camera.refresh_position()
            self.core.snapImage()
            pixels = self.core.getImage()
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
        with self._control, explained(change.reason):
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
        what = f"burst of {frames} frames"
        with self._control, explained(what):
            return self._take_apart(frames, what, contextlib.nullcontext())

    def aside(self, aside: Aside) -> Future[None]:
        """Take one frame under other conditions into the run, and go back; a live stream pauses for it.

        Returns
        -------
        Future
            Done, here; a planned run takes the frame when no event is in work.

        Raises
        ------
        AcquisitionError
            A device refused; the stream goes on as before.
        """
        with self._control, explained(aside.reason):
            self._take_apart(1, aside.reason, aside.on(self.core, self.camera, self._apply))
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _take_apart(self, frames: int, reason: str, conditions: AbstractContextManager[None]) -> int:
        """Take a burst as a segment of its own, under conditions that are in force while the camera stands still."""
        live = self.running
        if live and not self._pause():
            return self._take_apart(frames, reason, conditions)  # the run has just ended by itself
        asked, made, self._interlude = self._asked, self._made_before, True
        try:
            with conditions:
                ended, delivered = self._run_burst(frames, reason)
        finally:
            self._interlude, self._asked, self._made_before = False, asked, made
            if live:
                self._resume(f"after {reason}")
        if ended is not StreamState.ENDED:
            error, self.error = self.error, None
            raise error or AcquisitionError(f"the burst {ended.value} after {delivered} of {frames} frames.")
        return delivered

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that a plan names; a live stream has none."""
        return ()

    # ------------------------------------------------------------------ segments

    def _pause(self) -> bool:
        """Stop the camera and drain it, for a change; False if the run ended by itself meanwhile."""
        self.state = StreamState.CHANGING
        refused = self._halt_pump()
        if self._thread is not None:
            self._thread.join()
        if refused is not None:
            error = AcquisitionError(f"the camera refused to stop: {refused}. Close the core.")
            self._give_up(error)
            raise error from refused
        return self.running

    def _resume(self, reason: str) -> SegmentNote:
        try:
            with self.lock, explained(reason):
                self._begin(reason)
        except LivescopeError as error:
            self._give_up(error)
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
        with explained(change.reason):
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

    def _run_burst(self, frames: int, reason: str) -> tuple[StreamState, int]:
        self._asked, self._made_before = frames, 0
        before = self._counters.index
        with self.lock:
            self._begin(reason, burst=True)
        self._run_thread()
        if self._thread is not None:
            self._thread.join()
        return self.state, self._counters.index - before

    # ------------------------------------------------------------------ helpers

    def _next_frame(self, timeout_s: float) -> Frame:
        coming: Future[Frame] = Future()
        self._awaiting.append(coming)
        try:
            return coming.result(timeout_s if self.running else 0)  # asked after it was queued: an end is not missed
        except TimeoutError:
            late = f"no frame came from camera {self.camera.label!r} within {timeout_s:.1f} s."
            raise AcquisitionError(late) from None


def _frames_to_ask(core: object, frames: int | None) -> int | None:
    """The number of frames to ask for: what the user wants, or what a finite source still has."""
    left = core.remaining_frames() if isinstance(core, FiniteSource) else None
    if left == 0:
        raise AcquisitionError("the source is at its end; nothing is left to play.")
    return min((n for n in (frames, left) if n is not None), default=None)

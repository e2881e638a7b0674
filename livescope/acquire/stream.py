"""The live loop: one thread that takes every frame out of a core's ring and hands it on.

Owns the acquisition thread, the numbering of frames and segments, and the account of what was lost on the way. Does
not open cores (`core.py`), judge health (`health.py`), or keep frames. `CMMCorePlus`, `UniMMCore`, `FakeCore` and
`ReplayCore` all run in this loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import numpy as np
import psutil

from livescope.acquire.account import CameraAccount
from livescope.acquire.health import HealthEvent, Pulse, Watchdog
from livescope.acquire.lock import CameraLock
from livescope.acquire.ring import ring_megabytes
from livescope.acquire.stream_core import FiniteSource, StreamCore
from livescope.errors import AcquisitionError, CoreError, FrameError, LivescopeError, SettingsError
from livescope.frames import PIXEL_DTYPES, Frame, LossCause, LossLedger, Pixels
from livescope.settings import CameraSettings

__all__ = ["FiniteSource", "LiveStream", "StreamCore", "StreamState"]

EMPTY_POLL_S = 0.001
POSITION_POLL_S = 0.25
POP_ATTEMPTS = 3


class StreamState(StrEnum):
    """Where a stream is in its life."""

    IDLE = "idle"
    RUNNING = "running"
    ENDED = "ended"
    """All frames that were asked for, or that the source has, were made."""
    STOPPED = "stopped"
    """`LiveStream.stop` was called."""
    LOST = "lost"
    """The camera stopped by itself too early."""
    FAILED = "failed"
    """A call to the core, or the receiver of frames, raised; see `LiveStream.error`."""


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
        Exposure and pixel size that overrule the core's, size of the ring.
    on_health
        Called on the watchdog's thread when the stream becomes LOST or STALLED, or recovers.

    Notes
    -----
    All calls to the core go through `lock`; anyone else who talks to the core while the stream runs must hold it.
    `stop`, `snap` and `set_exposure` block for about an exposure: call them from a control thread, never from a
    window's.
    """

    def __init__(
        self,
        core: StreamCore,
        on_frame: Callable[[Frame], None],
        ledger: LossLedger,
        camera: CameraSettings | None = None,
        *,
        on_health: Callable[[HealthEvent], None] | None = None,
    ) -> None:
        self.core = core
        self.ledger = ledger
        self.lock = CameraLock()
        self.state = StreamState.IDLE
        self.error: LivescopeError | None = None
        self.segment = -1
        self.newest: Frame | None = None
        self.position: str | None = None
        self.channel: str | None = None
        self._camera = camera or CameraSettings()
        self._on_frame = on_frame
        self._on_health = on_health or (lambda event: None)
        self._accounts: dict[str, CameraAccount] = {}
        self._index = 0
        self._asked: int | None = None
        self._halt = threading.Event()
        self._arrived = threading.Condition()
        self._thread: threading.Thread | None = None
        self._watchdog: Watchdog | None = None
        self._last_sign_s = 0.0
        self._drain_left: int | None = None
        self._x_um: float | None = None
        self._y_um: float | None = None
        self._z_um: float | None = None
        self.position_error = ""
        self._position_read_s = -1.0
        self._ring_set = False
        self._read_camera_state()
        if self._camera.exposure_ms is not None:
            self.set_exposure(self._camera.exposure_ms)

    # ------------------------------------------------------------------ commands

    def start(self, frames: int | None = None) -> None:
        """Begin a segment.

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
        if self.running:
            raise AcquisitionError("the stream is already running; stop it before starting it again.")
        if frames is not None and frames < 1:
            raise SettingsError(
                f"frames = {frames} is not a number of frames; give 1 or more, or None to run until stopped."
            )
        self._join()
        self._asked = _frames_to_ask(self.core, frames)
        with self.lock:
            self._read_camera_state()
            self._size_ring()
            self.segment += 1
            self._accounts = {}
            self._drain_left = None
            self._halt.clear()
            self.error = None
            self.refresh_position()
            self._last_sign_s = time.perf_counter()
            self._start_camera()
            self.state = StreamState.RUNNING
        self._thread = threading.Thread(target=self._run, name="livescope-acquisition", daemon=True)
        self._watchdog = Watchdog(self._pulse, self._on_health)
        self._thread.start()
        self._watchdog.start()

    def stop(self) -> None:
        """Stop the camera, deliver what its ring still holds, and wait for the thread. Does nothing if not running.

        Raises
        ------
        AcquisitionError
            The camera refused to stop; the thread has ended all the same.
        """
        if self._thread is None:
            return
        refused: Exception | None = None
        with self.lock:
            if self.running:
                try:
                    self.core.stopSequenceAcquisition()
                except Exception as error:  # noqa: BLE001 - any adapter's failure; raised below
                    refused = error
                    self._drain_left = self.core.getRemainingImageCount()  # else a camera that runs on never ends it
            self._halt.set()  # in the lock, so that the loop cannot take the stopped camera for a lost one
        self._join()
        if refused is not None:
            self.state = StreamState.FAILED
            self.error = AcquisitionError(f"the camera refused stopSequenceAcquisition: {refused}. Close the core.")
            raise self.error from refused

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the stream to end by itself; True if it has ended and its health was told."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self.running:
            return False
        self._join()
        return True

    def snap(self, timeout_s: float | None = None) -> Frame:
        """Take one picture. While streaming it is the next frame of the stream; otherwise the camera is asked for one.

        A picture taken while idle belongs to no run: its `index` and `segment` are -1 and it is in no account.

        Raises
        ------
        AcquisitionError
            The camera failed, or no frame came within `timeout_s` (default: 2 s and 5 exposures).
        """
        if self.running:
            return self._next_frame(timeout_s if timeout_s is not None else 2.0 + 5e-3 * self.exposure_ms)
        with self.lock:
            self._read_camera_state()
            self.refresh_position()
            try:
                self.core.snapImage()
                pixels = self.core.getImage()
            except Exception as error:
                raise AcquisitionError(f"camera {self._label!r} could not snap: {error}") from error
        return self._frame(pixels, {}, self._label, index=-1, segment=-1, lost=0, elapsed_ms=None)

    def set_exposure(self, exposure_ms: float) -> None:
        """Set the exposure in milliseconds, also while streaming.

        Raises
        ------
        SettingsError
            Not a positive number.
        AcquisitionError
            The camera refused it.
        """
        if not 0 <= exposure_ms <= 600_000:
            raise SettingsError(f"exposure {exposure_ms} ms is out of range; allowed: 0 to 600000 ms.")
        with self.lock:
            try:
                self.core.setExposure(float(exposure_ms))
                self.exposure_ms = float(self.core.getExposure())
            except Exception as error:
                raise AcquisitionError(
                    f"camera {self._label!r} refused an exposure of {exposure_ms} ms: {error}"
                ) from error
            for account in self._accounts.values():
                account.forget_clock()

    def refresh_position(self) -> None:
        """Read the stage's place, which later frames carry. Call it after a move; the loop does so four times a second.

        A stage that does not answer ends no acquisition: frames then carry no place, and `position_error` says why.
        """
        self._position_read_s = time.perf_counter()
        try:
            with self.lock:
                if self.core.getXYStageDevice():
                    self._x_um, self._y_um = map(float, self.core.getXYPosition())
                if self.core.getFocusDevice():
                    self._z_um = float(self.core.getPosition())
            self.position_error = ""
        except RuntimeError as error:
            self._x_um = self._y_um = self._z_um = None
            self.position_error = f"the stage did not say where it is: {error}"

    @property
    def running(self) -> bool:
        """True while the acquisition thread is at work."""
        return self.state is StreamState.RUNNING

    # ------------------------------------------------------------------ the acquisition thread

    def _run(self) -> None:
        try:
            self.state = self._pump()
        except LivescopeError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - the thread's border: kept in `error`, reported by the watchdog
            self._fail(
                AcquisitionError(f"acquisition from camera {self._label!r} failed: {type(error).__name__}: {error}"),
                error,
            )
        finally:
            with self._arrived:
                self._arrived.notify_all()
        if self._watchdog is not None:
            self._watchdog.finish()

    def _pump(self) -> StreamState:
        failures = 0
        while True:
            halted = self._halt.is_set()  # asked before the ring is: an empty ring is then the end
            try:
                popped, running = self._take()
                failures = 0
            except (IndexError, RuntimeError):  # an overflow may clear the ring between count and pop
                popped, running = None, True
                failures += 1
                if failures >= POP_ATTEMPTS:
                    raise
            if popped is not None:
                self._deliver(*popped)
            elif not running or (halted and not failures):
                return self._how_it_ended()
            if self._drain_left is not None:
                if self._drain_left <= 0:
                    return StreamState.STOPPED
                self._drain_left -= 1
            if popped is None or self.lock.contended:
                time.sleep(EMPTY_POLL_S)
            if time.perf_counter() - self._position_read_s > POSITION_POLL_S:
                self.refresh_position()

    def _take(self) -> tuple[tuple[Any, Mapping[str, Any]] | None, bool]:
        """The oldest frame, or None, and whether the camera still runs."""
        with self.lock:
            running = True
            if not self.core.getRemainingImageCount():
                running = self.core.isSequenceRunning()
                if not self.core.getRemainingImageCount():  # asked again: the last frame may have come in between
                    return None, running
            pixels, metadata = self.core.popNextImageAndMD()
            return (pixels, metadata), running

    def _deliver(self, pixels: Any, metadata: Mapping[str, Any]) -> None:
        tags = dict(metadata)
        camera = str(tags.get("Camera") or self._label)
        number = _number(tags.get("ImageNumber"))
        elapsed_ms = _real(tags.get("ElapsedTime-ms"))
        account = self._accounts.setdefault(camera, CameraAccount())
        gap = account.see(number, elapsed_ms)
        if gap.restarted:
            self.segment += 1
        if gap.core:
            self.ledger.lose(LossCause.CORE, self.segment, camera, gap.core)
        if gap.camera:
            self.ledger.lose(LossCause.CAMERA, self.segment, camera, gap.camera)
        try:
            frame = self._frame(
                pixels, tags, camera, index=self._index, segment=self.segment, lost=gap.core, elapsed_ms=elapsed_ms
            )
        except FrameError:
            self.ledger.lose(LossCause.CORE, self.segment, camera)
            raise
        self._index += 1
        self._last_sign_s = frame.time_s
        self.ledger.deliver(self.segment, camera)
        self._on_frame(frame)
        with self._arrived:
            self.newest = frame
            self._arrived.notify_all()

    def _frame(
        self,
        pixels: Any,
        tags: Mapping[str, Any],
        camera: str,
        *,
        index: int,
        segment: int,
        lost: int,
        elapsed_ms: float | None,
    ) -> Frame:
        return Frame(
            pixels=_grey(pixels),
            index=index,
            segment=segment,
            camera=camera,
            time_s=time.perf_counter(),
            wall_time=time.time(),
            bit_depth=self.bit_depth,
            lost_before=lost,
            elapsed_ms=elapsed_ms,
            pixel_um=self.pixel_um,
            position=self.position,
            x_um=self._x_um,
            y_um=self._y_um,
            z_um=self._z_um,
            channel=self.channel,
            exposure_ms=self.exposure_ms,
            metadata=tags,
        )

    def _how_it_ended(self) -> StreamState:
        made = {label: account.produced for label, account in self._accounts.items()}
        if self._asked is not None and made and min(made.values()) >= self._asked:
            return StreamState.ENDED
        if self._halt.is_set():
            return StreamState.STOPPED
        asked = "" if self._asked is None else f" of {self._asked}"
        self.error = AcquisitionError(
            f"camera {self._label!r} was lost: it stopped by itself after {max(made.values(), default=0)}{asked} "
            "frames. "
            "Check its cable and power; what was recorded is kept."
        )
        return StreamState.LOST

    def _fail(self, error: LivescopeError, cause: BaseException | None = None) -> None:
        """Keep the error and leave no camera running behind a dead loop."""
        error.__cause__ = cause
        self.error = error
        try:
            with self.lock:
                self.core.stopSequenceAcquisition()
                self._count_what_is_left()
        except Exception as second:  # noqa: BLE001 - the first failure is the one to report; this one is added to it
            error.add_note(f"and the core did not stop cleanly: {second}")
        self.state = StreamState.FAILED

    def _count_what_is_left(self) -> None:
        """Frames that nobody will get any more are lost, not forgotten."""
        while self.core.getRemainingImageCount():
            _, metadata = self.core.popNextImageAndMD()
            camera = str(metadata.get("Camera", self._label))
            gap = self._accounts.setdefault(camera, CameraAccount()).see(
                _number(metadata.get("ImageNumber", None)), None
            )
            self.ledger.lose(LossCause.CORE, self.segment, camera, gap.core + 1)

    # ------------------------------------------------------------------ helpers

    def _start_camera(self) -> None:
        try:
            if self._asked is None:
                self.core.startContinuousSequenceAcquisition(0)
            else:
                self.core.startSequenceAcquisition(self._asked, 0, False)
        except Exception as error:
            # a listener that raises makes start raise while the camera is already running
            failure = AcquisitionError(f"camera {self._label!r} refused to start: {error}")
            self._fail(failure, error)
            raise failure from error

    def _join(self) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        if self._watchdog is not None:
            self._watchdog.close()

    def _pulse(self) -> Pulse:
        lost = self.state in (StreamState.LOST, StreamState.FAILED)
        return Pulse(self.running, lost, self._last_sign_s, self.exposure_ms, str(self.error or ""))

    def _next_frame(self, timeout_s: float) -> Frame:
        with self._arrived:
            before = self.newest
            self._arrived.wait_for(lambda: self.newest is not before or not self.running, timeout_s)
            if self.newest is None or self.newest is before:
                raise AcquisitionError(f"no frame came from camera {self._label!r} within {timeout_s:.1f} s.")
            return self.newest

    def _read_camera_state(self) -> None:
        """What only changes between segments, read once so that the loop need not ask."""
        with self.lock:
            self._label = self.core.getCameraDevice()
            if not self._label:
                raise CoreError("the core has no camera; add a Camera device and Core,Camera,LABEL to the cfg.")
            self.exposure_ms = float(self.core.getExposure())
            self.bit_depth = int(self.core.getImageBitDepth())
            self.pixel_um = self._camera.pixel_um or float(self.core.getPixelSizeUm()) or None

    def _size_ring(self) -> None:
        """Give the ring its size, once: a resize while streaming crashed the process in 1 of 4 runs."""
        if self._ring_set:
            return
        frame_bytes = self.core.getImageWidth() * self.core.getImageHeight() * self.core.getBytesPerPixel()
        megabytes = ring_megabytes(
            frame_bytes, self.exposure_ms, self._camera.ring_mb, psutil.virtual_memory().available
        )
        if megabytes > self.core.getCircularBufferMemoryFootprint() or self._camera.ring_mb is not None:
            try:
                self.core.setCircularBufferMemoryFootprint(megabytes)
            except Exception as error:
                raise CoreError(
                    f"the core refused a ring of {megabytes} MB: {error}. Set camera.ring_mb lower."
                ) from error
        self._ring_set = True


def _frames_to_ask(core: object, frames: int | None) -> int | None:
    """The number of frames to ask for: what the user wants, or what a finite source still has."""
    left = core.remaining_frames() if isinstance(core, FiniteSource) else None
    if left == 0:
        raise AcquisitionError("the source is at its end; nothing is left to play.")
    return min(n for n in (frames, left) if n is not None) if (frames or left) is not None else None


def _grey(pixels: Any) -> Pixels:
    """The frame as a read-only, C-contiguous (H, W) array."""
    if pixels.ndim != 2:
        raise FrameError(
            f"the camera delivers colour frames of shape {pixels.shape}; livescope takes grey frames (H, W). "
            "Set the camera's PixelType to 8bit or 16bit."
        )
    if pixels.dtype.name not in PIXEL_DTYPES:
        raise FrameError(
            f"the camera delivers {pixels.dtype.name} pixels; livescope takes {', '.join(PIXEL_DTYPES)}. "
            "Set the camera's PixelType to 8bit or 16bit."
        )
    grey: Pixels = np.ascontiguousarray(pixels)
    grey.flags.writeable = False
    return grey


def _number(tag: object) -> int | None:
    return None if tag is None else int(str(tag))


def _real(tag: object) -> float | None:
    return None if tag is None else float(str(tag))

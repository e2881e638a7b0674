"""A core for tests: scripted frames, losses and failures, without Micro-Manager and without hardware.

Owns `FakeCore` and the steps of its script. It behaves as MMCore was measured to behave, also where that is
unpleasant: in continuous mode an overflow silently clears the whole ring, an empty pop raises `IndexError`, a camera
that dies says nothing.

>>> core = FakeCore(shape=(4, 6), rate_fps=None)
>>> core.startSequenceAcquisition(2, 0, True)
>>> core.make(2)
>>> pixels, metadata = core.popNextImageAndMD()
>>> pixels.shape, metadata["ImageNumber"], core.getRemainingImageCount(), core.isSequenceRunning()
((4, 6), '0', 1, False)
"""

# ruff: noqa: N802 - MMCore's names
from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from livescope.simulate.fake_devices import FakeDevices

__all__ = ["ClearRing", "Die", "FakeCore", "Freeze", "LoseInCamera"]


@dataclass(slots=True, frozen=True)
class ClearRing:
    """Just before frame `at` enters, everything in the ring is lost, as after an overflow."""

    at: int


@dataclass(slots=True, frozen=True)
class Die:
    """The camera stops by itself instead of making frame `at`; no event tells of it."""

    at: int


@dataclass(slots=True, frozen=True)
class Freeze:
    """The camera says that it runs, but makes nothing for `seconds` before frame `at`."""

    at: int
    seconds: float = float("inf")


@dataclass(slots=True, frozen=True)
class LoseInCamera:
    """`count` frames before frame `at` never leave the camera: its clock jumps, its frame numbers do not."""

    at: int
    count: int = 1


class FakeCore(FakeDevices):
    """Plays MMCore for `livescope.acquire.LiveStream` and for users' own tests.

    Parameters
    ----------
    shape
        (height, width) in pixels.
    dtype
        ``"uint8"`` or ``"uint16"``.
    bit_depth
        Bits in use; None for all of the dtype.
    rate_fps
        Frames a second, made by a thread as a camera does. None makes no frame but by `make`: then nothing depends on
        time.
    ring_frames
        Frames the ring holds.
    script
        What happens at which frame of a sequence (frames count from 0 at every start).
    images
        `images(k)` gives the pixels of frame k of the run; by default flat frames whose first pixel is k.
    cameras
        Labels; each makes a frame a tick into the one ring, as Micro-Manager's Multi Camera does.
    stop_seconds
        Time that `stopSequenceAcquisition` takes.

    Attributes
    ----------
    produced
        Frames made by the camera since the core was created, lost ones included (those of `LoseInCamera` are not:
        nobody saw them).
    calls
        Names of the commands given, in order: what starts, stops, sets, snaps or clears.
    fail
        ``fail["setExposure"] = RuntimeError("no")`` makes every later call of that method raise it, whichever it is;
        delete the key to mend it.
    properties, position_um
        Device properties by (device, name), and where the stage is: x, y, z.
    """

    def __init__(
        self,
        shape: tuple[int, int] = (64, 64),
        dtype: str = "uint16",
        *,
        bit_depth: int | None = None,
        rate_fps: float | None = 500.0,
        ring_frames: int = 64,
        script: Sequence[ClearRing | Die | Freeze | LoseInCamera] = (),
        images: Callable[[int], NDArray[Any]] | None = None,
        cameras: Sequence[str] = ("Camera",),
        pixel_um: float = 0.5,
        stop_seconds: float = 0.0,
    ) -> None:
        super().__init__()
        self.produced = 0
        self.script = tuple(script)
        self.stop_seconds = stop_seconds
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._bit_depth = bit_depth or 8 * self._dtype.itemsize
        self._rate_fps = rate_fps
        self._ring_frames = ring_frames
        self._images = images
        self._cameras = tuple(cameras)
        self._pixel_um = pixel_um
        self._exposure_ms = 10.0
        self._ring: deque[tuple[NDArray[Any], dict[str, str]]] = deque()
        self._ring_mb = 16
        self._roi: tuple[int, int, int, int] | None = None
        self._current = self._cameras[0] if len(self._cameras) == 1 else "Multi Camera"
        self._mutex = threading.RLock()
        self._running = False
        self._overflowed = False
        self._stop_on_overflow = False
        self._asked: int | None = None
        self._made = 0
        self._clock_frames = 0
        self._done: set[int] = set()
        self._thread: threading.Thread | None = None
        self._halt = threading.Event()

    # ------------------------------------------------------------------ sequences

    def startContinuousSequenceAcquisition(self, interval_ms: float = 0.0, /) -> None:
        """Stream until stopped; an overflow clears the ring silently."""
        self._start(None, stop_on_overflow=False)

    def startSequenceAcquisition(self, frames: int, interval_ms: float, stop_on_overflow: bool, /) -> None:
        """Stream exactly `frames` frames of each camera."""
        self._start(frames, stop_on_overflow=stop_on_overflow)

    def stopSequenceAcquisition(self) -> None:
        """Stop after `stop_seconds`. Frames in the ring stay."""
        time.sleep(self.stop_seconds)
        self._end_thread()
        self._running = False
        if self._auto_shutter:
            self._shutter_open = False

    def isSequenceRunning(self) -> bool:
        """True while the camera makes frames, or says so."""
        return self._running

    def getRemainingImageCount(self) -> int:
        """Frames in the ring."""
        return len(self._ring)

    def popNextImageAndMD(self) -> tuple[NDArray[Any], Mapping[str, str]]:
        """Take the oldest frame and its tags; `IndexError` if there is none, as pymmcore does."""
        with self._mutex:
            if not self._ring:
                raise IndexError("Circular buffer is empty.")
            return self._ring.popleft()

    def make(self, frames: int = 1) -> None:
        """Make frames now, on the caller's thread. Frames of a camera that does not run, froze or died are not made."""
        for _ in range(frames):
            with self._mutex:
                if self._running:
                    self._tick()

    def clearCircularBuffer(self) -> None:
        """Empty the ring and begin the numbering again, as MMCore does when told to."""
        with self._mutex:
            self._ring.clear()
            self._made = 0

    def overflow(self) -> None:
        """Lose everything in the ring now; the numbering goes on, as after an overflow of a continuous sequence."""
        with self._mutex:
            self._ring.clear()

    def isBufferOverflowed(self) -> bool:
        """True only after an overflow of a sequence that stops on it; never in continuous mode, as measured."""
        return self._overflowed

    # ------------------------------------------------------------------ snaps, camera, stage

    def snapImage(self) -> None:
        """Take one picture, which takes the exposure."""
        if self._running:
            raise RuntimeError("Cannot snap while a sequence is running.")
        time.sleep(self._exposure_ms / 1000.0)

    def getImage(self) -> NDArray[Any]:
        """Pixels of a snap."""
        return self._pixels(self.produced)

    def getCameraDevice(self) -> str:
        """Label of the camera; of several, ``"Multi Camera"``."""
        return self._current

    def setCameraDevice(self, label: str, /) -> None:
        """Choose a camera."""
        self._current = label

    def getNumberOfCameraChannels(self) -> int:
        """Cameras behind the chosen one."""
        return len(self._channels())

    def getCameraChannelName(self, channel: int, /) -> str:
        """Label of one of the cameras behind the chosen one."""
        return self._channels()[channel]

    def getImageWidth(self) -> int:
        """Columns, with ROI and binning."""
        return self._size()[1]

    def getImageHeight(self) -> int:
        """Rows, with ROI and binning."""
        return self._size()[0]

    def getBytesPerPixel(self) -> int:
        """1 or 2."""
        return self._dtype.itemsize

    def getImageBitDepth(self) -> int:
        """Bits in use."""
        return self._bit_depth

    def getPixelSizeUm(self) -> float:
        """Micrometres a pixel by objective and binning, 0.0 where unknown: the fake knows objectives 10x and 20x."""
        zoom = {"10x": 1.0, "20x": 2.0}.get(self.properties["Objective", "Label"])
        return 0.0 if zoom is None else self._pixel_um * int(self.properties["Camera", "Binning"]) / zoom

    def getExposure(self) -> float:
        """Exposure, milliseconds."""
        return self._exposure_ms

    def setExposure(self, exposure_ms: float, /) -> None:
        """Set the exposure, milliseconds; also while streaming."""
        self._exposure_ms = exposure_ms

    def getLoadedDevices(self) -> tuple[str, ...]:
        """Labels of all devices."""
        return (*self._cameras, "Camera", "Objective", "XY", "Z", "Shutter", "Core")

    def setProperty(self, label: str, name: str, value: str, /) -> None:
        """Set a property. Binning is refused while streaming, as the demo camera does."""
        if name == "Binning" and (self._running or str(value) not in ("1", "2", "4")):
            raise RuntimeError(f"Cannot set property {name!r} to {value!r}")
        self.properties[label, name] = str(value)

    def getROI(self) -> list[int]:
        """x, y, width, height in pixels."""
        return list(self._roi or (0, 0, self._size()[1], self._size()[0]))

    def setROI(self, x: int, y: int, width: int, height: int, /) -> None:
        """Set the ROI. While streaming it is accepted and the stream dies without a word, as measured."""
        with self._mutex:
            self._roi = (x, y, width, height)
            self._running = False

    def clearROI(self) -> None:
        """Back to the whole sensor; kills a stream as `setROI` does."""
        with self._mutex:
            self._roi = None
            self._running = False

    def getCircularBufferMemoryFootprint(self) -> int:
        """Megabytes of the ring, as last set. The fake's ring holds `ring_frames` whatever it is set to."""
        return self._ring_mb

    def setCircularBufferMemoryFootprint(self, megabytes: int, /) -> None:
        """Remember the size; refused while streaming, where it crashed real cores."""
        if self._running:
            raise RuntimeError("The ring was resized while streaming.")
        self._ring_mb = megabytes

    def close(self) -> None:
        """End the camera's thread. May be called twice."""
        self._end_thread()
        self._running = False

    # ------------------------------------------------------------------ inside

    def _start(self, frames: int | None, *, stop_on_overflow: bool) -> None:
        if self._running:
            raise RuntimeError("A sequence is running already.")
        self._end_thread()
        self._ring.clear()
        self._asked = frames
        self._made = self._clock_frames = 0
        self._done = set()
        self._stop_on_overflow = stop_on_overflow
        self._overflowed = False
        self._running = True
        if self._auto_shutter:
            self._shutter_open = True
        if self._rate_fps is not None:
            self._halt.clear()
            self._thread = threading.Thread(target=self._camera_thread, name="fake-camera", daemon=True)
            self._thread.start()

    def _end_thread(self) -> None:
        self._halt.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _camera_thread(self) -> None:
        period_s = 1.0 / (self._rate_fps or 1.0)
        due_s = time.perf_counter()
        while not self._halt.is_set():
            with self._mutex:
                freeze_s = self._tick()
                if not self._running:
                    return
            due_s = max(due_s + period_s, time.perf_counter() - 10 * period_s) + freeze_s
            self._halt.wait(min(max(0.0, due_s - time.perf_counter()), threading.TIMEOUT_MAX))

    def _tick(self) -> float:
        """Make one frame of each camera, or let the script have its way; return the seconds that the camera freezes."""
        for k, step in enumerate(self.script):
            if step.at != self._made or k in self._done:
                continue
            if isinstance(step, Freeze) and self._rate_fps is None:
                return 0.0  # frozen for good: nothing depends on time here
            self._done.add(k)
            if isinstance(step, Die):
                self._running = False
                return 0.0
            if isinstance(step, Freeze):
                return step.seconds
            if isinstance(step, ClearRing):
                self._ring.clear()
            else:
                self._clock_frames += step.count
        for camera in self._channels():
            if not self._insert(camera):
                return 0.0
        self._made += 1
        self._clock_frames += 1
        if self._asked is not None and self._made >= self._asked:
            self._running = False
        return 0.0

    def _channels(self) -> tuple[str, ...]:
        return self._cameras if self._current == "Multi Camera" else (self._current,)

    def _insert(self, camera: str) -> bool:
        if len(self._ring) >= self._ring_frames:
            if self._stop_on_overflow:
                self._overflowed = True
                self._running = False
                return False
            self._ring.clear()
        pixels = self._pixels(self.produced)
        period_ms = 1000.0 / (self._rate_fps or 100.0)
        tags = {
            "Camera": camera,
            "ImageNumber": str(self._made),
            "ElapsedTime-ms": f"{self._clock_frames * period_ms:.3f}",
            "Height": str(pixels.shape[0]),
            "Width": str(pixels.shape[1]),
        }
        self._ring.append((pixels, tags))
        self.produced += 1
        return True

    def _size(self) -> tuple[int, int]:
        """(height, width) of a frame."""
        if self._roi is not None:
            return self._roi[3], self._roi[2]
        binning = int(self.properties["Camera", "Binning"])
        return self._shape[0] // binning, self._shape[1] // binning

    def _pixels(self, k: int) -> NDArray[Any]:
        if self._images is not None:
            return np.array(self._images(k))
        pixels = np.full(self._size(), 100, self._dtype)
        pixels.flat[0] = k % (np.iinfo(self._dtype).max + 1)
        return pixels

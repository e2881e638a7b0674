"""Recorded frames played through the live loop, as if a camera made them.

Owns `ReplayCore`: a thread that reads files at their own or a given rate into a short ring. A full ring makes it wait:
a recording loses nothing. What the files hold is `files.py`.
"""

# ruff: noqa: N802 - MMCore's names
from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from livescope.acquire.files import CAMERA, open_pages
from livescope.acquire.stream_core import NoShutter
from livescope.errors import SourceError
from livescope.settings import CameraSettings, SourceSettings

__all__ = ["DEFAULT_FPS", "ReplayCore"]

DEFAULT_FPS = 10.0
RING_FRAMES = 8


class ReplayCore(NoShutter):
    """A `StreamCore` whose camera is a folder of images, a multi-page TIFF or an OME-Zarr.

    Parameters
    ----------
    source
        `path`, `rate_fps` (None plays at the recorded rate, or 10 where none is known), `repeat`.
    camera
        `pixel_um` overrules the file's. There are no properties to set.

    Raises
    ------
    SourceError
        Nothing to play, frames of different shapes, colour, or a pixel type other than 8 or 16 bit grey.

    Notes
    -----
    A source that stands still (paused, ring full) keeps its place: the next start goes on with the next frame.
    """

    def __init__(self, source: SourceSettings, camera: CameraSettings | None = None) -> None:
        if source.path is None:
            raise SourceError(
                "source.kind = 'replay' needs source.path: a folder of TIFF or PNG images, a TIFF, or an OME-Zarr."
            )
        camera = camera or CameraSettings()
        if camera.properties:
            raise SourceError(
                f"camera.properties = {camera.properties}: a replay has no camera to set; leave them out."
            )
        self._pages = open_pages(source.path)
        self._first = self._pages.read(0)
        self._refuse_mixed(camera.pixel_um)
        self._pixel_um = camera.pixel_um or self._pages.pixel_um or 0.0
        self._exposure_ms = camera.exposure_ms or 0.0
        self._repeat = source.repeat
        self.rate_fps = source.rate_fps or self._pages.rate_fps or DEFAULT_FPS
        self._next = 0
        self._ring: deque[tuple[NDArray[Any], dict[str, Any]]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._halt = False
        self._error: Exception | None = None

    # ------------------------------------------------------------------ sequences

    def remaining_frames(self) -> int | None:
        """Frames still to come, None if it repeats."""
        return None if self._repeat else len(self._pages) - self._next

    def startContinuousSequenceAcquisition(self, interval_ms: float = 0.0, /) -> None:
        """Play until stopped or to the end."""
        self._start(None)

    def startSequenceAcquisition(self, frames: int, interval_ms: float, stop_on_overflow: bool, /) -> None:
        """Play exactly `frames` frames, or to the end."""
        self._start(frames)

    def stopSequenceAcquisition(self) -> None:
        """Stop; the next start goes on with the next frame."""
        with self._changed:
            self._halt = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def isSequenceRunning(self) -> bool:
        """True while frames are to come. Raises what the reading thread could not read."""
        if self._error is not None:
            raise self._error
        return self._thread is not None and self._thread.is_alive()

    def getRemainingImageCount(self) -> int:
        """Frames in the ring."""
        return len(self._ring)

    def popNextImageAndMD(self) -> tuple[NDArray[Any], Mapping[str, Any]]:
        """Take the oldest frame."""
        with self._changed:
            popped = self._ring.popleft()
            self._changed.notify_all()
        return popped

    def isBufferOverflowed(self) -> bool:
        """Never: a full ring makes the files wait."""
        return False

    def snapImage(self) -> None:
        """Choose the frame that would come next."""

    def getImage(self) -> NDArray[Any]:
        """Pixels of the frame that would come next."""
        return self._pages.read(min(self._next, len(self._pages) - 1))

    def close(self) -> None:
        """End the reading thread."""
        self.stopSequenceAcquisition()

    # ------------------------------------------------------------------ what a core is asked

    def getCameraDevice(self) -> str:
        """``"replay"``."""
        return CAMERA

    def getImageWidth(self) -> int:
        """Columns."""
        return int(self._first.shape[1])

    def getImageHeight(self) -> int:
        """Rows."""
        return int(self._first.shape[0])

    def getBytesPerPixel(self) -> int:
        """1 or 2."""
        return int(self._first.dtype.itemsize)

    def getImageBitDepth(self) -> int:
        """All bits of the dtype: files do not say how many the camera used."""
        return 8 * int(self._first.dtype.itemsize)

    def getPixelSizeUm(self) -> float:
        """Micrometres a pixel, 0.0 where neither the file nor the user says."""
        return self._pixel_um

    def getExposure(self) -> float:
        """Exposure as the settings say, milliseconds; 0 where they do not."""
        return self._exposure_ms

    def setExposure(self, exposure_ms: float, /) -> None:
        """Recorded frames keep their exposure; only equal values are taken."""
        if exposure_ms != self._exposure_ms:
            raise RuntimeError("the exposure of recorded frames cannot be changed")

    def hasProperty(self, label: str, name: str, /) -> bool:
        """Recorded frames have no properties."""
        return False

    def getProperty(self, label: str, name: str, /) -> str:
        """Recorded frames have no properties: raises."""
        raise RuntimeError(f"a replay has no property {name!r}")

    def getXYStageDevice(self) -> str:
        """No stage."""
        return ""

    def getFocusDevice(self) -> str:
        """No focus drive."""
        return ""

    def getXYPosition(self) -> tuple[float, float]:
        """No stage: raises."""
        raise RuntimeError("a replay has no stage")

    def getPosition(self) -> float:
        """No focus drive: raises."""
        raise RuntimeError("a replay has no focus drive")

    def getCircularBufferMemoryFootprint(self) -> int:
        """Megabytes of the ring of eight frames."""
        return -(-RING_FRAMES * self._first.nbytes // 2**20)

    def setCircularBufferMemoryFootprint(self, megabytes: int, /) -> None:
        """Nothing to set: a full ring makes the files wait."""

    # ------------------------------------------------------------------ inside

    def _start(self, frames: int | None) -> None:
        if self._thread is not None and self._thread.is_alive():
            raise RuntimeError("the replay is running already")
        self._halt = False
        self._error = None
        self._ring.clear()
        self._thread = threading.Thread(target=self._play, args=(frames,), name="livescope-replay", daemon=True)
        self._thread.start()

    def _play(self, frames: int | None) -> None:
        begin_s, number = time.perf_counter(), 0
        try:
            while not self._halt and (frames is None or number < frames):
                if self._next >= len(self._pages):
                    if not self._repeat:
                        return
                    self._next = 0
                pixels = self._pages.read(self._next)
                if not self._wait(begin_s + number / self.rate_fps):
                    return
                tags = {
                    "Camera": CAMERA,
                    "ImageNumber": str(number),
                    "ElapsedTime-ms": f"{number * 1000.0 / self.rate_fps:.3f}",
                    "file": self._pages.name(self._next),
                }
                with self._changed:
                    self._ring.append((pixels, tags))
                    self._next += 1
                number += 1
        except Exception as error:  # noqa: BLE001 - the thread's border: raised to the loop by isSequenceRunning
            self._error = error

    def _wait(self, due_s: float) -> bool:
        """Wait for the frame's time and for room in the ring; False when told to stop."""
        with self._changed:
            while not self._halt:
                early_s = due_s - time.perf_counter()
                if early_s <= 0 and len(self._ring) < RING_FRAMES:
                    return True
                self._changed.wait(early_s if early_s > 0 else None)
        return False

    def _refuse_mixed(self, pixel_um: float | None) -> None:
        pages, kind = self._pages, (self._first.shape, self._first.dtype.name)
        for k in range(1, len(pages)):
            if pages.kind(k) != kind:
                raise SourceError(
                    f"{pages.name(k)!r} is {pages.kind(k)}, but the first frame {pages.name(0)!r} is {kind}; a replay "
                    "needs frames of one shape and pixel type. Sort the images into folders."
                )
            sizes = [pages.pixel_um_of(0), pages.pixel_um_of(k)]
            if pixel_um is None and sizes[0] != sizes[1]:
                first, other = (f"{um:g} um" if um else "none" for um in sizes)
                raise SourceError(
                    f"{pages.name(k)!r} says a pixel size of {other}, but the first frame {pages.name(0)!r} {first}; a "
                    "replay needs one. Sort the images into folders, or set camera.pixel_um for all of them."
                )

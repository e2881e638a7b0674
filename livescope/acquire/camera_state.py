"""What is known of the camera, the stage and the light, and the frames that are stamped with it.

Owns the reading of exposure, depth, pixel size, place and shutter, and the making of a `Frame`; of a camera that
somebody else sets, what each frame tells. Does not start or stop anything.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from livescope.acquire.lock import CameraLock
from livescope.acquire.stream_core import StreamCore, Taken
from livescope.errors import CoreError, FrameError, one_of
from livescope.frames import PIXEL_DTYPES, Frame, Pixels
from livescope.settings import CameraSettings

__all__ = ["CameraSetup", "CameraState", "Light", "TellsOfSetup", "grey"]

_NATIVE = frozenset(np.dtype(name) for name in PIXEL_DTYPES)


class CameraSetup(NamedTuple):
    """How a camera is set, and the pixel size that follows from it.

    Attributes
    ----------
    exposure_ms
        Exposure.
    bit_depth
        Bits in use.
    binning
        Factor of binning.
    core_pixel_um
        Micrometres a pixel as the core says, with binning and objective; 0.0 where it does not know.
    """

    exposure_ms: float
    bit_depth: int
    binning: int
    core_pixel_um: float

    @classmethod
    def of(cls, core: StreamCore, label: str) -> CameraSetup:
        """Ask a core how its camera is set."""
        exposure_ms, bit_depth = float(core.getExposure()), int(core.getImageBitDepth())
        return cls(exposure_ms, bit_depth, _binning(core, label), float(core.getPixelSizeUm()))


@runtime_checkable
class TellsOfSetup(Protocol):
    """A core whose camera somebody else sets: what it says of a frame tells how the camera was set for it."""

    def camera_setup(self, tags: Mapping[str, Any]) -> CameraSetup:
        """How the camera was set for a frame with these tags."""


class CameraState:
    """The camera as it was when last read, so that the acquisition thread need not ask it for every frame.

    Parameters
    ----------
    core, lock
        The core, and the lock under which it is asked.
    settings
        `pixel_um` overrules the core's; it follows the binning, and is given up when the objective changes.
    """

    def __init__(self, core: StreamCore, lock: CameraLock, settings: CameraSettings) -> None:
        self._core = core
        self._lock = lock
        self._own_pixel_um = settings.pixel_um
        self.position: str | None = None
        self.channel: str | None = None
        self.tags: Mapping[str, str] = {}
        """Said of every frame beside what the camera says, e.g. why a rule had it taken."""
        self.position_error = ""
        self.position_read_s = float("-inf")
        self._x_um: float | None = None
        self._y_um: float | None = None
        self._z_um: float | None = None
        self._taken = Taken()
        self._own_binning = 1
        self.read()
        self._own_binning, self._own_unbinned_um = self.binning, self._unbinned_um

    def read(self) -> None:
        """Read what changes only between segments.

        Raises
        ------
        CoreError
            The core has no camera.
        """
        core = self._core
        with self._lock:
            self.label = core.getCameraDevice()
            if not self.label:
                raise CoreError(
                    "the core has no camera; add a Camera device and Property,Core,Camera,LABEL to the cfg."
                )
            self._take_over(CameraSetup.of(core, self.label))

    def objective_changed(self) -> None:
        """Forget the pixel size that the user gave: it held for another objective."""
        self._own_pixel_um = None

    def refresh_position(self) -> None:
        """Read the stage's place. A stage that does not answer ends no acquisition: its place is then unknown."""
        self.position_read_s = time.perf_counter()
        try:
            with self._lock:
                if self._core.getXYStageDevice():
                    self._x_um, self._y_um = map(float, self._core.getXYPosition())
                if self._core.getFocusDevice():
                    self._z_um = float(self._core.getPosition())
            self.position_error = ""
        except Exception as error:  # noqa: BLE001 - whatever a stage's driver raises; told in `position_error`
            self._x_um = self._y_um = self._z_um = None
            self.position_error = (
                f"the stage did not say where it is: {error}. Frames are stored without a place; check its cable."
            )

    def hear(self, taken: Taken) -> None:
        """Take over what is known of the next frame; the rest is as it was when last read."""
        self.position, self.channel, self._taken = taken.position, taken.channel, taken

    def hear_setup(self, setup: CameraSetup) -> None:
        """Take over how the camera was set for the next frame; another objective shows in the core's pixel size."""
        self._take_over(setup)
        if self._own_pixel_um is not None and not math.isclose(self._unbinned_um, self._own_unbinned_um, rel_tol=1e-6):
            self.objective_changed()
            self._take_over(setup)

    def _take_over(self, setup: CameraSetup) -> None:
        self.exposure_ms, self.bit_depth, self.binning = setup.exposure_ms, setup.bit_depth, setup.binning
        self._unbinned_um = setup.core_pixel_um / setup.binning
        self.pixel_um: float | None = setup.core_pixel_um or None  # Micro-Manager says 0.0 where it does not know
        if self._own_pixel_um is not None:
            self.pixel_um = self._own_pixel_um * self.binning / self._own_binning

    def frame(
        self,
        pixels: Any,
        tags: Mapping[str, Any],
        camera: str,
        *,
        index: int,
        segment: int,
        lost: int = 0,
        elapsed_ms: float | None = None,
    ) -> Frame:
        """Stamp pixels with all that is known.

        Raises
        ------
        FrameError
            The pixels are not 8 or 16 bit grey or RGB.
        """
        return Frame(
            pixels=grey(pixels),
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
            x_um=_first(self._taken.x_um, self._x_um),
            y_um=_first(self._taken.y_um, self._y_um),
            z_um=_first(self._taken.z_um, self._z_um),
            channel=self.channel,
            exposure_ms=_first(self._taken.exposure_ms, self.exposure_ms),
            metadata={**tags, **self.tags} if self.tags else tags,
        )


class Light:
    """The shutter as it was found, to be left so; or off, after any failure.

    Autoshutter opens it around a sequence and closes it at the stop: a camera that dies never comes to the stop.
    """

    def __init__(self, core: StreamCore) -> None:
        self._core = core
        self._auto = core.getAutoShutter()
        self._open = bool(core.getShutterDevice()) and core.getShutterOpen()

    def restore(self) -> None:
        """Leave shutter and autoshutter as they were found."""
        if self._core.getAutoShutter() != self._auto:
            self._core.setAutoShutter(self._auto)
        if self._core.getShutterDevice() and self._core.getShutterOpen() != self._open:
            self._core.setShutterOpen(self._open)

    def off(self) -> None:
        """Close the shutter."""
        if self._core.getShutterDevice():
            self._core.setShutterOpen(False)


def grey(pixels: Any) -> Pixels:
    """A frame as a read-only, C-contiguous (H, W) array; of RGB (H, W, 3) the luma (ITU-R BT.601).

    Raises
    ------
    FrameError
        Any other shape or pixel type.
    """
    if pixels.ndim != 2 or pixels.dtype not in _NATIVE:  # a dtype's name takes longer than all the rest here
        pixels = _one_channel(pixels)
    flat: Pixels = np.ascontiguousarray(pixels)
    flat.flags.writeable = False
    return flat


def _one_channel(pixels: Any) -> Any:
    if pixels.dtype.name not in PIXEL_DTYPES or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise FrameError(
            f"the camera delivers {pixels.dtype.name} pixels of shape {pixels.shape}; livescope takes "
            f"{one_of(PIXEL_DTYPES)} "
            "pixels, grey (H, W) or RGB (H, W, 3). Set the camera's PixelType to 8bit or 16bit."
        )
    if pixels.ndim == 3:
        luma = 77 * pixels[..., 0].astype(np.uint32)
        luma += 150 * pixels[..., 1].astype(np.uint32)
        luma += 29 * pixels[..., 2].astype(np.uint32)
        pixels = (luma >> 8).astype(pixels.dtype)
    return pixels


def _first(told: float | None, read: float | None) -> float | None:
    return read if told is None else told


def _binning(core: StreamCore, label: str) -> int:
    """The binning factor; adapters write ``2`` or ``2x2``."""
    if not core.hasProperty(label, "Binning"):
        return 1
    factor = str(core.getProperty(label, "Binning")).lower().split("x")[0]
    return int(factor) if factor.isdigit() and int(factor) else 1

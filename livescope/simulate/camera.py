"""The simulated microscope as a Micro-Manager core: a camera written in Python beside the demo stages.

Owns the only use of pymmcore-plus's experimental `unicore`. The camera looks at a `Culture` through `Optics`: the XY
stage moves the field (stage at (x, y) puts that point of the culture into the middle of the frame), the Z stage
focuses, exposure changes brightness. Frame n of the camera shows the culture at ``n * minutes_per_frame`` whatever
the clock says; n counts every frame that the camera ever made, lost ones included. Each frame's metadata says which
it was, so that `truth_of` can give the truth of that very frame.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pymmcore_plus.experimental.unicore import UniMMCore
from pymmcore_plus.experimental.unicore.devices._camera import CameraDevice, SimpleCameraDevice

from livescope.errors import CoreError, FrameError
from livescope.frames import CULTURE_MINUTES, Frame
from livescope.settings import CameraSettings, SimulationSettings
from livescope.simulate.culture import Culture
from livescope.simulate.optics import Optics
from livescope.simulate.truth import Truth, View, truth_of_view

__all__ = ["CAMERA_LABEL", "SimulatedCore", "open_simulated_core", "truth_of"]

CAMERA_LABEL = "Camera"
FILTER_LABEL = "Filter"
CHANNEL_GROUP = "Channel"
CHANNELS = ("Brightfield", "Cy5")
"""Presets of the channel group; the filter's state is the place in this list."""
DEFAULT_EXPOSURE_MS = 20.0
_FRAME, _TOP, _LEFT = "SimulatedFrame", "SimulatedTopPx", "SimulatedLeftPx"


@dataclass(slots=True, frozen=True)
class _Scope:
    """Where the stages are, and which filter is in."""

    x_um: float
    y_um: float
    z_um: float
    filter: int


class _CultureCamera(SimpleCameraDevice):
    """Camera that looks at a simulated culture of adherent cells."""

    def __init__(self, simulation: SimulationSettings, scope: Callable[[], _Scope]) -> None:
        super().__init__()
        self._scope = scope
        self._simulation = simulation
        self._optics = Optics(simulation, Culture(simulation))
        self._exposure_ms = DEFAULT_EXPOSURE_MS
        self._frames_made = 0
        self._due_s = 0.0
        self._making = threading.Lock()
        self.newest_tags: Mapping[str, str] = {}
        self.halt = threading.Event()
        """Set to wake the camera from waiting for the next frame's time."""

    def get_exposure(self) -> float:
        """Exposure in milliseconds."""
        return self._exposure_ms

    def set_exposure(self, exposure: float) -> None:
        """Set the exposure in milliseconds; the next frame has it."""
        if not exposure > 0:
            raise ValueError(f"exposure of {exposure} ms; it must be above 0.")
        self._exposure_ms = float(exposure)

    def sensor_shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._simulation.height, self._simulation.width

    def dtype(self) -> DTypeLike:
        """Pixel type, uint16 for 12 and 16 bit."""
        return np.uint16

    def start_sequence(self, n: int | None, get_buffer: Any) -> Iterator[Mapping[str, str]]:
        """Make frames at the settings' rate; see `SimpleCameraDevice`."""
        self.halt.clear()
        self._due_s = time.perf_counter()
        for metadata in super().start_sequence(n, get_buffer):
            yield metadata
            if self.halt.is_set():
                return

    def snap(self, buffer: NDArray[np.uint16]) -> Mapping[str, str]:
        """Draw the next frame into the buffer, not before its time."""
        with self._making:
            scope, exposure_ms = self._scope(), self._exposure_ms
            view = self._optics.view(scope.y_um, scope.x_um)
            render = self._optics.render_dye if scope.filter else self._optics.render
            number = self._frames_made
            self._frames_made += 1
            render(buffer, number, view, z_um=scope.z_um, exposure_ms=exposure_ms)
        self._pace(exposure_ms)
        self.newest_tags = {
            _FRAME: str(number),
            _TOP: str(view.y_px),
            _LEFT: str(view.x_px),
            CULTURE_MINUTES: f"{number * self._simulation.minutes_per_frame:.12g}",
            "Exposure-ms": str(exposure_ms),
        }
        return self.newest_tags

    def _pace(self, exposure_ms: float) -> None:
        """Wait for the frame's deadline; deadlines lie a frame interval apart, so that a late frame is caught up."""
        interval_s = max(1.0 / self._simulation.rate_fps, exposure_ms / 1000.0)
        now_s = time.perf_counter()
        # more than four intervals late is not caught up: a burst would overrun the ring
        self._due_s = max(self._due_s + interval_s, now_s - 4 * interval_s)
        if self._due_s > now_s:
            self.halt.wait(self._due_s - now_s)


def _look(core: UniMMCore | None) -> _Scope:
    """Where stages and filter are."""
    if core is None:
        raise CoreError("the simulated camera's core is gone; open it again with `open_simulated_core`.")
    x_um, y_um = core.getXYPosition()
    return _Scope(x_um, y_um, core.getPosition(), core.getState(FILTER_LABEL))


class SimulatedCore(UniMMCore):
    """Core with a simulated culture under its camera; `open_simulated_core` makes one.

    Attributes
    ----------
    simulation
        Settings of the culture and its optics.
    """

    def __init__(self, simulation: SimulationSettings) -> None:
        super().__init__()
        self.simulation = simulation
        myself = weakref.ref(self)  # no cycle: the core must be freed when its last user lets go
        self._culture_camera = _CultureCamera(simulation, lambda: _look(myself()))
        self._truth_culture = Culture(simulation)
        self._truth_lock = threading.Lock()
        self.loadDevice("XY", "DemoCamera", "DXYStage")
        self.loadDevice("Z", "DemoCamera", "DStage")
        self.loadDevice("Objective", "DemoCamera", "DObjective")
        self.loadDevice(FILTER_LABEL, "DemoCamera", "DWheel")
        self.loadPyDevice(CAMERA_LABEL, self._culture_camera)
        self.initializeAllDevices()
        self.setCameraDevice(CAMERA_LABEL)
        self.setXYStageDevice("XY")
        self.setFocusDevice("Z")
        self.setAutoShutter(False)
        for state, channel in enumerate(CHANNELS):
            self.defineConfig(CHANNEL_GROUP, channel, FILTER_LABEL, "State", str(state))
        self.setChannelGroup(CHANNEL_GROUP)
        self.definePixelSizeConfig("Simulated", "Objective", "State", self.getProperty("Objective", "State"))
        self.setPixelSizeUm("Simulated", simulation.pixel_um)

    def getImageBitDepth(self) -> int:  # noqa: N802
        """Bits in use: 12 or 16, which the base class would take from the pixel type."""
        return self.simulation.bit_depth

    def snap_metadata(self) -> Mapping[str, str]:
        """What the camera says of its newest picture; MMCore keeps it for sequences only."""
        return self._culture_camera.newest_tags

    def _start_sequence(self, cam: CameraDevice, n_images: int | None, stop_on_overflow: bool) -> None:
        # a sequence that ended by itself tells its end after its last frame: late, it would end the next sequence
        self._stop_acquisition_thread()
        super()._start_sequence(cam, n_images, stop_on_overflow)

    def _stop_acquisition_thread(self, timeout: float | None = None) -> None:
        # the base class gives up after 2 s, and a frame that is still being drawn then breaks the next sequence; the
        # camera sleeps no longer once it is told to halt, so that the wait ends with the frame
        self._culture_camera.halt.set()
        super()._stop_acquisition_thread(timeout=None)

    def truth(self, frame_number: int, view: View) -> Truth:
        """Truth of a view at a frame of the camera; cheapest when asked in the order of the frames."""
        with self._truth_lock:
            minute = frame_number * self.simulation.minutes_per_frame
            return truth_of_view(self._truth_culture, minute, view, self.simulation.pixel_um)


def open_simulated_core(simulation: SimulationSettings, camera: CameraSettings) -> SimulatedCore:
    """Open a core with a simulated culture under a Python camera, and Micro-Manager's demo stages.

    Parameters
    ----------
    simulation
        The culture, its optics and the camera's size, depth and rate.
    camera
        `exposure_ms` (20 where None), `properties` and `ring_mb` are used.

    Raises
    ------
    CoreError
        The demo stages of Micro-Manager were not found, or the camera refused a property.
    """
    try:
        core = SimulatedCore(simulation)
    except RuntimeError as error:
        raise CoreError(
            f"the simulated microscope needs Micro-Manager's DemoCamera adapter for its stages: {error}. "
            "Install it with `pip install livescope[demo]`; `livescope doctor` shows what was found."
        ) from error
    if camera.exposure_ms is not None:
        core.setExposure(camera.exposure_ms)
    for name, value in camera.properties.items():
        try:
            core.setProperty(CAMERA_LABEL, name, value)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CoreError(
                f"the simulated camera refused {name}={value!r}: {error}. "
                f"It has: {', '.join(core.getDevicePropertyNames(CAMERA_LABEL))}."
            ) from error
    if camera.ring_mb is not None:
        core.setCircularBufferMemoryFootprint(camera.ring_mb)
    return core


def truth_of(core: SimulatedCore, frame: Frame) -> Truth:
    """Return the truth of a frame that the simulated camera made.

    Parameters
    ----------
    core
        The core that made it, or one opened with the same settings.
    frame
        The frame, with the camera's metadata; a region of interest is taken into account.

    Raises
    ------
    FrameError
        The frame does not come from a simulated camera.
    """
    metadata = frame.metadata or {}
    missing = [key for key in (_FRAME, _TOP, _LEFT) if key not in metadata]
    if missing:
        raise FrameError(
            f"frame {frame.index} of camera {frame.camera!r} has no {', '.join(missing)} in its metadata, "
            "so it was not made by a simulated sequence; its truth is unknown."
        )
    height, width = frame.pixels.shape
    top = int(metadata[_TOP]) + int(metadata.get("ROI-Y-start", 0))
    left = int(metadata[_LEFT]) + int(metadata.get("ROI-X-start", 0))
    return core.truth(int(metadata[_FRAME]), View(top, left, height, width))

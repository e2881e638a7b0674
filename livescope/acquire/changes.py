"""What can be changed during a run, one small class each: exposure, property, preset, ROI, camera, place.

Owns which change a camera takes while it streams, and the words for those it refuses. Stopping and starting around a
change is `stream.py`.
"""

# ruff: noqa: D102 - the methods are documented once, in `Change`
from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from livescope.acquire.camera_state import CameraState
from livescope.acquire.core import allowed_values, property_text
from livescope.acquire.lock import CameraLock
from livescope.errors import AcquisitionError, SettingsError, one_of

__all__ = ["Change", "Exposure", "FullFrame", "Move", "Preset", "Property", "Roi", "UseCamera", "wait_ready"]

SHAPES_THE_FRAME = ("Binning", "PixelType", "BitDepth", "OnCameraCCDXSize", "OnCameraCCDYSize")
"""Camera properties that end a running stream, silently or with an error, on every camera."""
DEVICE_TIMEOUT_S = 30.0


class Change:
    """Base of all changes; what it says of itself holds for changes that a running camera takes."""

    restart: ClassVar[bool] = False

    @property
    def reason(self) -> str:
        """What is changed, in words, for the window and the record."""
        raise NotImplementedError

    def apply(self, core: Any) -> None:
        """Do it. Holds the camera lock."""
        raise NotImplementedError

    def needs_restart(self, core: Any) -> bool:
        """True if no running camera can be trusted to take it: MMCore accepts a ROI and the stream dies silently."""
        return self.restart

    def alters_optics(self, core: Any) -> bool:
        """True if the pixel size may be another afterwards for other reasons than binning."""
        return False

    def devices(self, core: Any) -> tuple[str, ...]:
        """Devices to wait for."""
        return ()

    def note(self, camera: CameraState) -> None:
        """What later frames should say of it."""


@dataclass(slots=True, frozen=True)
class Exposure(Change):
    """Exposure in milliseconds."""

    exposure_ms: float

    @property
    def reason(self) -> str:
        return f"exposure of {self.exposure_ms:g} ms"

    def apply(self, core: Any) -> None:
        if not 0 <= self.exposure_ms <= 600_000:
            raise SettingsError(f"exposure {self.exposure_ms} ms is out of range; allowed: 0 to 600000 ms.")
        core.setExposure(float(self.exposure_ms))


@dataclass(slots=True, frozen=True)
class Property(Change):
    """A property of any device: gain, binning, pixel type, a filter wheel's or a turret's position."""

    device: str
    name: str
    value: str | float

    @property
    def reason(self) -> str:
        return f"{self.device} {self.name} = {property_text(self.value)}"

    def apply(self, core: Any) -> None:
        _need(core, "setProperty", self)
        if self.device not in core.getLoadedDevices():
            known = one_of(core.getLoadedDevices())
            raise SettingsError(f"{self.reason}: there is no device {self.device!r}. Loaded: {known}.")
        if not core.hasProperty(self.device, self.name):
            known = one_of(core.getDevicePropertyNames(self.device))
            raise SettingsError(f"{self.reason}: {self.device!r} has no property {self.name!r}. It has: {known}.")
        try:
            core.setProperty(self.device, self.name, property_text(self.value))
        except (RuntimeError, ValueError) as error:
            allowed = allowed_values(core, self.device, self.name)
            raise AcquisitionError(f"{self.reason} was refused by the device: {error}; {allowed}.") from error

    def needs_restart(self, core: Any) -> bool:
        return _shapes_the_frame(core, self.device, self.name) or self.alters_optics(core)

    def alters_optics(self, core: Any) -> bool:
        return self.device in _optics(core)

    def devices(self, core: Any) -> tuple[str, ...]:
        return (self.device,)


@dataclass(slots=True, frozen=True)
class Preset(Change):
    """A preset of a configuration group, e.g. a channel or an objective."""

    group: str
    preset: str

    @property
    def reason(self) -> str:
        return f"{self.group} = {self.preset}"

    def apply(self, core: Any) -> None:
        _need(core, "setConfig", self)
        if self.group not in core.getAvailableConfigGroups():
            known = one_of(core.getAvailableConfigGroups())
            raise SettingsError(f"{self.reason}: there is no group {self.group!r}. There are: {known}.")
        if self.preset not in core.getAvailableConfigs(self.group):
            known = one_of(core.getAvailableConfigs(self.group))
            raise SettingsError(f"{self.reason}: group {self.group!r} has no preset {self.preset!r}. It has: {known}.")
        core.setConfig(self.group, self.preset)

    def needs_restart(self, core: Any) -> bool:
        shapes = any(_shapes_the_frame(core, device, name) for device, name in self.settings(core))
        return shapes or self.alters_optics(core)

    def alters_optics(self, core: Any) -> bool:
        return any(device in _optics(core) for device, _ in self.settings(core))

    def devices(self, core: Any) -> tuple[str, ...]:
        return tuple({device: None for device, _ in self.settings(core)})

    def note(self, camera: CameraState) -> None:
        camera.channel = self.preset

    def settings(self, core: Any) -> list[tuple[str, str]]:
        """(device, property) of all that the preset sets; none where the core does not have it."""
        if self.group not in core.getAvailableConfigGroups() or self.preset not in core.getAvailableConfigs(self.group):
            return []
        return [(setting[0], setting[1]) for setting in core.getConfigData(self.group, self.preset)]


@dataclass(slots=True, frozen=True)
class Roi(Change):
    """A region of interest in (binned) sensor pixels: left edge, top edge, width, height."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
    restart: ClassVar[bool] = True

    @property
    def reason(self) -> str:
        return f"ROI of {self.width_px} x {self.height_px} px at ({self.x_px}, {self.y_px})"

    def apply(self, core: Any) -> None:
        _need(core, "setROI", self)
        before = core.getROI()
        core.clearROI()
        width, height = core.getImageWidth(), core.getImageHeight()
        inside = self.x_px + self.width_px <= width and self.y_px + self.height_px <= height
        if not (inside and min(self.x_px, self.y_px) >= 0 and min(self.width_px, self.height_px) >= 1):
            core.setROI(*before)
            raise SettingsError(f"{self.reason} does not lie on the sensor of {width} x {height} px.")
        core.setROI(self.x_px, self.y_px, self.width_px, self.height_px)


@dataclass(slots=True, frozen=True)
class FullFrame(Change):
    """The whole sensor again."""

    restart: ClassVar[bool] = True

    @property
    def reason(self) -> str:
        return "the full frame"

    def apply(self, core: Any) -> None:
        _need(core, "clearROI", self)
        core.clearROI()


@dataclass(slots=True, frozen=True)
class UseCamera(Change):
    """Another camera of the core."""

    label: str
    restart: ClassVar[bool] = True

    @property
    def reason(self) -> str:
        return f"camera {self.label!r}"

    def apply(self, core: Any) -> None:
        _need(core, "setCameraDevice", self)
        if self.label not in core.getLoadedDevices():
            raise SettingsError(f"there is no {self.reason}. Loaded devices: {one_of(core.getLoadedDevices())}.")
        core.setCameraDevice("")  # after a camera in Python, a core ignores the next one otherwise
        core.setCameraDevice(self.label)


@dataclass(slots=True, frozen=True)
class Move(Change):
    """A place of the stage in micrometres; None leaves an axis as it is. `name` goes into later frames."""

    x_um: float | None = None
    y_um: float | None = None
    z_um: float | None = None
    name: str | None = None

    @property
    def reason(self) -> str:
        place = {"x": self.x_um, "y": self.y_um, "z": self.z_um}
        where = ", ".join(f"{axis} = {value:g} um" for axis, value in place.items() if value is not None)
        return f"move to {self.name + ': ' if self.name else ''}{where}"

    def apply(self, core: Any) -> None:
        if not all(math.isfinite(value) for value in (self.x_um, self.y_um, self.z_um) if value is not None):
            raise SettingsError(
                f"{self.reason} is no place; give each axis a finite number of micrometres, or leave it out."
            )
        if self.x_um is not None or self.y_um is not None:
            if not core.getXYStageDevice():
                raise SettingsError(f"{self.reason}: the core has no XY stage.")
            x_um, y_um = core.getXYPosition()
            core.setXYPosition(x_um if self.x_um is None else self.x_um, y_um if self.y_um is None else self.y_um)
        if self.z_um is not None:
            if not core.getFocusDevice():
                raise SettingsError(f"{self.reason}: the core has no focus drive.")
            core.setPosition(self.z_um)

    def devices(self, core: Any) -> tuple[str, ...]:
        return tuple(label for label in (core.getXYStageDevice(), core.getFocusDevice()) if label)

    def note(self, camera: CameraState) -> None:
        camera.position = self.name


def wait_ready(core: Any, lock: CameraLock, devices: tuple[str, ...], timeout_s: float = DEVICE_TIMEOUT_S) -> None:
    """Wait until devices are no longer busy, without holding the lock meanwhile.

    Raises
    ------
    AcquisitionError
        A device is busy for longer than `timeout_s`.
    """
    end_s = time.perf_counter() + timeout_s
    while devices:
        with lock:
            busy = [label for label in devices if core.deviceBusy(label)]
        if not busy:
            return
        if time.perf_counter() > end_s:
            raise AcquisitionError(f"{one_of(busy)} did not become ready within {timeout_s:g} s; check the device.")
        time.sleep(0.005)


def _shapes_the_frame(core: Any, device: str, name: str) -> bool:
    if device == "Core":
        return name == "Camera"
    return device == core.getCameraDevice() and name in SHAPES_THE_FRAME


def _optics(core: Any) -> set[str]:
    """Devices on which the pixel size depends, e.g. the objective turret."""
    if not hasattr(core, "getAvailablePixelSizeConfigs"):
        return set()
    presets = core.getAvailablePixelSizeConfigs()
    return {setting[0] for preset in presets for setting in core.getPixelSizeConfigData(preset)}


def _need(core: Any, method: str, change: Change) -> None:
    if not hasattr(core, method):
        raise SettingsError(f"{change.reason}: this source ({type(core).__name__}) cannot be changed so.")

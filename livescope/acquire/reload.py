"""A camera that was unplugged, opened anew in a core that goes on living: the other devices are left alone.

Owns what must be known of a camera to load it again, and the order of the steps. When it is done is `recovery.py`'s.
Loading the whole configuration again would be simpler, and would send stages home in the middle of a run.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CameraReload"]


@dataclass(slots=True)
class _Device:
    """What it takes to load a device again, and how it was set when last seen."""

    library: str
    name: str
    pre_init: dict[str, str]
    properties: dict[str, str] = field(default_factory=dict)


class CameraReload:
    """Loads the chosen camera of a core again, with all properties, exposure and ROI as they were; call it.

    Parameters
    ----------
    core
        A `CMMCorePlus` with its camera at work: what it takes to load its cameras is read now, since one that is
        unplugged says nothing. Cameras written in Python are left as they are: there is no driver to open again.

    Raises
    ------
    RuntimeError
        From a call: the camera is still unplugged, or refused what it had before.
    """

    def __init__(self, core: Any) -> None:
        self._core = core
        self._devices = {label: _read(core, label) for label in _native_cameras(core)}
        self._parts: list[str] = []
        self._exposure_ms = 10.0
        self._roi: list[int] = []
        self._remember()

    def __call__(self) -> None:
        """Unload and load; may be called again after a failure."""
        core = self._core
        if core.getCameraDevice():  # none after an attempt that failed half-way: then what was known before holds
            self._remember()
        labels = [label for label in (*self._parts, self._chosen) if label in self._devices]
        for label in labels:
            device = self._devices[label]
            if label in core.getLoadedDevices():
                core.unloadDevice(label)
            core.loadDevice(label, device.library, device.name)
            for name, value in device.pre_init.items():
                core.setProperty(label, name, value)
            core.initializeDevice(label)
            _restore(core, label, device.properties)
        core.setCameraDevice("")  # after a camera in Python, a core ignores the next one otherwise
        core.setCameraDevice(self._chosen)
        if labels:
            core.setExposure(self._exposure_ms)
            if self._roi and self._roi != list(core.getROI()):
                core.setROI(*self._roi)

    def _remember(self) -> None:
        core = self._core
        self._chosen = core.getCameraDevice()
        for label, device in self._devices.items():
            if label in core.getLoadedDevices():
                device.properties = _cached(core, label) or device.properties
        with contextlib.suppress(RuntimeError):  # an unplugged camera may not even say that
            self._parts = _parts(core)
            self._exposure_ms = core.getExposure()
            self._roi = list(core.getROI())


def _native_cameras(core: Any) -> list[str]:
    """Labels of the cameras that a driver runs."""
    from pymmcore_plus import DeviceType

    is_python = getattr(core, "isPyDevice", lambda label: False)
    labels = [label for label in core.getLoadedDevices() if core.getDeviceType(label) == DeviceType.Camera]
    return [label for label in labels if not is_python(label)]


def _read(core: Any, label: str) -> _Device:
    names = core.getDevicePropertyNames(label)
    pre_init = {n: core.getProperty(label, n) for n in names if core.isPropertyPreInit(label, n)}
    device = _Device(core.getDeviceLibrary(label), core.getDeviceName(label), pre_init)
    device.properties = _cached(core, label)
    return device


def _cached(core: Any, label: str) -> dict[str, str]:
    """Properties as the core last knew them, without asking the device."""
    state = core.getSystemStateCache()
    return {name: value for device, name, value in state if device == label}


def _parts(core: Any) -> list[str]:
    """The cameras that the chosen one is made of."""
    count = core.getNumberOfCameraChannels()
    return [core.getCameraChannelName(k) for k in range(count)] if count > 1 else []


def _restore(core: Any, label: str, properties: dict[str, str]) -> None:
    """Set what can be set; a value that depends on one further down is taken at the second go."""
    writable = {
        name: value
        for name, value in properties.items()
        if core.hasProperty(label, name)
        and not core.isPropertyReadOnly(label, name)
        and not core.isPropertyPreInit(label, name)
    }
    for _ in range(2):
        for name, value in writable.items():
            if core.getProperty(label, name) != value:
                with contextlib.suppress(RuntimeError):  # the new segment's frames say what became of it
                    core.setProperty(label, name, value)

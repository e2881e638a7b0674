"""The devices around the camera of `FakeCore`: properties, objective, shutter, stage and focus, and failures on demand.

Owns what stands still between two commands. Sequences, frames and the script are `fake_core.py`.
"""

# ruff: noqa: N802 - MMCore's names
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["FakeDevices"]

_COMMANDS = ("start", "stop", "set", "snap", "clear", "getImage")
"""Methods whose names are kept in `calls`: those that do something; what is only asked would drown them."""


class FakeDevices:
    """Base of `FakeCore`, which documents the attributes. Every method with a name of MMCore's obeys `fail`."""

    def __init_subclass__(cls) -> None:
        for base in (FakeDevices, cls):
            for name, method in list(vars(base).items()):
                if callable(method) and _is_mmcore(name) and not hasattr(method, "__wrapped__"):
                    setattr(base, name, _obedient(name, method))

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail: dict[str, Exception] = {}
        self.properties: dict[tuple[str, str], str] = {
            ("Camera", "Binning"): "1",
            ("Camera", "Gain"): "0",
            ("Objective", "Label"): "10x",
        }
        self.position_um = [0.0, 0.0, 0.0]
        self._auto_shutter = True
        self._shutter_open = False

    def hasProperty(self, label: str, name: str, /) -> bool:
        """True if the device has the property."""
        return (label, name) in self.properties

    def getDevicePropertyNames(self, label: str, /) -> tuple[str, ...]:
        """Names of a device's properties."""
        return tuple(name for device, name in self.properties if device == label)

    def getAllowedPropertyValues(self, label: str, name: str, /) -> tuple[str, ...]:
        """Values that the fake takes; empty for any."""
        return ("1", "2", "4") if name == "Binning" else ()

    def hasPropertyLimits(self, label: str, name: str, /) -> bool:
        """No limits."""
        return False

    def getProperty(self, label: str, name: str, /) -> str:
        """Value of a property."""
        return self.properties[label, name]

    def deviceBusy(self, label: str, /) -> bool:
        """Never busy."""
        return False

    def getAvailablePixelSizeConfigs(self) -> tuple[str, ...]:
        """One pixel-size preset, which depends on the objective."""
        return ("Res10x",)

    def getPixelSizeConfigData(self, preset: str, /) -> list[tuple[str, str, str]]:
        """Settings of a pixel-size preset."""
        return [("Objective", "Label", "10x")]

    def getAutoShutter(self) -> bool:
        """True if the shutter follows the camera."""
        return self._auto_shutter

    def setAutoShutter(self, on: bool, /) -> None:
        """Let the shutter follow the camera."""
        self._auto_shutter = on

    def getShutterDevice(self) -> str:
        """Label of the shutter."""
        return "Shutter"

    def getShutterOpen(self) -> bool:
        """True if light falls on the sample."""
        return self._shutter_open

    def setShutterOpen(self, is_open: bool, /) -> None:
        """Open or close the shutter."""
        self._shutter_open = is_open

    def getXYStageDevice(self) -> str:
        """Label of the stage."""
        return "XY"

    def getFocusDevice(self) -> str:
        """Label of the focus drive."""
        return "Z"

    def getXYPosition(self) -> tuple[float, float]:
        """(x, y), micrometres."""
        return self.position_um[0], self.position_um[1]

    def setXYPosition(self, x_um: float, y_um: float, /) -> None:
        """Move the stage, at once."""
        self.position_um[:2] = [x_um, y_um]

    def getPosition(self) -> float:
        """z, micrometres."""
        return self.position_um[2]

    def setPosition(self, z_um: float, /) -> None:
        """Move the focus drive, at once."""
        self.position_um[2] = z_um


def _is_mmcore(name: str) -> bool:
    return not name.startswith("_") and any(letter.isupper() for letter in name)


def _obedient(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    logged = name == "getImage" or name.startswith(_COMMANDS[:-1])

    @functools.wraps(method)
    def call(self: FakeDevices, *args: Any) -> Any:
        if logged:
            self.calls.append(name)
        if name in self.fail:
            raise self.fail[name]
        return method(self, *args)

    return call

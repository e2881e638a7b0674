"""What a record says of the microscope: every device with the state of its properties.

Owns the reading; touches no hardware, so that it may be asked in the middle of a run.
"""

from __future__ import annotations

from typing import Any

__all__ = ["device_inventory"]


def device_inventory(core: Any) -> dict[str, dict[str, Any]]:
    """Return label -> ``library``, ``name``, ``description``, ``properties`` of each device as the core last knew them.

    Parameters
    ----------
    core
        Any `StreamCore`; one that knows no devices, e.g. `ReplayCore`, gives nothing.
    """
    if not hasattr(core, "getSystemStateCache"):
        return {}
    devices: dict[str, dict[str, Any]] = {
        label: {
            "library": core.getDeviceLibrary(label),
            "name": core.getDeviceName(label),
            "description": core.getDeviceDescription(label),
            "properties": {},
        }
        for label in core.getLoadedDevices()
    }
    for (
        label,
        name,
        value,
    ) in core.getSystemStateCache():  # asking devices takes seconds on a real microscope
        if label in devices:
            devices[label]["properties"][name] = str(value)
    return devices

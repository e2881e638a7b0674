"""The record can say of every device what it is and how it stands."""

from __future__ import annotations

import json
from typing import Any

from livescope.acquire.inventory import device_inventory


def test_devices_and_their_properties(demo_core: Any) -> None:
    devices = device_inventory(demo_core)
    assert set(devices) == set(demo_core.getLoadedDevices())
    camera = devices["Camera"]
    assert (camera["library"], camera["name"], camera["description"]) == ("DemoCamera", "DCam", "Demo camera")
    assert camera["properties"]["PixelType"] == demo_core.getProperty("Camera", "PixelType")
    assert json.loads(json.dumps(devices)) == devices


def test_a_source_without_devices_has_none() -> None:
    assert device_inventory(object()) == {}

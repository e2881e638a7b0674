"""A camera that is opened anew, without touching the other devices."""

from __future__ import annotations

from typing import Any

import pytest

from livescope.acquire.reload import CameraReload


def test_all_of_a_reloaded_camera_is_as_it_was(demo_core: Any) -> None:
    core = demo_core
    for label, library, name in (("Second", "DemoCamera", "DCam"), ("Both", "Utilities", "Multi Camera")):
        core.loadDevice(label, library, name)
        core.initializeDevice(label)
    core.setProperty("Second", "PixelType", "8bit")
    for k, label in enumerate(("Camera", "Second")):
        core.setProperty(label, "Gain", str(k + 2))
        core.setProperty("Both", f"Physical Camera {k + 1}", label)
    core.setCameraDevice("Both")
    core.setExposure(4.0)
    core.setXYPosition(55.0, 66.0)
    core.waitForDevice("XY")
    reload = CameraReload(core)
    groups = core.getAvailableConfigGroups()
    for attempt in range(2):
        if attempt:  # an attempt that failed half-way has left no camera
            core.unloadDevice("Camera")
            core.setCameraDevice("")
        reload()
        assert core.getCameraDevice() == "Both"
        assert [core.getCameraChannelName(k) for k in range(core.getNumberOfCameraChannels())] == ["Camera", "Second"]
        assert core.getExposure() == 4.0
        assert (core.getProperty("Camera", "Gain"), core.getProperty("Second", "Gain")) == ("2", "3")
        assert core.getXYPosition() == pytest.approx((55.0, 66.0), abs=0.1)  # stages were left alone
        assert core.getAvailableConfigGroups() == groups

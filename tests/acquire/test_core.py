"""Opening and closing Micro-Manager, and the words for what goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livescope.acquire import core as module
from livescope.acquire.core import Installation, close_core, describe_installation, open_core
from livescope.errors import CoreError, SettingsError
from livescope.settings import CameraSettings, SourceSettings
from livescope.simulate import FakeCore

pytest.importorskip("mm_test_adapters", reason="the demo configuration needs mm-test-adapters")


def demo(**source: Any) -> SourceSettings:
    return SourceSettings(kind="demo", **source)


def assert_a_core_still_opens() -> None:
    core = open_core(demo(), CameraSettings())
    assert core.getCameraDevice() == "Camera"
    close_core(core)


def test_properties_and_exposure_are_set() -> None:
    camera = CameraSettings(exposure_ms=4, properties={"PixelType": "8bit", "OnCameraCCDXSize": 256, "FastImage": 1})
    core = open_core(demo(), camera)
    assert (core.getExposure(), core.getImageWidth(), core.getBytesPerPixel()) == (4.0, 256, 1)
    close_core(core)


def test_a_lab_cfg_by_path(tmp_path: Path) -> None:
    cfg = tmp_path / "lab.cfg"
    cfg.write_text("Device,Cam,DemoCamera,DCam\nProperty,Core,Initialize,1\nProperty,Core,Camera,Cam\n")
    core = open_core(SourceSettings(kind="micromanager", cfg=cfg), CameraSettings())
    assert core.getCameraDevice() == "Cam"
    close_core(core)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Device,Cam,NoSuchAdapter,DCam\n", "NoSuchAdapter"),
        ("Device,Cam,DemoCamera,NoSuchDevice\n", "NoSuchDevice"),
        ("Device,XY,DemoCamera,DXYStage\nProperty,Core,Initialize,1\n", "chooses no camera.*none is loaded"),
        ("Device,Cam\n", "Device,Cam"),
    ],
)
def test_a_cfg_that_cannot_load_is_explained_and_another_core_opens(tmp_path: Path, text: str, message: str) -> None:
    cfg = tmp_path / "bad.cfg"
    cfg.write_text(text)
    with pytest.raises(CoreError, match=message) as caught:
        open_core(SourceSettings(kind="micromanager", cfg=cfg), CameraSettings())
    assert "bad.cfg" in str(caught.value)
    assert_a_core_still_opens()


def test_a_missing_cfg_is_explained() -> None:
    with pytest.raises(CoreError, match=r"'nowhere\.cfg' does not exist"):
        open_core(SourceSettings(kind="micromanager", cfg=Path("nowhere.cfg")), CameraSettings())
    with pytest.raises(CoreError, match=r"needs source\.cfg"):
        open_core(SourceSettings(kind="micromanager"), CameraSettings())


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"Gian": 3}, "no property 'Gian'.*'Gain'"),
        ({"PixelType": "9bit"}, "'8bit'"),
        ({"Gain": 99}, "allowed: -5 to 8"),
    ],
)
def test_a_wrong_property_is_explained(properties: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        open_core(demo(), CameraSettings(properties=properties))
    assert_a_core_still_opens()


def test_other_kinds_are_refused() -> None:
    with pytest.raises(CoreError, match="'demo', 'micromanager'"):
        open_core(SourceSettings(kind="replay"), CameraSettings())


# ---------------------------------------------------------------- which installation


def test_the_installation_is_described() -> None:
    chosen, why, found = describe_installation(demo())
    assert chosen is not None
    assert chosen.usable
    assert "DemoCamera" in chosen.adapters
    assert str(chosen.device_interface) in why
    assert chosen.path in [one.path for one in found]


def test_a_folder_without_adapters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CoreError, match="no device adapters"):
        open_core(demo(micromanager_dir=tmp_path), CameraSettings())
    chosen, why, _ = describe_installation(demo(micromanager_dir=tmp_path))
    assert chosen is None
    assert "no device adapters" in why


def fake(path: str, origin: str, interface: int | None = 75) -> Installation:
    return Installation(Path(path), origin, interface, 75, ("DemoCamera",))


def test_a_wrong_device_interface_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_installations", lambda folder=None: [fake("/old", "application", 70)])
    with pytest.raises(CoreError, match=r"device interface 70, but the installed pymmcore needs 75.*nightly"):
        open_core(demo(), CameraSettings())


def test_nothing_found_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_installations", lambda folder=None: [])
    with pytest.raises(CoreError, match="mmcore install"):
        open_core(demo(), CameraSettings())


def test_the_test_adapters_do_not_hide_a_labs_own_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [fake("/adapters", "mm-test-adapters"), fake("/lab", "application")]
    monkeypatch.setattr(module, "find_installations", lambda folder=None: both)
    lab, why, _ = describe_installation(SourceSettings(kind="micromanager", cfg=Path("lab.cfg")))
    assert lab is not None
    assert lab.path == Path("/lab")
    assert "/adapters" in why
    chosen, _, _ = describe_installation(demo())
    assert chosen is not None
    assert chosen.path == Path("/adapters")


def test_the_environment_variable_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [fake("/mine", "MICROMANAGER_PATH"), fake("/adapters", "mm-test-adapters")]
    monkeypatch.setattr(module, "find_installations", lambda folder=None: found)
    chosen, _, _ = describe_installation(demo())
    assert chosen is not None
    assert chosen.path == Path("/mine")


def test_closing_stops_a_running_camera() -> None:
    core = open_core(demo(), CameraSettings())
    core.startContinuousSequenceAcquisition(0)
    close_core(core)
    assert tuple(core.getLoadedDevices()) == ("Core",)  # nano returns a list
    fake_core = FakeCore()
    fake_core.startContinuousSequenceAcquisition()
    close_core(fake_core)
    assert not fake_core.isSequenceRunning()

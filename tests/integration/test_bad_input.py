"""What a session is given wrongly at the microscope: an error that says what to do, and a session that still works."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from livescope.acquire import core as core_module
from livescope.acquire import ring
from livescope.acquire.changes import Exposure, Preset, Property, Roi, UseCamera
from livescope.acquire.core import Installation
from livescope.cli import main
from livescope.errors import AcquisitionError, CoreError, LivescopeError, SettingsError
from livescope.session import Session
from livescope.settings import load_settings, override_settings
from livescope.status import SessionState

pytest.importorskip("mm_test_adapters", reason="needs Micro-Manager's demo devices")


@pytest.fixture
def session() -> Iterator[Session]:
    common = ["source.kind=demo", "camera.pixel_um=1.3", "detector.backend=onnx", "run.frames=2"]
    with Session(load_settings(None, common)) as opened:
        yield opened


def assert_still_works(session: Session) -> None:
    session.start().result(60)
    assert session.wait(60)
    status = session.status()
    assert status.state is SessionState.IDLE, status.reason
    assert status.delivered + status.lost["core"] == 2


MISTAKES: dict[str, tuple[str, type[LivescopeError], str]] = {
    "missing adapter": ("Device,Cam,NoSuchAdapter,DCam", CoreError, r"bad\.cfg.*NoSuchAdapter.*livescope doctor"),
    "missing device": ("Device,Cam,DemoCamera,NoSuchCam", CoreError, r"bad\.cfg.*NoSuchCam.*livescope doctor"),
    "no camera": (
        "Device,XY,DemoCamera,DXYStage\nProperty,Core,Initialize,1",
        CoreError,
        r"bad\.cfg.*chooses no camera.*Property,Core,Camera",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_configuration_that_does_not_load(session: Session, tmp_path: Path, mistake: str) -> None:
    text, error, message = MISTAKES[mistake]
    good = session.settings
    (tmp_path / "bad.cfg").write_text(text + "\n")
    session.settings = override_settings(good, ["source.kind=micromanager", f"source.cfg={tmp_path / 'bad.cfg'}"])
    with pytest.raises(error, match=message):
        session.start().result(60)
    assert session.status().state is SessionState.FAILED
    session.settings = good
    assert_still_works(session)


def test_a_wrong_device_interface(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Installation(Path("/old"), "application", 70, 75, ("DemoCamera",))
    with monkeypatch.context() as patch:
        patch.setattr(core_module, "find_installations", lambda folder=None: [old])
        with pytest.raises(CoreError, match=r"/old has device interface 70, but .* needs 75.*mmcore"):
            session.start().result(60)
    assert_still_works(session)


def test_a_ring_larger_than_the_memory(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=2 * 2**30))
    monkeypatch.setattr(ring, "psutil", memory)
    good = session.settings
    for megabytes, message in ((1500, "1500 is more than half of the free memory"), (16, None)):
        session.settings = override_settings(good, [f"camera.ring_mb={megabytes}"])
        if message is not None:
            with pytest.raises(CoreError, match=message):
                session.start().result(60)
    assert_still_works(session)


def test_a_plan_with_no_position(session: Session, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("time_plan: {interval: 1, loops: 2}\n")
    session.set_plan(plan)
    with pytest.raises(SettingsError, match=r"plan\.yaml.*has no position; add stage_positions"):
        session.start().result(60)
    session.set_plan(None)
    assert_still_works(session)


CHANGES: list[tuple[Any, type[LivescopeError], str]] = [
    (
        Roi(500, 0, 100, 100),
        SettingsError,
        r"100 x 100 px at \(500, 0\) does not lie on the sensor of 512 x 512",
    ),
    (Roi(0, 0, 0, 10), SettingsError, "does not lie on the sensor"),
    (Exposure(-5.0), SettingsError, "exposure -5.0 ms is out of range; allowed: 0 to 600000 ms"),
    (Property("Camera", "Gain", 99), AcquisitionError, "Gain = 99 was refused.*allowed: -5 to 8"),
    (Property("Laser", "Power", 1), SettingsError, "no device 'Laser'. Loaded: .*'Camera'"),
    (Preset("Channel", "Purple"), SettingsError, "no preset 'Purple'. It has: .*'DAPI'"),
    (UseCamera("Second"), SettingsError, "no camera 'Second'. Loaded devices: .*'Camera'"),
]


@pytest.mark.parametrize("live", [False, True])
def test_changes_that_cannot_be(session: Session, live: bool) -> None:
    if live:
        session.settings = override_settings(session.settings, ["run.frames=null"])
        session.start().result(60)
    for change, error, message in CHANGES:
        with pytest.raises(error, match=message):
            session.change(change).result(60)
    if live:
        assert session.status().state is SessionState.RUNNING
        session.stop().result(60)
        session.settings = override_settings(session.settings, ["run.frames=2"])
    assert_still_works(session)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--set", "camera.exposure_ms=-1"], 2, "camera.exposure_ms"),
        (["--set", "camera.ring_mb=1"], 2, "camera.ring_mb"),
        (["--set", "run.plan={tmp_path}/plan.yaml"], 2, "has no position"),
        (["--set", "detector.camera=Left"], 2, "'Left' is none of the cameras in use: 'Camera'"),
        (["--set", "source.micromanager_dir={tmp_path}"], 3, "no device adapters"),
    ],
)
def test_the_command_line_says_it_and_exits(
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    root: Path,
) -> None:
    (tmp_path / "plan.yaml").write_text("time_plan: {interval: 1, loops: 2}\n")
    given = [argument.format(tmp_path=tmp_path) for argument in arguments]
    common = ["run", str(root / "configs" / "demo.yaml"), "--headless", "--frames", "1", "--set", "record.path=null"]
    monkeypatch.setattr(sys, "argv", ["livescope", *common, *given])
    with pytest.raises(SystemExit) as exit_info:
        main()
    printed = capsys.readouterr()
    assert exit_info.value.code == code
    assert words in " ".join((printed.out + printed.err).split())
    assert "Traceback" not in printed.err

"""A camera that is lost, a stage that is silent, frames of another shape: the session says so, and goes on."""

from __future__ import annotations

import json
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from livescope.acquire import recovery
from livescope.acquire.changes import Property, Roi
from livescope.session import Session
from livescope.settings import load_settings
from livescope.status import SessionState


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "FIRST_PAUSE_S", 0.05)


def session_of(kind: str, tmp_path: Path, *more: str) -> Session:
    pytest.importorskip("mm_test_adapters", reason="needs Micro-Manager's demo devices")
    common = [
        f"source.kind={kind}",
        f"record.path={tmp_path / 'run.ome.zarr'}",
        "record.labels=false",
        "camera.when_lost=restart",
        "camera.pixel_um=0.65",
        "detector.backend=onnx",
        "simulation.width=256",
        "simulation.height=256",
    ]
    return Session(load_settings(None, [*common, *more]))


@pytest.mark.parametrize("kind", ["simulated", "demo"])
def test_a_run_survives_a_camera_that_is_unplugged(kind: str, tmp_path: Path) -> None:
    with session_of(kind, tmp_path) as session:
        results = session.results()
        first = next(results)
        session.change(Roi(16, 8, 200, 160)).result(60)
        next(a for a in results if a.frame.segment == 1)
        core: Any = session.core
        with session.locked():
            core.stopSequenceAcquisition()  # behind the session's back: as a camera that is gone
        again = next(a for a in results if a.frame.segment == 2)
        assert session.status().state is SessionState.RUNNING
        assert first.frame.index == 0
        assert again.frame.pixels.shape == (160, 200)  # as it was set before
        session.stop().result(60)
        status = session.status()
    assert any("camera lost" in warning for warning in status.warnings)
    assert status.errors == ()
    manifest = json.loads((tmp_path / "run.ome.zarr" / "manifest.json").read_text())
    told = [event for event in manifest["health"] if event["health"] != "stalled"]  # as a slow machine may be
    lost = [event["health"] for event in told].index("lost")
    assert "ok" in [event["health"] for event in told[lost:]]
    assert "was lost: it stopped by itself" in told[lost]["message"]
    assert [note["segment"] for note in manifest["segments"]] == [0, 1, 2]
    assert "to start again" in manifest["segments"][2]["reason"]
    assert any("camera lost" in warning for warning in manifest["warnings"])


def test_frames_of_another_shape_are_called_and_stored(tmp_path: Path) -> None:
    with session_of("demo", tmp_path, "detector.every_frame=true") as session:
        results = session.results()
        next(results)
        session.change(Property("Camera", "PixelType", "8bit")).result(60)
        assert next(a for a in results if a.frame.segment == 1).frame.pixels.dtype.name == "uint8"
        session.change(Property("Camera", "PixelType", "32bitRGB")).result(60)
        assert next(a for a in results if a.frame.segment == 2).frame.pixels.ndim == 2
        session.change(Property("Camera", "Binning", 4)).result(60)  # 2.6 um: no model is made for that
        while not any("pixels of 2.6 um do not fit" in error for error in session.status().errors):
            time.sleep(0.01)
        assert session.status().state is SessionState.RUNNING  # frames are stored all the same
        session.stop().result(60)


def test_unknown_pixel_size_and_a_silent_stage_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = tmp_path / "no_objective.cfg"
    cfg.write_text(
        "Device,Camera,DemoCamera,DCam\nDevice,XY,DemoCamera,DXYStage\nProperty,Core,Initialize,1\n"
        "Property,Core,Camera,Camera\nProperty,Core,XYStage,XY\n"
    )
    with session_of("demo", tmp_path, f"source.cfg={cfg}", "camera.pixel_um=null", "record.path=null") as session:
        session.snap().result(60)
        core: Any = session.core

        def silent() -> None:
            raise RuntimeError("no answer")

        monkeypatch.setattr(core, "getXYPosition", silent)
        list(islice(session.results(), 2))
        warnings = session.status().warnings
    assert any("the pixel size of these frames is unknown" in w and "camera.pixel_um" in w for w in warnings)
    assert any("the stage did not say where it is: no answer" in w for w in warnings)

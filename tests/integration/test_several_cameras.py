"""A Multi Camera: each camera's frames are called and followed by themselves, or those of one that is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from livescope.errors import SettingsError
from livescope.headless import summarise
from livescope.session import Session
from livescope.settings import load_settings

CFG = """
Device,Left,DemoCamera,DCam
Device,Right,DemoCamera,DCam
Device,Both,Utilities,Multi Camera
Property,Core,Initialize,1
Property,Both,Physical Camera 1,Left
Property,Both,Physical Camera 2,Right
Property,Core,Camera,Both
"""


def session_of(tmp_path: Path, *more: str) -> Session:
    pytest.importorskip("mm_test_adapters", reason="needs Micro-Manager's demo devices")
    cfg = tmp_path / "two.cfg"
    cfg.write_text(CFG)
    common = ["source.kind=demo", f"source.cfg={cfg}", "camera.pixel_um=1.3", "detector.backend=onnx", "run.frames=6"]
    return Session(load_settings(None, [*common, *more]))


def test_each_camera_is_called_and_followed_by_itself(tmp_path: Path) -> None:
    with session_of(tmp_path, "detector.every_frame=true") as session:
        analyses = list(session.results())
        summary = summarise(session, 1.0)
        assert session.latest_frame().camera == session.latest_analysis().frame.camera  # one of them is shown
    assert summary["errors"] == []
    assert {(row["camera"], row["delivered"] + row["lost_core"]) for row in summary["losses"]} == {
        ("Left", 6),
        ("Right", 6),
    }
    assert summary["frames_analysed"] == summary["frames_delivered"] == len(analyses)
    assert set(summary["cameras"]) == {"Left", "Right"}
    tracks = {label: set[int]() for label in ("Left", "Right")}
    for analysis in analyses:
        tracks[analysis.frame.camera].update(analysis.calls.track.tolist())
    assert not tracks["Left"] & tracks["Right"]


def test_one_camera_is_chosen(tmp_path: Path) -> None:
    with session_of(tmp_path, "detector.every_frame=true", "detector.camera=Right") as session:
        analyses = list(session.results())
        assert session.latest_frame().camera == "Right"
        assert len(session.viability_curve()) == len(analyses)
        status = session.status()
    assert {analysis.frame.camera for analysis in analyses} == {"Right"}
    assert len(analyses) + status.lost["core"] >= 6
    assert status.delivered + status.lost["core"] == 12  # the other one's are stored all the same


def test_a_camera_that_is_not_there_is_refused_and_the_session_stays_usable(tmp_path: Path) -> None:
    with session_of(tmp_path, "detector.camera=Middle") as session:
        with pytest.raises(SettingsError, match="'Middle' is none of the cameras in use: 'Left', 'Right'"):
            session.start().result()
        detector = session.settings.detector.model_copy(update={"camera": "Left"})
        session.settings = session.settings.model_copy(update={"detector": detector})
        session.start().result()
        assert session.wait(60)
        assert session.status().analysed > 0

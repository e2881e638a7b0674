"""A session analyses what its detector can: status and summary say which frames, and no reader opens anything."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from rich.console import Console

from livescope.acquire.changes import Roi
from livescope.analysis import FrameAnalyser
from livescope.cadence import BACKLOG
from livescope.calls import Analysis
from livescope.frames import Frame, FrameSpec
from livescope.headless import print_summary, run_headless, summarise
from livescope.session import Session
from livescope.settings import Settings, load_settings


def settings_of(*more: str) -> Settings:
    common = ["simulation.width=128", "simulation.height=128", "detector.backend=onnx", "run.frames=30"]
    return load_settings(None, [*common, *more])


def test_a_detector_that_cannot_keep_up_gets_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    analyse, fell_back = FrameAnalyser.__call__, threading.Event()

    def slow(self: FrameAnalyser, frame: Frame) -> Analysis:
        assert fell_back.wait(60)
        return analyse(self, frame)

    monkeypatch.setattr(FrameAnalyser, "__call__", slow)
    with Session(settings_of()) as session:
        assert session.status().cadence == "every frame"
        session.start().result(60)
        while session.status().cadence != "newest only":
            assert not session.wait(0.01), "the run ended before the cadence fell"
        fell_back.set()
        assert session.wait(60)
        summary = summarise(session, 1.0)
    assert summary["cadence"] == "newest only"
    assert summary["frames_lost"]["analysis"] >= BACKLOG
    assert summary["frames_analysed"] + summary["frames_lost"]["analysis"] == summary["frames_delivered"]
    console = Console(record=True, width=200)
    print_summary(summary, console)
    assert f"{summary['frames_analysed']} analysed (newest only)" in console.export_text()


@pytest.mark.parametrize(("every", "cadence"), [("true", "every frame"), ("false", "newest only")])
def test_a_cadence_that_is_asked_for_is_kept(every: str, cadence: str) -> None:
    with Session(settings_of(f"detector.every_frame={every}")) as session:
        summary = run_headless(session, Console(quiet=True))
    assert summary["cadence"] == cadence
    if every == "true":
        assert summary["frames_analysed"] == summary["frames_delivered"]


def test_a_new_shape_is_made_ready_beside_the_run_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare, go_on = FrameAnalyser.prepare, threading.Event()
    by: list[str] = []

    def slow(self: FrameAnalyser, spec: FrameSpec) -> None:
        by.append(threading.current_thread().name)
        if len(by) > 1:
            assert go_on.wait(60)
        prepare(self, spec)

    monkeypatch.setattr(FrameAnalyser, "prepare", slow)
    with Session(settings_of("run.frames=null")) as session:
        results = session.results()
        next(results)
        session.change(Roi(0, 0, 64, 48)).result(60)
        while len(by) < 2:
            assert not session.wait(0.01)
        session.set_exposure(5.0).result(60)  # nobody waits for the model
        busy, delivered = session.status().busy, session.status().delivered
        while session.status().delivered < delivered + 5:  # and frames go on
            assert not session.wait(0.01)
        go_on.set()
        assert next(a for a in results if a.frame.segment == 1).frame.pixels.shape == (48, 64)
        assert session.status().errors == ()
    if by[1].startswith("livescope-preparing"):  # the first new frame may come to the detector before
        assert busy is not None
        assert "64 x 48 px: ROI of 64 x 48" in busy
    assert by[0].startswith("livescope-control")


def test_a_status_opens_no_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[str] = []
    describe = FrameAnalyser.describe

    def watched(self: FrameAnalyser) -> object:
        described.append(threading.current_thread().name)
        return describe(self)

    monkeypatch.setattr(FrameAnalyser, "describe", watched)
    path = tmp_path / "run.ome.zarr"
    with Session(settings_of("detector.backend=auto", f"record.path={path}")) as session:
        session._open_model()
        assert session.status().backend is None
        assert described == []
        session.start().result(60)
        assert session.wait(60)
        status = session.status()
    assert status.backend is not None
    assert threading.current_thread().name not in described  # only who runs it asks it what it is
    from livescope.api import open_record

    assert open_record(path).manifest["backend"]["backend"] == status.backend.backend

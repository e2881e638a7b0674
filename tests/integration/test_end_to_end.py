"""The whole job, headless, on every source: what was made is delivered or counted, what was delivered is on disk."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from skimage.io import imread, imsave

from livescope.cli import main
from livescope.errors import BackendError, RecordError
from livescope.frames import Frame
from livescope.headless import run_headless
from livescope.record.images import Images
from livescope.record.reader import open_record
from livescope.session import Session, SessionState
from livescope.settings import Settings, load_settings

_FRAMES = 24


def _files_of_cells(folder: Path) -> Path:
    """Write simulated frames as a folder of TIFFs."""
    from livescope.simulate.optics import render_field

    folder.mkdir()
    simulation = load_settings(None, ["simulation.width=320", "simulation.height=256"]).simulation
    for n in range(_FRAMES):
        pixels, _ = render_field(simulation, frame_number=n)
        imsave(folder / f"t{n}.tif", pixels, check_contrast=False)
    return folder


@pytest.fixture(params=["demo", "simulated", "replay"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of a short run on each kind of source."""
    kind = request.param
    overrides = [
        f"source.kind={kind}",
        "simulation.width=320",
        "simulation.height=256",
        "camera.exposure_ms=10",
        f"run.frames={_FRAMES}",
        f"record.path={tmp_path / 'run.ome.zarr'}",
        "record.queue_frames=64",
    ]
    if kind == "demo":
        pytest.importorskip("mm_test_adapters")
        overrides += ["camera.pixel_um=0.65", "camera.properties={PixelType: 16bit}"]
    if kind == "replay":
        overrides += [
            f"source.path={_files_of_cells(tmp_path / 'files')}",
            "camera.pixel_um=0.65",
            "source.rate_fps=100",
        ]
    return load_settings(None, overrides)


@pytest.fixture
def session(settings: Settings) -> Iterator[Session]:
    """A session that is closed whatever happens."""
    with Session(settings) as opened:
        yield opened


def test_every_frame_is_accounted_for(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    summary = run_headless(session, Console(quiet=True))
    lost = summary["frames_lost"]
    assert summary["errors"] == []
    assert summary["state"] == SessionState.IDLE
    assert summary["frames_delivered"] + lost["core"] == _FRAMES
    assert summary["frames_recorded"] + lost["recorder"] == summary["frames_delivered"]
    assert summary["frames_analysed"] + lost["analysis"] == summary["frames_delivered"]
    assert summary["frames_analysed"] > 0
    stored = zarr.open_array(f"{summary['record']}/0", mode="r")
    assert stored.shape[0] == summary["frames_recorded"]
    assert np.asarray(stored[-1]).any()
    json.dumps(summary, allow_nan=False)


def test_stored_frames_are_the_delivered_ones(session: Session) -> None:
    """Bit for bit, in order."""
    seen: dict[int, np.ndarray] = {}
    receive = session._receive

    def spy(frame: Frame) -> None:
        seen[frame.index] = frame.pixels.copy()
        receive(frame)

    session._receive = spy  # type: ignore[method-assign]
    session.start().result()
    assert session.wait(60)
    stored = np.asarray(zarr.open_array(f"{session.status().record}/0", mode="r")[:])
    stored = stored.reshape(-1, *stored.shape[-2:])
    assert len(stored) == len(seen)
    for n, index in enumerate(sorted(seen)):
        np.testing.assert_array_equal(stored[n], seen[index])


def test_results_as_an_iterator(settings: Settings) -> None:
    every = settings.model_copy(update={"detector": settings.detector.model_copy(update={"every_frame": True})})
    with Session(every) as session:
        results = session.results()
        session.start().result()
        indices = [analysis.frame.index for analysis in results]
    assert indices == list(range(_FRAMES))


def test_a_second_run_in_one_session_begins_a_new_account(tmp_path: Path) -> None:
    settings = load_settings(None, ["simulation.width=256", "simulation.height=256", "run.frames=5"])
    with Session(settings) as session:
        for _ in range(2):
            session.start().result()
            assert session.wait(60)
            assert session.status().delivered == 5
            assert session.status().state is SessionState.IDLE


def test_recording_can_begin_and_end_during_a_run(tmp_path: Path) -> None:
    overrides = ["simulation.width=256", "simulation.height=256"]
    with Session(load_settings(None, overrides)) as session:
        results = session.results()
        session.start().result()
        next(results)
        session.settings = load_settings(None, [*overrides, f"record.path={tmp_path / 'later.ome.zarr'}"])
        session.start_recording().result()
        while session.status().recorded < 5:  # results wait in line: some of them are from before
            next(results)
        session.stop_recording().result()
        assert session.status().state is SessionState.RUNNING
        session.stop().result()
    assert zarr.open_array(tmp_path / "later.ome.zarr" / "0", mode="r").shape[0] == session.status().recorded


def test_a_record_begun_before_its_run_keeps_the_account_of_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = iter([True])  # by the disk, the first frame
    pyramid = Images.pyramid

    def make(*args: Any) -> Any:
        if next(refused, False):
            raise OSError(28, "No space left on device")
        return pyramid(*args)

    monkeypatch.setattr(Images, "pyramid", make)
    (tmp_path / "rules.yaml").write_text(
        "rules: [{name: none, when: {metric: elapsed_h, above: 99}, do: [{action: stop}]}]"
    )
    overrides = [
        "simulation.width=128",
        "simulation.height=128",
        "run.frames=6",
        f"run.rules={tmp_path / 'rules.yaml'}",
    ]
    path = tmp_path / "run.ome.zarr"
    with Session(load_settings(None, [*overrides, f"record.path={path}"])) as session:
        session.start_recording().result()
        session.settings = load_settings(None, overrides)  # it is the open record that counts, not the path
        session.start().result()
        assert session.wait(60)
        status = session.status()
    assert (status.delivered, status.recorded, status.lost["recorder"]) == (6, 5, 1)
    manifest = open_record(path).manifest
    (losses,) = manifest["losses"]
    assert (losses["delivered"], losses["lost_recorder"]) == (6, 1)
    assert manifest["rules"]["rules"][0]["name"] == "none"


def test_each_press_of_record_is_a_record_of_its_own(tmp_path: Path) -> None:
    """With a fixed path, also where it may be overwritten, and with a time that two of them share."""
    small = ["simulation.width=128", "simulation.height=128", "run.frames=2", "record.labels=false"]
    fixed = f"record.path={tmp_path / 'run.ome.zarr'}"
    with Session(load_settings(None, [*small, fixed, "record.overwrite=true"])) as session:
        for _ in range(3):
            session.start().result()
            assert session.wait(60)
    timed = load_settings(None, [*small, f"record.path={tmp_path / '{time}' / 'run.ome.zarr'}"])
    for _ in range(3):
        with Session(timed) as session:
            session.start().result()
            assert session.wait(60)
    assert sorted(p.name for p in tmp_path.iterdir())[-3:] == ["run-2.ome.zarr", "run-3.ome.zarr", "run.ome.zarr"]
    assert len(list(tmp_path.glob("*/run*.ome.zarr"))) == 3
    with Session(load_settings(None, [*small, fixed])) as session, pytest.raises(RecordError, match="exists"):
        session.start().result()  # what another session wrote is refused as ever


def test_a_failing_detector_never_stops_the_record(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from livescope.analysis import FrameAnalyser

    def fail(self: FrameAnalyser, frame: Frame) -> None:
        raise BackendError("the device is gone")

    monkeypatch.setattr(FrameAnalyser, "__call__", fail)
    with Session(settings) as session:
        session.start().result()
        assert session.wait(60)
        status = session.status()
    assert any("the device is gone" in error for error in status.errors)
    assert status.recorded + status.lost["recorder"] == status.delivered
    assert status.lost["analysis"] == status.delivered


def test_run_command_writes_record_picture_and_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Path(__file__).parents[2] / "configs" / "simulated.yaml"
    arguments = ["run", config, "--headless", "--frames", "6", "--summary", tmp_path / "s.json", "--picture"]
    arguments += [tmp_path / "last.png", "--set", f"record.path={tmp_path / 'run.ome.zarr'}"]
    arguments += ["--set", "simulation.width=320", "--set", "simulation.height=320"]
    monkeypatch.setattr(sys, "argv", ["livescope", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert not exit_info.value.code
    summary = json.loads((tmp_path / "s.json").read_text())
    assert set(summary) >= {
        "frames_delivered", "frames_lost", "frames_recorded", "frames_analysed", "frames_shown", "fps", "latency_ms",
        "viability", "backend", "model", "record", "errors",
    }  # fmt: skip
    assert summary["frames_delivered"] == 6
    assert summary["truth"]["f1"] > 0.7
    assert imread(tmp_path / "last.png").shape[0] >= 320

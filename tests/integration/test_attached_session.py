"""A session over a core that another program owns: called and recorded, and left exactly as it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import useq

import livescope
from livescope.acquire.changes import Roi
from livescope.acquire.core import close_core
from livescope.errors import AcquisitionError, CoreError, SettingsError, SourceError
from livescope.session import Session
from livescope.settings import SimulationSettings, load_settings
from livescope.simulate import FakeCore
from livescope.status import SessionState


@pytest.fixture
def owned() -> Iterator[Any]:
    """A notebook's core, with living cells under its camera."""
    pytest.importorskip("mm_test_adapters", reason="needs Micro-Manager's demo devices")
    from livescope.settings import CameraSettings
    from livescope.simulate.camera import open_simulated_core

    core = open_simulated_core(SimulationSettings(width=256, height=256), CameraSettings(exposure_ms=20))
    yield core
    close_core(core)


def state_of(core: Any) -> tuple[Any, ...]:
    return (
        core.getCameraDevice(),
        core.getExposure(),
        core.getROI(),
        core.getCircularBufferMemoryFootprint(),
        core.getAutoShutter(),
        core.isSequenceRunning(),
        len(core.events.sequenceAcquisitionStopped),
        len(core.mda.events.frameReady),
    )


def test_a_live_view_is_called_and_recorded_and_goes_on(owned: Any, tmp_path: Path) -> None:
    owned.startContinuousSequenceAcquisition(0)
    before = state_of(owned)
    path = tmp_path / "run.ome.zarr"
    with livescope.attach(owned, f"record.path={path}", "detector.backend=onnx") as session:
        analyses = list(islice(session.results(), 3))
        session.stop().result(60)
        status = session.status()
        assert session.start().result(60) is None  # and once more
        assert next(session.results()).calls is not None
    assert state_of(owned) == before
    assert owned.getLastImage().shape == (256, 256)
    assert all(len(analysis.calls) for analysis in analyses)
    assert (status.state, status.errors) == (SessionState.IDLE, ())
    assert status.recorded + status.lost["recorder"] == status.delivered
    record = livescope.open_record(path)
    assert len(record) == status.recorded


def test_a_planned_run_of_the_owner_is_called(owned: Any) -> None:
    plan = useq.MDASequence(stage_positions=[(0, 0, 0), (300, 0, 0)], time_plan={"interval": 0, "loops": 2})
    with livescope.attach(owned, "detector.every_frame=true") as session:
        results = session.results()
        session.start().result(60)
        runner = threading.Thread(target=lambda: owned.run_mda(plan).join())
        runner.start()
        analyses = list(islice(results, 4))
        runner.join()
    assert [(a.frame.metadata["t"], a.frame.metadata["p"]) for a in analyses] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(len(analysis.calls) for analysis in analyses)


@pytest.mark.parametrize(
    ("chosen", "called", "told"),
    [
        ("null", "Brightfield", "frames of 'Brightfield' are called, all others are stored only"),
        ("Cy5", "Cy5", None),
        ("GFP", None, "'GFP' is none of the channels of the core's owner: 'Brightfield', 'Cy5'"),
    ],
)
def test_one_channel_of_the_owners_run_is_called(
    owned: Any, tmp_path: Path, chosen: str, called: str | None, told: str | None
) -> None:
    path = tmp_path / "run.ome.zarr"
    plan = useq.MDASequence(channels=["Brightfield", "Cy5"], time_plan={"interval": 0, "loops": 3})
    choices = ["detector.every_frame=true", f"detector.channel={chosen}", f"record.path={path}"]
    with livescope.attach(owned, *choices) as session:
        session.start().result(60)
        owned.run_mda(plan).join()
        while session.status().delivered < 6:
            time.sleep(0.005)
        session.stop().result(60)
        status = session.status()
    record = livescope.open_record(path)
    assert len(record) == 6  # the others are stored
    assert [record.frame(k, pixels=False).channel for k in sorted(record.analysed)] == [called] * (3 if called else 0)
    channels = [warning for warning in status.warnings if "detector.channel" in warning]
    assert len(channels) == (told is not None)
    assert all(str(told) in warning for warning in channels)


def test_a_live_view_beside_a_plan_with_channels_is_called_unless_a_channel_is_chosen(owned: Any) -> None:
    plan = useq.MDASequence(channels=["Brightfield", "Cy5"])
    for chosen in ("null", "Brightfield"):
        with livescope.attach(owned, "detector.every_frame=true", f"detector.channel={chosen}") as session:
            session.start().result(60)
            owned.run_mda(plan).join()
            owned.startContinuousSequenceAcquisition(0)
            while session.status().delivered < 5:
                time.sleep(0.005)
            owned.stopSequenceAcquisition()
            session.stop().result(60)
            status = session.status()
        assert status.analysed == (status.delivered - status.lost["analysis"] - 1 if chosen == "null" else 1)
        assert any("name no channel" in warning for warning in status.warnings) == (chosen != "null")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("run.plan=plan.yaml", "only watched, and its owner moves it"),
        ("camera.properties={Binning: 2}", "only watched, and its owner sets its camera"),
    ],
)
def test_what_only_the_owner_can_do_is_refused_before_the_first_frame(owned: Any, override: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        livescope.attach(owned, override)


def test_a_plan_that_is_chosen_later_is_refused_too(owned: Any) -> None:
    with livescope.attach(owned) as session:
        session.set_plan(Path("plan.yaml"))
        with pytest.raises(SettingsError, match="only watched"):
            session.start().result(60)
        assert not session.status().delivered


def test_what_is_the_owners_is_refused_in_words(owned: Any) -> None:
    with livescope.attach(owned) as session:
        session.start().result(60)
        with pytest.raises(AcquisitionError, match="set the exposure there"):
            session.set_exposure(5.0).result(60)
        with pytest.raises(SettingsError, match="cannot be changed so"):
            session.change(Roi(0, 0, 32, 32)).result(60)
        assert session.status().state is SessionState.RUNNING
    with livescope.attach(owned) as idle, pytest.raises(AcquisitionError, match="snap there"):
        idle.snap().result(60)


def test_attached_is_no_source_of_its_own() -> None:
    with Session(load_settings(None, ["source.kind=attached"])) as session, pytest.raises(SourceError, match="attach"):
        session.start().result(60)


def test_an_owner_that_is_no_core_is_refused_in_words() -> None:
    with pytest.raises(CoreError, match="CMMCorePlus; this is a FakeCore"):
        livescope.attach(FakeCore())

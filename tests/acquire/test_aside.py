"""A frame taken aside (a dye during a bright-field run) lies in the run, and everything is as before it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import useq

from livescope.acquire.aside import Aside
from livescope.acquire.changes import Exposure, Move, Preset, Property
from livescope.acquire.core import close_core
from livescope.acquire.planned import PlannedRun
from livescope.acquire.stream import StreamState
from livescope.errors import AcquisitionError, LivescopeError, SettingsError
from livescope.frames import ASIDE, REASON
from livescope.settings import CameraSettings, SimulationSettings


@pytest.fixture
def core() -> Any:
    pytest.importorskip("mm_test_adapters", reason="the simulated microscope needs the demo stages")
    from livescope.simulate.camera import open_simulated_core

    simulated = open_simulated_core(SimulationSettings(width=96, height=80, rate_fps=200), CameraSettings())
    simulated.setConfig("Channel", "Brightfield")
    yield simulated
    close_core(simulated)


def dye(channel: str = "Cy5") -> Aside:
    return Aside((Preset("Channel", channel), Exposure(7)), "channel Cy5", "why")


def as_before(core: Any) -> bool:
    return (core.getCurrentConfig("Channel"), core.getExposure()) == ("Brightfield", 2.0)


def check_frames(frames: list[Any]) -> None:
    (snap,) = (frame for frame in frames if ASIDE in frame.metadata)
    assert (snap.channel, snap.exposure_ms) == ("Cy5", 7.0)
    assert (snap.metadata[ASIDE], snap.metadata[REASON]) == ("channel Cy5", "why")
    assert {(frame.channel, frame.exposure_ms) for frame in frames if frame is not snap} == {(None, 2.0)}
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert frames[0] is not snap
    assert frames[-1] is not snap


def test_a_live_stream_pauses_for_it(core: Any, sink: Any) -> None:
    stream = sink.stream(core, CameraSettings(exposure_ms=2))
    stream.start()
    stream.snap()
    assert stream.aside(dye()).result(0) is None
    stream.snap()
    stream.stop()
    assert stream.state is StreamState.STOPPED, stream.error
    assert as_before(core)
    check_frames(sink.frames)
    assert [note.reason for note in stream.notes] == ["start", "channel Cy5 (why)", "after channel Cy5 (why)"]


def test_a_refused_one_harms_nothing(core: Any, sink: Any) -> None:
    stream = sink.stream(core, CameraSettings(exposure_ms=2))
    stream.start()
    with pytest.raises(SettingsError, match="has no preset 'DAPI'"):
        stream.aside(dye("DAPI"))
    stream.snap()
    stream.stop()
    assert stream.state is StreamState.STOPPED, stream.error
    assert as_before(core)
    assert {frame.metadata.get(ASIDE) for frame in sink.frames} == {None}


def test_without_a_way_back_later_frames_say_so(core: Any, sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(change: Property, core: Any) -> None:
        raise AcquisitionError("the wheel is stuck.")

    stream = sink.stream(core, CameraSettings(exposure_ms=2))
    stream.start()
    monkeypatch.setattr(Property, "apply", refuse)
    with pytest.raises(AcquisitionError, match=r"no way back from channel Cy5: the wheel is stuck"):
        stream.aside(dye())
    assert stream.snap().metadata[ASIDE] == "channel Cy5"
    stream.stop()


def test_the_way_back_needs_no_preset(core: Any, sink: Any) -> None:
    core.setProperty("Filter", "State", 7)
    core.setXYPosition(10.0, 20.0)
    stream = sink.stream(core, CameraSettings(exposure_ms=2))
    stream.start()
    stream.aside(Aside((Move(30.0, 40.0, 5.0, "B2"), Preset("Channel", "Cy5")), "channel Cy5", "why"))
    stream.stop()
    assert core.getProperty("Filter", "State") == "7"
    # the demo stage goes in steps of 15 nm
    assert (*core.getXYPosition(), core.getPosition()) == pytest.approx((10.0, 20.0, 0.0), abs=0.02)
    (snap,) = (frame for frame in sink.frames if frame.aside)
    assert snap.position == "B2"
    assert (snap.x_um, snap.y_um, snap.z_um) == pytest.approx((30.0, 40.0, 5.0), abs=0.02)


def test_a_plan_takes_it_between_two_events(core: Any, sink: Any) -> None:
    first, taken = threading.Event(), threading.Event()

    def receive(frame: Any) -> None:
        sink.frames.append(frame)
        first.set()

    def events() -> Any:
        yield useq.MDAEvent(index={"t": 0}, x_pos=0, y_pos=0)
        assert taken.wait(60)
        yield useq.MDAEvent(index={"t": 1}, x_pos=0, y_pos=0)

    planned = PlannedRun(core, receive, sink.ledger, CameraSettings(exposure_ms=2), plan=events())
    planned.start()
    assert first.wait(60)
    done = planned.aside(dye())
    taken.set()  # the plan's thread is inside `events` until now: the frame aside comes after the second event at most
    refused = planned.aside(dye("DAPI"))
    assert planned.wait(60)
    assert planned.state is StreamState.ENDED, planned.error
    assert as_before(core)
    outcomes = [future.exception(0) for future in (done, refused)]
    assert outcomes[0] is None
    assert isinstance(outcomes[1], LivescopeError)
    assert sum(ASIDE in frame.metadata for frame in sink.frames) == 1


def test_a_plan_that_has_ended_refuses(core: Any, sink: Any) -> None:
    planned = PlannedRun(core, sink.frames.append, sink.ledger, CameraSettings(), plan=[useq.MDAEvent()])
    planned.start()
    assert planned.wait(60)
    with pytest.raises(AcquisitionError, match="the plan ended before its turn came"):
        planned.aside(dye()).result(0)


def test_a_cancelled_plan_leaves_nobody_waiting(core: Any, sink: Any) -> None:
    plan = [useq.MDAEvent(min_start_time=600.0)]
    planned = PlannedRun(core, sink.frames.append, sink.ledger, CameraSettings(), plan=plan)
    planned.start()
    planned.pause()
    done = planned.aside(dye())
    planned.stop()
    with pytest.raises(AcquisitionError, match="the plan ended before its turn came"):
        done.result(60)

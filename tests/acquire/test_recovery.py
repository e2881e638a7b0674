"""A camera that is lost or stalls: told, ended cleanly, or brought back; the light never stays on."""

from __future__ import annotations

import time
from typing import Any

import pytest

from livescope.acquire import health
from livescope.acquire import recovery as module
from livescope.acquire.changes import Exposure
from livescope.acquire.stream import StreamState
from livescope.errors import AcquisitionError
from livescope.settings import CameraSettings
from livescope.simulate import FakeCore
from livescope.simulate.fake_core import Die, Freeze


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.05)


def wait_for_frames(sink: Any, count: int) -> None:
    while len(sink.frames) < count:
        time.sleep(0.005)


def test_a_lost_camera_comes_back(sink: Any) -> None:
    core = FakeCore(script=[Die(10)])
    core.setAutoShutter(False)
    core.setShutterOpen(True)
    reopened = []

    def reopen() -> None:
        reopened.append(len(sink.frames))
        assert not core.getShutterOpen()  # dark while it is away
        if len(reopened) < 3:
            raise RuntimeError("still unplugged")
        core.script = ()

    stream = sink.stream(core, CameraSettings(when_lost="restart"), reopen=reopen)
    stream.start()
    wait_for_frames(sink, 30)
    assert core.getShutterOpen()  # the lamp that was found on lights the new segment
    stream.stop()
    assert stream.state is StreamState.STOPPED
    assert stream.error is None
    assert reopened == [10, 10, 10]
    assert [f.segment for f in sink.frames] == [0] * 10 + [1] * (len(sink.frames) - 10)
    assert "attempt 3 to start again; camera 'Camera' was lost: it stopped by itself after 10" in stream.notes[1].reason
    assert sink.ledger.delivered + sink.lost_in_core == core.produced


def test_a_finite_run_over_a_lost_camera_is_whole(sink: Any) -> None:
    core = FakeCore(script=[Die(10)])
    stream = sink.stream(core, CameraSettings(when_lost="restart"), reopen=lambda: setattr(core, "script", ()))
    stream.start(frames=25)
    assert stream.wait(60)
    assert stream.state is StreamState.ENDED
    assert len(sink.frames) == 25


def test_a_camera_that_does_not_come_back_ends_the_run(sink: Any) -> None:
    core = FakeCore(script=[Die(5)])

    def gone() -> None:
        raise RuntimeError("gone")

    stream = sink.stream(core, CameraSettings(when_lost="restart", restart_limit_s=0.1), reopen=gone)
    stream.start()
    assert stream.wait(60)
    assert stream.state is StreamState.LOST
    assert "did not come back in" in str(stream.error)
    assert sink.told_lost == 1


def test_stop_ends_the_attempts_and_changes_wait_for_them(sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 100.0)
    core = FakeCore(script=[Die(5)])
    stream = sink.stream(core, CameraSettings(when_lost="restart"))
    stream.start()
    while stream.state is not StreamState.RESTARTING:
        time.sleep(0.005)
    with pytest.raises(AcquisitionError, match="being started again"):
        stream.change(Exposure(5.0))
    stream.stop()
    assert stream.state is StreamState.STOPPED
    assert stream.wait(0)


@pytest.mark.parametrize("policy", ["wait", "end", "restart"])
def test_a_stalled_camera(sink: Any, monkeypatch: pytest.MonkeyPatch, policy: str) -> None:
    monkeypatch.setattr(health, "stall_limit_s", lambda exposure_ms: 0.1)
    monkeypatch.setattr(health, "POLL_S", 0.02)
    core = FakeCore(script=[Freeze(8)])
    stream = sink.stream(core, CameraSettings(when_stalled=policy), reopen=lambda: setattr(core, "script", ()))
    stream.start()
    while not sink.health:
        time.sleep(0.005)
    assert sink.health[0].health == "stalled"
    assert "no frame for" in sink.health[0].message
    match policy:
        case "wait":
            assert stream.running
            stream.stop()
            assert stream.state is StreamState.STOPPED
        case "end":
            assert stream.wait(60)
            assert stream.state is StreamState.LOST
            assert "it stalled: no frame for" in str(stream.error)
        case "restart":
            wait_for_frames(sink, 20)
            stream.stop()
            assert [e.health for e in sink.health][-1] == "ok"
            assert {f.segment for f in sink.frames} >= {0, 1}  # on a slow machine it may stall again


def test_a_stalled_camera_that_refuses_to_stop_ends_the_run(sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "stall_limit_s", lambda exposure_ms: 0.1)
    monkeypatch.setattr(health, "POLL_S", 0.02)
    core = FakeCore(script=[Freeze(8)])
    core.fail["stopSequenceAcquisition"] = RuntimeError("no answer")
    stream = sink.stream(core, CameraSettings(when_stalled="end"))
    stream.start()
    assert stream.wait(60)
    assert stream.state is StreamState.LOST
    assert "it stalled: no frame for" in str(stream.error)
    assert any("no answer" in note for note in stream.error.__notes__)
    assert not core.getShutterOpen()
    core.close()


def test_a_camera_that_rests_has_not_stalled(sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "stall_limit_s", lambda exposure_ms: 0.1)
    monkeypatch.setattr(health, "POLL_S", 0.02)
    core, rests = FakeCore(script=[Freeze(3)]), [True]
    core.rests = lambda: rests[0]  # type: ignore[attr-defined]
    stream = sink.stream(core)
    stream.start()
    wait_for_frames(sink, 3)
    newest_s = sink.frames[-1].time_s
    while stream._counters.last_sign_s == newest_s:  # it gives a sign of life without a frame
        time.sleep(0.005)
    rests[0] = False
    while stream._watchdog.health != "stalled":
        time.sleep(0.005)
    stream.stop()


def test_a_listener_of_health_that_raises_is_told(sink: Any) -> None:
    def listen(event: Any) -> None:
        raise ValueError("bad listener")

    stream = sink.stream(FakeCore(script=[Die(5)]), on_health=listen)
    stream.start()
    assert stream.wait(60)
    assert any("ValueError: bad listener" in warning for warning in stream.warnings)


@pytest.mark.parametrize("ending", ["stop", "die", "receiver"])
@pytest.mark.parametrize("auto", [True, False])
def test_the_light_is_left_as_it_was_found_and_is_off_after_a_failure(sink: Any, ending: str, auto: bool) -> None:
    core = FakeCore(script=[Die(5)] if ending == "die" else [])
    core.setAutoShutter(auto)
    core.setShutterOpen(not auto)

    def receive(frame: Any) -> None:
        if ending == "receiver":
            raise ValueError("bad receiver")

    stream = sink.stream(core, on_frame=receive)
    stream.start()
    if ending == "stop":
        assert core.getShutterOpen()
        core.setAutoShutter(not auto)
        stream.stop()
        assert core.getAutoShutter() == auto
        assert core.getShutterOpen() == (not auto)
    else:
        assert stream.wait(60)
        assert not core.getShutterOpen()


def test_the_light_of_the_demo_core(demo_core: Any, sink: Any) -> None:
    demo_core.setAutoShutter(False)
    demo_core.setShutterOpen(True)
    stream = sink.stream(demo_core)
    stream.start()
    stream.snap()
    stream.stop()
    assert demo_core.getShutterOpen()
    demo_core.setAutoShutter(True)
    stream.start()
    stream.snap()
    demo_core.stopSequenceAcquisition()  # behind the stream's back: as if the camera had died
    assert stream.wait(60)
    assert stream.state is StreamState.LOST
    assert not demo_core.getShutterOpen()


def test_what_else_fails_is_added_to_the_first_error(sink: Any) -> None:
    core = FakeCore()
    stream = sink.stream(core)
    stream.start()
    stream.snap()
    core.fail["setShutterOpen"] = RuntimeError("shutter stuck")
    core.fail["popNextImageAndMD"] = RuntimeError("unplugged")
    assert stream.wait(60)
    assert "unplugged" in str(stream.error)
    assert any("shutter stuck" in note for note in stream.error.__notes__)
    core.fail.clear()
    core.close()

"""The live loop, on every kind of core."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livescope.acquire.changes import Change, Exposure, Property
from livescope.acquire.stream import LiveStream, StreamCore, StreamState
from livescope.errors import AcquisitionError, CoreError, FrameError, LivescopeError, SettingsError
from livescope.frames import Frame, LossLedger
from livescope.settings import CameraSettings
from livescope.simulate import FakeCore
from livescope.simulate.fake_core import ClearRing, Die, Freeze


def test_a_finite_run_delivers_every_frame(any_core: Any, sink: Any) -> None:
    stream = sink.stream(any_core)
    stream.start(frames=30)
    assert stream.wait(60)
    assert stream.state is StreamState.ENDED, stream.error
    assert len(sink.frames) + sink.lost_in_core == 30
    assert sink.ledger.delivered == len(sink.frames)
    assert [f.index for f in sink.frames] == list(range(len(sink.frames)))
    stream.stop()
    assert sink.told_lost == 0


def test_frames_say_how_they_were_taken(any_core: Any, sink: Any) -> None:
    stream = sink.stream(any_core, CameraSettings(exposure_ms=3.0, pixel_um=0.4))
    stream.camera.position = "A1"
    stream.start(frames=3)
    assert stream.wait(60)
    frame = sink.frames[-1]
    assert frame.pixels.shape == (any_core.getImageHeight(), any_core.getImageWidth())
    assert frame.pixels.dtype.name in ("uint8", "uint16")
    assert frame.pixels.flags.c_contiguous
    assert not frame.pixels.flags.writeable
    assert (frame.camera, frame.segment, frame.position) == (any_core.getCameraDevice(), 0, "A1")
    assert (frame.exposure_ms, frame.pixel_um) == (3.0, 0.4)
    assert frame.bit_depth == any_core.getImageBitDepth()
    assert frame.elapsed_ms is not None
    assert frame.metadata["ImageNumber"] == "2"
    assert None not in (frame.x_um, frame.y_um, frame.z_um)
    assert sink.frames[0].time_s < frame.time_s


def test_stop_drains_the_ring_and_a_restart_is_a_new_segment(any_core: Any, sink: Any) -> None:
    stream = sink.stream(any_core)
    for _ in range(2):
        stream.start()
        wait_for_frames(sink, len(sink.frames) + 5)
        stream.stop()
        assert stream.state is StreamState.STOPPED, stream.error
        assert any_core.getRemainingImageCount() == 0
        assert not any_core.isSequenceRunning()
    assert {f.segment for f in sink.frames} == {0, 1}
    assert [f.index for f in sink.frames] == list(range(len(sink.frames)))
    numbers = [int(f.metadata["ImageNumber"]) for f in sink.frames if f.segment == 1]
    lost = sink.ledger.rows()[1]["lost_core"]
    assert numbers[-1] + 1 == len(numbers) + lost


def test_snap_idle_and_live(any_core: Any, sink: Any) -> None:
    stream = sink.stream(any_core)
    idle = stream.snap()
    assert idle.index == -1
    assert idle.pixels.shape == (any_core.getImageHeight(), any_core.getImageWidth())
    assert sink.frames == []
    stream.start()
    live = stream.snap()
    assert live.index >= 0
    stream.stop()


def test_no_frame_is_held_once_its_receiver_let_go(demo_core: Any) -> None:
    """Or the core would alternate between two places in memory: some per cent of the rate at 2048 x 2048."""
    held, seen = [], []

    def receive(frame: Frame) -> None:
        held.append(bool(seen) and seen[-1]() is not None)
        seen.append(weakref.ref(frame.pixels))

    stream = LiveStream(demo_core, receive, LossLedger())
    stream.start(frames=10)
    assert stream.wait(60)
    assert len(held) == 10
    assert not any(held)


def test_a_snap_that_waits_for_a_frame_is_told_that_the_run_ended(sink: Any) -> None:
    core = FakeCore(rate_fps=None)  # no frame comes
    stream = sink.stream(core)
    stream.start()
    stopping = threading.Timer(0.3, stream.stop)
    stopping.start()
    with pytest.raises(AcquisitionError, match="the run ended before the next frame"):
        stream.snap()
    stopping.join()
    assert stream.snap().index == -1  # idle, the camera is asked again


def test_exposure_changes_while_streaming(any_core: Any, sink: Any) -> None:
    stream = sink.stream(any_core)
    stream.start()
    stream.snap()
    stream.set_exposure(7.0)
    assert any_core.getExposure() == 7.0
    while sink.frames[-1].exposure_ms != 7.0:
        stream.snap()
    stream.stop()
    with pytest.raises(SettingsError, match="-1 ms"):
        stream.set_exposure(-1)


def test_demo_stage_moves_are_seen(demo_core: Any, sink: Any) -> None:
    stream = sink.stream(demo_core)
    stream.start()
    demo_core.setXYPosition(120.0, -30.0)
    demo_core.waitForDevice("XY")
    stream.camera.refresh_position()
    frame = stream.snap()
    stream.stop()
    assert (frame.x_um, frame.y_um) == pytest.approx((120.0, -30.0), abs=1.0)


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("at", [1, 7, 49])
def test_a_cleared_ring_is_counted(at: int, sink: Any) -> None:
    core = FakeCore(rate_fps=None, script=[ClearRing(at)])
    stream = sink.stream(core)
    stream.start(frames=50)
    with stream.lock:  # nobody pops meanwhile
        core.make(50)
    assert stream.wait(60)
    assert stream.state is StreamState.ENDED
    assert sink.lost_in_core > 0
    assert len(sink.frames) + sink.lost_in_core == core.produced == 50
    assert sum(f.lost_before for f in sink.frames) == sink.lost_in_core


def test_a_stall_longer_than_the_ring_is_counted(demo_core: Any, sink: Any) -> None:
    demo_core.setExposure(1)
    stream = sink.stream(demo_core, CameraSettings(ring_mb=16), on_frame=lambda f: sink.frames.append(f) or hold(f))

    def hold(frame: Frame) -> None:
        """Take nothing more until all 200 frames are made, of which the ring holds 32."""
        while frame.index == 3 and demo_core.isSequenceRunning():
            time.sleep(0.005)

    stream.start(frames=200)
    assert stream.wait(60)
    assert stream.state is StreamState.ENDED, stream.error
    assert sink.lost_in_core > 0
    assert len(sink.frames) + sink.lost_in_core == 200


def test_a_numbering_that_begins_again_is_a_segment_with_its_reason(sink: Any) -> None:
    core = FakeCore(rate_fps=None)
    stream = sink.stream(core)
    stream.start()
    core.make(5)
    wait_for_frames(sink, 5)
    core.clearCircularBuffer()  # by another program
    core.make(3)
    stream.stop()
    assert [f.segment for f in sink.frames] == [0] * 5 + [1] * 3
    assert [note.segment for note in stream.notes] == [0, 1]
    assert "somebody else" in stream.notes[1].reason
    assert sink.lost_in_core == 0


def test_several_cameras_are_accounted_apart(sink: Any) -> None:
    core = FakeCore(rate_fps=None, cameras=("Left", "Right"), ring_frames=10)
    stream = sink.stream(core)
    stream.start()
    with stream.lock:
        core.make(23)
    stream.stop()
    rows = {row["camera"]: row for row in sink.ledger.rows()}
    assert set(rows) == {"Left", "Right"}
    for row in rows.values():
        assert row["delivered"] + row["lost_core"] == 23
    assert core.produced == 46


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    ring_frames=st.integers(4, 15),
    asked=st.one_of(st.none(), st.integers(1, 40)),
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 25)), min_size=1, max_size=8),
    cameras=st.sampled_from([("Left", "Right"), ("Left", "Right", "Top")]),
)
def test_no_frame_of_any_camera_is_unaccounted(
    ring_frames: int, asked: int | None, steps: list[tuple[bool, int]], cameras: tuple[str, ...]
) -> None:
    """Also what one camera lost in its last tick, when the other's frame emptied the ring."""
    core = FakeCore(shape=(8, 8), rate_fps=None, cameras=cameras, ring_frames=ring_frames)
    frames: list[Frame] = []
    ledger = LossLedger()
    stream = LiveStream(core, frames.append, ledger)
    stream.start(asked)
    for stall, count in steps:
        with stream.lock if stall else contextlib.nullcontext():  # nobody pops meanwhile
            core.make(count)
    stream.stop()
    made = core.produced // len(cameras)
    assert ledger.delivered == len(frames)
    for row in ledger.rows():
        assert row["delivered"] + row["lost_core"] == made
    assert {row["camera"] for row in ledger.rows()} == set(cameras)
    for camera in cameras:
        numbers = [int(f.metadata["ImageNumber"]) for f in frames if f.camera == camera]
        assert numbers == sorted(set(numbers))
    if made == asked:
        assert stream.state is StreamState.ENDED, stream.error


CALLS = [name for name in dir(FakeCore) if name[0] != "_" and any(letter.isupper() for letter in name)]


@pytest.mark.parametrize("change", [Exposure(5.0), Property("Camera", "Binning", 2)], ids=["live", "stopped"])
@pytest.mark.parametrize("call", [*CALLS, "all"])
def test_whatever_call_fails_the_stream_ends_in_order(call: str, change: Change, sink: Any) -> None:
    """No call of the core can hang the stream or end it unexplained; devices in Python raise what they like."""
    core = FakeCore()
    core.setShutterOpen(True)
    stream = sink.stream(core)
    stream.start()
    wait_for_frames(sink, 1)
    core.fail = dict.fromkeys(CALLS if call == "all" else [call], OSError("unplugged"))
    with contextlib.suppress(AcquisitionError):
        stream.change(change)
    with contextlib.suppress(AcquisitionError):
        stream.stop()
    assert stream.wait(60)
    assert not stream.running
    assert stream.error is None or "unplugged" in str(stream.error)
    assert "receiver" not in str(stream.error)
    core.fail.clear()
    if stream.state in (StreamState.LOST, StreamState.FAILED) and not getattr(stream.error, "__notes__", ()):
        assert not core.getShutterOpen()
    core.close()


def test_a_run_that_cannot_begin_again_after_a_change_ends_with_the_light_off(sink: Any) -> None:
    core = FakeCore()
    core.setAutoShutter(False)
    core.setShutterOpen(True)
    stream = sink.stream(core)
    stream.start()
    wait_for_frames(sink, 1)
    core.fail["getExposure"] = RuntimeError("unplugged")
    with pytest.raises(AcquisitionError, match="unplugged"):
        stream.change(Property("Camera", "Binning", 2))
    assert stream.wait(60)
    assert stream.state is StreamState.LOST
    assert not core.getShutterOpen()
    assert sink.told_lost == 1


@pytest.mark.parametrize("call", [name for name in dir(StreamCore) if name[0] != "_"])
def test_whatever_call_fails_at_the_start_the_camera_is_usable_afterwards(call: str, sink: Any) -> None:
    core = FakeCore()
    core.fail[call] = RuntimeError("unplugged")
    with contextlib.suppress(LivescopeError):
        stream = sink.stream(core)
        stream.start(frames=5)
        stream.stop()
    core.fail.clear()
    core.stopSequenceAcquisition()  # one that refused to stop before
    again = LiveStream(core, sink.frames.append, sink.ledger)
    again.start(frames=3)
    assert again.wait(60)
    assert again.state is StreamState.ENDED, again.error


# ---------------------------------------------------------------- endings


def test_a_camera_that_dies_is_lost(sink: Any) -> None:
    core = FakeCore(script=[Die(12)])
    stream = sink.stream(core)
    stream.start()
    assert stream.wait(60)
    stream.stop()
    assert stream.state is StreamState.LOST
    assert len(sink.frames) == 12
    assert "stopped by itself after 12 frames" in str(stream.error)
    assert sink.told_lost == 1


def test_a_camera_that_dies_before_its_last_frame_is_lost(sink: Any) -> None:
    core = FakeCore(script=[Die(12)])
    stream = sink.stream(core)
    stream.start(frames=20)
    assert stream.wait(60)
    assert stream.state is StreamState.LOST
    assert "12 of 20" in str(stream.error)


@pytest.mark.parametrize("call", ["popNextImageAndMD", "isSequenceRunning", "getRemainingImageCount"])
def test_a_call_that_raises_ends_the_stream_and_stops_the_camera(call: str, sink: Any) -> None:
    core = FakeCore(rate_fps=5)  # between two frames even a slow machine asks three times whether it runs
    stream = sink.stream(core)
    stream.start()
    stream.snap()
    core.fail[call] = RuntimeError("unplugged")
    assert stream.wait(60)
    assert stream.state is StreamState.LOST
    assert "unplugged" in str(stream.error)
    del core.fail[call]
    assert not core.isSequenceRunning()
    stream.stop()
    assert sink.told_lost == 1


def test_a_receiver_that_raises_ends_the_stream_and_every_frame_is_accounted(sink: Any) -> None:
    core = FakeCore(rate_fps=None)

    def receive(frame: Frame) -> None:
        sink.frames.append(frame)
        if frame.index == 3:
            raise ValueError("bad receiver")

    stream = sink.stream(core, on_frame=receive)
    stream.start()
    with stream.lock:
        core.make(20)
    assert stream.wait(60)
    assert stream.state is StreamState.FAILED
    assert "bad receiver" in str(stream.error)
    assert isinstance(stream.error.__cause__, ValueError)
    assert sink.ledger.delivered + sink.lost_in_core == core.produced == 20


def test_a_start_that_raises_leaves_no_camera_running(sink: Any) -> None:
    core = FakeCore()
    core.fail["startContinuousSequenceAcquisition"] = RuntimeError("busy")
    stream = sink.stream(core)
    with pytest.raises(AcquisitionError, match="refused to start: busy"):
        stream.start()
    assert not core.isSequenceRunning()
    core.fail.clear()
    stream.start(frames=2)
    assert stream.wait(60)
    assert len(sink.frames) == 2


def test_a_stop_that_raises_still_ends_the_thread(sink: Any) -> None:
    core = FakeCore()
    stream = sink.stream(core)
    stream.start()
    stream.snap()
    core.fail["stopSequenceAcquisition"] = RuntimeError("no answer")
    with pytest.raises(AcquisitionError, match="no answer"):
        stream.stop()
    assert not stream.running
    assert not core.getShutterOpen()
    core.close()


def test_a_listener_that_raises_at_the_start_leaves_no_camera_running(demo_core: Any, sink: Any) -> None:
    def listener(*args: object) -> None:
        raise ValueError("bad listener")

    demo_core.events.continuousSequenceAcquisitionStarted.connect(listener)
    stream = sink.stream(demo_core)
    with pytest.raises(AcquisitionError, match="refused to start"):
        stream.start()
    assert not demo_core.isSequenceRunning()


def test_misuse_is_explained(sink: Any) -> None:
    core = FakeCore()
    stream = sink.stream(core)
    stream.stop()  # nothing runs: nothing happens
    with pytest.raises(SettingsError, match="frames = 0"):
        stream.start(frames=0)
    stream.start()
    with pytest.raises(AcquisitionError, match="already running"):
        stream.start()
    stream.stop()


@pytest.mark.parametrize(
    ("image", "message"),
    [(np.zeros((4, 4, 4), np.uint8), "RGB"), (np.zeros((4, 4), np.float32), "float32")],
)
def test_pixels_that_cannot_be_used_are_refused(image: Any, message: str, sink: Any) -> None:
    core = FakeCore(images=lambda k: image)
    stream = sink.stream(core)
    stream.start()
    assert stream.wait(60)
    assert isinstance(stream.error, FrameError)
    assert message in str(stream.error)
    assert sink.ledger.delivered == 0
    assert sink.lost_in_core == core.produced


def test_a_stage_that_fails_does_not_end_the_stream(sink: Any) -> None:
    core = FakeCore()
    core.fail["getXYPosition"] = RuntimeError("no stage")
    stream = sink.stream(core)
    stream.start(frames=3)
    assert stream.wait(60)
    assert len(sink.frames) == 3
    assert sink.frames[-1].x_um is None
    assert "no stage" in stream.camera.position_error


# ---------------------------------------------------------------- the ring


def test_the_ring_is_sized_once_before_the_first_start(sink: Any) -> None:
    core = FakeCore(shape=(1024, 1024))
    stream = sink.stream(core, CameraSettings(exposure_ms=10))
    for _ in range(2):
        stream.start(frames=1)
        stream.wait(60)
    assert core.calls.count("setCircularBufferMemoryFootprint") == 1
    assert core.calls.index("setCircularBufferMemoryFootprint") < core.calls.index("startSequenceAcquisition")
    assert core.getCircularBufferMemoryFootprint() == 400  # 2 s at 100 fps of 2 MB


def test_a_ring_larger_than_the_memory_is_refused_and_the_core_stays_usable(demo_core: Any, sink: Any) -> None:
    stream = sink.stream(demo_core, CameraSettings(ring_mb=65_536))
    with pytest.raises(CoreError, match="65536 is more than half of the free memory"):
        stream.start()
    again = LiveStream(demo_core, sink.frames.append, LossLedger())
    again.start(frames=2)
    assert again.wait(60)
    assert len(sink.frames) == 2


def test_no_camera_is_explained(demo_core: Any, sink: Any) -> None:
    demo_core.setCameraDevice("")
    with pytest.raises(CoreError, match="no camera"):
        sink.stream(demo_core)


# ---------------------------------------------------------------- nothing freezes


def test_no_pop_runs_into_a_slow_command(sink: Any) -> None:
    """A pop beside a snap or a stop would hold the GIL until they end: 1.2 s in trials without the lock.

    How long nothing runs, `tools/bench_acquire.py` measures.
    """
    core = FakeCore(stop_seconds=0.05)
    slow, beside = threading.Event(), []
    pop, stop, snap = core.popNextImageAndMD, core.stopSequenceAcquisition, core.snapImage

    def watched(command: Any) -> Any:
        def call() -> None:
            slow.set()
            command()
            slow.clear()

        return call

    def popped() -> Any:
        beside.append(slow.is_set())
        return pop()

    core.popNextImageAndMD = popped  # type: ignore[method-assign]
    core.stopSequenceAcquisition = watched(stop)  # type: ignore[method-assign]
    core.snapImage = watched(snap)  # type: ignore[method-assign]
    stream = sink.stream(core)
    for _ in range(3):
        stream.start()
        wait_for_frames(sink, len(sink.frames) + 3)
        stream.stop()
        stream.snap()
    assert len(beside) >= 9
    assert not any(beside)


def test_a_frozen_camera_can_be_stopped(sink: Any) -> None:
    core = FakeCore(script=[Freeze(5)])
    stream = sink.stream(core)
    stream.start()
    wait_for_frames(sink, 5)
    stream.stop()
    assert stream.state is StreamState.STOPPED


def wait_for_frames(sink: Any, count: int) -> None:
    """The time limit of the test ends a wait in vain."""
    while len(sink.frames) < count:
        time.sleep(0.005)

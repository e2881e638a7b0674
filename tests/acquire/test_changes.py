"""Changes during a run: live where the device allows it, else as a new segment."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livescope.acquire.changes import Exposure, FullFrame, Move, Preset, Property, Roi, UseCamera
from livescope.acquire.stream import LiveStream, StreamState
from livescope.errors import AcquisitionError, SettingsError
from livescope.frames import Frame, LossCause, LossLedger
from livescope.settings import CameraSettings
from livescope.simulate import FakeCore


def assert_whole(sink: Any) -> None:
    """Nothing is unaccounted: per segment and camera, the last frame number tells what was made."""
    assert [f.index for f in sink.frames] == list(range(len(sink.frames)))
    for row in sink.ledger.rows():
        numbers = [int(f.metadata["ImageNumber"]) for f in sink.frames if f.segment == row["segment"]]
        assert numbers[-1] + 1 == row["delivered"] + row["lost_core"]
        assert numbers == sorted(numbers)


# ---------------------------------------------------------------- on the demo core and the camera in Python


def test_a_roi_of_odd_size_is_a_new_segment(any_core: Any, sink: Any) -> None:
    stream = sink.stream(any_core)
    stream.start()
    stream.snap()
    width, height = any_core.getImageWidth(), any_core.getImageHeight()
    note = stream.change(Roi(10, 4, 77, 51))
    assert note.segment == 1
    assert "ROI of 77 x 51 px at (10, 4)" in note.reason
    stream.snap()
    with pytest.raises(SettingsError, match=f"does not lie on the sensor of {width} x {height}"):
        stream.change(Roi(width - 10, 0, 11, 5))
    assert stream.snap().pixels.shape == (51, 77)
    stream.change(FullFrame())
    stream.snap()
    stream.stop()
    shapes = {f.segment: f.pixels.shape for f in sink.frames}
    assert shapes == {0: (height, width), 1: (51, 77), 2: (51, 77), 3: (height, width)}
    assert_whole(sink)


def test_properties_of_the_demo_camera(demo_core: Any, sink: Any) -> None:
    stream = sink.stream(demo_core)
    stream.start()
    assert stream.snap().pixels.dtype == np.uint16
    assert stream.change(Property("Camera", "Gain", 3)) is None  # live
    assert demo_core.getProperty("Camera", "Gain") == "3"
    assert stream.change(Property("Camera", "PixelType", "8bit")).segment == 1
    frame = stream.snap()
    assert (frame.pixels.dtype, frame.bit_depth) == (np.uint8, 8)
    assert stream.change(Property("Camera", "Binning", 2)).segment == 2
    assert stream.snap().pixels.shape == (256, 256)
    with pytest.raises(AcquisitionError, match=r"Binning = 3 was refused.*'1', '2', '4'"):
        stream.change(Property("Camera", "Binning", 3))
    assert stream.snap().pixels.shape == (256, 256)  # goes on as before
    with pytest.raises(SettingsError, match="no property 'Gian'"):
        stream.change(Property("Camera", "Gian", 3))
    with pytest.raises(SettingsError, match="no device 'Laser'"):
        stream.change(Property("Laser", "Power", 3))
    stream.stop()
    assert_whole(sink)
    assert [note.segment for note in stream.notes] == list(range(len(stream.notes)))


@pytest.mark.parametrize(
    ("pixel_type", "depth", "dtype", "bits"),
    [("8bit", 8, "uint8", 8), ("16bit", 12, "uint16", 12), ("16bit", 14, "uint16", 14), ("16bit", 16, "uint16", 16)],
)
def test_depths_and_a_sensor_that_is_not_square(
    demo_core: Any, sink: Any, pixel_type: str, depth: int, dtype: str, bits: int
) -> None:
    for name, value in {
        "PixelType": pixel_type,
        "BitDepth": depth,
        "OnCameraCCDXSize": 331,
        "OnCameraCCDYSize": 120,
    }.items():
        demo_core.setProperty("Camera", name, str(value))
    stream = sink.stream(demo_core)
    stream.start(frames=3)
    assert stream.wait(60)
    assert {(f.pixels.shape, f.pixels.dtype.name, f.bit_depth) for f in sink.frames} == {((120, 331), dtype, bits)}


def test_colour_becomes_luma(demo_core: Any, sink: Any) -> None:
    demo_core.setProperty("Camera", "PixelType", "32bitRGB")
    stream = sink.stream(demo_core)
    colour = demo_core.snap()
    stream.start(frames=3)
    assert stream.wait(60), stream.error
    assert {(f.pixels.shape, f.pixels.dtype.name) for f in sink.frames} == {(colour.shape[:2], "uint8")}
    assert sink.frames[0].pixels.flags.c_contiguous


def test_objective_and_binning_set_the_pixel_size(demo_core: Any, sink: Any) -> None:
    stream = sink.stream(demo_core)
    stream.start()
    assert stream.snap().pixel_um == 1.0
    note = stream.change(Preset("Objective", "20X"))
    assert (note.segment, note.reason) == (1, "Objective = 20X")
    assert stream.snap().pixel_um == 0.5
    stream.change(Property("Camera", "Binning", 2))
    assert stream.snap().pixel_um == 1.0
    stream.stop()


def test_an_own_pixel_size_follows_binning_and_is_given_up_with_the_objective(sink: Any) -> None:
    core = FakeCore()
    stream = sink.stream(core, CameraSettings(pixel_um=0.7))
    stream.start()
    assert stream.snap().pixel_um == 0.7
    stream.change(Property("Camera", "Binning", 2))
    assert stream.snap().pixel_um == 1.4
    stream.change(Property("Objective", "Label", "20x"))
    assert stream.snap().pixel_um == 0.5  # the core's own: 0.5 um, 2x binning, 2x zoom
    stream.change(Property("Objective", "Label", "100x"))
    assert stream.snap().pixel_um is None  # the core says 0.0: unknown
    stream.stop()


def test_channel_and_place_are_live_and_stamped(demo_core: Any, sink: Any) -> None:
    stream = sink.stream(demo_core)
    stream.start()
    assert stream.change(Preset("Channel", "DAPI")) is None
    assert stream.change(Move(x_um=50.0, z_um=7.0, name="A1")) is None
    frame = stream.snap()
    assert (frame.channel, frame.position) == ("DAPI", "A1")
    assert (frame.x_um, frame.z_um) == pytest.approx((50.0, 7.0), abs=0.1)
    with pytest.raises(SettingsError, match=r"no preset 'Purple'.*'DAPI'"):
        stream.change(Preset("Channel", "Purple"))
    with pytest.raises(SettingsError, match=r"no group 'Chanel'.*'Channel'"):
        stream.change(Preset("Chanel", "DAPI"))
    stream.stop()
    assert {f.segment for f in sink.frames} == {0}


@pytest.mark.parametrize("axis", ["x_um", "y_um", "z_um"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_place_that_is_no_number_moves_nothing(demo_core: Any, sink: Any, axis: str, value: float) -> None:
    stream = sink.stream(demo_core)
    stream.change(Move(30.0, 40.0, 3.0))
    with pytest.raises(SettingsError, match=rf"{axis[0]} = {value:g} um.* is no place; give each axis a finite"):
        stream.change(Move(**{"x_um": 1.0, "y_um": 1.0, axis: value}))
    assert (*demo_core.getXYPosition(), demo_core.getPosition()) == pytest.approx((30.0, 40.0, 3.0), abs=0.05)


def test_several_cameras_and_one_of_them(demo_core: Any, sink: Any) -> None:
    demo_core.loadDevice("Second", "DemoCamera", "DCam")
    demo_core.loadDevice("Both", "Utilities", "Multi Camera")
    for label in ("Second", "Both"):
        demo_core.initializeDevice(label)
    demo_core.setProperty("Second", "PixelType", "16bit")
    for k, label in enumerate(("Camera", "Second")):
        demo_core.setProperty("Both", f"Physical Camera {k + 1}", label)
    stream = sink.stream(demo_core)
    stream.start(frames=5)
    assert stream.wait(60)
    stream.change(UseCamera("Both"))
    stream.start(frames=7)
    assert stream.wait(60), stream.error
    assert stream.state is StreamState.ENDED, stream.error
    rows = {(row["segment"], row["camera"]): row["delivered"] + row["lost_core"] for row in sink.ledger.rows()}
    assert rows == {(0, "Camera"): 5, (1, "Camera"): 7, (1, "Second"): 7}
    with pytest.raises(SettingsError, match="no camera 'Third'"):
        stream.change(UseCamera("Third"))


def test_a_finite_run_goes_on_counting_over_a_change(any_core: Any, sink: Any) -> None:
    stream = sink.stream(any_core)
    note, runs = None, 0
    while note is None:  # on a slow machine the run may be over before the change
        stream.change(FullFrame())
        stream.start(frames=60)
        runs += 1
        stream.snap()
        note = stream.change(Roi(0, 0, 64, 32))
        assert stream.wait(60)
        assert stream.state is StreamState.ENDED, stream.error
    assert len(sink.frames) + sink.lost_in_core == 60 * runs
    assert sink.frames[-1].pixels.shape == (32, 64)


def test_changes_while_idle_and_on_files(tmp_path: Any, sink: Any) -> None:
    stream = sink.stream(FakeCore())
    assert stream.change(Roi(1, 1, 5, 3)) is None
    assert stream.snap().pixels.shape == (3, 5)
    with pytest.raises(SettingsError, match="-5 ms"):
        stream.change(Exposure(-5))


def test_a_refused_change_leaves_the_stream_running(sink: Any) -> None:
    core = FakeCore()
    stream = sink.stream(core)
    stream.start()
    core.fail["setROI"] = RuntimeError("no")
    with pytest.raises(AcquisitionError, match="refused by the device: no"):
        stream.change(Roi(0, 0, 8, 8))
    assert stream.snap().segment == 1
    assert "was refused" in stream.notes[-1].reason
    stream.stop()


def test_a_camera_that_takes_it_only_while_idle_is_stopped_for_it(sink: Any) -> None:
    core = FakeCore()
    take, asked = core.setExposure, []

    def only_idle(exposure_ms: float, /) -> None:
        asked.append(core.isSequenceRunning())
        if asked[-1]:
            raise RuntimeError("camera is capturing")
        take(exposure_ms)

    core.setExposure = only_idle  # type: ignore[method-assign]
    stream = sink.stream(core)
    stream.start()
    note = stream.change(Exposure(33.0))
    assert asked == [True, False]
    assert (note.segment, note.reason) == (1, "exposure of 33 ms")
    assert stream.snap().exposure_ms == 33.0
    stream.stop()


# ---------------------------------------------------------------- bursts


@pytest.mark.parametrize("live", [False, True])
def test_a_burst_has_no_gap(any_core: Any, sink: Any, live: bool) -> None:
    stream = sink.stream(any_core)
    if live:
        stream.start()
        stream.snap()
    assert stream.burst(25) == 25
    segment = 1 if live else 0
    numbers = [int(f.metadata["ImageNumber"]) for f in sink.frames if f.segment == segment]
    assert numbers == list(range(25))
    if live:
        assert stream.snap().segment == 2
        stream.stop()
    assert not stream.running
    assert_whole(sink)


def test_a_burst_that_outruns_the_ring_stops_without_a_gap(sink: Any) -> None:
    core = FakeCore(ring_frames=8, rate_fps=2000)
    slow = threading.Event()

    def receive(frame: Frame) -> None:
        sink.frames.append(frame)
        while not slow.is_set() and core.isSequenceRunning():  # until the ring is full and the camera has stopped
            time.sleep(0.002)

    stream = sink.stream(core, on_frame=receive)
    with pytest.raises(AcquisitionError, match="outran the ring after"):
        stream.burst(500)
    numbers = [int(f.metadata["ImageNumber"]) for f in sink.frames]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) == core.produced
    slow.set()
    assert stream.burst(3) == 3  # usable again


# ---------------------------------------------------------------- whatever happens, in whatever order

STEPS = st.one_of(
    st.tuples(st.just("make"), st.integers(1, 25)),
    st.tuples(st.just("stall"), st.integers(1, 40)),
    st.tuples(st.just("overflow"), st.just(0)),
    st.tuples(st.just("roi"), st.integers(1, 16)),
    st.tuples(st.just("exposure"), st.integers(1, 50)),
    st.tuples(st.just("binning"), st.sampled_from([1, 2, 4])),
    st.tuples(st.just("restart"), st.just(0)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEPS, max_size=12))
def test_every_frame_is_delivered_or_lost_with_a_cause(steps: list[tuple[str, int]]) -> None:
    core = FakeCore(shape=(16, 16), rate_fps=None, ring_frames=12)
    frames: list[Frame] = []
    ledger = LossLedger()
    stream = LiveStream(core, frames.append, ledger)
    stream.start()
    for step, value in steps:
        match step:
            case "make":
                core.make(value)
            case "stall":
                with stream.lock:  # nobody pops meanwhile
                    core.make(value)
            case "overflow":
                with stream.lock:
                    core.make(3)
                    core.overflow()
                    core.make(1)  # MMCore clears its ring to make room for a frame, which then goes in
            case "roi":
                stream.change(Roi(0, 0, 1 + value % 4, 3))
            case "exposure":
                stream.change(Exposure(float(value)))
            case "binning":
                stream.change(Property("Camera", "Binning", value))
            case "restart":
                stream.stop()
                stream.start()
    with stream.lock:
        core.make(1)
    stream.stop()
    lost = ledger.by_cause()
    assert ledger.delivered == len(frames)
    assert ledger.delivered + lost["core"] == core.produced
    assert {cause for cause, count in lost.items() if count} <= {LossCause.CORE}
    assert [f.index for f in frames] == list(range(len(frames)))
    assert [f.segment for f in frames] == sorted(f.segment for f in frames)
    assert sum(f.lost_before for f in frames) == lost["core"]
    for row in ledger.rows():
        assert row["delivered"] == sum((f.segment, f.camera) == (row["segment"], row["camera"]) for f in frames)

"""Watching a core that another program owns."""

from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import useq
from hypothesis import given
from hypothesis import strategies as st

from livescope.acquire.attach import AttachedCore
from livescope.acquire.stream import StreamState
from livescope.errors import AcquisitionError
from livescope.settings import CameraSettings


def wait_for_frames(sink: Any, count: int) -> None:
    while len(sink.frames) < count:
        time.sleep(0.005)


def state_of(core: Any) -> tuple[Any, ...]:
    shutter = core.getShutterOpen() if core.getShutterDevice() else None
    return (
        core.getCameraDevice(),
        core.getExposure(),
        core.getROI(),
        core.getCircularBufferMemoryFootprint(),
        core.getAutoShutter(),
        shutter,
        core.isSequenceRunning(),
    )


@pytest.fixture(params=["demo", "python-camera", "demo with Qt signals"])
def owned(request: pytest.FixtureRequest, core_of: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A core as a script owns it, and as a window does; no event loop runs here."""
    name, _, qt = request.param.partition(" with ")
    if qt:
        pytest.importorskip("qtpy.QtWidgets")
        monkeypatch.setenv("PYMM_SIGNALS_BACKEND", "qt")
    core = core_of(name)
    assert ("QtCore" in type(core.mda.events.frameReady).__module__) == bool(qt)
    return core


def test_a_live_view_is_watched_and_left_as_it_is(owned: Any, sink: Any) -> None:
    owned.setExposure(10)
    heard: list[Any] = []
    owned.events.sequenceAcquisitionStopped.connect(lambda *args: heard.append(args))
    owned.startContinuousSequenceAcquisition(0)
    while owned.getRemainingImageCount() < 3:
        time.sleep(0.005)
    before = state_of(owned)
    attached = AttachedCore(owned)
    stream = sink.stream(attached)
    stream.start()
    shown = []
    while len(sink.frames) < 20:
        shown.append(owned.getLastImage())  # the owner's live view goes on
        time.sleep(0.01)
    stream.stop()
    attached.close()
    assert state_of(owned) == before
    shown.append(owned.getLastImage())
    assert all(image.shape == sink.frames[0].pixels.shape for image in shown)
    owned.stopSequenceAcquisition()
    assert heard  # the owner's listeners still hear
    numbers = [int(f.metadata["ImageNumber"]) for f in sink.frames]
    assert numbers[0] == 0
    assert numbers == sorted(set(numbers))
    assert numbers[-1] + 1 == len(numbers) + sink.lost_in_core
    assert stream.state is StreamState.STOPPED


def test_every_start_of_the_owner_is_a_segment(owned: Any, sink: Any) -> None:
    owned.setExposure(10)
    stream = sink.stream(AttachedCore(owned))
    stream.start()  # before the owner's live view begins
    for k in range(3):
        owned.setROI(0, 0, 64 + k, 50)
        have = len(sink.frames)
        owned.startContinuousSequenceAcquisition(0)
        wait_for_frames(sink, have + 5)
        owned.stopSequenceAcquisition()
        while stream.core.getRemainingImageCount():
            time.sleep(0.005)
    stream.stop()
    assert {f.segment: f.pixels.shape for f in sink.frames} == {0: (50, 64), 1: (50, 65), 2: (50, 66)}
    assert [f.index for f in sink.frames] == list(range(len(sink.frames)))


def test_an_overflow_of_the_owners_ring_is_counted(core_of: Any, sink: Any) -> None:
    demo = core_of("demo")
    demo.setProperty("Camera", "OnCameraCCDXSize", "1024")
    demo.setProperty("Camera", "OnCameraCCDYSize", "1024")
    demo.setProperty("Camera", "FastImage", "1")
    demo.setExposure(5)
    demo.setCircularBufferMemoryFootprint(20)  # ten frames: it overflows again and again
    stream = sink.stream(AttachedCore(demo))
    stream.start()
    demo.startContinuousSequenceAcquisition(0)
    wait_for_frames(sink, 60)
    stream.stop()
    demo.stopSequenceAcquisition()
    numbers = [int(f.metadata["ImageNumber"]) for f in sink.frames]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] + 1 == len(numbers) + sink.lost_in_core
    assert {f.segment for f in sink.frames} == {0}


def test_planned_runs_of_the_owner_are_heard(owned: Any, sink: Any) -> None:
    owned.setExposure(2)
    stream = sink.stream(AttachedCore(owned))
    stream.start()
    plan = useq.MDASequence(stage_positions=[{"x": 0, "y": 0, "name": "A1"}], time_plan={"interval": 0, "loops": 6})
    owned.run_mda(plan).join()
    wait_for_frames(sink, 6)
    stream.stop()
    owned.run_mda(plan).join()
    assert not stream.core._planned  # nobody listens any more
    assert len(sink.frames) == 6
    assert [f.metadata["t"] for f in sink.frames] == list(range(6))
    assert sink.lost_in_core == 0


def test_fields_and_channels_of_the_owners_plan_are_told_apart(owned: Any, sink: Any) -> None:
    channels = owned.getAvailableConfigs("Channel")[:2]
    plan = useq.MDASequence(
        stage_positions=[{"x": 0, "y": 0, "name": "A1"}, {"x": 90, "y": 0}],
        grid_plan={"rows": 1, "columns": 2, "fov_width": 30, "fov_height": 30},
        channels=[{"config": channel, "exposure": 2 + k} for k, channel in enumerate(channels)],
        z_plan={"relative": [0, 2]},
    )
    owned.setExposure(7)
    stream = sink.stream(AttachedCore(owned))
    stream.start()
    owned.run_mda(plan).join()
    wait_for_frames(sink, 16)
    owned.startContinuousSequenceAcquisition(0)
    wait_for_frames(sink, 17)
    stream.stop()
    owned.stopSequenceAcquisition()
    assert [(f.position, f.channel) for f in sink.frames[:16]] == [
        (f"{site}_{tile}_{plane}", channel)
        for site in ("A1", "p1")
        for tile in ("0000", "0001")
        for channel in channels
        for plane in ("z0000", "z0001")
    ]
    # where and how each was taken is the engine's word, not that of a poll four times a second
    events = list(plan)
    assert [f.exposure_ms for f in sink.frames[:16]] == [event.exposure for event in events]
    for axis in "xyz":
        places_um = [getattr(f, f"{axis}_um") for f in sink.frames[:16]]
        planned_um = [getattr(event, f"{axis}_pos") for event in events]
        known = [(place, wanted) for place, wanted in zip(places_um, planned_um, strict=True) if wanted is not None]
        assert [place for place, _ in known] == pytest.approx([wanted for _, wanted in known], abs=0.1)
    assert sink.frames[16].exposure_ms == pytest.approx(owned.getExposure())
    assert (sink.frames[16].position, sink.frames[16].channel) == (None, None)  # a live view, wherever that is


def objective(core: Any, magnification: str) -> None:
    labels = core.getAllowedPropertyValues("Objective", "Label")
    core.setProperty("Objective", "Label", next(label for label in labels if magnification in label))
    core.waitForDevice("Objective")


def sets_of(sink: Any) -> list[tuple[Any, ...]]:
    """How the frames were taken, in the order in which each way first came."""
    return list(dict.fromkeys((f.segment, f.pixels.shape, f.bit_depth, f.pixel_um) for f in sink.frames))


def test_what_the_owner_sets_between_its_plans_is_followed(demo_core: Any, sink: Any) -> None:
    plan = useq.MDASequence(stage_positions=[(0, 0, 0)], time_plan={"interval": 0, "loops": 2})
    objective(demo_core, "20X")
    stream = sink.stream(AttachedCore(demo_core))
    stream.start()
    said = []
    for device, name, value in [
        ("Camera", "PixelType", "8bit"),
        ("Objective", "Label", "Nikon 40X Plan Fluor ELWD"),
        ("Camera", "Binning", "2"),
        ("Camera", "PixelType", "16bit"),
        ("Camera", "BitDepth", "12"),
    ]:
        demo_core.setProperty(device, name, value)
        said.append((demo_core.getImageBitDepth(), demo_core.getPixelSizeUm()))
        demo_core.run_mda(plan).join()
        wait_for_frames(sink, 2 * len(said))
    stream.stop()
    assert [(f.bit_depth, f.pixel_um) for f in sink.frames] == [known for known in said for _ in range(2)]
    assert said[0][1] == 2 * said[1][1] == said[2][1] > 0
    assert [f.segment for f in sink.frames] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert sink.lost_in_core == 0


def test_what_the_owner_sets_in_its_live_view_is_followed(demo_core: Any, sink: Any) -> None:
    demo_core.setExposure(10)
    objective(demo_core, "20X")
    stream = sink.stream(AttachedCore(demo_core))
    stream.start()
    demo_core.startContinuousSequenceAcquisition(0)
    wait_for_frames(sink, 3)
    objective(demo_core, "40X")
    demo_core.setExposure(11)
    while (sink.frames[-1].pixel_um, sink.frames[-1].exposure_ms) != (0.25, 11.0):
        time.sleep(0.005)
    demo_core.stopSequenceAcquisition()
    demo_core.setProperty("Camera", "Binning", "2")
    demo_core.startContinuousSequenceAcquisition(0)
    while sink.frames[-1].pixels.shape != (256, 256):
        time.sleep(0.005)
    stream.stop()
    demo_core.stopSequenceAcquisition()
    depth = demo_core.getImageBitDepth()
    assert sets_of(sink) == [(0, (512, 512), depth, 0.5), (1, (512, 512), depth, 0.25), (2, (256, 256), depth, 0.5)]


def test_a_pixel_size_of_ones_own_follows_the_binning_and_falls_with_the_objective(demo_core: Any, sink: Any) -> None:
    plan = useq.MDASequence(stage_positions=[(0, 0, 0)])
    objective(demo_core, "20X")
    stream = sink.stream(AttachedCore(demo_core), CameraSettings(pixel_um=0.45))
    stream.start()
    demo_core.run_mda(plan).join()
    demo_core.setProperty("Camera", "Binning", "2")
    demo_core.run_mda(plan).join()
    objective(demo_core, "40X")
    demo_core.run_mda(plan).join()
    wait_for_frames(sink, 3)
    stream.stop()
    assert [f.pixel_um for f in sink.frames] == [0.45, 0.9, demo_core.getPixelSizeUm()]


def test_a_plan_that_bins_its_dye_is_no_segment_a_frame(demo_core: Any, sink: Any) -> None:
    plan = [
        useq.MDAEvent(channel=channel, index={"t": t, "c": c}, properties=[("Camera", "Binning", str(1 + c))])
        for t in range(4)
        for c, channel in enumerate(("DAPI", "FITC"))
    ]
    stream = sink.stream(AttachedCore(demo_core))
    stream.start()
    demo_core.run_mda(plan).join()
    wait_for_frames(sink, 8)
    stream.stop()
    assert [f.pixels.shape for f in sink.frames] == [(512, 512), (256, 256)] * 4
    assert [f.segment for f in sink.frames] == [0] + 7 * [1]


@pytest.mark.parametrize("interval_s", [0, 0.01])  # as a hardware sequence where the camera can, and by snaps
def test_a_plan_after_a_live_view_loses_nothing(owned: Any, sink: Any, interval_s: float) -> None:
    plan = useq.MDASequence(time_plan={"interval": interval_s, "loops": 4})
    owned.setExposure(10)
    stream = sink.stream(AttachedCore(owned))
    stream.start()
    for _ in range(2):
        have = len(sink.frames)
        owned.startContinuousSequenceAcquisition(0)
        wait_for_frames(sink, have + 30)
        owned.run_mda(plan).join()  # stops the live view
        while stream.core.getRemainingImageCount():
            time.sleep(0.005)
    stream.stop()
    assert sink.lost_in_core == 0
    assert [note.segment for note in stream.notes] == [0, 1]  # the two live views
    planned = [f.index for f in sink.frames if "t" in f.metadata]
    assert len(planned) == 8
    for segment in (0, 1):
        live = [f for f in sink.frames if f.segment == segment and "t" not in f.metadata]
        assert [int(f.metadata["ImageNumber"]) for f in live] == list(range(len(live)))


def test_what_a_live_view_has_left_is_read_before_the_plan_begins() -> None:
    owner = MovingRing([0, 0, 3], 9)
    running = False
    owner.mda.is_running = lambda: running
    attached = AttachedCore(owner)
    attached.startContinuousSequenceAcquisition()
    while owner.arrivals:
        owner.tick()
    running = True  # the engine prepares its run: it has stopped the live view
    for left in (3, 2):
        assert attached.getRemainingImageCount() == left
        attached.popNextImageAndMD()
    owner.mda.events.sequenceStarted.emit(useq.MDASequence(), {})
    assert attached.getRemainingImageCount() == 0  # a hardware sequence would be the plan's
    owner.mda.events.sequenceFinished.emit(useq.MDASequence())
    assert attached.getRemainingImageCount() == 1
    attached.stopSequenceAcquisition()


def test_each_frame_of_a_plan_tells_the_plans_channels(owned: Any, sink: Any) -> None:
    first, second = owned.getAvailableConfigs("Channel")[:2]
    stream = sink.stream(AttachedCore(owned))
    stream.start()
    owned.run_mda(useq.MDASequence(channels=[second, first])).join()
    owned.run_mda(useq.MDAEvent(channel=channel) for channel in (first, second)).join()  # which it does not know ahead
    owned.run_mda(useq.MDASequence(time_plan={"interval": 0, "loops": 1})).join()
    wait_for_frames(sink, 5)
    stream.stop()
    told = [(second, first)] * 2 + [(first,), (first, second), ()]
    assert [f.metadata["channels"] for f in sink.frames] == told


def test_a_camera_that_its_owner_rests_has_not_stalled(owned: Any) -> None:
    attached = AttachedCore(owned)
    attached.startContinuousSequenceAcquisition(0)
    assert attached.rests()
    owned.startContinuousSequenceAcquisition(0)
    assert not attached.rests()
    owned.stopSequenceAcquisition()
    assert attached.rests()
    owned.startSequenceAcquisition(2, 0, True)
    while not attached.rests():  # it ends by itself, and no signal tells
        time.sleep(0.005)
    assert not owned.isSequenceRunning()
    attached.close()


def test_what_belongs_to_the_owner_is_refused(demo_core: Any, sink: Any) -> None:
    stream = sink.stream(AttachedCore(demo_core))
    with pytest.raises(AcquisitionError, match="only watched"):
        stream.snap()
    with pytest.raises(AcquisitionError, match="set the exposure there"):
        stream.set_exposure(5)
    with pytest.raises(AcquisitionError, match="only watched"):
        stream.start(frames=5)
    assert not demo_core.isSequenceRunning()


class MovingRing:
    """An owner's core in which frames come in, the ring overflows and runs begin between any two calls."""

    def __init__(self, arrivals: list[int], capacity: int) -> None:
        self.arrivals, self.capacity = list(arrivals), capacity
        self.ring: list[tuple[int, int]] = []  # (run, number)
        self.run = self.number = 0
        self.made: list[tuple[int, int]] = []
        plan = SimpleNamespace(sequenceStarted=Signal(), frameReady=Signal(), sequenceFinished=Signal())
        self.mda = SimpleNamespace(events=plan, is_running=lambda: False)
        self.events = SimpleNamespace(
            continuousSequenceAcquisitionStarted=Signal(),
            sequenceAcquisitionStarted=Signal(),
            sequenceAcquisitionStopped=Signal(),
        )

    def tick(self) -> None:
        came = self.arrivals.pop(0) if self.arrivals else 0
        if came < 0:
            self.ring, self.run, self.number = [], self.run + 1, 0
            self.events.continuousSequenceAcquisitionStarted.emit()
        for _ in range(came):
            if len(self.ring) == self.capacity:
                self.ring = []
            self.ring.append((self.run, self.number))
            self.made.append((self.run, self.number))
            self.number += 1

    def getNumberOfCameraChannels(self) -> int:  # noqa: N802 - MMCore's name
        return 1

    def getCameraDevice(self) -> str:  # noqa: N802 - MMCore's name
        return "Camera"

    def getExposure(self) -> float:  # noqa: N802 - MMCore's name
        return 10.0

    def getImageBitDepth(self) -> int:  # noqa: N802 - MMCore's name
        return 8

    def getPixelSizeUm(self, cached: bool) -> float:  # noqa: N802 - MMCore's name
        return 0.5

    def hasProperty(self, label: str, name: str) -> bool:  # noqa: N802 - MMCore's name
        return False

    def getRemainingImageCount(self) -> int:  # noqa: N802 - MMCore's name
        self.tick()
        return len(self.ring)

    def getNBeforeLastImageAndMD(self, n: int) -> Any:  # noqa: N802 - MMCore's name
        self.tick()
        if n >= len(self.ring):
            raise IndexError("the ring has no such frame")
        run, number = self.ring[-1 - n]
        tags = {"ImageNumber": str(number), "TimeReceivedByCore": f"{run}/{number}"}
        return np.zeros((2, 2), np.uint8), tags


class Signal:
    """As much of a psygnal as a listener needs."""

    def __init__(self) -> None:
        self.slots: list[Any] = []

    def connect(self, slot: Any) -> None:
        self.slots.append(slot)

    def disconnect(self, slot: Any) -> None:
        self.slots.remove(slot)

    def emit(self, *said: Any) -> None:
        for slot in self.slots:
            slot(*said)


@given(
    arrivals=st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, 3, 7, -1]), max_size=80),
    capacity=st.integers(2, 12),
)
def test_no_frame_is_read_twice_and_none_that_the_ring_keeps_is_passed_over(arrivals: list[int], capacity: int) -> None:
    owner = MovingRing([*arrivals, *[0] * 99, 1, *[0] * 99], capacity)  # quiet at the end, and one more frame
    attached = AttachedCore(owner)
    attached.startContinuousSequenceAcquisition()
    seen: list[str] = []
    while owner.arrivals or attached.getRemainingImageCount():
        if not attached.getRemainingImageCount():
            continue
        with contextlib.suppress(IndexError):
            _, tags = attached.popNextImageAndMD()
            seen.append(tags["TimeReceivedByCore"])
    attached.stopSequenceAcquisition()
    assert not owner.events.continuousSequenceAcquisitionStarted.slots
    order = [f"{run}/{number}" for run, number in owner.made]
    places = [order.index(stamp) for stamp in seen]
    assert places == sorted(set(places))  # none twice, none before its time
    if seen:  # what the ring still holds was read, but for what came before the first look
        first = places[0]
        assert {f"{r}/{n}" for r, n in owner.ring if order.index(f"{r}/{n}") >= first} <= set(seen)
